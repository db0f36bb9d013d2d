//! Where a statement goes, from its class, what is known of the servers, and what the session has written. No I/O.

use std::time::Duration;

use crate::{
    Shared,
    causal::Token,
    classify::{Class, classify},
    decision::{Decision, Reason, Target},
    error::RouterError,
    health::View,
    pool::Use,
    session::Session,
};

/// A decision, and what to do about it.
pub(crate) struct Choice {
    pub(crate) decision: Decision,
    pub(crate) server: usize,
    pub(crate) usage: Use,
    pub(crate) class: Class,
}

/// Where a statement of this text goes.
pub(crate) fn choose(shared: &Shared, session: &Session, sql: &str) -> Result<Choice, RouterError> {
    let class = classify(sql);
    match class {
        Class::SessionState(state) => Err(RouterError::SessionState { state }),
        Class::Read => read(shared, session, None),
        Class::Locking => primary(shared, class, Reason::Locking),
        Class::Write => primary(shared, class, Reason::Write),
        Class::Unproven => primary(shared, class, Reason::Unproven),
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
        usage: Use::Any,
        class,
    })
}

/// A server for a read, `tried` aside.
pub(crate) fn read(
    shared: &Shared,
    session: &Session,
    tried: Option<usize>,
) -> Result<Choice, RouterError> {
    let view = shared.view.load();
    knows_the_token(shared, session, &view)?;
    let to = |target, server, reason, lag| Choice {
        decision: decision(shared, &view, target, server, reason, lag),
        server,
        usage: if target == Target::Primary {
            Use::ReadOnPrimary
        } else {
            Use::Any
        },
        class: Class::Read,
    };
    let mut why_not = Reason::ReplicaDown;
    let mut best: Option<(usize, Duration)> = None;
    let mut last_resort = None;
    let replicas =
        (0..shared.servers.len()).filter(|&s| Some(s) != view.primary && Some(s) != tried);
    for replica in replicas.filter(|&replica| view.servers[replica].up) {
        if !fresh(shared, session, replica) {
            why_not = Reason::Stale;
            continue;
        }
        let name = &shared.servers[replica].endpoint.name;
        if view.complete(replica, name) {
            last_resort = Some(replica);
        }
        match view.age(replica) {
            Some(lag) if lag <= shared.config.max_lag() => {
                let in_use = shared.servers[replica].in_use();
                if best.is_none_or(|(other, _)| in_use < shared.servers[other].in_use()) {
                    best = Some((replica, lag));
                }
            }
            // Not known is as good as for ever.
            _ => why_not = Reason::Lag,
        }
    }
    let primary = view
        .readable_primary()
        .filter(|&primary| Some(primary) != tried);
    if let Some((replica, lag)) = best {
        let replica_full = shared.servers[replica].full(Use::Any, &shared.config);
        match primary {
            Some(primary)
                if replica_full
                    && !shared.servers[primary].full(Use::ReadOnPrimary, &shared.config) =>
            {
                return Ok(to(Target::Primary, primary, Reason::ReplicaFull, None));
            }
            _ => return Ok(to(Target::Replica, replica, Reason::Fresh, Some(lag))),
        }
    }
    if let Some(primary) = primary {
        return Ok(to(Target::Primary, primary, why_not, None));
    }
    // The link to a primary that is away grows old, but a replica in sync has all that was ever acknowledged.
    if let Some(replica) = last_resort {
        return Ok(to(Target::Replica, replica, Reason::PrimaryDown, None));
    }
    Err(RouterError::NoServer {
        reason: known(shared, &view),
    })
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
fn fresh(shared: &Shared, session: &Session, replica: usize) -> bool {
    let watermark = &shared.watermark;
    if !watermark.has(replica, session.mark()) {
        watermark.want_mark(session.mark());
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
        server: shared.servers[server].endpoint.name.clone(),
        reason,
        epoch: view.epoch,
        lag,
    }
}

/// The error for a write that nobody would take.
pub(crate) fn no_primary(shared: &Shared) -> RouterError {
    let view = shared.view.load();
    match view.primary {
        None => RouterError::PrimaryUnavailable {
            server: shared
                .servers
                .iter()
                .map(|s| s.endpoint.name.as_str())
                .collect::<Vec<_>>()
                .join(" or "),
            reason: format!("no server says who is primary: {}", known(shared, &view)),
        },
        Some(primary) => {
            let server = &view.servers[primary];
            let reason = match &server.facts {
                None => server.error.clone(),
                Some(facts) if facts.offline_mode => "it is closed (offline mode)".to_owned(),
                Some(facts) if facts.super_read_only || facts.read_only => {
                    "it is read-only".to_owned()
                }
                Some(facts) => format!(
                    "it is another server ({}) than the one that was published",
                    facts.uuid
                ),
            };
            RouterError::PrimaryUnavailable {
                server: shared.servers[primary].endpoint.name.clone(),
                reason,
            }
        }
    }
}

/// The error for a server that is away.
pub(crate) fn away(shared: &Shared, server: usize) -> RouterError {
    let reason = shared.view.load().servers[server].error.clone();
    away_because(shared, server, &reason)
}

/// The same, for a reason that is fresher than the last probe.
pub(crate) fn away_because(shared: &Shared, server: usize, reason: &str) -> RouterError {
    let name = shared.servers[server].endpoint.name.clone();
    if shared.view.load().primary == Some(server) {
        return RouterError::PrimaryUnavailable {
            server: name,
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
    let name = |index: usize| shared.servers[index].endpoint.name.clone();
    let away = (0..shared.servers.len()).filter(|&index| !view.servers[index].up);
    RouterError::CommitOutcomeUnknown {
        server: name(server),
        reason,
        away: away.map(name).collect(),
    }
}

fn known(shared: &Shared, view: &View) -> String {
    let of = |(index, server): (usize, &crate::pool::Server)| {
        let state = &view.servers[index];
        let what = if state.up {
            "is there"
        } else {
            state.error.as_str()
        };
        format!("{}: {what}", server.endpoint.name)
    };
    shared
        .servers
        .iter()
        .enumerate()
        .map(of)
        .collect::<Vec<_>>()
        .join("; ")
}
