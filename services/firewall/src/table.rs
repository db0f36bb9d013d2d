//! The matrix as a table for people. docs/firewall.md holds it, and a test keeps the two the same.

use std::fmt::Write;

use chassis::matrix::{Flow, HOST, Matrix, WORLD};

/// All flows, as a table in Markdown.
#[must_use]
pub fn markdown(matrix: &Matrix) -> String {
    let mut text =
        "| flow | from | to | port | network | role of the client |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for flow in &matrix.flows {
        let Flow {
            name,
            from,
            to,
            network,
            port,
            roles,
        } = flow;
        let roles = if roles.is_empty() {
            "none asked".to_owned()
        } else {
            roles.join(", ")
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {port} | {network} | {roles} |",
            words(from),
            words(to)
        );
    }
    text
}

fn words(names: &[String]) -> String {
    let names = names.iter().map(|name| match name.as_str() {
        WORLD => "anybody",
        HOST => "this machine",
        pod => pod,
    });
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use chassis::matrix::matrix;

    use super::*;

    #[test]
    fn the_table_in_the_documentation_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/firewall.md");
        let document = std::fs::read_to_string(path).unwrap();
        let table = markdown(matrix());
        assert!(
            document.contains(&table),
            "docs/firewall.md has another table than the matrix; `firewall matrix --markdown` prints this one:\n{table}"
        );
    }
}
