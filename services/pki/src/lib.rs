//! Holdfast's private certificate authority: certificates, keys and passwords for every consumer that docker/matrix.toml names.
//!
//! A library, with which tests make all their certificates, and a one-shot, `pki issue`, which can be run again at any time: it keeps
//! what is good and renews what is near its end. It is no online authority: it has no interface on a network and revokes nothing;
//! leaves live 90 days, and a lost key is answered by a new authority.
//!
//! ```
//! let authority = pki::Authority::create(&["shop.example".to_owned()])?;
//! let leaf = authority.issue(&pki::Request {
//!     role: "web".to_owned(),
//!     names: vec!["web-1".to_owned(), "127.0.0.1".to_owned()],
//!     usage: vec![pki::Usage::Server, pki::Usage::Client],
//!     days: pki::LEAF_DAYS,
//! })?;
//! assert!(leaf.cert_pem.starts_with("-----BEGIN CERTIFICATE-----"));
//! # Ok::<(), pki::Error>(())
//! ```

mod authority;
mod consumer;
mod matrix;
mod one_shot;
mod secrets;

pub use authority::{Authority, CA_DAYS, LEAF_DAYS, Leaf, Request, Usage};
pub use consumer::{Written, write_consumer};
pub use matrix::{Consumer, consumers};
pub use one_shot::{Outcome, RENEW_BELOW_DAYS, issue_all};
pub use secrets::{Secrets, secret_names};

use std::path::PathBuf;

/// Why something was not issued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate cannot be made or read.
    #[error("{what}: {source}")]
    Certificate {
        /// Which.
        what: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A file of the authority does not hold what its name says.
    #[error("{}: {reason}; `./stack down --volumes` forgets the authority (and all data), the next `up` makes a new one", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The authority was made for other names.
    #[error(
        "the authority was made for {made_for:?} and may not certify {asked:?}: set HOLDFAST_NAMES back, or remove the volume pki-ca to have a new authority made"
    )]
    Names {
        /// HOLDFAST_NAMES when it was made.
        made_for: Vec<String>,
        /// HOLDFAST_NAMES now.
        asked: Vec<String>,
    },
    /// The authority is from before these consumers were there.
    #[error(
        "the authority may not certify {missing:?}, which are new: have a new one made. `./stack down`, remove the volume pki-ca (`docker volume ls` has its whole name), `./stack up`; browsers have to import it anew"
    )]
    Older {
        /// The names that it may not certify.
        missing: Vec<String>,
    },
    /// There is nobody to write for.
    #[error("{}: no directory of a consumer is there; expected some of {expected}", path.display())]
    NoConsumers {
        /// The output directory.
        path: PathBuf,
        /// The consumers of the matrix.
        expected: String,
    },
}

impl Error {
    fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    fn certificate(what: &str) -> impl FnOnce(rcgen::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Certificate { what, source }
    }
}
