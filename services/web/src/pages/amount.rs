//! Money as people write and read it: decimals with two places. Never a floating-point number.

/// Cents as a decimal with groups of three: `-1,234.50`.
pub(super) fn shown(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    let whole = (cents / 100).to_string();
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}.{:02}", cents % 100)
}

/// The cents that a decimal such as `12`, `12.5` or `12.34` stands for; none for anything else, a sign or a third place included.
pub(super) fn read(text: &str) -> Option<i64> {
    let text = text.trim();
    let (whole, places) = text.split_once('.').unwrap_or((text, "00"));
    let digits = |text: &str, max| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 15) || !digits(places, 2) {
        return None;
    }
    let hundredths: i64 = format!("{places:0<2}").parse().ok()?;
    whole
        .parse::<i64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(hundredths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, cents) in [
            ("12", Some(1200)),
            ("12.3", Some(1230)),
            (" 12.34 ", Some(1234)),
            ("0", Some(0)),
            ("0.01", Some(1)),
            ("007", Some(700)),
            ("10000000000.00", Some(1_000_000_000_000)),
            ("12.", None),
            (".5", None),
            ("12.345", None),
            ("12,34", None),
            ("1,200", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("", None),
            ("١٢", None),
            ("9999999999999999", None),
        ] {
            assert_eq!(read(text), cents, "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_in_groups_of_three() {
        for (cents, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (-5, "-0.05"),
            (99_999, "999.99"),
            (100_000, "1,000.00"),
            (123_456_789, "1,234,567.89"),
        ] {
            assert_eq!(shown(cents), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(cents in 0..=9_007_199_254_740_991_i64) {
            prop_assert_eq!(read(&shown(cents).replace(',', "")), Some(cents));
        }
    }
}
