//! The causal token: `1.<epoch>.<base64url GTID set>.<base64url MAC>`, at most 1 KiB. It proves what a session has seen written, to any
//! process that has the key. Without the right MAC (HMAC-SHA-256, RFC 2104) it is not looked at any further.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use replication::GtidSet;
use sha2::Sha256;

/// The longest token, in bytes; it travels in headers and cookies.
const TOKEN_BYTES: usize = 1024;

/// Signs and checks causal tokens.
#[derive(Clone)]
pub struct CausalKey(Vec<u8>);

impl std::fmt::Debug for CausalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CausalKey")
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) epoch: u64,
    pub(crate) executed: GtidSet,
}

/// Why a token is as good as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    #[error("longer than {TOKEN_BYTES} bytes")]
    TooLong,
    #[error("not a token of version 1")]
    Malformed,
    #[error("not signed by our key")]
    Forged,
}

impl Rejected {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Forged => "forged",
        }
    }
}

impl CausalKey {
    /// A key; any length serves, 32 random bytes are right.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(signed.as_bytes());
        mac
    }

    /// `None` where the set is too large for a token.
    pub(crate) fn seal(&self, epoch: u64, executed: &GtidSet) -> Option<String> {
        let signed = format!("1.{epoch}.{}", BASE64.encode(executed.to_string()));
        let mac = BASE64.encode(self.mac(&signed).finalize().into_bytes());
        let token = format!("{signed}.{mac}");
        (token.len() <= TOKEN_BYTES).then_some(token)
    }

    pub(crate) fn open(&self, token: &str) -> Result<Token, Rejected> {
        if token.len() > TOKEN_BYTES {
            return Err(Rejected::TooLong);
        }
        let (signed, mac) = token.rsplit_once('.').ok_or(Rejected::Malformed)?;
        let mac = BASE64.decode(mac).map_err(|_| Rejected::Malformed)?;
        self.mac(signed)
            .verify_slice(&mac)
            .map_err(|_| Rejected::Forged)?;
        let parts: Vec<&str> = signed.split('.').collect();
        let ["1", epoch, executed] = parts[..] else {
            return Err(Rejected::Malformed);
        };
        let executed = BASE64.decode(executed).map_err(|_| Rejected::Malformed)?;
        let executed = String::from_utf8(executed).map_err(|_| Rejected::Malformed)?;
        Ok(Token {
            epoch: epoch.parse().map_err(|_| Rejected::Malformed)?,
            executed: executed.parse().map_err(|_| Rejected::Malformed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> GtidSet {
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7".parse().unwrap()
    }

    #[test]
    fn a_token_proves_what_was_sealed_and_nothing_else_does() {
        let key = CausalKey::new(b"key");
        let token = key.seal(3, &set()).unwrap();
        assert_eq!(
            key.open(&token),
            Ok(Token {
                epoch: 3,
                executed: set()
            })
        );
        assert_eq!(CausalKey::new(b"other").open(&token), Err(Rejected::Forged));
        let future = token.replacen("1.3.", "1.4.", 1);
        assert_eq!(key.open(&future), Err(Rejected::Forged));
        for (text, why) in [
            ("", Rejected::Malformed),
            ("1.3.x", Rejected::Malformed),
            ("....", Rejected::Forged),
            ("1.3.x.!", Rejected::Malformed),
        ] {
            assert_eq!(key.open(text), Err(why), "{text:?}");
        }
        assert_eq!(key.open(&"x".repeat(2000)), Err(Rejected::TooLong));
    }

    #[test]
    fn a_set_with_too_many_gaps_makes_no_token() {
        let gaps: String = (1..500).map(|n| format!(":{}", 2 * n)).collect();
        let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{gaps}")
            .parse()
            .unwrap();
        assert_eq!(CausalKey::new(b"key").seal(1, &set), None);
    }
}
