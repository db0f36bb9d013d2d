//! A value that does not fit its type, in the words of every other error: serde's own name types of Rust.

use super::{Config, ConfigError, Problem, layers::Layers, shipped};

/// Turns serde's `message` about what is at `path` into an error.
pub(super) fn of_another_type<C: Config>(
    layers: &Layers,
    path: String,
    message: &str,
) -> ConfigError {
    let quoted = |after: &str| Some(message.strip_prefix(after)?.split_once('`')?.0);
    if quoted("unknown field `").is_some() {
        return ConfigError::UnknownKey {
            origin: layers.origin(&path),
            key: path,
            known: known(message),
        };
    }
    if let Some(field) = quoted("missing field `") {
        let key = format!("{path}.{field}");
        return layers.wrong([Problem::new(&key, "a value", "nothing")]);
    }
    let expected = range_of::<C>(&path).unwrap_or_else(|| match message.rsplit_once("expected ") {
        Some((_, expected)) => in_toml(expected),
        None => format!("a value of the right form ({message})"),
    });
    let found = layers.found(&path);
    layers.wrong([Problem::new(&path, expected, found)])
}

/// What serde expects, in TOML's words.
fn in_toml(expected: &str) -> String {
    match expected {
        "u8" => "0 to 255",
        "u16" => "0 to 65535",
        "u32" => "0 to 4294967295",
        "u64" | "usize" => "a whole number, at least 0",
        "f64" => "a number",
        "a sequence" => "an array",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
    .to_owned()
}

/// The keys that there are, out of ``unknown field `c`, expected `a` or `b` ``.
fn known(message: &str) -> String {
    let keys: Vec<_> = message.split('`').skip(3).step_by(2).collect();
    let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    format!("the keys here are {}", keys.join(", "))
}

/// What the key takes, if that is a whole number. The shipped configuration tells: the one that is wrong cannot be asked.
fn range_of<C: Config>(path: &str) -> Option<String> {
    let key = without_indexes(path);
    let ranges = shipped::<C>()?.ranges();
    let range = ranges.iter().find(|range| range.key == key)?;
    Some(range.expected())
}

/// `backends[].weight` of `backends[1].weight`.
fn without_indexes(path: &str) -> String {
    let mut parts = path.split('[');
    let mut key = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.split_once(']').map_or("", |(_, after)| after);
        key.push_str("[]");
        key.push_str(after);
    }
    key
}
