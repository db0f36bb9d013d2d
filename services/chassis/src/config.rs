//! Configuration: the shipped file, then the operator's file, then the environment; each overrides the one before it, key by key.
//!
//! The shipped file is the list of keys: one that it does not have is an error, and so is a value of another type. Every error
//! names where it stands (file and line, or the variable), the key, what was expected and what was found.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

/// The configuration of one service. The struct carries `#[serde(deny_unknown_fields)]`.
pub trait Config: Serialize + DeserializeOwned + Send + 'static {
    /// The service's name, `web`: environment variables begin with `HOLDFAST_WEB__`, nested keys are joined by `__`.
    const SERVICE: &'static str;

    /// The shipped, commented file. It has every key, so it is the default.
    const DEFAULT: &'static str;

    /// Where the admin socket is.
    fn admin_socket(&self) -> &Path;

    /// What the types cannot say: ranges, and keys that depend on each other.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// A value that has the right type and is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, its tables before it: `request.timeout_ms`.
    pub key: String,
    /// What would be right, in a few words: `1 to 600000`.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Problem {
    /// A problem of `key`.
    pub fn new(key: &str, expected: impl Into<String>, found: impl fmt::Display) -> Self {
        Self {
            key: key.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// `Some` when `value` is outside of `range`.
    pub fn outside<T: PartialOrd + fmt::Display>(
        key: &str,
        value: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Option<Self> {
        (!range.contains(&value))
            .then(|| Self::new(key, format!("{} to {}", range.start(), range.end()), value))
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file that is compiled in.
    Shipped,
    /// The operator's file, at this line (from 1).
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped => f.write_str("shipped configuration"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Why a configuration is refused. A program exits 78 (`EX_CONFIG` of sysexits.h) with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The operator's file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{origin}: not TOML: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser expected.
        message: String,
    },
    /// There is no such key.
    #[error("{origin}: key `{key}`: no such key; {known}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key, its tables before it.
        key: String,
        /// The keys that could have been meant.
        known: String,
    },
    /// One or more values are wrong; one line each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Wrong>),
}

/// One wrong value.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where it was set.
    pub origin: Origin,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            key,
            expected,
            found,
        } = &self.problem;
        write!(
            f,
            "{}: key `{key}`: expected {expected}, found {found}",
            self.origin
        )
    }
}

/// Loads a configuration: `C::DEFAULT`, then `file`, which may hold only some keys, then the variables of `environment` that begin
/// with the service's prefix; others are not looked at.
///
/// # Errors
/// The first unknown key or syntax error, or all wrong values together.
pub fn load<C: Config>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<C, ConfigError> {
    let mut layers = Layers::shipped(C::DEFAULT);
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        layers.file(path, &text)?;
    }
    let prefix = format!("HOLDFAST_{}__", C::SERVICE.to_uppercase());
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_owned(), name, value)))
        .collect();
    variables.sort();
    for (key, name, value) in variables {
        let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
        layers.variable(&path, &name, &value)?;
    }
    let config: C =
        serde_path_to_error::deserialize(Value::Table(layers.table.clone())).map_err(|error| {
            let key = error.path().to_string();
            let found = layers.found(&key);
            let message = error.into_inner().message().to_owned();
            layers.wrong([Problem::new(&key, message, found)])
        })?;
    let problems = config.problems();
    if problems.is_empty() {
        return Ok(config);
    }
    Err(layers.wrong(problems))
}

/// The merged table, and where each of its values came from.
struct Layers {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    fn shipped(text: &str) -> Self {
        Self {
            table: text
                .parse()
                .expect("the shipped configuration is TOML: a unit test of the service loads it"),
            origins: BTreeMap::new(),
        }
    }

    fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
        };
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        };
        let spans = DeTable::parse(text).map_err(syntax)?;
        let values: Table = text.parse().map_err(syntax)?;
        merge(
            &mut self.table,
            &values,
            spans.get_ref(),
            "",
            &at,
            &mut self.origins,
        )
    }

    fn variable(&mut self, path: &[String], name: &str, text: &str) -> Result<(), ConfigError> {
        let origin = Origin::Environment(name.to_owned());
        let key = path.join(".");
        let (last, tables) = path.split_last().expect("a split gives at least one part");
        let mut table = &mut self.table;
        for part in tables {
            let known = known_keys(table);
            let Some(Value::Table(next)) = table.get_mut(part) else {
                return Err(ConfigError::UnknownKey { origin, key, known });
            };
            table = next;
        }
        let known = known_keys(table);
        let Some(slot) = table.get_mut(last) else {
            return Err(ConfigError::UnknownKey { origin, key, known });
        };
        let value = match slot {
            Value::String(_) => Ok(Value::String(text.to_owned())),
            _ => text.parse::<Value>().map_err(|_| ()),
        };
        match value {
            Ok(value) if value.same_type(slot) => *slot = value,
            _ => {
                let problem =
                    Problem::new(&key, with_article(slot.type_str()), format!("`{text}`"));
                return Err(ConfigError::Wrong(vec![Wrong { origin, problem }]));
            }
        }
        self.origins.insert(key, origin);
        Ok(())
    }

    /// The origin of the nearest enclosing key that somebody set.
    fn origin(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return Origin::Shipped,
            }
        }
    }

    fn found(&self, key: &str) -> String {
        let mut value = None;
        let mut table = Some(&self.table);
        for part in key.split('.') {
            value = table.and_then(|t| t.get(part));
            table = value.and_then(Value::as_table);
        }
        value.map_or_else(|| "nothing".to_owned(), |v| format!("`{v}`"))
    }

    fn wrong(&self, problems: impl IntoIterator<Item = Problem>) -> ConfigError {
        let wrong = problems
            .into_iter()
            .map(|problem| Wrong {
                origin: self.origin(&problem.key),
                problem,
            })
            .collect();
        ConfigError::Wrong(wrong)
    }
}

