//! What the comments of a shipped configuration say of its keys.
//!
//! A comment stands above its key, or behind its value. A key without one, directly below another key, is covered by the comment of that
//! one. Indented lines at the end of a comment name the keys of an array's elements, each with what it is:
//!
//! ```toml
//! # Whom to balance to.
//! #   name    what it is called
//! #   weight  its part of the work
//! backends = []
//! ```

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A shipped configuration, read for its comments.
pub(super) struct Commented {
    /// What the file begins with.
    pub(super) preamble: String,
    /// Its keys and tables, in its order.
    pub(super) entries: Vec<Entry>,
}

/// A key or a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key, its tables before it: `request.timeout_ms`.
    pub(super) key: String,
    /// Whether it is a table: `[request]`.
    pub(super) table: bool,
    /// What it is; empty where nothing is said.
    pub(super) about: String,
    /// Whether that is said above the key before, for both.
    pub(super) with_previous: bool,
    /// What stands behind the value.
    pub(super) aside: Option<String>,
    /// The keys of its elements that the comment names, and what they are.
    pub(super) parts: Vec<(String, String)>,
    /// The value as it is written.
    pub(super) source: String,
}

/// Reads a shipped configuration.
pub(super) fn read(text: &str) -> Commented {
    let tables = DeTable::parse(text)
        .expect("the shipped configuration is TOML: a unit test of the service loads it");
    let mut spans = Vec::new();
    collect(tables.get_ref(), "", &mut spans);
    spans.sort_by_key(|span| span.name.start);

    let lines: Vec<&str> = text.lines().collect();
    let line = |offset: usize| text[..offset].matches('\n').count();
    let mut entries: Vec<Entry> = Vec::new();
    // The line after the value before.
    let mut below = None;
    for Span {
        key,
        table,
        name,
        value,
    } in spans
    {
        let here = line(name.start);
        let mut said = above(&lines, here);
        let with_previous = said.is_empty() && !table && below == Some(here);
        if with_previous && let Some(previous) = entries.last() {
            said.about.clone_from(&previous.about);
        }
        let behind = text[value.end..].lines().next().unwrap_or_default();
        let aside = behind.trim_start().strip_prefix('#').map(str::trim);
        below = (!table).then(|| line(value.end) + 1);
        entries.push(Entry {
            key,
            table,
            about: said.about,
            with_previous,
            aside: aside.filter(|_| !table).map(str::to_owned),
            parts: said.parts,
            source: text[value].to_owned(),
        });
    }
    let preamble = lines.iter().take_while(|line| line.starts_with('#'));
    let preamble = above(&lines, preamble.count()).about;
    Commented { preamble, entries }
}

struct Span {
    key: String,
    table: bool,
    name: Range<usize>,
    value: Range<usize>,
}

fn collect(table: &DeTable<'_>, prefix: &str, spans: &mut Vec<Span>) {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        let inner = match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        };
        if let Some(inner) = inner {
            collect(inner, &format!("{key}."), spans);
        }
        spans.push(Span {
            key,
            table: inner.is_some(),
            name: name.span(),
            value: value.span(),
        });
    }
}

/// A comment, taken apart.
#[derive(Default)]
struct Said {
    about: String,
    parts: Vec<(String, String)>,
}

impl Said {
    fn is_empty(&self) -> bool {
        self.about.is_empty() && self.parts.is_empty()
    }
}

/// The comment directly above a line; `#:schema` is none, it is for editors.
fn above(lines: &[&str], line: usize) -> Said {
    let is_comment = |line: &&&str| line.starts_with('#');
    let count = lines[..line].iter().rev().take_while(is_comment).count();
    let mut said = Said::default();
    let comment = lines[line - count..line].iter();
    for text in comment.filter(|line| !line.starts_with("#:")) {
        let text = text.trim_start_matches('#');
        let text = text.strip_prefix(' ').unwrap_or(text);
        let part = text.strip_prefix("  ").map(|part| {
            part.split_once("  ")
                .filter(|(name, _)| !name.is_empty() && !name.contains(' '))
        });
        match (part, said.parts.last_mut()) {
            (Some(Some((name, about))), _) => {
                said.parts.push((name.to_owned(), about.trim().to_owned()));
            }
            (Some(None), Some((_, about))) => append(about, text),
            _ => append(&mut said.about, text),
        }
    }
    said
}

fn append(to: &mut String, line: &str) {
    if !to.is_empty() {
        to.push(' ');
    }
    to.push_str(line.trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
#:schema ./sample.schema.json
# The sample's configuration. A file may
# hold only some of the keys.

# A name.
name = 'x'

# Whom to balance to.
#   host    where it is
#   weight  its part of the work,
#           from 1 on
backends = [
    { host = 'a' },
]
bare = 1

# How a request is treated.
[request]
first = 1
# How long, and how
# often.
timeout_ms = 10
tries = 2 # one is enough
";

    #[test]
    fn each_key_has_the_comment_above_it_or_above_the_key_before() {
        let Commented { preamble, entries } = read(TEXT);
        assert_eq!(
            preamble,
            "The sample's configuration. A file may hold only some of the keys."
        );
        let told: Vec<_> = entries
            .iter()
            .map(|entry| {
                (
                    entry.key.as_str(),
                    entry.about.as_str(),
                    entry.with_previous,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("name", "A name.", false),
                ("backends", "Whom to balance to.", false),
                ("bare", "Whom to balance to.", true),
                ("request", "How a request is treated.", false),
                ("request.first", "", false),
                ("request.timeout_ms", "How long, and how often.", false),
                ("request.tries", "How long, and how often.", true),
            ]
        );
    }

    #[test]
    fn what_stands_behind_a_value_and_indented_is_kept_apart() {
        let entries = read(TEXT).entries;
        let tries = &entries[6];
        assert_eq!(tries.aside.as_deref(), Some("one is enough"));
        assert_eq!(tries.source, "2");
        let parts = [
            ("host".to_owned(), "where it is".to_owned()),
            (
                "weight".to_owned(),
                "its part of the work, from 1 on".to_owned(),
            ),
        ];
        assert_eq!(entries[1].parts, parts);
        assert_eq!(entries[1].source, "[\n    { host = 'a' },\n]");
    }
}
