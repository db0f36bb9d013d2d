//! Inputs as text: one a line, escaped as in a byte string of Rust, so that what comes and goes is seen in a diff. Lines that begin with
//! `#` say something to people.

use std::fmt::Write;

/// The inputs of a text.
///
/// # Errors
///
/// The number of a line that is none, from 1.
pub fn read(text: &str) -> Result<Vec<Vec<u8>>, usize> {
    let lines = text.lines().zip(1..);
    lines
        .filter(|(line, _)| !line.starts_with('#'))
        .map(|(line, number)| unescaped(line).ok_or(number))
        .collect()
}

/// A text of inputs, the shortest first: their order does not depend on who found them.
pub fn write(mut inputs: Vec<Vec<u8>>) -> String {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let lines = inputs.iter().map(|input| escaped(input) + "\n");
    let text: String = lines.collect();
    debug_assert_eq!(Ok(inputs), read(&text));
    text
}

/// As a line.
pub fn escaped(input: &[u8]) -> String {
    let mut line = String::new();
    for (index, byte) in input.iter().enumerate() {
        match byte {
            b'\r' => line.push_str("\\r"),
            b'\n' => line.push_str("\\n"),
            b'\t' => line.push_str("\\t"),
            b'\\' => line.push_str("\\\\"),
            // Not at the beginning, where it would say something, nor a blank at the end, which editors cut off.
            b'#' if index == 0 => line.push_str("\\x23"),
            b' ' if index + 1 == input.len() => line.push_str("\\x20"),
            b' '..=b'~' => line.push(char::from(*byte)),
            byte => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    line
}

fn unescaped(line: &str) -> Option<Vec<u8>> {
    let mut input = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'\\' {
            input.push(*byte);
            continue;
        }
        let (kind, behind) = rest.split_first()?;
        rest = behind;
        input.push(match kind {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(input)
}
