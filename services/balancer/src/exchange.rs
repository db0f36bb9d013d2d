//! One exchange: a request is passed on to a backend and its answer passed back, or the edge answers by itself.
//!
//! Both directions run at the same time in one task: the request's content goes up while the answer may already come down. Each of
//! them waits only for its own two ends, so that nothing is buffered beyond what one read brings. What may be tried again is decided in
//! `retry.rs`, who gets it in `least_connections.rs`; what is strict about the messages is in `http1`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::backend::Backend;
use crate::backend_connection::{BackendConnection, Broken, More};
use crate::body::{Body, Content};
use crate::client::{Client, ClientFault, Fate, OwnAnswer};
use crate::clock::{Elapsed, NEVER};
use crate::edge::ms;
use crate::fault::Fault;
use crate::headers::{Arrival, is_not_from_clients};
use crate::http1::{
    self, Connection, Framing, Known, Method, Refusal, RequestHead, ResponseHead, write_chunk,
    write_end_of_chunks, write_field, write_request_head,
};
use crate::lease::Lease;
use crate::least_connections::Choice;
use crate::problem::Problem;
use crate::record::Record;
use crate::replay::Replay;
use crate::retry::{self, Failed, Sent};
use crate::stream::GATHER_BYTES;
use crate::termination::Termination;
use crate::tunnel::{self, End};
use crate::worker::Worker;

/// What is not copied for being written together with what comes after it.
const COPY_BYTES_MAX: usize = 32_768;
/// Interim answers to one request; a backend that sends more is not to be believed.
const INTERIM_MAX: usize = 100;

/// Serves the request of `record`, and tells what becomes of the client's connection.
pub async fn exchange<C: Client>(worker: &Rc<Worker>, client: &C, record: &Record) -> Fate {
    let Some(head) = &record.head else {
        return Fate::Abort;
    };
    let exchange = Exchange {
        worker,
        client,
        record,
        head,
        replay: RefCell::new(Replay::new(worker.edge.config.backend.replay_bytes_max)),
        is_uploaded: Cell::new(false),
        is_sent: Cell::new(false),
        is_tunnel: Cell::new(false),
    };
    exchange.serve().await
}

