//! Where a statement goes, from its class, what is known of the servers, and what the session has written and demands. No I/O.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    Router, Shared,
    causal::Token,
    classify::{Class, Hint, Verdict},
    consistency::Consistency,
    decision::{Decision, Reason, Target},
    error::RouterError,
    pool::Use,
    session::Session,
    view::View,
};

/// A decision, and what to do about it.
pub(crate) struct Choice {
    pub(crate) decision: Decision,
    pub(crate) server: usize,
    pub(crate) usage: Use,
    pub(crate) class: Class,
}

/// What a statement asks for: its class, and what was said about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) class: Class,
    pub(crate) hint: Option<Hint>,
    /// A replica has refused it before.
    is_corrected: bool,
}

impl Wish {
    pub(crate) fn of(shared: &Shared, sql: &str, verdict: &Verdict) -> Self {
        Self {
            class: verdict.class,
            hint: verdict.hint,
            is_corrected: verdict.class == Class::Read && shared.corrections.knows(sql),
        }
    }

    /// Whether it may wait for the end of a switchover, for only a primary that takes writes will do.
    pub(crate) fn is_for_a_writable_primary(self) -> bool {
        self.class != Class::Read || self.is_corrected
    }
}

impl Router {
    /// Where a statement that asks for this goes now.
    pub(crate) fn choose(&self, wish: Wish) -> Result<Choice, RouterError> {
        let shared = &self.shared;
        match wish.class {
            Class::SessionState(state) => Err(RouterError::SessionState { state }),
            // It may write, as far as anybody knows.
            Class::Read if wish.is_corrected => primary(shared, Class::Unproven, Reason::Corrected),
            Class::Read => self.read(wish.hint, None),
            Class::Locking => primary(shared, wish.class, Reason::Locking),
            Class::Write => primary(shared, wish.class, Reason::Write),
            Class::Unproven => primary(shared, wish.class, Reason::Unproven),
        }
    }

    /// A server for a read, `tried` aside.
    pub(crate) fn read(
        &self,
        hint: Option<Hint>,
        tried: Option<usize>,
    ) -> Result<Choice, RouterError> {
        let Self {
            shared,
            session,
            consistency,
        } = self;
        let view = shared.view.load();
        if !matches!(consistency, Consistency::Eventual { .. }) {
            knows_the_token(shared, session, &view)?;
        }
        let forced = match (hint, consistency) {
            (Some(Hint::Primary), _) => Some(Reason::Hint),
            (_, Consistency::Strong) => Some(Reason::Strong),
            _ => None,
        };
        if let Some(reason) = forced {
            let primary = view.readable_primary().ok_or_else(|| no_primary(shared))?;
            return Ok(read_on_primary(shared, &view, primary, reason));
        }
        let search = search(self, &view, tried);
        if let Some((replica, lag)) = search.best {
            let reason = match hint {
                Some(Hint::Replica) => Reason::Hint,
                _ => Reason::Fresh,
            };
            return Ok(read_on_replica(shared, &view, replica, reason, Some(lag)));
        }
        if hint == Some(Hint::Replica) {
            return Err(RouterError::NoServer {
                reason: format!(
                    "a hint asks for a replica, and none is fresh: {}",
                    known(shared, &view)
                ),
            });
        }
        let primary = view
            .readable_primary()
            .filter(|&primary| Some(primary) != tried);
        if let Some(primary) = primary {
            return Ok(read_on_primary(shared, &view, primary, search.why_not));
        }
        // The link to a primary that is away grows old, but a replica in sync has all that was ever acknowledged.
        if let Some(replica) = search.last_resort {
            return Ok(read_on_replica(
                shared,
                &view,
                replica,
                Reason::PrimaryDown,
                None,
            ));
        }
        Err(RouterError::NoServer {
            reason: known(shared, &view),
        })
    }

