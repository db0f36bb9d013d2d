//! A request's method, as far as an intermediary cares.

/// The methods whose meaning is known here. Case matters: `get` is another method than `GET` (RFC 9110, 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks for the content.
    Get,
    /// As `Get`, without the content.
    Head,
    /// Hands something over to be processed.
    Post,
    /// Puts something in place.
    Put,
    /// Takes something away.
    Delete,
    /// Asks for a tunnel.
    Connect,
    /// Asks what is possible.
    Options,
    /// Asks for the request itself.
    Trace,
    /// Changes a part (RFC 5789).
    Patch,
    /// Any other token.
    Other,
}

impl Method {
    /// Of the token in a request.
    pub(crate) fn of(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }

    /// Whether it asks for no change (RFC 9110, 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(
            self,
            Method::Get | Method::Head | Method::Options | Method::Trace
        )
    }

    /// Whether doing it twice is as good as doing it once (RFC 9110, 9.2.2).
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_by_its_exact_letters() {
        assert_eq!(Method::Get, Method::of(b"GET"));
        assert_eq!(Method::Other, Method::of(b"get"));
        assert_eq!(Method::Other, Method::of(b"QUERY"));
    }

    #[test]
    fn what_may_be_done_twice_is_what_the_rfc_says() {
        for method in [Method::Get, Method::Head, Method::Options, Method::Trace] {
            assert!(method.is_safe() && method.is_idempotent());
        }
        for method in [Method::Put, Method::Delete] {
            assert!(!method.is_safe() && method.is_idempotent());
        }
        for method in [Method::Post, Method::Patch, Method::Connect, Method::Other] {
            assert!(!method.is_safe() && !method.is_idempotent());
        }
    }
}
