//! Names and memos: what people write, kept as it came.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// 1 to 100 Unicode scalar values, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

/// 0 to 200 Unicode scalar values, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memo(String);

impl Name {
    /// A name, if the text can be one.
    ///
    /// # Errors
    /// When it is empty, too long or holds a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        match text.chars().count() {
            1..=100 if !text.chars().any(char::is_control) => Ok(Self(text)),
            _ => Err(Invalid(
                "must be 1 to 100 characters, none of them a control character",
            )),
        }
    }

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Memo {
    /// A memo, if the text can be one.
    ///
    /// # Errors
    /// When it is too long or holds a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if text.chars().count() <= 200 && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(Invalid(
                "must be 0 to 200 characters, none of them a control character",
            ))
        }
    }

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_scalar_values() {
        assert!(Name::new("").is_err());
        assert!(Name::new("💶".repeat(100)).is_ok());
        assert!(Name::new("💶".repeat(101)).is_err());
        assert!(Memo::new("").is_ok());
        assert!(Memo::new("é".repeat(200)).is_ok());
        assert!(Memo::new("é".repeat(201)).is_err());
    }

    #[test]
    fn control_characters_are_refused_and_all_else_is_kept() {
        for control in ['\0', '\t', '\n', '\u{1f}', '\u{7f}', '\u{85}', '\u{9f}'] {
            assert!(Name::new(format!("a{control}b")).is_err(), "{control:?}");
            assert!(Memo::new(control).is_err(), "{control:?}");
        }
        for kept in [
            " ",
            "  a ",
            "e\u{301}",
            "\u{2028}",
            "\u{200d}",
            "'; --",
            "\u{10ffff}",
        ] {
            assert_eq!(
                Name::new(kept).map(|n| n.as_str().to_owned()),
                Ok(kept.to_owned())
            );
        }
    }
}
