//! The colours of the style sheet, held to the contrast that WCAG 2.2 asks for: text at AA (4.5 to 1), what marks a field or a state at 3
//! to 1, in the light and in the dark.
#![cfg(test)]

use std::collections::BTreeMap;

const STYLE: &str = include_str!("../../static/style.css");

/// Text upon what is behind it.
const TEXT: &[(&str, &str)] = &[
    ("ink", "paper"),
    ("ink", "sheet"),
    ("ink", "sunk"),
    ("ink", "wash"),
    ("quiet", "paper"),
    ("quiet", "sheet"),
    ("quiet", "sunk"),
    ("accent", "paper"),
    ("accent", "sheet"),
    ("accent", "wash"),
    ("on-accent", "accent"),
    ("fault", "paper"),
    ("fault", "sheet"),
    ("fault", "fault-wash"),
    ("warn", "sheet"),
    ("warn", "warn-wash"),
];

/// What is no text and has to be seen: a field's edge, focus, bars, connections.
const MARKS: &[(&str, &str)] = &[
    ("edge", "paper"),
    ("edge", "sheet"),
    ("edge", "sunk"),
    ("accent", "paper"),
    ("accent", "sunk"),
    ("fault", "paper"),
];

/// Name, then the colour in the light and in the dark.
fn palette() -> BTreeMap<&'static str, [[f64; 3]; 2]> {
    let colours = STYLE.lines().filter_map(|line| {
        let (name, value) = line
            .trim()
            .strip_prefix("--")?
            .split_once(": light-dark(")?;
        let (light, dark) = value.strip_suffix(");")?.split_once(", ")?;
        Some((name, [rgb(light), rgb(dark)]))
    });
    colours.collect()
}

fn rgb(colour: &str) -> [f64; 3] {
    let digits = colour.strip_prefix('#').unwrap();
    assert_eq!(digits.len(), 6, "{colour}");
    [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&digits[at..at + 2], 16).unwrap()) / 255.0)
}

/// WCAG's relative luminance.
fn luminance(colour: [f64; 3]) -> f64 {
    let [r, g, b] = colour.map(|part| {
        if part <= 0.04045 {
            part / 12.92
        } else {
            ((part + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn contrast_is_computed_as_wcag_says() {
    assert_eq!(contrast(rgb("#ffffff"), rgb("#000000")), 21.0);
    let grey = contrast(rgb("#777777"), rgb("#ffffff"));
    assert!((grey - 4.48).abs() < 0.01, "{grey}");
}

#[test]
fn every_pair_of_colours_has_enough_contrast_in_the_light_and_in_the_dark() {
    let palette = palette();
    assert!(palette.len() > 10, "{palette:?}");
    let pairs = TEXT.iter().map(|pair| (pair, 4.5));
    let mut poor = Vec::new();
    for (&(front, back), least) in pairs.chain(MARKS.iter().map(|pair| (pair, 3.0))) {
        for (at, mode) in ["light", "dark"].iter().enumerate() {
            let ratio = contrast(palette[front][at], palette[back][at]);
            if ratio < least {
                poor.push(format!("{front} on {back}, {mode}: {ratio:.2} < {least}"));
            }
        }
    }
    assert!(poor.is_empty(), "{poor:#?}");
}

#[test]
fn every_colour_that_is_used_is_of_the_palette() {
    let palette = palette();
    let (_, rules) = STYLE.split_once("\n}\n").unwrap();
    let rules = rules.split("@media print").next().unwrap();
    for used in rules.split("var(--").skip(1) {
        let name = used.split(')').next().unwrap();
        let font = matches!(name, "serif" | "mono");
        assert!(font || palette.contains_key(name), "{name}");
    }
    for literal in rules.split('#').skip(1) {
        let digits = literal.bytes().take_while(u8::is_ascii_hexdigit).count();
        assert!(
            digits < 6,
            "a colour outside of the palette: #{}",
            &literal[..digits]
        );
    }
}
