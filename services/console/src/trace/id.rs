//! A trace's id, from what people have at hand.

use std::{fmt, str::FromStr};

/// 32 hexadecimal digits in lower case, not all of them zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(String);

impl TraceId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is no trace id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` holds no trace id: that is 32 hexadecimal digits, alone or in the value of traceresponse or traceparent (00-ID-…-01)"
)]
pub struct NoTraceId(String);

impl FromStr for TraceId {
    type Err = NoTraceId;

    /// Takes the id alone, a `traceparent` or `traceresponse`, or such a header's whole line.
    fn from_str(text: &str) -> Result<Self, NoTraceId> {
        let value = text.rsplit(':').next().unwrap_or(text).trim();
        let mut parts = value.split('-');
        let id = match (parts.next(), parts.next()) {
            (Some(version), Some(id)) if version.len() == 2 => id,
            (Some(id), None) => id,
            _ => "",
        };
        let is_id = id.len() == 32
            && id.chars().all(|c| c.is_ascii_hexdigit())
            && id.chars().any(|c| c != '0');
        if is_id {
            Ok(Self(id.to_ascii_lowercase()))
        } else {
            Err(NoTraceId(text.trim().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn an_id_is_found_in_what_a_header_says() {
        for text in [
            ID.to_owned(),
            ID.to_uppercase(),
            format!("  {ID}\r\n"),
            format!("00-{ID}-b7ad6b7169203331-01"),
            format!("traceresponse: 00-{ID}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(text.parse::<TraceId>().unwrap().as_str(), ID, "{text}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused_with_what_one_is() {
        for text in [
            "",
            "b7ad6b7169203331",
            &ID[1..],
            &ID.replace('c', "g"),
            &"0".repeat(32),
            &format!("{ID}-{ID}"),
        ] {
            let error = text.parse::<TraceId>().unwrap_err().to_string();
            assert!(error.contains("32 hexadecimal digits"), "{error}");
        }
    }
}
