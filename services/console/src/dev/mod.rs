//! `./stack dev web|balancer`: a save is built on this machine, put into the image, and rolled over both containers, while the stack
//! serves. A build that fails changes nothing.
//!
//! The build is the one that `./stack up` makes, so that neither has anything to do after the other.

mod watch;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use crate::{
    command::{self, CommandError},
    progress::Progress,
    roll::{self, Kind, RollError},
};
use watch::Watch;

/// How long the image and the migrations may take.
const IMAGE_WITHIN: Duration = Duration::from_secs(120);

/// What a schema is changed by.
const MIGRATIONS: &str = "migrations";

/// What a program is made of: a change in one of these may change it.
const SHARED: [&str; 5] = [
    "Cargo.toml",
    "Cargo.lock",
    "docker/matrix.toml",
    "services/chassis",
    "services/telemetry",
];

/// Why what was saved is not what runs.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// There is no toolchain on this machine.
    #[error(
        "there is no Rust toolchain here, and dev builds on this machine: install one, https://rustup.rs"
    )]
    NoToolchain,
    /// The compiler refuses it.
    #[error(
        "the build failed, for the reasons above; nothing was changed, the stack runs what it ran"
    )]
    BuildFailed,
    /// What was built could not be put in its place.
    #[error("the build went well, and {0}; the stack runs what it ran")]
    NoImage(String),
    /// The schema could not be changed.
    #[error("migrations/ could not be applied: {0}; the servers run what they ran")]
    NotMigrated(CommandError),
    /// One of them did not come up.
    #[error(transparent)]
    NotRolled(#[from] RollError),
}

/// Builds and rolls once, or at every save until it is stopped.
///
/// # Errors
/// With `once` whatever went wrong; else only what no save can cure.
pub async fn dev(kind: Kind, once: bool) -> Result<(), DevError> {
    if once {
        return deliver(kind, true).await;
    }
    let mut watch = Watch::of(&sources(kind));
    println!(
        "watching {}; save a file, and what it makes runs; Ctrl-C ends this, and nothing else",
        sources(kind).join(", ")
    );
    loop {
        let changed = watch.changed().await;
        println!("\n{}", named(&changed));
        let migrate = changed.iter().any(|path| path.starts_with(MIGRATIONS));
        match deliver(kind, migrate).await {
            Ok(()) => {}
            Err(DevError::NoToolchain) => return Err(DevError::NoToolchain),
            Err(error) => println!("{error}"),
        }
    }
}

fn sources(kind: Kind) -> Vec<&'static str> {
    let own: &[&str] = match kind {
        Kind::Web => &[
            "services/web",
            "services/router",
            "services/replication",
            MIGRATIONS,
        ],
        Kind::Balancer => &["services/balancer"],
    };
    own.iter().chain(&SHARED).copied().collect()
}

fn named(changed: &[PathBuf]) -> String {
    match changed {
        [] => "nothing was saved".to_owned(),
        [only] => format!("{} was saved", only.display()),
        [first, rest @ ..] => format!("{} and {} more were saved", first.display(), rest.len()),
    }
}

/// Builds, makes the image, applies migrations, rolls; says how long each part took.
async fn deliver(kind: Kind, migrate: bool) -> Result<(), DevError> {
    let progress = Progress::begin();
    let part = |name: &str, since: f64| {
        let took = progress.seconds() - since;
        progress.say(&format!("{name} in {took:.1} s"));
    };
    build().await?;
    part("built", 0.0);
    let since = progress.seconds();
    hand_over(kind.program()).await.map_err(DevError::NoImage)?;
    let [builds, _] = kind.services();
    let image = ["compose", "--progress", "plain", "build", builds];
    docker(&image)
        .await
        .map_err(|error| DevError::NoImage(error.to_string()))?;
    part("put into the image", since);
    if migrate && kind == Kind::Web {
        let since = progress.seconds();
        docker(&["compose", "run", "--rm", "--no-deps", "-T", "migrate"])
            .await
            .map_err(DevError::NotMigrated)?;
        part("schema brought up to it", since);
    }
    let since = progress.seconds();
    roll::in_turn(kind, &progress).await?;
    part("rolled over both", since);
    Ok(())
}

/// The same build as `./stack up` makes; the compiler speaks for itself.
async fn build() -> Result<(), DevError> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--workspace", "--bins"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(DevError::BuildFailed),
        Err(_) => Err(DevError::NoToolchain),
    }
}

/// Puts what was built where the images take it from.
async fn hand_over(program: &str) -> Result<(), String> {
    let host = command::output("rustc", &["--print", "host-tuple"]);
    let host = host.await.map_err(|error| error.to_string())?;
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let built = Path::new(&target)
        .join(host.trim())
        .join("release")
        .join(program);
    let directory = Path::new("target/holdfast-bin");
    // Renamed into place, so that nobody takes half of it.
    let half = directory.join(format!(".{program}.{}", std::process::id()));
    let copied = std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::copy(&built, &half))
        .and_then(|_| std::fs::rename(&half, directory.join(program)));
    copied.map_err(|error| format!("{} could not be copied: {error}", built.display()))
}

async fn docker(arguments: &[&str]) -> Result<String, CommandError> {
    command::output_within(IMAGE_WITHIN, "docker", arguments).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_program_is_made_of_is_watched() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for kind in [Kind::Web, Kind::Balancer] {
            let sources = sources(kind);
            for source in &sources {
                assert!(root.join(source).exists(), "{source} is not there");
            }
            // The crates of ours that it depends on, one after the other.
            let mut crates = vec![kind.program().to_owned()];
            while let Some(name) = crates.pop() {
                let path = format!("services/{name}");
                assert!(sources.contains(&path.as_str()), "{path} is not watched");
                let manifest = std::fs::read_to_string(root.join(path).join("Cargo.toml")).unwrap();
                let uses = manifest.split("[dev-dependencies]").next().unwrap().lines();
                let ours = uses
                    .filter_map(|line| line.strip_suffix(".workspace = true"))
                    .filter(|name| root.join("services").join(name).is_dir());
                crates.extend(ours.map(str::to_owned));
            }
        }
    }

    #[test]
    fn what_was_saved_is_named() {
        let paths: Vec<PathBuf> = ["a.rs", "b.rs", "c.rs"].map(PathBuf::from).into();
        assert_eq!(named(&paths[..1]), "a.rs was saved");
        assert_eq!(named(&paths), "a.rs and 2 more were saved");
    }
}
