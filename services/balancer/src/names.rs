//! The names that our certificate is good for: hosts that a request may be meant for.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Host names in lower case and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    hosts: HashSet<String>,
    addresses: HashSet<IpAddr>,
}

impl Names {
    /// The subject alternative names of a certificate; empty if it has none or cannot be read.
    pub fn of_certificate(der: &[u8]) -> Names {
        let mut names = Names::default();
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return names;
        };
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
            return names;
        };
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(host) => names.add(host),
                GeneralName::IPAddress(octets) => names.addresses.extend(address(octets)),
                _ => {}
            }
        }
        names
    }

    /// Adds a host name, or an address in text.
    pub fn add(&mut self, host: &str) {
        match host.parse() {
            Ok(address) => {
                self.addresses.insert(address);
            }
            Err(_) => {
                self.hosts.insert(host.to_ascii_lowercase());
            }
        }
    }

    /// Adds all of others.
    pub fn extend(&mut self, others: Names) {
        self.hosts.extend(others.hosts);
        self.addresses.extend(others.addresses);
    }

    /// Whether `host` (no port, an IPv6 address without its brackets) is one of them, or falls under one with an asterisk, which stands
    /// for exactly one label (RFC 9525, 6.3).
    pub fn contains(&self, host: &str) -> bool {
        // Most clients write it as the certificate does.
        if self.hosts.contains(host) {
            return true;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let parent = host
            .split_once('.')
            .map(|(_, parent)| format!("*.{parent}"));
        self.hosts.contains(&host) || parent.is_some_and(|name| self.hosts.contains(&name))
    }
}

/// The last authority that was found to be ours: most requests of a worker are for the same one.
#[derive(Debug, Default)]
pub struct LastFound {
    names: Arc<Names>,
    authority: Vec<u8>,
}

impl LastFound {
    /// Whether the host in `authority` is one of `names`.
    pub fn is_among(&mut self, authority: &[u8], names: &Arc<Names>) -> bool {
        if Arc::ptr_eq(&self.names, names) && self.authority == authority {
            return true;
        }
        let host = std::str::from_utf8(authority).ok().and_then(host_of);
        let is = host.is_some_and(|host| names.contains(host));
        if is {
            self.names = Arc::clone(names);
            self.authority = authority.to_vec();
        }
        is
    }
}

/// The host in an authority (`host`, `host:port`, `[::1]:port`), without brackets; `None` if it is not one.
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port.strip_prefix(':').unwrap_or(port))
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    (is_host && is_port).then_some(host)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        for name in ["localhost", "balancer-1", "127.0.0.1", "::1"] {
            names.add(name);
        }
        names
    }

    #[test]
    fn names_are_compared_without_case_and_final_dot_and_addresses_by_value() {
        for ours in ["localhost", "LocalHost.", "127.0.0.1", "0:0:0:0:0:0:0:1"] {
            assert!(names().contains(ours), "{ours}");
        }
        for other in ["example.org", "localhost.example.org", "127.0.0.2", ""] {
            assert!(!names().contains(other), "{other}");
        }
    }

    #[test]
    fn what_was_found_is_asked_again_when_the_names_change() {
        let (ours, none) = (Arc::new(names()), Arc::new(Names::default()));
        let mut last = LastFound::default();
        assert!(!last.is_among(b"", &ours) && !last.is_among(b"other", &ours));
        for _ in 0..2 {
            assert!(last.is_among(b"localhost:8443", &ours));
            assert!(!last.is_among(b"localhost:8443", &none));
            assert!(!last.is_among(b"localhost:x", &ours));
        }
    }

    #[test]
    fn an_asterisk_stands_for_one_label() {
        let mut names = Names::default();
        names.add("*.shop.example");
        for (host, is) in [
            ("a.shop.example", true),
            ("A.Shop.Example.", true),
            ("shop.example", false),
            ("a.b.shop.example", false),
        ] {
            assert_eq!(is, names.contains(host), "{host}");
        }
    }

    #[test]
    fn an_authority_is_a_host_with_or_without_a_port() {
        let cases = [
            ("localhost", Some("localhost")),
            ("localhost:8443", Some("localhost")),
            ("localhost:", Some("localhost")),
            ("[::1]:8443", Some("::1")),
            ("[::1]", Some("::1")),
            ("localhost:http", None),
            ("localhost:99999", None),
            ("a b", None),
            ("a/b", None),
            ("user@host", None),
            ("[::1", None),
            ("[nonsense]", None),
            (":8443", None),
            ("", None),
        ];
        for (authority, host) in cases {
            assert_eq!(host, host_of(authority), "{authority}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        assert_eq!(
            Names::default(),
            Names::of_certificate(b"not a certificate")
        );
    }
}
