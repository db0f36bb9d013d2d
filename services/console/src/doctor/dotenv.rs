//! Does .env say anything that nobody reads?

use std::collections::BTreeSet;

use super::Finding;

const ABOUT: &str = ".env";

pub(super) fn examine() -> Vec<Finding> {
    let known = include_str!("../../../../.env.example");
    match std::fs::read_to_string(".env") {
        Ok(text) => vec![judge(&text, known)],
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![Finding::fault(
            ABOUT,
            format!("it cannot be read: {error}"),
            "make it readable, or remove it",
        )],
    }
}

fn judge(text: &str, example: &str) -> Finding {
    let known: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| name(line.trim_start_matches('#')))
        .collect();
    let unknown: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(name)
        .filter(|name| !known.contains(name))
        .collect();
    if unknown.is_empty() {
        return Finding::ok(ABOUT, "it sets only what there is");
    }
    Finding::warning(
        ABOUT,
        format!("nobody reads {}", unknown.join(", ")),
        "see .env.example for every variable",
    )
}

/// The name in `NAME=value`, if it could be a variable's.
fn name(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim().trim_start_matches("export ").trim();
    let is_a_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_a_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_misspelled_variable_is_found() {
        let example = "# The port.\n#HOLDFAST_HTTPS_PORT=8443\n#HOLDFAST_BIND=127.0.0.1\n";
        let good = "# mine\nHOLDFAST_HTTPS_PORT=9443\n#HOLDFAST_OLD=1\n\n";
        assert_eq!(judge(good, example).severity, Severity::Ok);
        let bad = judge(
            "HOLDFAST_HTTP_SPORT=9443\nexport HOLDFAST_BIND=0.0.0.0\n",
            example,
        );
        assert_eq!(bad.severity, Severity::Warning);
        assert_eq!(bad.found, "nobody reads HOLDFAST_HTTP_SPORT");
    }
}
