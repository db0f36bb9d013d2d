//! Which certificates of a backend have been seen to carry the right role.
//!
//! pingora verifies a backend's chain and name, but lets nobody look at the certificate itself: it tells only its digest. So the role
//! is verified in a handshake of our own (every health check is one), the digest of the certificate that passed is remembered here,
//! and a connection of pingora's is used only if its digest is among them.

use std::collections::VecDeque;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

/// The SHA-256 of a certificate.
pub type CertificateDigest = [u8; 32];

/// How many to remember: the one in use and, during a rotation, the one before it, with room for a backend of several processes.
const REMEMBERED: usize = 4;

/// The certificates of one backend that have passed, the latest first.
#[derive(Debug, Default)]
pub struct Verified(ArcSwap<VecDeque<CertificateDigest>>);

impl Verified {
    /// Remembers a certificate that has passed; the oldest is forgotten.
    pub fn remember(&self, certificate_der: &[u8]) {
        let digest: CertificateDigest = Sha256::digest(certificate_der).into();
        if self.0.load().front() == Some(&digest) {
            return;
        }
        self.0.rcu(|known| {
            let mut known: VecDeque<_> = known.iter().filter(|k| **k != digest).copied().collect();
            known.push_front(digest);
            known.truncate(REMEMBERED);
            known
        });
    }

    /// Whether a certificate with this digest has passed.
    pub fn knows(&self, digest: &[u8]) -> bool {
        self.0.load().iter().any(|known| known == digest)
    }

    /// Forgets all of them: what they were verified against has changed.
    pub fn forget(&self) {
        self.0.store(VecDeque::new().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(certificate: &[u8]) -> CertificateDigest {
        Sha256::digest(certificate).into()
    }

    #[test]
    fn only_what_has_passed_is_known() {
        let verified = Verified::default();
        assert!(!verified.knows(&digest(b"one")));
        verified.remember(b"one");
        assert!(verified.knows(&digest(b"one")));
        assert!(!verified.knows(&digest(b"two")));
        assert!(!verified.knows(b""));
        verified.forget();
        assert!(!verified.knows(&digest(b"one")));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let verified = Verified::default();
        for certificate in [b"1", b"2", b"3", b"4", b"1", b"5"] {
            verified.remember(certificate);
        }
        assert!(!verified.knows(&digest(b"2")));
        for certificate in [b"1", b"3", b"4", b"5"] {
            assert!(verified.knows(&digest(certificate)));
        }
    }
}
