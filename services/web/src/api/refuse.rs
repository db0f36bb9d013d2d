//! Every refusal of the API, as a problem document.

use std::time::Duration;

use router::RouterError;

use super::{
    fields::Fault,
    json,
    request::{BODY_MAX, BODY_TIME},
};
use crate::{
    ledger::LedgerError,
    problem::{FieldError, Kind, Problem},
};

/// When to try again what another transaction was in the way of.
const SOON: Duration = Duration::from_secs(1);

/// 404: not there, or another owner's.
pub(crate) fn not_found() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing here, or it is not yours")
}

/// 406.
pub(super) fn not_acceptable() -> Problem {
    Problem::new(
        Kind::NotAcceptable,
        "the answer is application/json, which the Accept header leaves out",
    )
}

/// 415.
pub(super) fn not_json() -> Problem {
    Problem::new(
        Kind::UnsupportedMediaType,
        "the body must be application/json in UTF-8, without a content encoding",
    )
}

/// 413.
pub(crate) fn too_large() -> Problem {
    Problem::new(
        Kind::TooLarge,
        format!("the body is larger than {BODY_MAX} bytes"),
    )
}

/// 408: the body did not come in time.
pub(super) fn late_body() -> Problem {
    Problem::new(
        Kind::RequestTimeout,
        format!("the body did not come within {BODY_TIME:?}"),
    )
}

/// 400: the body broke off.
pub(super) fn broken_body() -> Problem {
    Problem::new(Kind::MalformedBody, "the body did not come to its end")
}

/// 400: what came is no JSON, or none that has one meaning.
pub(super) fn bad_json(error: json::Error) -> Problem {
    let detail = error.to_string();
    let pointer = match error {
        json::Error::Duplicate(pointer) => pointer,
        _ => String::new(),
    };
    Problem::new(Kind::MalformedBody, "the body cannot be read as JSON")
        .errors([FieldError { pointer, detail }])
}

/// 400: no key, several, or one that cannot be a key.
pub(super) fn bad_key(detail: &'static str) -> Problem {
    Problem::new(Kind::IdempotencyKey, detail)
}

/// 400: parameters of the query are at fault.
pub(super) fn bad_query(faults: Vec<Fault>) -> Problem {
    Problem::new(
        Kind::InvalidQuery,
        "the query has parameters that cannot be read, or lacks one",
    )
    .errors(faults.into_iter().map(FieldError::from))
}

/// 422: fields of the body are at fault.
pub(super) fn bad_fields(faults: Vec<Fault>) -> Problem {
    Problem::new(
        Kind::InvalidFields,
        "the body has fields that cannot be as they are, or lacks some",
    )
    .errors(faults.into_iter().map(FieldError::from))
}

/// What the ledger refused, or could not do.
pub(crate) fn ledger(error: LedgerError) -> Problem {
    match &error {
        LedgerError::NoSuchAccount => not_found(),
        LedgerError::NoSuchRecipient => {
            bad_fields(vec![Fault::new("/to", "there is no such account")])
        }
        LedgerError::CursorOfAnotherList => {
            bad_query(vec![Fault::new("/after", "is not a cursor of this list")])
        }
        LedgerError::NoSuchOwner => Problem::new(
            Kind::Unauthorized,
            "the token's owner is not there any more: make a new one",
        ),
        LedgerError::InsufficientFunds { .. } => {
            Problem::new(Kind::InsufficientFunds, error.to_string())
        }
        LedgerError::BalanceTooLarge => Problem::new(Kind::BalanceTooLarge, error.to_string()),
        LedgerError::KeyReused => Problem::new(Kind::KeyReused, error.to_string()),
        LedgerError::TooBusy
        | LedgerError::TookTooLong(_)
        | LedgerError::Router(_)
        | LedgerError::Sql(_) => database(&error),
    }
}

/// 503 where asking again helps, and what is away; else 500.
fn database(error: &LedgerError) -> Problem {
    let unavailable = |kind, detail: String| Problem::new(kind, detail).retry_after(SOON);
    match error.router() {
        Some(RouterError::CommitOutcomeUnknown { server, away, .. }) => {
            unavailable(Kind::OutcomeUnknown, outcome_unknown(server, away))
        }
        Some(
            away @ (RouterError::PrimaryUnavailable { .. }
            | RouterError::Maintenance { .. }
            | RouterError::NoServer { .. }
            | RouterError::Overloaded { .. }
            | RouterError::DeadlineExceeded { .. }
            | RouterError::RolledBack { .. }),
        ) => unavailable(Kind::Unavailable, format!("{away}; nothing was written")),
        _ if error.is_passing() => {
            unavailable(Kind::Unavailable, format!("{error}; nothing was written"))
        }
        _ => {
            tracing::error!(%error, "the ledger failed");
            Problem::internal()
        }
    }
}

/// What is away, and what to do. A commit is acknowledged once the replica has it, so it is the replica that is missed first.
fn outcome_unknown(server: &str, away: &[String]) -> String {
    let why = if away.iter().any(|name| name == server) {
        format!("{server} went away before it had acknowledged the change")
    } else if away.is_empty() {
        format!("{server} did not acknowledge the change in time: its replica is away, or slow")
    } else {
        let away = away.join(", ");
        format!("{server} did not acknowledge the change in time: the replica {away} is away")
    };
    format!(
        "{why}. The change may have been made, or may still be. The same request with the same Idempotency-Key tells, and makes it at \
         most once"
    )
}

impl From<Fault> for FieldError {
    fn from(fault: Fault) -> Self {
        Self {
            pointer: fault.pointer,
            detail: fault.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_is_named() {
        let said = |away: &[&str]| {
            let away: Vec<_> = away.iter().map(|&name| name.to_owned()).collect();
            outcome_unknown("mysql-1", &away)
        };
        assert!(said(&["mysql-2"]).contains("the replica mysql-2 is away"));
        assert!(said(&["mysql-1"]).starts_with("mysql-1 went away"));
        assert!(said(&[]).contains("its replica is away, or slow"));
        assert!(said(&[]).contains("Idempotency-Key"));
    }
}