/// Answers by the edge alone.
pub async fn answer<C: Client>(
    worker: &Worker,
    client: &C,
    record: &Record,
    problem: Problem,
    refusal: Option<Refusal>,
    is_last: bool,
) -> Fate {
    let mut fields = vec![
        ("content-type", "application/problem+json".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    let admitted = record.admitted.err().map(|wait| wait.whole_seconds());
    if let Some(seconds) = problem
        .retry_after()
        .map(|least| admitted.unwrap_or(0).max(least.into()))
    {
        fields.push(("retry-after", seconds.to_string()));
    }
    if problem == Problem::MethodNotAllowed {
        let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        fields.push(("allow", allow.to_owned()));
    }
    let own = OwnAnswer {
        status: problem.status(),
        fields,
        body: problem
            .document(&record.trace.trace_id, refusal)
            .into_bytes(),
    };
    record.answers(own.status.as_u16());
    let is_last = is_last || worker.edge.traffic.is_stopping();
    client.put_own(record, own, &record.stamp(None), is_last);
    match client.flush().await {
        Ok(()) => client.fate(),
        // If the client is gone by now, nobody misses the answer.
        Err(_) => Fate::Abort,
    }
}

struct Exchange<'a, C> {
    worker: &'a Rc<Worker>,
    client: &'a C,
    record: &'a Record,
    head: &'a RequestHead,
    replay: RefCell<Replay>,
    /// Whether all of the request was handed to the backend.
    is_uploaded: Cell<bool>,
    /// The same, or the backend takes no more.
    is_sent: Cell<bool>,
    /// Whether HTTP is over on this connection.
    is_tunnel: Cell<bool>,
}

/// How a try ended.
enum Tried {
    Answered(Fate),
    Failed {
        fault: Fault,
        was_pooled: bool,
    },
    /// On a connection that the backend was giving up when the request came: nothing has happened.
    Stale,
    Client(ClientFault),
}

/// Why there is nobody to send a request to.
enum Unserved {
    /// Nobody is there, or everybody has been tried.
    Nobody,
    /// Everybody has as many as it takes, and too many wait.
    Full,
    /// It has waited for too long.
    Late,
    Client(ClientFault),
}

/// Why an answer was not passed on.
enum Stopped {
    Backend(Broken),
    Client(ClientFault),
}

impl From<Broken> for Stopped {
    fn from(broken: Broken) -> Stopped {
        Stopped::Backend(broken)
    }
}

impl From<ClientFault> for Stopped {
    fn from(fault: ClientFault) -> Stopped {
        Stopped::Client(fault)
    }
}

impl<C: Client> Exchange<'_, C> {
    async fn serve(&self) -> Fate {
        if let Some((problem, end)) = self.refusal() {
            self.record.ends(end);
            return self.answer(problem, None).await;
        }
        let mut tries = pin!(self.tries());
        match self.in_time(tries.as_mut()).await {
            Ok(fate) => fate,
            Err(_) => {
                self.give_up(Problem::GatewayTimeout, Termination::TotalTimeout)
                    .await
            }
        }
    }

    /// Waits for `work` as long as an exchange may take. A tunnel may take longer.
    async fn in_time<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, Elapsed> {
        let limit = self.worker.edge.config.request.total_timeout_s;
        let due = self.worker.clock.after(Duration::from_secs(limit));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if self.is_tunnel.get() => Poll::Pending,
            Poll::Pending => self.client.total().poll_due(due, context).map(Err),
        })
        .await
    }

    /// Why a request is not passed on at all.
    fn refusal(&self) -> Option<(Problem, Termination)> {
        let edge = &self.worker.edge;
        if self.record.admitted.is_err() {
            edge.metrics.client_requests_refused.inc();
            return Some((Problem::TooManyRequests, Termination::RateLimited));
        }
        if matches!(self.head.method(), Method::Connect | Method::Trace) {
            return Some((Problem::MethodNotAllowed, Termination::Refused));
        }
        if edge.config.edge.refuse_unknown_hosts
            && !self.worker.is_ours(self.head.authority_bytes())
        {
            return Some((Problem::MisdirectedRequest, Termination::Refused));
        }
        if self.head.path_bytes() == b"/metrics" {
            return Some((Problem::NotFound, Termination::Refused));
        }
        match self.head.framing() {
            Framing::Length(length) if length > edge.config.request.body_bytes_max => {
                Some((Problem::ContentTooLarge, Termination::TooLarge))
            }
            _ => None,
        }
    }

    async fn tries(&self) -> Fate {
        let edge = &self.worker.edge;
        // The try before, and whose it was.
        let mut last: Option<(Fault, Arc<Backend>)> = None;
        // Whether the next one is to be taken from the budget.
        let mut is_owed = false;
        // Whether one that waited in the pool will not do.
        let mut must_be_new = false;
        // Whether the same backend may have the next try, if there is no other.
        let mut is_same_good = false;
        loop {
            let is_granted = || last.as_ref().is_none_or(|last| self.may_retry(last));
            let lease = match self.lease(is_same_good).await {
                Ok(lease) if !is_owed || is_granted() => Ok(lease),
                Ok(_) => Err(Unserved::Nobody),
                Err(unserved) => Err(unserved),
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(unserved) => {
                    return self.unserved(unserved, last.map(|(fault, _)| fault)).await;
                }
            };
            if lease
                .backend()
                .offer()
                .is_some_and(|o| o.rank.is_last_resort())
            {
                edge.metrics.last_resort_requests.inc();
            }
            is_owed = false;
            self.record.chosen(lease.backend());
            match self.attempt(&lease, must_be_new).await {
                Tried::Answered(fate) => return fate,
                Tried::Client(fault) => return self.client_failed(fault).await,
                Tried::Stale if self.replay.borrow().is_whole() => {
                    edge.metrics.stale_connections.inc();
                    self.record.unchosen();
                    must_be_new = true;
                }
                Tried::Stale => {
                    let fault = Fault::of(Broken::Closed, Sent::Nothing, false);
                    return self.give_up(fault.problem(), fault.end).await;
                }
                Tried::Failed { fault, was_pooled } => {
                    self.record.failed(lease.backend(), fault);
                    lease.backend().look_again();
                    if !self.is_repeatable(fault.sent) {
                        return self.give_up(fault.problem(), fault.end).await;
                    }
                    // It may have been the age of the connection.
                    is_same_good = was_pooled && !is_same_good;
                    must_be_new = is_same_good;
                    last = Some((fault, Arc::clone(lease.backend())));
                    is_owed = true;
                }
            }
        }
    }

    /// Takes one more try from the budget, after one that has failed.
    fn may_retry(&self, (fault, backend): &(Fault, Arc<Backend>)) -> bool {
        let edge = &self.worker.edge;
        let may = edge.retries.take();
        match may {
            true => backend.metrics.retried(fault.sent),
            false => edge.metrics.retries_refused.inc(),
        }
        may
    }

    /// Somebody who gets the request; `is_same_good` where it may be one that was tried, if there is no other. Nobody goes before those who
    /// wait already.
    async fn lease(&self, is_same_good: bool) -> Result<Lease, Unserved> {
        let roster = &self.worker.edge.roster;
        let choose = |tried: &[Arc<Backend>]| match roster.queue().waiting() {
            0 => roster.chooser().choose(tried),
            _ => Choice::Full,
        };
        let choice = match choose(&self.record.tried()) {
            Choice::Nobody if is_same_good => choose(&[]),
            choice => choice,
        };
        match choice {
            Choice::Lease(lease) => Ok(lease),
            Choice::Nobody => Err(Unserved::Nobody),
            Choice::Full => {
                let tried = self.record.tried().clone();
                match Box::pin(self.wait(&tried)).await {
                    Err(Unserved::Nobody) if is_same_good => Box::pin(self.wait(&[])).await,
                    waited => waited,
                }
            }
        }
    }

    /// Waits in the queue for one that was not tried. A client that leaves is taken out of it.
    async fn wait(&self, tried: &[Arc<Backend>]) -> Result<Lease, Unserved> {
        let edge = &self.worker.edge;
        let Some(mut place) = edge.roster.queue().join(tried) else {
            edge.metrics.queue_full.inc();
            return Err(Unserved::Full);
        };
        let began = Instant::now();
        let limit = ms(edge.config.admission.queue_timeout_ms);
        let called = tokio::select! {
            biased;
            lease = place.called() => lease.ok_or(Unserved::Nobody),
            fault = self.client.gone() => Err(Unserved::Client(fault)),
            () = tokio::time::sleep(limit) => {
                edge.metrics.queue_late.inc();
                Err(Unserved::Late)
            }
        };
        let waited = began.elapsed();
        edge.metrics.queue_duration.observe(waited.as_secs_f64());
        self.record.queued(waited);
        called
    }

    /// There is nobody to send it to; `last` is why the try before has failed.
    async fn unserved(&self, unserved: Unserved, last: Option<Fault>) -> Fate {
        let (problem, end) = match (unserved, last) {
            (Unserved::Client(fault), _) => return self.client_failed(fault).await,
            (_, Some(fault)) => (fault.problem(), fault.end),
            (Unserved::Nobody, None) => (Problem::NoBackend, Termination::NoBackend),
            (Unserved::Full, None) => (Problem::Busy, Termination::QueueFull),
            (Unserved::Late, None) => (Problem::Busy, Termination::QueueTimeout),
        };
        self.give_up(problem, end).await
    }

    fn is_repeatable(&self, sent: Sent) -> bool {
        let failed = Failed {
            sent,
            is_idempotent: self.head.is_idempotent(),
            has_key: self.has_key(),
            body_kept: self.replay.borrow().is_whole(),
            answer_begun: self.record.is_answered(),
            tries: self.record.tries(),
        };
        retry::again(failed, self.worker.edge.config.backend.tries_max)
    }

    /// Whether the app will recognise the request if it comes twice.
    fn has_key(&self) -> bool {
        let paths = &self.worker.edge.config.backend.keyed_paths;
        self.head.get(Known::IdempotencyKey).is_some()
            && paths.iter().any(|path| is_below(self.head.path(), path))
    }

    async fn attempt(&self, lease: &Lease, must_be_new: bool) -> Tried {
        self.is_uploaded.set(false);
        self.is_sent.set(false);
        // Nobody is connected for who has gone away.
        let found = tokio::select! {
            biased;
            found = self.connection(lease, must_be_new) => found,
            fault = self.client.gone() => return Tried::Client(fault),
        };
        let (connection, was_pooled) = match found {
            Ok(found) => found,
            Err(end) => {
                return Tried::Failed {
                    fault: Fault::unconnected(end),
                    was_pooled: false,
                };
            }
        };
        self.record.connected(was_pooled);
        connection.begin();
        let has_head = Cell::new(false);
        let stopped = self.both(&connection, lease, &has_head).await;
        match stopped {
            Ok(is_reusable) => {
                if is_reusable && self.is_uploaded.get() {
                    self.worker.give_back(lease.backend(), connection);
                }
                Tried::Answered(self.client.fate())
            }
            Err(Stopped::Client(fault)) => Tried::Client(fault),
            Err(Stopped::Backend(broken)) => {
                if let Broken::Malformed(refusal) = broken {
                    self.worker.edge.metrics.refused(refusal);
                }
                let sent = connection.sent(broken).await;
                if was_pooled && sent == Sent::Nothing {
                    return Tried::Stale;
                }
                Tried::Failed {
                    fault: Fault::of(broken, sent, has_head.get()),
                    was_pooled,
                }
            }
        }
    }

    /// Both directions at once, until the answer is passed on whole or one side fails; tells whether the connection can be used again.
    async fn both(
        &self,
        connection: &BackendConnection,
        lease: &Lease,
        has_head: &Cell<bool>,
    ) -> Result<bool, Stopped> {
        let mut up = pin!(self.upload(connection));
        let mut down = pin!(self.download(connection, lease, has_head));
        let mut is_up_over = false;
        poll_fn(|context| {
            // HTTP is over once there is a tunnel, and nobody else may read from the client.
            if !is_up_over && !self.is_tunnel.get() {
                match up.as_mut().poll(context) {
                    Poll::Ready(Stopped::Client(fault)) => {
                        return Poll::Ready(Err(Stopped::Client(fault)));
                    }
                    Poll::Ready(Stopped::Backend(Broken::Late)) => {
                        return Poll::Ready(Err(Stopped::Backend(Broken::Late)));
                    }
                    // It takes no more, and may have said why.
                    Poll::Ready(Stopped::Backend(_)) => {
                        is_up_over = true;
                        self.is_sent.set(true);
                    }
                    Poll::Pending => {}
                }
            }
            down.as_mut().poll(context)
        })
        .await
    }

    /// A connection to the backend, and whether it has waited in the pool.
    async fn connection(
        &self,
        lease: &Lease,
        must_be_new: bool,
    ) -> Result<(BackendConnection, bool), Termination> {
        let backend = lease.backend();
        let edge = &self.worker.edge;
        let address = backend.address().ok_or(Termination::ConnectRefused)?;
        let connector = edge.connector.load();
        if !must_be_new
            && let Some(connection) =
                self.worker
                    .pool
                    .take(backend, address, connector.generation())
        {
            return Ok((connection, true));
        }
        drop(connector);
        let connector = edge.connector.load_full();
        edge.metrics.backend_connections.inc();
        let connect = connector.connect(backend, address, &edge.config.backend, &self.worker.clock);
        // What is rare stands apart, so that what is not needs less room.
        Ok((Box::pin(connect).await?, false))
    }

    /// Sends the request, and then watches the client. Never ends well: what ends well is the answer.
    async fn upload(&self, connection: &BackendConnection) -> Stopped {
        match self.send(connection).await {
            Ok(()) => Stopped::Client(self.client.gone().await),
            Err(stopped) => stopped,
        }
    }

    async fn send(&self, connection: &BackendConnection) -> Result<(), Stopped> {
        let limit = ms(self.worker.edge.config.backend.write_timeout_ms);
        let mut out = self.worker.buffer();
        self.write_head(&mut out);
        let framing = self.head.framing();
        let mut index = 0;
        while framing.has_content() {
            let piece = match at_hand(pin!(self.piece(index))).await {
                Some(piece) => piece?,
                None => {
                    connection.write(&out, limit).await?;
                    out.clear();
                    self.piece(index).await?
                }
            };
            index += 1;
            match piece {
                Content::Data(data) if framing == Framing::Chunked => write_chunk(&data, &mut out),
                Content::Data(data) if out.is_empty() && data.len() > COPY_BYTES_MAX => {
                    connection.write(&data, limit).await?;
                }
                // A copy costs less than another look into the kernel.
                Content::Data(data) => out.extend_from_slice(&data),
                Content::End(trailers) => {
                    if framing == Framing::Chunked {
                        write_end_of_chunks(trailers.as_ref(), &mut out);
                    }
                    break;
                }
            }
            if out.len() >= GATHER_BYTES {
                connection.write(&out, limit).await?;
                out.clear();
            }
        }
        if !out.is_empty() {
            connection.write(&out, limit).await?;
        }
        self.worker.buffer_back(out);
        self.is_uploaded.set(true);
        self.is_sent.set(true);
        Ok(())
    }

    /// The piece of the content with this number: one that was read for an earlier try, or the next.
    async fn piece(&self, index: usize) -> Result<Content, ClientFault> {
        if let Some(piece) = self.replay.borrow().piece(index) {
            return Ok(piece);
        }
        let piece = self.client.content().await?;
        if let Content::Data(data) = &piece {
            let received = self.record.received_bytes.get() + data.len() as u64;
            self.record.received_bytes.set(received);
            if received > self.worker.edge.config.request.body_bytes_max {
                return Err(ClientFault::TooLarge);
            }
        }
        self.replay.borrow_mut().keep(&piece);
        Ok(piece)
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let connection = match self.upgrade() {
            Some(_) => Connection::Upgrade,
            None => Connection::Keep,
        };
        let is_continued = self.record.is_continued;
        let drop =
            |known| is_not_from_clients(known) || known == Known::Tracestate && !is_continued;
        write_request_head(self.head, connection, drop, out);
        Arrival {
            client: self.record.client(),
            authority: self.head.authority_bytes(),
        }
        .write(out);
        write_field(b"x-request-id", self.record.request_id_bytes(), out);
        write_field(b"traceparent", &self.record.parent().to_bytes(), out);
        http1::end_head(out);
    }

    /// Passes the answer on; tells whether the connection can be used again.
    async fn download(
        &self,
        connection: &BackendConnection,
        lease: &Lease,
        has_head: &Cell<bool>,
    ) -> Result<bool, Stopped> {
        let edge = &self.worker.edge;
        let backend = lease.backend();
        let head = self.answer_head(connection, backend).await?;
        has_head.set(true);
        if head.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(end) = self.client.tunnel().filter(|_| self.is_upgrade(&head)) else {
                return Err(Broken::Malformed(Refusal::StatusCode).into());
            };
            self.record.answered(backend, head.status().as_u16());
            let stamp = self.record.stamp(Some(backend));
            self.client.put_head(&head, &stamp, true);
            self.is_tunnel.set(true);
            self.client.flush().await?;
            self.record.ends(Termination::Completed);
            Box::pin(self.tunnel(end, connection, backend)).await;
            return Ok(false);
        }
        self.record.answered(backend, head.status().as_u16());
        let is_last = edge.traffic.is_stopping();
        let stamp = self.record.stamp(Some(backend));
        self.client.put_head(&head, &stamp, is_last);
        let limit = ms(edge.config.backend.answer_timeout_ms);
        let mut body = Body::new(head.framing());
        let trailers = loop {
            match connection.content_at_hand(&mut body, &edge.limits)? {
                Some(Content::Data(data)) => {
                    let sent = self.record.sent_bytes.get() + data.len() as u64;
                    self.client.put_data(data).await?;
                    self.record.sent_bytes.set(sent);
                }
                Some(Content::End(trailers)) => break trailers,
                None => {
                    self.client.flush().await?;
                    if connection.more(&body, limit).await? == More::End {
                        break None;
                    }
                }
            }
        };
        self.client.end(trailers.as_ref()).await?;
        self.record.ends(Termination::Completed);
        let is_reusable = head.keep_alive() && connection.buffer.borrow().is_empty();
        self.worker.answer_room_back(head);
        Ok(is_reusable)
    }

    /// The head of the final answer; interim ones are passed on as they come. Its time begins when all of the request was sent.
    async fn answer_head(
        &self,
        connection: &BackendConnection,
        backend: &Arc<Backend>,
    ) -> Result<ResponseHead, Stopped> {
        let edge = &self.worker.edge;
        let deaths = backend.deaths();
        let limit = ms(edge.config.backend.first_byte_timeout_ms);
        let answering = self.head.answering();
        for _ in 0..INTERIM_MAX {
            let room = self.worker.answer_room();
            let mut reading = pin!(connection.head(answering, &edge.limits, room));
            let mut due = None;
            let head = loop {
                // What is awaited here is the head, or the end of the upload, from which on there is a deadline.
                let until = due.unwrap_or(NEVER);
                let step = connection.reading.until(
                    until,
                    poll_fn(|context| match reading.as_mut().poll(context) {
                        Poll::Ready(head) => Poll::Ready(Some(head)),
                        Poll::Pending
                            if backend.deaths() != deaths && self.is_better_elsewhere() =>
                        {
                            Poll::Ready(Some(Err(Broken::Dead)))
                        }
                        Poll::Pending if due.is_none() && self.is_sent.get() => Poll::Ready(None),
                        Poll::Pending => Poll::Pending,
                    }),
                );
                match step.await {
                    Ok(Some(head)) => break head?,
                    Ok(None) => due = Some(self.worker.clock.after(limit)),
                    Err(_) => return Err(Broken::Late.into()),
                }
            };
            if !head.is_interim() {
                return Ok(head);
            }
            self.client.put_interim(&head);
            self.client.flush().await?;
        }
        Err(Broken::Malformed(Refusal::StatusCode).into())
    }

    /// Whether somebody else can be asked instead of a backend that was found dead. If not, it may answer after all.
    fn is_better_elsewhere(&self) -> bool {
        let chooser = self.worker.edge.roster.chooser();
        self.is_repeatable(Sent::Perhaps) && chooser.is_somebody_left(&self.record.tried())
    }

    /// What the client would change to, if that is allowed.
    fn upgrade(&self) -> Option<&str> {
        let allowed = &self.worker.edge.config.request.upgrades;
        self.head
            .upgrade()
            .filter(|asked| allowed.iter().any(|one| one.eq_ignore_ascii_case(asked)))
            .filter(|_| self.client.tunnel().is_some())
    }

    /// Whether the backend has changed to what the client has asked for.
    fn is_upgrade(&self, head: &ResponseHead) -> bool {
        let asked = self.upgrade();
        head.upgrade()
            .zip(asked)
            .is_some_and(|(answered, asked)| answered.eq_ignore_ascii_case(asked))
    }

    async fn tunnel(&self, client: End<'_>, connection: &BackendConnection, to: &Arc<Backend>) {
        let backend = End {
            stream: &connection.stream,
            buffer: &connection.buffer,
            reading: &connection.reading,
            writing: &connection.writing,
        };
        let is_websocket = self
            .upgrade()
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
        let moved = tunnel::run(self.worker, client, backend, is_websocket, to.end()).await;
        self.record.received_bytes.set(moved.up);
        self.record.sent_bytes.set(moved.down);
    }

    async fn answer(&self, problem: Problem, refusal: Option<Refusal>) -> Fate {
        let is_last = refusal.is_some();
        Box::pin(answer(
            self.worker,
            self.client,
            self.record,
            problem,
            refusal,
            is_last,
        ))
        .await
    }

    /// There is no other try. A client that has seen a part of an answer must see that it is not whole.
    async fn give_up(&self, problem: Problem, end: Termination) -> Fate {
        self.record.ends(end);
        if self.record.is_answered() {
            self.client.abort();
            return Fate::Abort;
        }
        self.answer(problem, None).await
    }

    async fn client_failed(&self, fault: ClientFault) -> Fate {
        let (problem, end, refusal) = match fault {
            ClientFault::Gone => {
                self.record.ends(Termination::ClientAbort);
                return Fate::Abort;
            }
            ClientFault::SlowReader => {
                self.record.ends(Termination::ClientTimeout);
                self.client.abort();
                return Fate::Abort;
            }
            ClientFault::SlowSender => (Problem::RequestTimeout, Termination::ClientTimeout, None),
            ClientFault::TooLarge => (Problem::ContentTooLarge, Termination::TooLarge, None),
            ClientFault::Refused(refusal) => {
                self.record.refused(refusal);
                (Problem::of(refusal), Termination::ParseError, Some(refusal))
            }
        };
        self.record.ends(end);
        if self.record.is_answered() {
            self.client.abort();
            return Fate::Abort;
        }
        self.answer(problem, refusal).await
    }
}

/// Whether `path` is `prefix` or lies below it.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a future gives without waiting.
async fn at_hand<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_another_by_whole_segments() {
        for (path, prefix, is) in [
            ("/a", "/", true),
            ("/", "/", true),
            ("/a/b", "/a", true),
            ("/a", "/a/", true),
            ("/ab", "/a", false),
            ("/b", "/a", false),
        ] {
            assert_eq!(is, is_below(path, prefix), "{path} {prefix}");
        }
    }
}
