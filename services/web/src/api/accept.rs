//! `Accept`: whether a caller takes JSON (RFC 9110, 12.5.1).

use http::{HeaderMap, header::ACCEPT};

/// Whether the caller takes `application/json`. Who says nothing, or nothing that can be read, takes all.
pub(super) fn takes_json(headers: &HeaderMap) -> bool {
    // (how exactly it names JSON, whether it wants it): the most exact one counts.
    let mut best: Option<(u8, bool)> = None;
    let mut said_something = false;
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let Some((exactness, wanted)) = media_range(range) else {
                continue;
            };
            said_something = true;
            let Some(exactness) = exactness else {
                continue;
            };
            best = match best {
                Some((before, _)) if before > exactness => best,
                Some((before, was_wanted)) if before == exactness => {
                    Some((before, was_wanted || wanted))
                }
                _ => Some((exactness, wanted)),
            };
        }
    }
    best.map_or(!said_something, |(_, wanted)| wanted)
}

/// How exactly a media range names JSON (none: not at all), and whether its weight is above zero. None: it is no media range.
fn media_range(text: &str) -> Option<(Option<u8>, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let is = |text: &str, word: &str| text.eq_ignore_ascii_case(word);
    let exactness = match (kind, subtype) {
        ("", _) | (_, "") => return None,
        ("*", "*") => Some(0),
        (kind, "*") if is(kind, "application") => Some(1),
        (kind, subtype) if is(kind, "application") && is(subtype, "json") => Some(2),
        _ => None,
    };
    let mut weight = 1.0;
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && is(name.trim(), "q")
        {
            weight = value
                .trim()
                .parse::<f32>()
                .ok()
                .filter(|q| (0.0..=1.0).contains(q))?;
        }
    }
    Some((exactness, weight > 0.0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_taken_or_not() {
        for (accept, taken) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("*/*", true),
            ("application/*;q=0.1", true),
            ("text/html, */*;q=0.8", true),
            ("text/html", false),
            ("application/problem+json", false),
            ("application/xml, text/*", false),
            ("application/json;q=0, */*", false),
            ("*/*;q=0, application/json", true),
            ("application/*;q=0, */*;q=1", false),
            ("*/*;q=0.0", false),
            ("", true),
            ("nonsense", true),
            ("application/json;q=2", true),
            ("text/html, nonsense", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            assert_eq!(takes_json(&headers), taken, "{accept}");
        }
        assert!(takes_json(&HeaderMap::new()));
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/html"));
        assert!(!takes_json(&headers));
        headers.append(ACCEPT, HeaderValue::from_static("application/json"));
        assert!(takes_json(&headers));
    }
}
