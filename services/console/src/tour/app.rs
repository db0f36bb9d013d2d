//! What the tour asks of the app: loadtest/tour.toml. Nothing here knows what the app is about.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

/// Where it stands.
const FILE: &str = "loadtest/tour.toml";

/// The three calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    /// Begins a session.
    pub begin: Call,
    /// Writes.
    pub write: Call,
    /// Reads what was written.
    pub read: Call,
}

/// A command, and what its answer is good for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// For sh.
    pub call: String,
    /// Variables for later commands, and where in the answer their values are.
    pub keeps: BTreeMap<String, String>,
}

impl App {
    pub(super) fn load() -> Result<Self, String> {
        let text = std::fs::read_to_string(Path::new(FILE)).map_err(|error| error.to_string());
        let app = text.and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()));
        app.map_err(|error| {
            format!("{FILE} says what the tour asks of the app, and cannot be used: {error}")
        })
    }
}

impl Call {
    /// The variables' values in a JSON body.
    pub(super) fn kept(&self, body: &str) -> Result<Vec<(String, String)>, String> {
        let body: serde_json::Value = serde_json::from_str(body)
            .map_err(|error| format!("the answer is no JSON: {error}"))?;
        let value = |(name, pointer): (&String, &String)| match body.pointer(pointer) {
            Some(serde_json::Value::String(text)) => Ok((name.clone(), text.clone())),
            Some(other) => Ok((name.clone(), other.to_string())),
            None => Err(format!("the answer has no {pointer}: {body}")),
        };
        self.keeps.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_can_be_used_and_keeps_what_later_calls_need() {
        let text = include_str!("../../../../loadtest/tour.toml");
        let app: App = toml::from_str(text).unwrap();
        let kept: Vec<&String> = [&app.begin, &app.write]
            .iter()
            .flat_map(|call| call.keeps.keys())
            .collect();
        for name in kept {
            let used = app.write.call.contains(name) || app.read.call.contains(name);
            assert!(used, "${name} is kept and never used");
        }
        let kept = app.begin.kept(r#"{"token":"t"}"#).unwrap();
        assert_eq!(kept, [("TOKEN".to_owned(), "t".to_owned())]);
        assert!(
            app.begin
                .kept(r#"{"status":503}"#)
                .unwrap_err()
                .contains("/token")
        );
    }
}