    /// Another server that can answer a read as well as this one, which has no room.
    pub(crate) fn elsewhere(&self, full: &Choice) -> Option<Choice> {
        let shared = &self.shared;
        let view = shared.view.load();
        if full.decision.target == Target::Primary {
            // Not where the primary was demanded.
            if matches!(full.decision.reason, Reason::Strong | Reason::Hint) {
                return None;
            }
            let (replica, lag) = search(self, &view, None).best?;
            return Some(read_on_replica(
                shared,
                &view,
                replica,
                Reason::SpillOver,
                Some(lag),
            ));
        }
        if full.decision.reason == Reason::Hint {
            return None;
        }
        if let Some((replica, lag)) = search(self, &view, Some(full.server)).best
            && !shared.servers[replica].pool.is_full(Use::ReadOnReplica)
        {
            let reason = full.decision.reason;
            return Some(read_on_replica(shared, &view, replica, reason, Some(lag)));
        }
        let primary = view
            .readable_primary()
            .filter(|&primary| primary != full.server)?;
        Some(read_on_primary(shared, &view, primary, Reason::ReplicaFull))
    }
}

/// The primary, which must take writes.
pub(crate) fn primary(
    shared: &Shared,
    class: Class,
    reason: Reason,
) -> Result<Choice, RouterError> {
    let view = shared.view.load();
    let server = view.writable_primary().ok_or_else(|| no_primary(shared))?;
    Ok(Choice {
        decision: decision(shared, &view, Target::Primary, server, reason, None),
        server,
        usage: Use::Write,
        class,
    })
}

fn read_on_primary(shared: &Shared, view: &View, server: usize, reason: Reason) -> Choice {
    Choice {
        decision: decision(shared, view, Target::Primary, server, reason, None),
        server,
        usage: Use::ReadOnPrimary,
        class: Class::Read,
    }
}

fn read_on_replica(
    shared: &Shared,
    view: &View,
    server: usize,
    reason: Reason,
    lag: Option<Duration>,
) -> Choice {
    Choice {
        decision: decision(shared, view, Target::Replica, server, reason, lag),
        server,
        usage: Use::ReadOnReplica,
        class: Class::Read,
    }
}

/// What a look at all replicas finds.
struct Search {
    /// The one that is fresh and has the least at work, and its lag.
    best: Option<(usize, Duration)>,
    /// One that has everything that was ever acknowledged, however old its link is.
    last_resort: Option<usize>,
    /// Why there is no best one.
    why_not: Reason,
}

fn search(router: &Router, view: &View, tried: Option<usize>) -> Search {
    let Router {
        shared,
        session,
        consistency,
    } = router;
    let mut search = Search {
        best: None,
        last_resort: None,
        why_not: Reason::ReplicaDown,
    };
    let servers = shared.servers.len();
    // Those that are equal take turns.
    let first = match servers {
        0..=2 => 0,
        _ => shared.turn.fetch_add(1, Ordering::Relaxed) % servers,
    };
    for replica in (first..servers).chain(0..first) {
        let is_one = Some(replica) != view.primary && Some(replica) != tried;
        if !is_one || !view.may_read(replica) {
            continue;
        }
        let has_own_writes = match consistency {
            Consistency::Eventual { .. } => true,
            Consistency::Session => has_own_writes(shared, session, replica),
            Consistency::Strong => false,
        };
        if !has_own_writes {
            search.why_not = Reason::Stale;
            continue;
        }
        if view.is_complete(replica) {
            search.last_resort = Some(replica);
        }
        let (max_lag, lags) = match consistency {
            Consistency::Eventual { max_lag } => (*max_lag, false),
            _ => (shared.config.max_lag(), view.lags(replica)),
        };
        // Not known is as good as for ever.
        let Some(lag) = view.age(replica).filter(|lag| !lags && *lag <= max_lag) else {
            search.why_not = Reason::Lag;
            continue;
        };
        let in_use = |server: usize| shared.servers[server].pool.in_use();
        if search
            .best
            .is_none_or(|(best, _)| in_use(replica) < in_use(best))
        {
            search.best = Some((replica, lag));
        }
    }
    search
}

/// Whether the servers have told of the epoch that the session's token is of. If not, even the primary may be one that has been replaced:
/// nobody can answer before they are asked again. Where all of them have been, and none knows it, its history is gone.
fn knows_the_token(shared: &Shared, session: &Session, view: &View) -> Result<(), RouterError> {
    let Some(token) = session.token().filter(|token| token.epoch > view.epoch) else {
        return Ok(());
    };
    if view.servers.iter().all(|server| server.up) && view.asked_after(session.began()) {
        forget_token(shared, session, token);
        return Ok(());
    }
    shared.suspect();
    Err(RouterError::NoServer {
        reason: format!(
            "the session has seen epoch {}, and the newest that is known here is {}: {}",
            token.epoch,
            view.epoch,
            known(shared, view)
        ),
    })
}

