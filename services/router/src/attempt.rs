//! One statement on its way: where it was sent, whether it may be sent again, and what its errors mean.
//!
//! A read that finds its server gone, or that a replica refuses as a write, is sent once more, to another server, if no row was handed
//! out yet; so is one whose server falls silent, as soon as the probes say so and somebody else can answer. Nothing else is ever sent
//! twice.

use std::{io, pin::Pin};

use futures::FutureExt;
use replication::{ErrorKind, errors};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::{
    Router,
    choose::{self, Choice, Wish},
    classify::{Class, Hint},
    corrections::Remembered,
    decision::{Reason, Target},
    error::RouterError,
    hold,
    lease::{self, Lease},
    spans,
};

/// One statement on its way.
pub(crate) struct Attempts<'r> {
    router: &'r Router,
    pub(crate) deadline: Instant,
    pub(crate) begun: std::time::Instant,
    summary: String,
    step: Option<usize>,
    span: tracing::Span,
    hint: Option<Hint>,
    tried: Option<usize>,
    is_to_correct: bool,
    is_second: bool,
}

impl<'r> Attempts<'r> {
    pub(crate) fn new(router: &'r Router) -> Self {
        let deadline = Instant::now() + router.shared.config.statement_timeout();
        Self {
            router,
            deadline,
            begun: std::time::Instant::now(),
            summary: String::new(),
            step: None,
            span: tracing::Span::none(),
            hint: None,
            tried: None,
            is_to_correct: false,
            is_second: false,
        }
    }

    /// What a statement of this text asks for.
    pub(crate) fn wish(&mut self, sql: &str) -> Wish {
        let shared = &self.router.shared;
        let (verdict, summary) = shared.classifier.classify_with_summary(sql);
        self.summary = summary;
        Wish::of(shared, sql, &verdict)
    }

    /// Where to send a statement that asks for this now, with a connection.
    pub(crate) async fn next(&mut self, wish: Wish) -> Result<(Choice, Lease), RouterError> {
        let router = self.router;
        self.hint = wish.hint;
        let (choice, lease) = self
            .lease(wish.is_for_a_writable_primary(), || router.choose(wish))
            .await?;
        self.span = spans::statement(&choice.decision, &self.summary);
        self.step = router.decided(&choice, self.summary.clone(), self.begun);
        Ok((choice, lease))
    }

    /// A connection to whichever server `first` chooses. What turns out to be a read may come to another one.
    pub(crate) async fn lease(
        &mut self,
        is_for_a_writable_primary: bool,
        first: impl Fn() -> Result<Choice, RouterError>,
    ) -> Result<(Choice, Lease), RouterError> {
        let router = self.router;
        loop {
            let is_write = is_for_a_writable_primary || self.is_to_correct;
            if is_write {
                hold::writes(&router.shared, self.deadline).await?;
            }
            let choice = if self.is_to_correct {
                choose::primary(&router.shared, Class::Unproven, Reason::Corrected)
            } else if self.is_second {
                router.read(self.hint, self.tried)
            } else {
                first()
            };
            let (error, is_read, server) = match choice {
                Ok(choice) => {
                    let (is_read, server) = (choice.class == Class::Read, choice.server);
                    let lent = self.connect(choice).await;
                    // Who waited for a connection may have waited into a switchover: nothing has begun, so it is held like the others.
                    let is_held = is_write && router.shared.view.load().holds_writes();
                    match lent {
                        Ok((_, lease)) if is_held => {
                            lease.finish();
                            continue;
                        }
                        Ok(lent) => return Ok(lent),
                        Err(RouterError::PrimaryUnavailable { .. }) if is_held => continue,
                        Err(error) => (error, is_read, Some(server)),
                    }
                }
                // Whether a server became fresh or came back is known after the next round.
                Err(error @ RouterError::NoServer { .. }) => (error, true, None),
                Err(error) => return Err(error),
            };
            // Who was refused for lack of room has waited already.
            if self.is_second || !is_read || matches!(error, RouterError::Overloaded { .. }) {
                return Err(error);
            }
            self.elsewhere(server).await;
        }
    }

