//! Which fields the edge sets, in both directions, and which it takes from nobody.
//!
//! A client can write any field; what the edge says about a request must come from the edge. So everything that speaks of the way a
//! request has come is taken out first, then written anew.

use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use http::header::{FORWARDED, HeaderValue};

/// The request's number, of our own making.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context, on the way in.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C trace context, on the way out.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
/// Which backend has answered.
pub const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// What makes a request repeatable, whatever its method.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Taken out of every request: what a client could forge about where it comes from, and fields that end at this hop.
pub const NOT_FROM_CLIENTS: [&str; 23] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-prefix",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "true-client-ip",
    "via",
    "x-request-id",
    "x-correlation-id",
    "traceparent",
    "baggage",
    "proxy-authorization",
    "proxy-connection",
    "keep-alive",
];

/// Taken out of every answer: fields that end at this hop, and fields that only the edge sets.
pub const NOT_FROM_BACKENDS: [&str; 8] = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "x-request-id",
    "traceresponse",
    "strict-transport-security",
    "x-served-by",
];

/// How a request has come to us.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The client's end of its connection.
    pub client: SocketAddr,
    /// What the request is for: `Host`, or `:authority`.
    pub authority: &'a str,
}

impl Arrival<'_> {
    /// The fields that tell a backend.
    pub fn fields(&self) -> [(HeaderName, String); 4] {
        let client = unmapped(self.client.ip());
        [
            (X_FORWARDED_FOR, client.to_string()),
            (X_FORWARDED_HOST, self.authority.to_owned()),
            (X_FORWARDED_PROTO, "https".to_owned()),
            (FORWARDED, self.forwarded(client)),
        ]
    }

    /// RFC 7239: an IPv6 address is in brackets, and what is not a token in quotes.
    fn forwarded(&self, client: IpAddr) -> String {
        let node = match client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        format!("for={node};host=\"{}\";proto=https", self.authority)
    }
}

/// The value of `strict-transport-security`.
pub fn strict_transport_security(max_age_s: u64) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={max_age_s}")).expect("digits are valid in a header")
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(client: &str, name: &str) -> String {
        let arrival = Arrival {
            client: client.parse().unwrap(),
            authority: "localhost:8443",
        };
        let field = arrival
            .fields()
            .into_iter()
            .find(|(field, _)| field == name);
        field.unwrap().1
    }

    #[test]
    fn the_backend_learns_who_asks_for_what_and_how() {
        assert_eq!("192.0.2.7", value("192.0.2.7:4711", "x-forwarded-for"));
        assert_eq!(
            "localhost:8443",
            value("192.0.2.7:4711", "x-forwarded-host")
        );
        assert_eq!("https", value("192.0.2.7:4711", "x-forwarded-proto"));
        assert_eq!(
            "for=192.0.2.7;host=\"localhost:8443\";proto=https",
            value("192.0.2.7:4711", "forwarded")
        );
    }

    #[test]
    fn an_ipv6_client_is_written_as_the_rfc_asks() {
        assert_eq!(
            "2001:db8::7",
            value("[2001:db8::7]:4711", "x-forwarded-for")
        );
        assert!(value("[2001:db8::7]:4711", "forwarded").starts_with("for=\"[2001:db8::7]\";"));
        assert_eq!(
            "192.0.2.7",
            value("[::ffff:192.0.2.7]:4711", "x-forwarded-for")
        );
    }

    #[test]
    fn everything_the_edge_tells_is_taken_from_clients_first() {
        let arrival = Arrival {
            client: "192.0.2.7:1".parse().unwrap(),
            authority: "a",
        };
        for (name, _) in arrival.fields() {
            assert!(NOT_FROM_CLIENTS.contains(&name.as_str()), "{name}");
        }
        for name in [X_REQUEST_ID, TRACEPARENT] {
            assert!(NOT_FROM_CLIENTS.contains(&name.as_str()), "{name}");
        }
        for name in [X_REQUEST_ID, TRACERESPONSE, X_SERVED_BY] {
            assert!(NOT_FROM_BACKENDS.contains(&name.as_str()), "{name}");
        }
    }
}