fn merge(
    into: &mut Table,
    values: &Table,
    spans: &DeTable<'_>,
    prefix: &str,
    at: &impl Fn(usize) -> Origin,
    origins: &mut BTreeMap<String, Origin>,
) -> Result<(), ConfigError> {
    for (name, spanned) in spans {
        let path = format!("{prefix}{}", name.get_ref());
        let origin = at(name.span().start);
        let value = &values[name.get_ref().as_ref()];
        let known = known_keys(into);
        let Some(slot) = into.get_mut(name.get_ref().as_ref()) else {
            return Err(ConfigError::UnknownKey {
                origin,
                key: path,
                known,
            });
        };
        match (&mut *slot, value, spanned.get_ref()) {
            (Value::Table(into), Value::Table(values), DeValue::Table(spans)) => {
                merge(into, values, spans, &format!("{path}."), at, origins)?;
            }
            (slot, value, _) if value.same_type(slot) => *slot = value.clone(),
            (slot, value, _) => {
                let expected = with_article(slot.type_str());
                let problem = Problem::new(&path, expected, format!("`{value}`"));
                return Err(ConfigError::Wrong(vec![Wrong { origin, problem }]));
            }
        }
        origins.insert(path, origin);
    }
    Ok(())
}

fn known_keys(table: &Table) -> String {
    let keys: Vec<String> = table.keys().map(|key| format!("`{key}`")).collect();
    format!("the keys here are {}", keys.join(", "))
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        workers: u16,
        request: Request,
        backends: Vec<Backend>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        timeout_ms: u64,
        ratio: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Backend {
        host: String,
        port: u16,
    }

    impl Config for Sample {
        const SERVICE: &'static str = "sample";
        const DEFAULT: &'static str = "name = 'x'\nworkers = 2\nbackends = [{ host = 'a', port = 1 }]\n[request]\ntimeout_ms = 10\nratio = 0.5\n";

        fn admin_socket(&self) -> &Path {
            Path::new("/nowhere")
        }

        fn problems(&self) -> Vec<Problem> {
            Problem::outside("request.timeout_ms", self.request.timeout_ms, 1..=600_000)
                .into_iter()
                .collect()
        }
    }

    fn with(file: &str, variables: &[(&str, &str)]) -> Result<Sample, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sample.toml");
        std::fs::write(&path, file).unwrap();
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(Some(&path), environment).map_err(|error| {
            let directory = format!("{}/", directory.path().display());
            error.to_string().replace(&directory, "")
        })
    }

    #[test]
    fn the_environment_overrides_the_file_which_overrides_what_is_shipped() {
        let sample = with(
            "workers = 3\n[request]\ntimeout_ms = 20\n",
            &[
                ("HOLDFAST_SAMPLE__REQUEST__TIMEOUT_MS", "30"),
                ("HOLDFAST_SAMPLE__NAME", "30"),
                ("HOLDFAST_OTHER__NAME", "not ours"),
            ],
        )
        .unwrap();
        assert_eq!((sample.workers, sample.request.timeout_ms), (3, 30));
        assert_eq!((sample.name.as_str(), sample.request.ratio), ("30", 0.5));
    }

    #[test]
    fn an_error_names_file_line_key_and_what_was_expected() {
        for (file, error) in [
            (
                "workers = 3\nname = 5\n",
                "sample.toml:2: key `name`: expected a string, found `5`",
            ),
            (
                "\n[request]\ntimeout = 3\n",
                "sample.toml:3: key `request.timeout`: no such key; the keys here are `ratio`, `timeout_ms`",
            ),
            (
                "[request]\ntimeout_ms = 0\n",
                "sample.toml:2: key `request.timeout_ms`: expected 1 to 600000, found 0",
            ),
        ] {
            assert_eq!(with(file, &[]).unwrap_err(), error);
        }
        let error = with("name = \n", &[]).unwrap_err();
        assert!(error.starts_with("sample.toml:1: not TOML: "), "{error}");
        let error = with("workers = 70000\n", &[]).unwrap_err();
        assert!(
            error.starts_with("sample.toml:1: key `workers`: expected "),
            "{error}"
        );
        let error = with("backends = [{ host = 'a', port = 1, weight = 2 }]\n", &[]).unwrap_err();
        assert!(
            error.starts_with("sample.toml:1: key `backends[0]"),
            "{error}"
        );
        assert!(error.contains("weight"), "{error}");
    }

    #[test]
    fn an_error_names_the_variable() {
        for (name, value, error) in [
            (
                "HOLDFAST_SAMPLE__WORKERS",
                "many",
                "environment variable HOLDFAST_SAMPLE__WORKERS: key `workers`: expected an integer, found `many`",
            ),
            (
                "HOLDFAST_SAMPLE__WORKER",
                "1",
                "environment variable HOLDFAST_SAMPLE__WORKER: key `worker`: no such key; the keys here are `backends`, `name`, `request`, `workers`",
            ),
            (
                "HOLDFAST_SAMPLE__REQUEST__TIMEOUT_MS",
                "0",
                "environment variable HOLDFAST_SAMPLE__REQUEST__TIMEOUT_MS: key `request.timeout_ms`: expected 1 to 600000, found 0",
            ),
        ] {
            assert_eq!(with("", &[(name, value)]).unwrap_err(), error);
        }
    }
}
