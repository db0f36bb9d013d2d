//! One page for a trace, one for a list of them: HTML and a style, no script.

use std::{collections::BTreeMap, fmt::Write};

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

use crate::store::{Summary, Trace, has_failed, hex, resource_attribute, service_of, text};

/// How deep spans are indented at most; what hangs deeper hangs there.
const DEPTH_MAX: usize = 12;

/// Told apart by people who see all colours and by those who do not: they differ in lightness, too, and the name stands beside.
const HUES: [u16; 8] = [210, 145, 30, 280, 350, 180, 60, 320];

const STYLE: &str = include_str!("page.css");

/// A trace as a waterfall: each span below the one that it is a part of, in the order in which they began.
pub(crate) fn trace(id: &str, trace: &Trace) -> String {
    let rows = rows(trace);
    let colours = colours(trace);
    let (begin, end) = trace.bounds();
    let whole = (end - begin).max(1);
    let mut body = format!(
        "<header><p><a href=\"/\">Traces</a></p><h1>{}</h1><p class=\"sub\"><code>{}</code> · {} spans · {}</p></header>",
        escaped(rows.first().map_or("a trace", |row| &row.span.name)),
        escaped(id),
        rows.len(),
        duration(whole),
    );
    body.push_str("<ul class=\"legend\">");
    for (service, hue) in &colours {
        let _ = write!(body, "<li style=\"--hue:{hue}\">{}</li>", escaped(service));
    }
    body.push_str("</ul>");
    if trace.dropped > 0 {
        let _ = write!(
            body,
            "<p class=\"note\">{} more spans were not kept.</p>",
            trace.dropped
        );
    }
    body.push_str("<div class=\"axis\" aria-hidden=\"true\">");
    for quarter in 0..=4 {
        let _ = write!(body, "<span>{}</span>", duration(whole * quarter / 4));
    }
    body.push_str("</div><main class=\"waterfall\">");
    for row in &rows {
        let percent = |nanoseconds: u64| nanoseconds as f64 * 100.0 / whole as f64;
        let took = row
            .span
            .end_time_unix_nano
            .saturating_sub(row.span.start_time_unix_nano);
        let _ = write!(
            body,
            "<details class=\"span{}\" style=\"--hue:{};--depth:{};--from:{:.3}%;--width:{:.3}%\"><summary>\
             <span class=\"name\"><b>{}</b> <i>{}</i>{}</span><span class=\"line\"><span class=\"bar\"></span></span>\
             <span class=\"took\">{}</span></summary>{}</details>",
            if has_failed(row.span) { " failed" } else { "" },
            colours.get(&service_of(row.part)).unwrap_or(&0),
            row.depth,
            percent(row.span.start_time_unix_nano - begin),
            percent(took),
            escaped(&row.span.name),
            escaped(&sender(row.part)),
            if has_failed(row.span) {
                " <strong>failed</strong>"
            } else {
                ""
            },
            duration(took),
            facts(row),
        );
    }
    body.push_str("</main>");
    document(&format!("Trace {id}"), &body)
}

/// The newest traces.
pub(crate) fn list(traces: &[Summary]) -> String {
    let mut body = String::from(
        "<header><h1>Traces</h1><p class=\"sub\">The newest first. They are kept in memory.</p></header>",
    );
    if traces.is_empty() {
        body.push_str(
            "<p class=\"note\">None yet: make a request, and look again in a second.</p>",
        );
    } else {
        body.push_str("<table class=\"list\"><thead><tr><th>Began as</th><th>Service</th><th>Spans</th><th>Took</th></tr></thead><tbody>");
        for trace in traces {
            let (service, name) = &trace.root;
            let _ = write!(
                body,
                "<tr{}><td><a href=\"/trace/{id}\">{}</a> <code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                if trace.failed {
                    " class=\"failed\""
                } else {
                    ""
                },
                escaped(name),
                &trace.id[..8.min(trace.id.len())],
                escaped(service),
                trace.spans,
                duration(trace.duration),
                id = trace.id,
            );
        }
        body.push_str("</tbody></table>");
    }
    document("Traces", &body)
}

/// No trace of this id is kept.
pub(crate) fn nothing(id: &str) -> String {
    let body = format!(
        "<header><p><a href=\"/\">Traces</a></p><h1>Not here</h1></header><p class=\"note\">There is no trace <code>{}</code>: \
         it was not recorded, it has not arrived yet (spans are sent twice a second), or newer ones have taken its place.</p>",
        escaped(id)
    );
    document("No such trace", &body)
}

struct Row<'a> {
    part: &'a ResourceSpans,
    span: &'a Span,
    depth: usize,
}

