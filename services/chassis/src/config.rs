//! Configuration: the shipped file, then the operator's file, then the environment; each overrides the one before it, key by key.
//!
//! The shipped file is the list of keys: one that it does not have is an error, and so is a value of another type. Every error
//! names where it stands (file and line, or the variable), the key, what was expected and what was found.

mod comments;
mod layers;
mod range;
mod reference;
mod refused;
mod schema;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use toml::Value;

use layers::Layers;
pub use range::Range;
pub use reference::reference;
pub use schema::schema;

/// The configuration of one service. The struct carries `#[serde(deny_unknown_fields)]`.
pub trait Config: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// The service's name, `web`: environment variables begin with `HOLDFAST_WEB__`, nested keys are joined by `__`.
    const SERVICE: &'static str;

    /// The shipped, commented file. It has every key, so it is the default; its comments say what each key is, in the schema too.
    const DEFAULT: &'static str;

    /// Where the admin socket is.
    fn admin_socket(&self) -> &Path;

    /// The whole numbers that keys take, where not every one does. Which ones does not depend on `self`.
    fn ranges(&self) -> Vec<Range> {
        Vec::new()
    }

    /// What neither types nor ranges can say: texts of a certain form, and keys that depend on each other.
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
            let path = error.path().to_string();
            refused::of_another_type::<C>(&layers, path, error.into_inner().message())
        })?;
    let ranges = config.ranges();
    let mut problems: Vec<_> = ranges.iter().flat_map(Range::problems).collect();
    problems.extend(config.problems());
    if problems.is_empty() {
        return Ok(config);
    }
    Err(layers.wrong(problems))
}

/// The shipped file alone. `None` where it does not fit the type; a unit test of each service loads it.
fn shipped<C: Config>() -> Option<C> {
    toml::from_str(C::DEFAULT).ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        workers: u16,
        request: Request,
        backends: Vec<Backend>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Request {
        timeout_ms: u64,
        ratio: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Backend {
        host: String,
        port: u16,
        #[serde(default)]
        weight: Option<u32>,
    }

    impl Config for Sample {
        const SERVICE: &'static str = "sample";
        const DEFAULT: &'static str = "name = 'x'\nworkers = 2\nbackends = [{ host = 'a', port = 1 }]\n[request]\ntimeout_ms = 10\nratio = 0.5\n";

        fn admin_socket(&self) -> &Path {
            Path::new("/nowhere")
        }

        fn ranges(&self) -> Vec<Range> {
            let ports = self.backends.iter().map(|backend| Some(backend.port));
            let weights = self.backends.iter().map(|backend| backend.weight);
            vec![
                Range::of("request.timeout_ms", self.request.timeout_ms, 1..=600_000),
                Range::of_each("backends[].port", ports, 1..=65_535),
                Range::of_each("backends[].weight", weights, 1..=1000),
            ]
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
        let expected = "sample.toml:1: key `workers`: expected 0 to 65535, found `70000`";
        assert_eq!(error, expected);
    }

    #[test]
    fn an_error_in_an_array_names_the_line_of_the_element_or_of_its_key() {
        let good = "backends = [\n  # The first.\n  { host = 'a', port = 1 },\n";
        for (file, error) in [
            (
                format!("{good}  {{ host = 'b', port = 2, weight = 0 }},\n]\n"),
                "sample.toml:4: key `backends[1].weight`: expected 1 to 1000, found 0",
            ),
            // From TOML 1.1 on, a table may go over several lines.
            (
                format!("{good}  {{\n    host = 'b',\n    port = 0,\n  }},\n]\n"),
                "sample.toml:6: key `backends[1].port`: expected 1 to 65535, found 0",
            ),
            (
                format!("{good}  {{ host = 'b', port = 70000 }},\n]\n"),
                "sample.toml:4: key `backends[1].port`: expected 1 to 65535, found `70000`",
            ),
            (
                format!("{good}  {{ host = 'b', port = 2, wait = 1 }},\n]\n"),
                "sample.toml:4: key `backends[1].wait`: no such key; the keys here are `host`, `port`, `weight`",
            ),
            (
                format!("{good}  {{ host = 'b' }},\n]\n"),
                "sample.toml:4: key `backends[1].port`: expected a value, found nothing",
            ),
            (
                format!("{good}  'b',\n]\n"),
                "sample.toml:4: key `backends[1]`: expected a table, found `\"b\"`",
            ),
            (
                "[[backends]]\nhost = 'a'\nport = 1\n\n[[backends]]\nhost = 'b'\nport = 2\nweight = 1001\n".to_owned(),
                "sample.toml:8: key `backends[1].weight`: expected 1 to 1000, found 1001",
            ),
            (
                "[[backends]]\nhost = 'a'\nport = 1\n\n[[backends]]\nhost = 'b'\nport = 'https'\n".to_owned(),
                "sample.toml:7: key `backends[1].port`: expected 1 to 65535, found `\"https\"`",
            ),
            (
                "[[backends]]\nhost = 'a'\nport = 1\n\n[[backends]]\nhost = 'b'\n".to_owned(),
                "sample.toml:5: key `backends[1].port`: expected a value, found nothing",
            ),
        ] {
            assert_eq!(with(&file, &[]).unwrap_err(), error);
        }
    }

    #[test]
    fn all_that_is_outside_of_its_range_is_named_at_once() {
        let file = "[request]\ntimeout_ms = 0\n[[backends]]\nhost = 'a'\nport = 0\nweight = 0\n";
        let error = with(file, &[]).unwrap_err();
        let lines: Vec<_> = error
            .lines()
            .map(|l| l.split(": exp").next().unwrap())
            .collect();
        let expected = [
            "sample.toml:2: key `request.timeout_ms`",
            "sample.toml:5: key `backends[0].port`",
            "sample.toml:6: key `backends[0].weight`",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_array_of_the_environment_hides_the_lines_of_the_one_in_the_file() {
        let file = "[[backends]]\nhost = 'a'\nport = 1\n";
        let value = "[{ host = 'b', port = 0 }]";
        let error = with(file, &[("HOLDFAST_SAMPLE__BACKENDS", value)]).unwrap_err();
        let expected = "environment variable HOLDFAST_SAMPLE__BACKENDS: key `backends[0].port`: expected 1 to 65535, found 0";
        assert_eq!(error, expected);
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