    /// A connection to the server that was chosen; for a read, whichever of those is first: this one has room, or another one can answer as
    /// well and has.
    async fn connect(&self, choice: Choice) -> Result<(Choice, Lease), RouterError> {
        let router = self.router;
        let shared = &router.shared;
        if choice.class == Class::Read && shared.servers[choice.server].pool.is_full(choice.usage) {
            return Box::pin(self.wait_for_room(choice)).await;
        }
        let waits_until = self
            .deadline
            .min(Instant::now() + shared.config.acquire_timeout());
        match lease::lease(shared, choice.server, choice.usage, self.deadline).await {
            // The server's own bound: somebody else may have room.
            Err(error @ RouterError::Overloaded { .. }) if choice.class == Class::Read => {
                let other = shared.until_some(|| router.elsewhere(&choice));
                let other = timeout_at(waits_until, other).await.map_err(|_| error)?;
                let lease = lease::lease(shared, other.server, other.usage, self.deadline).await?;
                Ok((other, lease))
            }
            lent => lent.map(|lease| (choice, lease)),
        }
    }

    /// A read waits at both: for room at the one that was chosen, and for another one to be as good, and to have room.
    async fn wait_for_room(&self, choice: Choice) -> Result<(Choice, Lease), RouterError> {
        let router = self.router;
        let shared = &router.shared;
        let lent = {
            let this = lease::lease(shared, choice.server, choice.usage, self.deadline);
            let other = async {
                let other = shared.until_some(|| router.elsewhere(&choice)).await;
                let lent = lease::lease(shared, other.server, other.usage, self.deadline).await;
                lent.map(|lease| (other, lease))
            };
            tokio::pin!(this, other);
            tokio::select! {
                biased;
                lent = &mut this => match lent {
                    Ok(lease) => Ok((None, lease)),
                    // The other may just have it.
                    Err(error) => match other.now_or_never() {
                        Some(Ok((other, lease))) => Ok((Some(other), lease)),
                        _ => Err(error),
                    },
                },
                lent = &mut other => match lent {
                    Ok((other, lease)) => Ok((Some(other), lease)),
                    Err(_) => this.await.map(|lease| (None, lease)),
                },
            }
        };
        lent.map(|(other, lease)| (other.unwrap_or(choice), lease))
    }

    /// When the statement has had its time; polled only while an answer is awaited.
    pub(crate) fn time_is_over(&self) -> Sleep {
        sleep_until(self.deadline)
    }

    /// The server of a read is known to be away: it is not worth waiting any longer. What may write waits: its answer may still come, and
    /// nobody else can give it.
    pub(crate) async fn is_silent(&self, choice: &Choice) {
        let is_read = choice.class == Class::Read;
        let shared = &self.router.shared;
        shared
            .until(|view| is_read && !view.servers[choice.server].up)
            .await;
    }

    /// Whether a read may be sent once more, now that this server has failed; after a look at the servers.
    pub(crate) async fn may_try_elsewhere(&mut self, server: usize) -> bool {
        if self.is_second {
            return false;
        }
        self.elsewhere(Some(server)).await;
        true
    }

    /// A read may be sent once more: after a look at the servers, and not to the one that failed unless it is there again.
    async fn elsewhere(&mut self, server: Option<usize>) {
        self.is_second = true;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let shared = &self.router.shared;
        shared.metrics.retried.inc();
        let is_up = |server: usize| shared.view.load().servers[server].up;
        if server.is_none_or(is_up) {
            let round = shared.config.probe_timeout() + shared.config.probe_interval();
            shared.next_round(left.min(round)).await;
        }
        self.tried = server.filter(|&server| !is_up(server));
    }

