//! Forms of other sites are refused: a browser sends our cookies with them.
//!
//! Browsers say where a request comes from in `Sec-Fetch-Site` (Fetch Metadata), older ones in `Origin` (RFC 6454). Who sends neither is
//! no browser, and has cookies only if it means to.

use axum::extract::FromRequestParts;
use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
    request::Parts,
};

use crate::{
    problem::{Kind, Problem},
    state::AppState,
};

/// The request was not sent by a page of another site.
pub(super) struct SameOrigin;

impl FromRequestParts<AppState> for SameOrigin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        if is_same_origin(&parts.uri, &parts.headers) {
            Ok(Self)
        } else {
            Err(Problem::new(
                Kind::CrossSite,
                "the form was sent by a page of another site; nothing was changed",
            ))
        }
    }
}

fn is_same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if let Some(site) = sites.next() {
        return sites.next().is_none() && (site == "same-origin" || site == "none");
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let host = uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
    let origin = origin
        .to_str()
        .ok()
        .and_then(|o| o.strip_prefix("https://"));
    match (origin, host) {
        (Some(origin), Some(host)) if origins.next().is_none() => {
            without_default_port(origin).eq_ignore_ascii_case(without_default_port(host))
        }
        _ => false,
    }
}

fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn passes(headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        map.insert(HOST, HeaderValue::from_static("localhost:8443"));
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        is_same_origin(&Uri::from_static("/accounts"), &map)
    }

    #[test]
    fn the_site_that_a_browser_names_decides() {
        assert!(passes(&[("sec-fetch-site", "same-origin")]));
        assert!(passes(&[("sec-fetch-site", "none")]));
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert!(!passes(&[("sec-fetch-site", site)]), "{site}");
        }
        assert!(!passes(&[
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "cross-site")
        ]));
        assert!(!passes(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://localhost:8443")
        ]));
    }

    #[test]
    fn else_the_origin_must_be_ours() {
        assert!(passes(&[]));
        assert!(passes(&[("origin", "https://localhost:8443")]));
        assert!(passes(&[("origin", "https://LOCALHOST:8443")]));
        for origin in [
            "null",
            "http://localhost:8443",
            "https://localhost",
            "https://localhost:8444",
            "https://localhost:8443.example",
            "https://example.org",
            "",
        ] {
            assert!(!passes(&[("origin", origin)]), "{origin}");
        }
        let twice = ("origin", "https://localhost:8443");
        assert!(!passes(&[twice, twice]));
    }

    #[test]
    fn the_default_port_may_be_left_out() {
        let headers =
            HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("https://example.org"))]);
        let uri = Uri::from_static("https://example.org:443/accounts");
        assert!(is_same_origin(&uri, &headers));
    }
}
