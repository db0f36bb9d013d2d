//! Which fields the edge sets, in both directions, and which it takes from nobody.
//!
//! A client can write any field; what the edge says about a request must come from the edge. So everything that speaks of the way a
//! request has come is taken out first, then written anew.

use std::net::IpAddr;

use http::HeaderValue;

use crate::address_text::{TEXT_LEN_MAX, text_of};
use crate::http1::Known;

/// Whether a field is taken out of every request: what a client could forge about where it comes from, and fields that end at this
/// hop. (Fields of the connection itself are never passed on: [`Known::is_hop_by_hop`].)
pub fn is_not_from_clients(known: Known) -> bool {
    matches!(
        known,
        Known::Forwarded
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XForwardedProto
            | Known::XForwardedProtocol
            | Known::XForwardedScheme
            | Known::XForwardedServer
            | Known::XForwardedSsl
            | Known::XForwardedPrefix
            | Known::XRealIp
            | Known::XClientIp
            | Known::XClusterClientIp
            | Known::XOriginalHost
            | Known::TrueClientIp
            | Known::Via
            | Known::XRequestId
            | Known::XCorrelationId
            | Known::Traceparent
            | Known::Baggage
            | Known::ProxyAuthorization
    )
}

/// Whether a field is taken out of every answer: fields that end at this hop, and fields that only the edge sets.
pub fn is_not_from_backends(known: Known) -> bool {
    matches!(
        known,
        Known::ProxyAuthenticate
            | Known::ProxyAuthenticationInfo
            | Known::XRequestId
            | Known::Traceresponse
            | Known::StrictTransportSecurity
            | Known::XServedBy
    )
}

/// How a request has come to us.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Who asks.
    pub client: IpAddr,
    /// What the request is for: `Host`, or `:authority`.
    pub authority: &'a [u8],
}

impl Arrival<'_> {
    /// Writes the fields that tell a backend.
    pub fn write(&self, out: &mut Vec<u8>) {
        let client = self.client;
        let authority = self.authority;
        let mut address = [0; TEXT_LEN_MAX];
        let address = text_of(client, &mut address);
        // RFC 7239: an IPv6 address is in brackets, and what is not a token in quotes.
        let (open, close): (&[u8], &[u8]) = match client {
            IpAddr::V4(_) => (b"", b""),
            IpAddr::V6(_) => (b"\"[", b"]\""),
        };
        for part in [
            b"x-forwarded-for: ",
            address,
            b"\r\nx-forwarded-proto: https\r\nx-forwarded-host: ",
            authority,
            b"\r\nforwarded: for=",
            open,
            address,
            close,
            b";host=\"",
            authority,
            b"\";proto=https\r\n",
        ] {
            out.extend_from_slice(part);
        }
    }
}

/// The value of `strict-transport-security`.
pub fn strict_transport_security(max_age_s: u64) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={max_age_s}")).expect("digits are valid in a header")
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
pub fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(client: &str) -> String {
        let arrival = Arrival {
            client: unmapped(client.parse().unwrap()),
            authority: b"localhost:8443",
        };
        let mut out = Vec::new();
        arrival.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_backend_learns_who_asks_for_what_and_how() {
        assert_eq!(
            "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-forwarded-host: localhost:8443\r\n\
             forwarded: for=192.0.2.7;host=\"localhost:8443\";proto=https\r\n",
            fields("192.0.2.7")
        );
    }

    #[test]
    fn an_ipv6_client_is_written_as_the_rfc_asks() {
        let text = fields("2001:db8::7");
        assert!(text.contains("x-forwarded-for: 2001:db8::7\r\n"), "{text}");
        assert!(text.contains("for=\"[2001:db8::7]\";"), "{text}");
        assert!(fields("::ffff:192.0.2.7").contains("for=192.0.2.7;"));
    }

    #[test]
    fn everything_the_edge_tells_is_taken_from_clients_first() {
        for line in fields("192.0.2.7").lines() {
            let name = line.split(':').next().unwrap();
            assert!(is_not_from_clients(Known::of(name.as_bytes())), "{name}");
        }
        for known in [Known::XRequestId, Known::Traceparent] {
            assert!(is_not_from_clients(known), "{known:?}");
        }
        for known in [Known::XRequestId, Known::Traceresponse, Known::XServedBy] {
            assert!(is_not_from_backends(known), "{known:?}");
        }
    }
}
