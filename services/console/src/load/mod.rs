//! `./stack load smoke|average`: k6 against the stack, with the scripts of loadtest/.
//!
//! The scripts decide what good is, by their thresholds. Here k6 is found, its options are proved to be understood (what it does not know
//! it ignores, and an open model silently becomes a closed one), and its end is explained.

mod k6;

use std::{io::IsTerminal, path::PathBuf};

use crate::{command, settings::Settings};
use k6::K6;

/// What k6 takes from the environment that would replace the scripts' scenarios by something else.
const OVERRIDES: [&str; 4] = ["K6_VUS", "K6_DURATION", "K6_ITERATIONS", "K6_STAGES"];

/// k6 ends with this when a threshold was crossed.
const THRESHOLD_CROSSED: i32 = 99;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Load {
    /// A few owners for ten seconds: does all of it work?
    Smoke,
    /// An ordinary day in two minutes
    Average,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Average => "average",
        }
    }
}

/// Why it did not go well.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is nothing to put under load.
    #[error("{0}; is the stack up? ./stack status says")]
    NoStack(String),
    /// There is no k6.
    #[error("{0}")]
    NoK6(String),
    /// k6 does not understand a script as it is meant.
    #[error(
        "k6 does not understand loadtest/{script}.ts as it is written, and would run something else:\n{words}"
    )]
    NotUnderstood {
        /// Which one.
        script: &'static str,
        /// Its words.
        words: String,
    },
    /// It was slower, or wrong more often, than it may be.
    #[error(
        "a threshold was crossed (k6's 99): the lines marked ✗ above say which; each failed check has said where its trace is, and ./stack trace ID draws it"
    )]
    ThresholdCrossed,
    /// Anything else.
    #[error("k6 ended with {0}: its last words above say why")]
    Failed(String),
}

/// Runs one of them.
///
/// # Errors
/// When a threshold was crossed, or it could not be run; in a sentence that says what to do.
pub async fn run(load: Load, report: bool, settings: &Settings) -> Result<(), LoadError> {
    let ca = command::output("./stack", &["ca"])
        .await
        .map_err(|error| LoadError::NoStack(error.to_string()))?;
    let ca = PathBuf::from(ca.trim());
    let k6 = K6::find(&ca).await.map_err(LoadError::NoK6)?;
    let script = load.name();
    understood(&k6, script).await?;

    let path = format!("loadtest/{script}.ts");
    let mut variables = variables(settings);
    let written = ca.with_file_name(format!("load-{script}.html"));
    if report {
        variables.extend([
            ("K6_WEB_DASHBOARD", "true".to_owned()),
            ("K6_WEB_DASHBOARD_PORT", "-1".to_owned()),
            // A point each second: with fewer than a few of them k6 writes no report at all.
            ("K6_WEB_DASHBOARD_PERIOD", "1s".to_owned()),
            ("K6_WEB_DASHBOARD_EXPORT", k6.path_of(&written)),
        ]);
    }
    let mut arguments = vec!["run", "--no-usage-report"];
    if !std::io::stdout().is_terminal() {
        // Without what moves; the summary stays.
        arguments.push("--quiet");
    }
    arguments.push(&path);
    let run = k6.command(&arguments, variables);
    let status = k6
        .run(run)
        .await
        .map_err(|error| LoadError::Failed(error.to_string()))?;
    if report && written.exists() {
        println!("the report: {}", written.display());
    }
    match status.code() {
        Some(0) => {
            println!("{script}: every threshold held");
            Ok(())
        }
        Some(THRESHOLD_CROSSED) => Err(LoadError::ThresholdCrossed),
        _ => Err(LoadError::Failed(status.to_string())),
    }
}

/// Where the stack is, for the scripts.
fn variables(settings: &Settings) -> Vec<(&'static str, String)> {
    vec![
        ("BASE_URL", settings.edge_url()),
        (
            "TRACES_URL",
            format!("http://localhost:{}/trace", settings.jaeger_port),
        ),
    ]
}

/// Whether k6 knows every option that a script exports.
async fn understood(k6: &K6, script: &'static str) -> Result<(), LoadError> {
    let path = format!("loadtest/{script}.ts");
    let output = k6.command(&["inspect", &path], Vec::new()).output().await;
    let output = output.map_err(|error| LoadError::NoK6(error.to_string()))?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && !words.contains("unknown field") {
        return Ok(());
    }
    Err(LoadError::NotUnderstood { script, words })
}
