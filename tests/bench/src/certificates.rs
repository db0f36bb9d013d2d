//! A throw-away authority, and what it certifies, made by the stack's own library.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use pki::{Authority, LEAF_DAYS, Request, Usage, write_consumer};

/// A directory with `ca.crt`, `tls.crt`, `tls.key`, and `both.pem`, which holds certificate and key.
#[derive(Clone, Debug)]
pub(crate) struct Identity(PathBuf);

impl Identity {
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.join("tls.crt")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("tls.key")
    }

    pub(crate) fn both(&self) -> PathBuf {
        self.0.join("both.pem")
    }
}

/// The two ends of the second hop.
#[derive(Clone, Debug)]
pub(crate) struct Identities {
    /// Every proxy's: what clients see, and what it shows to backends.
    pub(crate) balancer: Identity,
    /// Both backends'.
    pub(crate) web: Identity,
}

/// Makes them below this directory.
pub(crate) fn make(below: &Path) -> Result<Identities> {
    let authority = Authority::create(&[])?;
    let one = |role: &str, names: &[&str]| -> Result<Identity> {
        let leaf = authority.issue(&Request {
            role: role.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            usage: vec![Usage::Server, Usage::Client],
            days: LEAF_DAYS,
        })?;
        let to = below.join(role);
        fs::create_dir(&to).with_context(|| format!("create {}", to.display()))?;
        let reader = geteuid().as_raw();
        write_consumer(&to, reader, authority.cert_pem(), &leaf, &BTreeMap::new())?;
        // The link's target, for what reads a link once and what follows it should have the same path.
        let current = to.join("current").canonicalize()?;
        let identity = Identity(current);
        fs::write(
            identity.both(),
            format!("{}{}", leaf.cert_pem, leaf.key_pem),
        )?;
        Ok(identity)
    };
    Ok(Identities {
        // No addresses: the authority is limited to some, and Envoy's library refuses what it cannot hold against such a limit.
        balancer: one("balancer", &["localhost"])?,
        web: one("web", &["web-1", "web-2"])?,
    })
}
