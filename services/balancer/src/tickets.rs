//! TLS session tickets that both balancers of a pod can read: a client that comes back resumes its session with whichever it meets.
//!
//! Both have the same secret from `pki`, and make of it a key for each half day. A ticket is good in the half day that it was made in and in
//! the next, so nobody has to be told of a new key, and the key of yesterday opens nothing any more. Whoever steals the secret can read
//! tickets, until a new authority is made (`./stack down --volumes`): TLS 1.3 makes a new key exchange with each resumption all the same.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use rustls::server::ProducesTickets;

/// How long tickets are made with one key, in seconds.
const PERIOD_S: u64 = 43_200;
/// Where the number of the period ends in a ticket.
const PERIOD_LEN: usize = 8;
/// What the keys are for.
const SALT: &[u8] = b"holdfast tls ticket 1";

/// Makes and opens tickets.
pub struct Tickets {
    secret: Prk,
}

impl Tickets {
    /// With this secret, of at least 32 random bytes.
    pub fn new(secret: &[u8]) -> Tickets {
        Tickets {
            secret: Salt::new(HKDF_SHA256, SALT).extract(secret),
        }
    }

    /// The key of one period.
    fn key(&self, period: u64) -> Option<LessSafeKey> {
        let info = [&period.to_be_bytes()[..]];
        let key = self.secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }

    fn seal(&self, plain: &[u8], period: u64) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = plain.to_vec();
        let label = period.to_be_bytes();
        self.key(period)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(label),
                &mut sealed,
            )
            .ok()?;
        Some([&label[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (label, rest) = ticket.split_first_chunk::<PERIOD_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let period = u64::from_be_bytes(*label);
        // A clock may be a little ahead of the other one.
        if period > now + 1 || period + 1 < now {
            return None;
        }
        let mut plain = sealed.to_vec();
        let len = self
            .key(period)?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(*label),
                &mut plain,
            )
            .ok()?
            .len();
        plain.truncate(len);
        Some(plain)
    }
}

fn period() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs() / PERIOD_S
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD_S as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, period())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, period())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_secret_opens_a_ticket_and_nobody_else() {
        let ticket = Tickets::new(&[1; 32]).seal(b"session", 7).unwrap();
        assert_eq!(
            Some(b"session".to_vec()),
            Tickets::new(&[1; 32]).open(&ticket, 7)
        );
        assert_eq!(None, Tickets::new(&[2; 32]).open(&ticket, 7));
    }

    #[test]
    fn a_ticket_lasts_for_its_period_and_the_next() {
        let tickets = Tickets::new(&[1; 32]);
        let ticket = tickets.seal(b"session", 7).unwrap();
        for (now, good) in [(5, false), (6, true), (7, true), (8, true), (9, false)] {
            assert_eq!(good, tickets.open(&ticket, now).is_some(), "{now}");
        }
    }

    #[test]
    fn a_ticket_that_was_touched_is_none() {
        let tickets = Tickets::new(&[1; 32]);
        let ticket = tickets.seal(b"session", 7).unwrap();
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(None, tickets.open(&touched, 7), "byte {at}");
            assert_eq!(None, tickets.open(&ticket[..at], 7), "{at} bytes");
        }
        assert_ne!(ticket, tickets.seal(b"session", 7).unwrap());
    }
}