/// Every span once, parents before their children; one whose parent is not known stands at the left.
fn rows(trace: &Trace) -> Vec<Row<'_>> {
    let mut spans: Vec<_> = trace.spans().collect();
    spans.sort_by_key(|(_, span)| span.start_time_unix_nano);
    let mut children: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (index, (_, span)) in spans.iter().enumerate() {
        let known = spans.iter().any(|(_, other)| {
            other.span_id == span.parent_span_id && other.span_id != span.span_id
        });
        let parent: &[u8] = if known { &span.parent_span_id } else { &[] };
        children.entry(parent).or_default().push(index);
    }
    let mut rows = Vec::new();
    let mut seen = vec![false; spans.len()];
    let mut open: Vec<(usize, usize)> = Vec::new();
    let below = |open: &mut Vec<(usize, usize)>, id: &[u8], depth: usize| {
        let below = children.get(id).into_iter().flatten().rev();
        open.extend(below.map(|&index| (index, depth)));
    };
    below(&mut open, &[], 0);
    while let Some((index, depth)) = open.pop() {
        if std::mem::replace(&mut seen[index], true) {
            continue;
        }
        let (part, span) = spans[index];
        rows.push(Row {
            part,
            span,
            depth: depth.min(DEPTH_MAX),
        });
        below(&mut open, &span.span_id, depth + 1);
    }
    // Spans that are each other's parents are in nobody's tree.
    rows.extend((0..spans.len()).filter(|&index| !seen[index]).map(|index| {
        let (part, span) = spans[index];
        Row {
            part,
            span,
            depth: 0,
        }
    }));
    rows
}

fn colours(trace: &Trace) -> BTreeMap<String, u16> {
    let mut services: Vec<String> = trace.parts.iter().map(service_of).collect();
    services.sort();
    services.dedup();
    services.into_iter().zip(HUES.into_iter().cycle()).collect()
}

fn sender(part: &ResourceSpans) -> String {
    resource_attribute(part, "service.instance.id").unwrap_or_else(|| service_of(part))
}

/// What stands in the opened row.
fn facts(row: &Row<'_>) -> String {
    let kind = match row.span.kind {
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        _ => "internal",
    };
    let mut table = String::from("<table><tbody>");
    let mut fact = |key: &str, value: &str| {
        let _ = write!(
            table,
            "<tr><th>{}</th><td>{}</td></tr>",
            escaped(key),
            escaped(value)
        );
    };
    fact("kind", kind);
    for attribute in &row.span.attributes {
        fact(&attribute.key, &text(attribute));
    }
    for event in &row.span.events {
        let after = event
            .time_unix_nano
            .saturating_sub(row.span.start_time_unix_nano);
        let facts: Vec<_> = event
            .attributes
            .iter()
            .map(|a| format!("{}={}", a.key, text(a)))
            .collect();
        fact(
            &format!("after {}", duration(after)),
            &format!("{} {}", event.name, facts.join(" ")),
        );
    }
    fact(
        "service",
        &format!("{} ({})", service_of(row.part), sender(row.part)),
    );
    fact("span", &hex(&row.span.span_id));
    table.push_str("</tbody></table>");
    table
}

/// Three digits that count, and a unit.
fn duration(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds as f64 / 1e6;
    match milliseconds {
        ms if ms >= 1000.0 => format!("{:.2} s", ms / 1000.0),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}</style></head><body>{body}\
         <footer>Holdfast's trace store, in the place of Jaeger.</footer></body></html>",
        escaped(title)
    )
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Limits, Store,
        tests::{attribute, message, span},
    };

    fn page(spans: Vec<Span>) -> String {
        let store = Store::new(Limits {
            traces: 9,
            spans: 9,
        });
        store.take(message("web", spans));
        trace("1", &store.trace(&[1; 16]).unwrap())
    }

    #[test]
    fn a_child_stands_below_its_parent_whatever_the_order_in_which_they_came() {
        let page = page(vec![
            span(1, 4, 2, "grandchild"),
            span(1, 3, 1, "second"),
            span(1, 2, 1, "first"),
            span(1, 1, 0, "root"),
        ]);
        let at = |name: &str| page.find(&format!("<b>{name}</b>")).unwrap();
        assert!(at("root") < at("first") && at("first") < at("grandchild"));
        assert!(at("grandchild") < at("second"));
        assert!(page.contains("--depth:2"), "{page}");
    }

    #[test]
    fn spans_that_are_each_others_parents_are_shown_all_the_same() {
        let page = page(vec![span(1, 1, 2, "one"), span(1, 2, 1, "two")]);
        assert!(page.contains("<b>one</b>") && page.contains("<b>two</b>"));
    }

    #[test]
    fn what_a_stranger_has_written_is_text() {
        let mut bad = span(1, 1, 0, "<script>alert(1)</script>");
        bad.attributes = vec![attribute("\"><img", "'&")];
        let page = page(vec![bad]);
        assert!(
            !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
        assert!(page.contains("&#39;&amp;"), "{page}");
        assert!(!nothing("<b>").contains("<b>"));
    }

    #[test]
    fn durations_have_three_digits_that_count() {
        let said: Vec<_> = [1_234, 1_234_567, 12_345_678, 123_456_789, 12_345_678_901]
            .map(duration)
            .into();
        assert_eq!(said, ["0.00 ms", "1.23 ms", "12.3 ms", "123 ms", "12.35 s"]);
    }
}
