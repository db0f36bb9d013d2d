//! A value in the text that Prometheus reads.

use anyhow::{Context, Result};

/// The value of a counter or gauge, by its name and labels as they are written: `balancer_in_flight{backend="web-1"}`.
pub fn metric(text: &str, name: &str) -> Result<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no {name} in\n{text}"))?;
    Ok(value.parse()?)
}