    /// The connection gave an error, or none in time. `Ok` means: once more.
    pub(crate) async fn failed(
        &mut self,
        sql: &str,
        choice: &Choice,
        lease: Lease,
        error: Option<sqlx::Error>,
        rows_handed_out: bool,
    ) -> Result<(), RouterError> {
        spans::failed(&self.span, error.as_ref());
        self.span = tracing::Span::none();
        let shared = &self.router.shared;
        self.router.session.ended(self.step);
        // What is sent once more is a step of its own.
        self.begun = std::time::Instant::now();
        let is_read = !choice.class.may_write();
        let Some(error) = error else {
            shared.suspect();
            let limit = shared.config.statement_timeout();
            return Err(if is_read {
                let server = choice.decision.server.to_string();
                RouterError::DeadlineExceeded { server, limit }
            } else {
                self.outcome_unknown(choice, format!("no answer within {limit:?}"))
            });
        };
        let once_more = choice.class == Class::Read && !rows_handed_out && !self.is_second;
        match errors::kind(&error) {
            ErrorKind::Gone => {
                shared.suspect();
                drop(lease);
                if once_more {
                    self.elsewhere(Some(choice.server)).await;
                    return Ok(());
                }
                Err(if is_read {
                    choose::away_because(shared, choice.server, &error.to_string())
                } else {
                    self.outcome_unknown(choice, error.to_string())
                })
            }
            ErrorKind::WrongServer if choice.decision.target == Target::Replica && once_more => {
                lease.finish();
                self.correct(sql, choice, &error);
                (self.is_second, self.is_to_correct) = (true, true);
                Ok(())
            }
            // Refused before it did anything: the server is not the primary any more. Its connection is closed with it.
            ErrorKind::WrongServer => {
                shared.suspect();
                Err(choose::away_because(
                    shared,
                    choice.server,
                    &error.to_string(),
                ))
            }
            _ => {
                // An error that the server sent leaves the connection in step.
                if matches!(error, sqlx::Error::Database(_)) {
                    lease.finish();
                }
                Err(error.into())
            }
        }
    }

    /// A replica has refused what was taken for a read: remembered, so that it is refused once, counted, and said once.
    fn correct(&self, sql: &str, choice: &Choice, error: &sqlx::Error) {
        let shared = &self.router.shared;
        shared.metrics.corrected.inc();
        let remembered = shared.corrections.remember(sql);
        if remembered == Remembered::Known {
            return;
        }
        if remembered == Remembered::InPlaceOfAnother {
            shared.metrics.corrections_forgotten.inc();
        }
        let known = i64::try_from(shared.corrections.known()).unwrap_or(i64::MAX);
        shared.metrics.corrections.set(known);
        let (server, summary) = (&*choice.decision.server, &self.summary);
        tracing::warn!(server, %error, summary, "a replica refused what was taken for a read: it goes to the primary from now on");
    }

    /// It was sent, and nobody knows what became of it. Should it have been done, the session's next reads shall see it.
    fn outcome_unknown(&self, choice: &Choice, reason: String) -> RouterError {
        let Router {
            shared, session, ..
        } = self.router;
        session.may_have_written(shared.watermark.acknowledged());
        choose::outcome_unknown(shared, choice.server, reason)
    }

    /// The answer came, and was read to its end.
    pub(crate) fn done(self, choice: &Choice, lease: Lease) {
        lease.finish();
        self.ended(choice);
    }

    /// The first row came, and no more is wanted.
    pub(crate) fn done_early(self, choice: &Choice, lease: Lease) {
        lease.finish_reading(self.router.shared.config.statement_timeout());
        self.ended(choice);
    }

    fn ended(self, choice: &Choice) {
        let Router {
            shared, session, ..
        } = self.router;
        session.ended(self.step);
        shared
            .metrics
            .took(choice.decision.target, self.begun.elapsed());
        if choice.class.may_write() {
            session.wrote(shared.watermark.acknowledged());
        }
    }
}

/// What a server answers; no error means no answer in time. Who may leave does so when the server has fallen silent.
pub(crate) async fn answer<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
    time_is_over: Pin<&mut Sleep>,
    is_silent: Pin<&mut impl Future<Output = ()>>,
    may_leave: bool,
) -> Result<T, Option<sqlx::Error>> {
    tokio::select! {
        biased;
        answer = answer => answer.map_err(Some),
        () = time_is_over => Err(None),
        () = is_silent, if may_leave => Err(Some(io::Error::from(io::ErrorKind::TimedOut).into())),
    }
}
