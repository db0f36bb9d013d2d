//! From an answer of Jaeger's API (version 3, OTLP as JSON) to spans. No I/O.
//!
//! It takes what the JSON of OTLP allows: ids in hexadecimal or base64, numbers as numbers or as text, enumerations by number or by name,
//! and what Jaeger does with a long trace: several objects one after the other.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Deserializer, Value};

/// What a span is to the work that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request that was taken.
    Server,
    /// A request that was made.
    Client,
    /// Anything else.
    Internal,
}

/// A piece of work within a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its own id.
    pub id: String,
    /// Its parent's, if it has one.
    pub parent: Option<String>,
    /// Who did it: the instance where it is known (`web-1`), else the service (`web`).
    pub service: String,
    /// What it was.
    pub name: String,
    /// What it is to the work.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// It failed; in its own words, if it has some.
    pub error: Option<String>,
    /// The attributes as text.
    pub attributes: BTreeMap<String, String>,
}

/// What is no answer of the API.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be read as traces: {0}")]
pub(super) struct NoSpans(String);

/// All spans of an answer, in the order of their beginnings.
///
/// # Errors
/// When it is not JSON, or has no spans where they should be.
pub(super) fn parse(answer: &str) -> Result<Vec<Span>, NoSpans> {
    let mut spans = Vec::new();
    for object in Deserializer::from_str(answer).into_iter::<Value>() {
        let object = object.map_err(|error| NoSpans(error.to_string()))?;
        let result = object.get("result").unwrap_or(&object);
        let resources = result["resourceSpans"]
            .as_array()
            .ok_or_else(|| NoSpans("there are no resourceSpans in it".to_owned()))?;
        for of_resource in resources {
            let resource = attributes(&of_resource["resource"]["attributes"]);
            let service = ["service.instance.id", "service.name"]
                .iter()
                .find_map(|key| resource.get(*key).cloned())
                .unwrap_or_else(|| "?".to_owned());
            for of_scope in list(&of_resource["scopeSpans"]) {
                let found = list(&of_scope["spans"]).iter();
                spans.extend(found.map(|span| of(span, &service)));
            }
        }
    }
    spans.sort_by_key(|span| (span.start, span.end));
    Ok(spans)
}

fn of(span: &Value, service: &str) -> Span {
    let status = &span["status"];
    let failed = number(&status["code"]) == Some(2) || status["code"] == "STATUS_CODE_ERROR";
    let kind = match (&span["kind"], number(&span["kind"])) {
        (_, Some(2)) => Kind::Server,
        (_, Some(3)) => Kind::Client,
        (Value::String(name), _) if name == "SPAN_KIND_SERVER" => Kind::Server,
        (Value::String(name), _) if name == "SPAN_KIND_CLIENT" => Kind::Client,
        _ => Kind::Internal,
    };
    let start = number(&span["startTimeUnixNano"]).unwrap_or(0);
    Span {
        id: id(&span["spanId"]).unwrap_or_default(),
        parent: id(&span["parentSpanId"]),
        service: service.to_owned(),
        name: text(&span["name"]),
        kind,
        start,
        end: number(&span["endTimeUnixNano"]).unwrap_or(start).max(start),
        error: failed.then(|| text(&status["message"])),
        attributes: attributes(&span["attributes"]),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A span's id as 16 hexadecimal digits; nothing, or zeroes, is none.
fn id(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let hex = if text.len() == 16 {
        text.to_ascii_lowercase()
    } else {
        let bytes = STANDARD.decode(text).ok()?;
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    hex.chars().any(|c| c != '0').then_some(hex)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn attributes(list_of_pairs: &Value) -> BTreeMap<String, String> {
    list(list_of_pairs)
        .iter()
        .map(|pair| {
            let value = pair["value"]
                .as_object()
                .and_then(|one| one.values().next());
            (text(&pair["key"]), value.map(text).unwrap_or_default())
        })
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_the_same_are_read_alike() {
        let with = |parent: &str, kind: &str, start: &str, code: &str| {
            format!(
                r#"{{"result":{{"resourceSpans":[{{
                    "resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"web"}}}},
                                               {{"key":"service.instance.id","value":{{"stringValue":"web-1"}}}}]}},
                    "scopeSpans":[{{"scope":{{"name":"web"}},"spans":[{{
                        "traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331",
                        "parentSpanId":{parent},"name":"GET /api","kind":{kind},
                        "startTimeUnixNano":{start},"endTimeUnixNano":"1700000000002000000",
                        "attributes":[{{"key":"http.response.status_code","value":{{"intValue":"503"}}}}],
                        "status":{{"code":{code},"message":"away"}}}}]}}]}}]}}}}"#
            )
        };
        let plain = parse(&with(
            r#""00f067aa0ba902b7""#,
            "2",
            "1700000000000000000",
            "2",
        ))
        .unwrap();
        let named = parse(&with(
            r#""APBnqgupArc=""#,
            r#""SPAN_KIND_SERVER""#,
            r#""1700000000000000000""#,
            r#""STATUS_CODE_ERROR""#,
        ))
        .unwrap();
        assert_eq!(plain, named);
        let span = &plain[0];
        assert_eq!(span.service, "web-1");
        assert_eq!(span.parent.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(span.kind, Kind::Server);
        assert_eq!(span.end - span.start, 2_000_000);
        assert_eq!(span.error.as_deref(), Some("away"));
        assert_eq!(span.attributes["http.response.status_code"], "503");
    }

    #[test]
    fn a_span_that_says_little_is_read_all_the_same() {
        // As Jaeger's own tests have it.
        let answer = r#"{"result":{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[
            {"kind":2,"name":"foobar","spanId":"0000000000000002","status":{"code":2},
             "traceId":"00000000000000000000000000000001"}]}]}]}}"#;
        let spans = parse(&format!("{answer}\n{answer}")).unwrap();
        assert_eq!(spans.len(), 2, "a long trace comes as several objects");
        assert_eq!(spans[0].parent, None);
        assert_eq!(spans[0].error.as_deref(), Some(""));
        assert!(
            parse(r#"{"result":{"resourceSpans":[]}}"#)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        assert!(parse("<html>").is_err());
        assert!(parse(r#"{"error":"no"}"#).is_err());
    }
}
