//! Which certificate a client is shown: the one that is good for the name that it asks for (SNI, RFC 6066, 3), else our own.

use std::path::PathBuf;
use std::sync::Arc;

use chassis::identity::{Identity, IdentityError, IdentityWatch};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::names::Names;

/// Our own certificate and the further ones of the configuration, each followed in its directory.
#[derive(Clone, Debug)]
pub struct Certificates {
    own: IdentityWatch,
    further: Vec<IdentityWatch>,
}

impl Certificates {
    /// Loads the further ones.
    ///
    /// # Errors
    /// As [`IdentityWatch::load`].
    pub fn load(own: IdentityWatch, further: &[PathBuf]) -> Result<Certificates, IdentityError> {
        Ok(Certificates {
            own,
            further: further
                .iter()
                .map(|directory| IdentityWatch::load(directory))
                .collect::<Result<_, _>>()?,
        })
    }

    /// All of them, each to be followed.
    pub fn watches(&self) -> impl Iterator<Item = &IdentityWatch> {
        std::iter::once(&self.own).chain(&self.further)
    }

    /// The names that any of them is good for.
    pub fn names(&self) -> Names {
        let mut names = Names::default();
        for watch in self.watches() {
            names.extend(Names::of_certificate(&watch.current().chain()[0]));
        }
        names
    }

    /// Chooses among those that are current; nothing if there is only our own, which needs no choice.
    pub fn resolver(&self) -> Option<Arc<dyn ResolvesServerCert>> {
        if self.further.is_empty() {
            return None;
        }
        let of = |watch: &IdentityWatch| {
            let identity = watch.current();
            let names = Names::of_certificate(&identity.chain()[0]);
            certified(&identity).map(|key| (names, key))
        };
        Some(Arc::new(ByName {
            all: self.watches().filter_map(of).collect(),
        }))
    }
}

/// The pair was checked when it was loaded.
fn certified(identity: &Identity) -> Option<Arc<CertifiedKey>> {
    let provider = rustls::crypto::ring::default_provider();
    let key = identity.key().clone_key();
    CertifiedKey::from_der(identity.chain().to_vec(), key, &provider)
        .map(Arc::new)
        .ok()
}

/// The certificates with their names, our own first.
#[derive(Debug)]
struct ByName {
    all: Vec<(Names, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let good = asked.and_then(|asked| self.all.iter().find(|(names, _)| names.contains(asked)));
        good.or(self.all.first()).map(|(_, key)| Arc::clone(key))
    }
}
