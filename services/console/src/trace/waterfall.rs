//! Spans as a picture for a terminal: a line each, below its parent, with a bar that says when. No I/O.

use std::{collections::BTreeSet, fmt::Write};

use super::spans::{Kind, Span};

/// The narrowest bar that says anything.
const BAR_MIN: usize = 10;

/// The longest label; a longer one is cut.
const LABEL_MAX: usize = 56;

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Columns in all.
    pub width: usize,
    /// With colours.
    pub colour: bool,
}

/// The picture, a line for each span.
#[must_use]
pub(super) fn render(spans: &[Span], look: Look) -> String {
    let Some(begin) = spans.iter().map(|span| span.start).min() else {
        return String::new();
    };
    let end = spans.iter().map(|span| span.end).max().unwrap_or(begin);
    let rows = rows(spans);
    let label = |(depth, span): &(usize, &Span)| {
        let text = format!(
            "{:indent$}{} {}",
            "",
            span.service,
            what(span),
            indent = 2 * depth
        );
        cut(&text, LABEL_MAX)
    };
    let labels: Vec<String> = rows.iter().map(label).collect();
    let notes: Vec<String> = rows.iter().map(|(_, span)| note(span)).collect();
    let label_width = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    let note_width = notes.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    // Label, bar, ` 12345.67 ms`, note, with a blank between each.
    let bar_width = look
        .width
        .saturating_sub(label_width + note_width + 2 + 13 + 2)
        .clamp(BAR_MIN, 60);
    let mut text = String::new();
    for (((_, span), label), note) in rows.iter().zip(&labels).zip(&notes) {
        let bar = bar(span, begin, end, bar_width);
        let line = format!(
            "{label:<label_width$}  {bar:<bar_width$} {:>9.2} ms  {note}",
            milliseconds(span.end - span.start),
        );
        let line = line.trim_end();
        let _ = match (look.colour, &span.error) {
            (true, Some(_)) => writeln!(text, "\x1b[31m{line}\x1b[0m"),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

/// Every span with its depth: a parent before its children, these in the order of their beginnings. One whose parent is not among them
/// (the caller's own, or one that is not there yet) stands at the edge.
fn rows(spans: &[Span]) -> Vec<(usize, &Span)> {
    let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let mut rows = Vec::with_capacity(spans.len());
    let mut shown = BTreeSet::new();
    let roots = spans.iter().filter(|span| {
        span.parent
            .as_deref()
            .is_none_or(|parent| !known.contains(parent))
    });
    for root in roots {
        below(root, 0, spans, &mut shown, &mut rows);
    }
    // Spans that are each other's parents have no root; nothing that was told is left out.
    for (place, span) in spans.iter().enumerate() {
        if !shown.contains(&place) {
            rows.push((0, span));
        }
    }
    rows
}

fn below<'a>(
    span: &'a Span,
    depth: usize,
    spans: &'a [Span],
    shown: &mut BTreeSet<usize>,
    rows: &mut Vec<(usize, &'a Span)>,
) {
    let place = spans.iter().position(|other| std::ptr::eq(other, span));
    if !place.is_some_and(|place| shown.insert(place)) {
        return;
    }
    rows.push((depth, span));
    for child in spans {
        if child.parent.as_deref() == Some(&span.id) {
            below(child, depth + 1, spans, shown, rows);
        }
    }
}

fn what(span: &Span) -> String {
    let to = span.attributes.get("server.address");
    match (span.kind, to) {
        (Kind::Client, Some(to)) => format!("→ {to} {}", span.name),
        (Kind::Client, None) => format!("→ {}", span.name),
        _ => span.name.clone(),
    }
}

/// What decided, and how it ended: `primary;write`, `503`, `try 2`, `✗ away`.
fn note(span: &Span) -> String {
    let attribute = |name: &str| span.attributes.get(name).map(String::as_str);
    let mut words = Vec::new();
    if let Some(target) = attribute("router.target") {
        words.push(match attribute("router.reason") {
            Some(reason) => format!("{target};reason={reason}"),
            None => target.to_owned(),
        });
    }
    let statuses = ["http.response.status_code", "db.response.status_code"];
    words.extend(
        statuses
            .iter()
            .filter_map(|name| attribute(name))
            .map(str::to_owned),
    );
    if let Some(count) = attribute("http.request.resend_count").and_then(|n| n.parse::<u32>().ok())
        && count > 0
    {
        words.push(format!("try {}", count + 1));
    }
    if let Some(error) = &span.error {
        let said = [error.as_str(), attribute("error.type").unwrap_or("")];
        let said = said.iter().find(|said| !said.is_empty());
        words.push(format!("✗ {}", said.unwrap_or(&"failed")));
    }
    words.join(" ")
}

fn bar(span: &Span, begin: u64, end: u64, width: usize) -> String {
    let whole = (end - begin).max(1) as f64;
    let at = |time: u64| ((time - begin) as f64 / whole * width as f64).round() as usize;
    let from = at(span.start).min(width - 1);
    let length = at(span.end).saturating_sub(from).max(1);
    format!("{}{}", " ".repeat(from), "━".repeat(length))
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, service: &str, start: u64, end: u64) -> Span {
        Span {
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            service: service.to_owned(),
            name: "GET".to_owned(),
            kind: Kind::Server,
            start: start * 1_000_000,
            end: end * 1_000_000,
            error: None,
            attributes: [].into(),
        }
    }

    fn plain(spans: &[Span]) -> String {
        let look = Look {
            width: 80,
            colour: false,
        };
        render(spans, look)
    }

    #[test]
    fn children_stand_below_their_parent_with_bars_to_scale() {
        let mut attempt = span("b", Some("a"), "balancer-1", 0, 10);
        attempt.kind = Kind::Client;
        attempt.attributes = [("server.address".to_owned(), "web-1".to_owned())].into();
        let text = plain(&[
            span("a", Some("a-caller-of-its-own"), "balancer-1", 0, 10),
            span("d", Some("c"), "router", 5, 10),
            span("c", Some("b"), "web-1", 0, 10),
            attempt,
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("balancer-1 GET "), "{text}");
        assert!(lines[1].starts_with("  balancer-1 → web-1 GET "), "{text}");
        assert!(lines[2].starts_with("    web-1 GET "), "{text}");
        assert!(lines[3].starts_with("      router GET "), "{text}");
        let count = |line: &str| line.matches('━').count();
        // Half of it, rounded.
        assert!(count(lines[0]).abs_diff(2 * count(lines[3])) <= 1, "{text}");
        assert!(lines[3].ends_with("5.00 ms"), "{text}");
        let column = |line: &str| line.chars().position(|c| c == '━').unwrap();
        assert_eq!(
            column(lines[3]) + count(lines[3]),
            column(lines[0]) + count(lines[0]),
            "{text}"
        );
    }

    #[test]
    fn what_decided_and_what_failed_stands_beside_it() {
        let mut query = span("a", None, "web-1", 0, 1);
        query.kind = Kind::Client;
        query.name = "SELECT rows".to_owned();
        query.error = Some(String::new());
        query.attributes = [
            ("server.address", "mysql-2"),
            ("router.target", "replica"),
            ("router.reason", "fresh"),
            ("db.response.status_code", "1317"),
            ("http.request.resend_count", "1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let text = plain(&[query.clone()]);
        assert!(text.starts_with("web-1 → mysql-2 SELECT rows "), "{text}");
        assert!(
            text.ends_with("replica;reason=fresh 1317 try 2 ✗ failed\n"),
            "{text}"
        );
        let look = Look {
            width: 80,
            colour: true,
        };
        assert!(render(&[query], look).starts_with("\x1b[31m"));
    }

    #[test]
    fn nothing_is_left_out_and_nothing_hangs_whatever_the_parents_are() {
        let spans = [
            span("a", Some("b"), "one", 0, 1),
            span("b", Some("a"), "two", 0, 1),
            span("c", Some("c"), "three", 0, 1),
        ];
        assert_eq!(plain(&spans).lines().count(), 3);
        let twins = [span("a", None, "one", 0, 0), span("a", None, "one", 0, 0)];
        assert_eq!(plain(&twins).lines().count(), 2);
        assert_eq!(plain(&[]), "");
    }
}