fn forget_token(shared: &Shared, session: &Session, token: &Token) {
    if session.forget_token() {
        let epoch = token.epoch;
        tracing::warn!(epoch, "a causal token is of a history that is gone");
        shared.metrics.token("history_gone");
    }
}

/// Whether a replica has all that the session has written, here or (by its token) elsewhere. Asks for a sample if not.
fn has_own_writes(shared: &Shared, session: &Session, replica: usize) -> bool {
    let watermark = &shared.watermark;
    if session.is_writing_unseen() {
        return false;
    }
    let mark = session.must_see();
    if !watermark.has(replica, mark) {
        watermark.want_mark(mark);
        return false;
    }
    let Some(token) = session.token() else {
        return true;
    };
    if watermark.has_set(replica, &token.executed) {
        return true;
    }
    if watermark.is_gone(&token.executed, token.epoch, session.began()) {
        forget_token(shared, session, token);
        return true;
    }
    watermark.want_set(&token.executed);
    false
}

fn decision(
    shared: &Shared,
    view: &View,
    target: Target,
    server: usize,
    reason: Reason,
    lag: Option<Duration>,
) -> Decision {
    Decision {
        target,
        server: shared.servers[server].shared_name(),
        reason,
        epoch: view.epoch,
        lag,
    }
}

/// The error for a write that nobody would take.
pub(crate) fn no_primary(shared: &Shared) -> RouterError {
    let view = shared.view.load();
    let Some(primary) = view.primary else {
        let names: Vec<&str> = shared.servers.iter().map(|server| server.name()).collect();
        return RouterError::PrimaryUnavailable {
            server: names.join(" or "),
            reason: format!("no server says who is primary: {}", known(shared, &view)),
        };
    };
    let name = shared.servers[primary].name();
    if view.drains(primary) {
        return RouterError::Maintenance {
            reason: format!("the primary {name} is in maintenance"),
        };
    }
    let server = &view.servers[primary];
    let reason = match server.facts.as_ref().filter(|_| server.up) {
        None => server.error.to_string(),
        Some(facts) if facts.offline_mode => "it is closed (offline mode)".to_owned(),
        Some(facts) if facts.super_read_only || facts.read_only => "it is read-only".to_owned(),
        Some(facts) => format!(
            "it is another server ({}) than the one that was published",
            facts.uuid
        ),
    };
    RouterError::PrimaryUnavailable {
        server: name.to_owned(),
        reason,
    }
}

/// The error for a server that is away.
pub(crate) fn away(shared: &Shared, server: usize) -> RouterError {
    let reason = shared.view.load().servers[server].error.clone();
    away_because(shared, server, &reason)
}

/// The same, for a reason that is fresher than the last probe.
pub(crate) fn away_because(shared: &Shared, server: usize, reason: &str) -> RouterError {
    let name = shared.servers[server].name();
    if shared.view.load().primary == Some(server) {
        return RouterError::PrimaryUnavailable {
            server: name.to_owned(),
            reason: reason.to_owned(),
        };
    }
    RouterError::NoServer {
        reason: format!("{name}: {reason}"),
    }
}

/// A write or commit was sent to a server, and this came instead of an answer.
pub(crate) fn outcome_unknown(shared: &Shared, server: usize, reason: String) -> RouterError {
    let view = shared.view.load();
    let name = |index: usize| shared.servers[index].name().to_owned();
    let away = (0..shared.servers.len()).filter(|&index| !view.servers[index].up);
    RouterError::CommitOutcomeUnknown {
        server: name(server),
        reason,
        away: away.map(name).collect(),
    }
}

fn known(shared: &Shared, view: &View) -> String {
    let of = |(index, server): (usize, &crate::server::Server)| {
        let state = &view.servers[index];
        match state.up {
            true => format!("{}: {}", server.name(), view.state(index)),
            false => format!("{}: {}", server.name(), state.error),
        }
    };
    let all: Vec<String> = shared.servers.iter().enumerate().map(of).collect();
    all.join("; ")
}
