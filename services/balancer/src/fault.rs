//! What an error of pingora's means: what the client is told, and how the request ended.

use pingora_core::{Error, ErrorSource, ErrorType};

use crate::problem::Problem;
use crate::retry::Sent;
use crate::termination::Termination;

/// pingora's error for a certificate of the wrong role.
pub(crate) const WRONG_ROLE: ErrorType = ErrorType::new("WrongRole");

/// What a failure on a backend means for the client.
pub(crate) fn fault_of_backend(error: &Error, sent: Sent) -> (Problem, Termination) {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, H1Error, InvalidCert, InvalidHTTPHeader, ReadTimedout,
        TLSHandshakeFailure, TLSHandshakeTimedout, WriteTimedout,
    };
    let end = match error.etype() {
        etype if *etype == WRONG_ROLE => Termination::WrongRole,
        ConnectTimedout | TLSHandshakeTimedout => Termination::ConnectTimeout,
        TLSHandshakeFailure | InvalidCert => Termination::TlsFailure,
        ReadTimedout | WriteTimedout => Termination::AnswerTimeout,
        InvalidHTTPHeader | H1Error => Termination::BadAnswer,
        ConnectionClosed => Termination::BackendReset,
        _ if sent == Sent::Nothing => Termination::ConnectRefused,
        _ => Termination::BackendReset,
    };
    let problem = match (sent, end) {
        (Sent::Nothing, _) => Problem::BackendsUnreachable,
        (Sent::Perhaps, Termination::AnswerTimeout) => Problem::GatewayTimeout,
        (Sent::Perhaps, _) => Problem::BadGateway,
    };
    (problem, end)
}

/// What a failure that no backend has caused means.
pub(crate) fn fault_of_client(error: &Error) -> (Problem, Termination) {
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => {
            (Problem::RequestTimeout, Termination::ClientTimeout)
        }
        (
            ErrorSource::Downstream,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed
            | ErrorType::H2Error
            | ErrorType::ConnectError,
        ) => (Problem::BadRequest, Termination::ClientAbort),
        (ErrorSource::Downstream, _) => (Problem::BadRequest, Termination::ParseError),
        _ => (Problem::Internal, Termination::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_is_unavailable_and_what_was_is_a_bad_gateway() {
        let refused = Error::new_up(ErrorType::ConnectRefused);
        assert_eq!(
            (Problem::BackendsUnreachable, Termination::ConnectRefused),
            fault_of_backend(&refused, Sent::Nothing)
        );
        let closed = Error::new_up(ErrorType::ConnectionClosed);
        assert_eq!(
            (Problem::BadGateway, Termination::BackendReset),
            fault_of_backend(&closed, Sent::Perhaps)
        );
        let late = Error::new_up(ErrorType::ReadTimedout);
        assert_eq!(
            (Problem::GatewayTimeout, Termination::AnswerTimeout),
            fault_of_backend(&late, Sent::Perhaps)
        );
        let role = Error::new_up(WRONG_ROLE);
        assert_eq!(
            (Problem::BackendsUnreachable, Termination::WrongRole),
            fault_of_backend(&role, Sent::Nothing)
        );
    }

    #[test]
    fn a_client_that_is_gone_is_not_a_client_that_is_wrong() {
        let gone = Error::new_down(ErrorType::ConnectionClosed);
        assert_eq!(Termination::ClientAbort, fault_of_client(&gone).1);
        let wrong = Error::new_down(ErrorType::InvalidHTTPHeader);
        assert_eq!(
            (Problem::BadRequest, Termination::ParseError),
            fault_of_client(&wrong)
        );
        let ours = Error::new_in(ErrorType::InternalError);
        assert_eq!(
            (Problem::Internal, Termination::Internal),
            fault_of_client(&ours)
        );
    }
}
