//! Where plain HTTP is sent: the same target over HTTPS.
//!
//! A client's `Host` is echoed only if our certificate is good for it; otherwise the answer would send people wherever a forged header
//! says, or to a name that their browser then refuses.

use crate::names::{Names, host_of};

/// What a redirect is made from.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The host where the client's is not ours.
    pub host: String,
    /// The port that HTTPS is published on.
    pub https_port: u16,
}

impl Redirect {
    /// The `Location` for a request with this `Host` and target.
    pub fn location(&self, host: Option<&str>, target: &str, names: &Names) -> String {
        let host = host
            .and_then(host_of)
            .filter(|host| names.contains(host))
            .unwrap_or(&self.host);
        let (open, close) = if host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let path = path_of(target);
        match self.https_port {
            443 => format!("https://{open}{host}{close}{path}"),
            port => format!("https://{open}{host}{close}:{port}{path}"),
        }
    }
}

/// Path and query of a request target; `/` where there are none that can be repeated in a header.
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => target,
    };
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        path
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: Option<&str>, target: &str) -> String {
        let mut names = Names::default();
        names.add("localhost");
        names.add("::1");
        Redirect {
            host: "shop.test".to_owned(),
            https_port: 8443,
        }
        .location(host, target, &names)
    }

    #[test]
    fn a_host_of_ours_is_kept_with_path_and_query() {
        assert_eq!(
            "https://localhost:8443/accounts?limit=3",
            location(Some("localhost:8080"), "/accounts?limit=3")
        );
        assert_eq!("https://[::1]:8443/", location(Some("[::1]:8080"), "/"));
    }

    #[test]
    fn any_other_host_becomes_the_configured_one() {
        for host in [
            None,
            Some("evil.example"),
            Some("localhost@evil.example"),
            Some(""),
        ] {
            assert_eq!("https://shop.test:8443/a", location(host, "/a"), "{host:?}");
        }
    }

    #[test]
    fn the_port_of_https_is_left_out() {
        let redirect = Redirect {
            host: "shop.test".to_owned(),
            https_port: 443,
        };
        assert_eq!(
            "https://shop.test/a",
            redirect.location(None, "/a", &Names::default())
        );
    }

    #[test]
    fn a_target_that_is_no_path_becomes_the_root() {
        for target in ["*", "example.org:443", "/a\r\nset-cookie: b", "/a b", ""] {
            assert_eq!(
                "https://shop.test:8443/",
                location(None, target),
                "{target:?}"
            );
        }
        assert_eq!(
            "https://shop.test:8443/a?b",
            location(None, "http://shop.test/a?b")
        );
        assert_eq!(
            "https://shop.test:8443/",
            location(None, "http://shop.test")
        );
    }
}
