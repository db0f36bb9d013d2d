//! Who is calling: a signed token says which owner it is, so that either web server knows without asking the database.
//!
//! This file is the seam for a team's own sign-in: whatever it is, it ends in an [`OwnerId`] for [`Caller`] and [`Visitor`]. The ledger
//! asks for nothing more. There is no password here and no recovery.

use std::{convert::Infallible, time::Instant};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};
use pasetors::{
    Local,
    claims::Claims,
    keys::SymmetricKey,
    local,
    token::UntrustedToken,
    version4::{LocalToken, V4},
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    ledger::OwnerId,
    making::Making,
    problem::{Kind, Problem},
    state::AppState,
};

/// The cookie that carries a token to the pages. The prefix makes browsers refuse one that is not `Secure`, has a domain, or a path.
const COOKIE_NAME: &str = "__Host-session";

/// The shortest key, in characters: 32 random bytes in base64url.
const KEY_MIN: usize = 43;

/// The longest token that is looked at, in bytes; ours have some 300.
const TOKEN_MAX: usize = 1024;

/// Makes and reads tokens: PASETO v4.local, which is encrypted and authenticated, and has no algorithm to choose.
#[derive(Clone)]
pub struct Tokens {
    key: SymmetricKey<V4>,
    lifetime: Duration,
}

/// A token that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the client sends.
    pub text: String,
    /// Until when it is good, to the second.
    pub expires_at: OffsetDateTime,
}

/// The key of the tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("session_token_key: expected at least {KEY_MIN} characters, found {0}")]
pub struct BadKey(usize);

impl Tokens {
    /// Tokens under a secret that all web servers share.
    ///
    /// # Errors
    /// When the secret is too short to be one.
    pub fn new(secret: &str, lifetime: Duration) -> Result<Self, BadKey> {
        if secret.len() < KEY_MIN {
            return Err(BadKey(secret.len()));
        }
        let key = Sha256::new()
            .chain_update("holdfast session token, version 1\n")
            .chain_update(secret)
            .finalize();
        let key = SymmetricKey::from(&key).expect("SHA-256 gives the 32 bytes of a key");
        Ok(Self { key, lifetime })
    }

    /// A new token for an owner.
    #[must_use]
    pub fn issue(&self, owner: OwnerId) -> Token {
        self.issue_at(owner, OffsetDateTime::now_utc())
    }

    fn issue_at(&self, owner: OwnerId, now: OffsetDateTime) -> Token {
        let expires_at = (now + self.lifetime).replace_nanosecond(0).unwrap_or(now);
        let sealed = seal(&self.key, owner, now, expires_at);
        Token {
            text: sealed.expect("every claim is text of the form that its name asks for"),
            expires_at,
        }
    }

    /// The owner whom a token names, if it was made under our key and has not expired.
    #[must_use]
    pub fn owner(&self, token: &str) -> Option<OwnerId> {
        self.owner_at(token, OffsetDateTime::now_utc())
    }

    fn owner_at(&self, token: &str, now: OffsetDateTime) -> Option<OwnerId> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let token = UntrustedToken::<Local, V4>::try_from(token).ok()?;
        let trusted = LocalToken::decrypt(&self.key, &token, None, None).ok()?;
        // Of the times only the end matters: a server whose clock is a little behind must know a new token.
        let claims = Claims::from_string(trusted.payload()).ok()?;
        let expires_at = claims.get_claim("exp")?.as_str()?;
        let expires_at = OffsetDateTime::parse(expires_at, &Rfc3339).ok()?;
        let owner = OwnerId::parse(claims.get_claim("sub")?.as_str()?)?;
        (now < expires_at).then_some(owner)
    }

    /// The cookie that makes a browser carry `token`.
    #[must_use]
    pub fn cookie(&self, token: &Token) -> HeaderValue {
        let seconds = self.lifetime.whole_seconds();
        let cookie = format!(
            "{COOKIE_NAME}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}",
            token.text
        );
        HeaderValue::from_str(&cookie).expect("a token is base64url with dots")
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

fn seal(
    key: &SymmetricKey<V4>,
    owner: OwnerId,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<String, pasetors::errors::Error> {
    let text = |at: OffsetDateTime| {
        at.format(&Rfc3339)
            .map_err(|_| pasetors::errors::Error::InvalidClaim)
    };
    let mut claims = Claims::new()?;
    claims.subject(&owner.to_string())?;
    claims.issued_at(&text(now)?)?;
    claims.not_before(&text(now)?)?;
    claims.expiration(&text(expires_at)?)?;
    local::encrypt(key, &claims, None, None)
}

/// The cookie that makes a browser forget its token.
pub const FORGET: HeaderValue =
    HeaderValue::from_static("__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");

/// The owner who calls the API, by `Authorization: Bearer TOKEN`; nobody else gets past it. Cookies do not count here, so that no other
/// site can call with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub OwnerId);

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let refuse = |detail| Problem::new(Kind::Unauthorized, detail);
        let token = bearer(&parts.headers).ok_or_else(|| {
            refuse("the call needs one Authorization header with a Bearer token; POST /api/owners gives one")
        })?;
        state
            .tokens
            .owner(token)
            .map(Self)
            .ok_or_else(|| refuse("the token has expired, or was not made here"))
    }
}

/// The owner who looks at the pages, by cookie. A handler takes an `Option` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor(pub OwnerId);

impl OptionalFromRequestParts<AppState> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Option<Self>, Infallible> {
        let begun = Instant::now();
        let owner = cookies(&parts.headers).find_map(|token| state.tokens.owner(token));
        if let Some(making) = parts.extensions.get::<Making>() {
            making.note("read who is looking", begun);
        }
        Ok(owner.map(Self))
    }
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim_matches(' '))
}

/// The values of our cookie, of which there should be one.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, token)| token)
        .take(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789012345678901234567890123456789abc";

    fn tokens() -> Tokens {
        Tokens::new(SECRET, Duration::hours(1)).unwrap()
    }

    #[test]
    fn a_token_names_its_owner_until_it_expires() {
        let now = time::macros::datetime!(2026-01-02 03:04:05.678 UTC);
        let owner = OwnerId::new();
        let token = tokens().issue_at(owner, now);
        assert_eq!(
            token.expires_at,
            time::macros::datetime!(2026-01-02 04:04:05 UTC)
        );
        let at = |seconds| tokens().owner_at(&token.text, now + Duration::seconds(seconds));
        assert_eq!(at(0), Some(owner));
        assert_eq!(at(-30), Some(owner), "on a server whose clock is behind");
        assert_eq!(at(3598), Some(owner));
        assert_eq!(at(3600), None);
    }

    #[test]
    fn a_token_without_a_time_to_expire_or_an_owner_names_nobody() {
        let now = time::macros::datetime!(2026-01-02 03:04:05 UTC);
        let owner = OwnerId::new();
        let names = |claims: &str| {
            let token = LocalToken::encrypt(&tokens().key, claims.as_bytes(), None, None);
            tokens().owner_at(&token.unwrap(), now)
        };
        let (sub, exp) = (
            format!(r#""sub":"{owner}""#),
            r#""exp":"2026-01-02T04:00:00Z""#,
        );
        assert_eq!(names(&format!("{{{sub},{exp}}}")), Some(owner));
        let odd = [r#""exp":"never""#, r#""exp":9999999999"#, r#""exp":null"#];
        for claims in odd.map(|exp| format!("{{{sub},{exp}}}")) {
            assert_eq!(names(&claims), None, "{claims}");
        }
        let rest = [format!("{{{sub}}}"), format!("{{{exp}}}"), "[]".to_owned()];
        for claims in rest.into_iter().chain([String::from("x")]) {
            assert_eq!(names(&claims), None, "{claims}");
        }
    }

    #[test]
    fn a_token_under_another_key_names_nobody() {
        let other = Tokens::new(&SECRET.replace('a', "b"), Duration::hours(1)).unwrap();
        let token = other.issue(OwnerId::new());
        assert_eq!(tokens().owner(&token.text), None);
        assert!(Tokens::new("short", Duration::hours(1)).is_err());
    }

    #[test]
    fn two_tokens_for_one_owner_differ() {
        let owner = OwnerId::new();
        assert_ne!(tokens().issue(owner).text, tokens().issue(owner).text);
    }

    proptest! {
        #[test]
        fn any_text_names_nobody(text in ".{0,300}") {
            prop_assert_eq!(tokens().owner(&text), None);
            prop_assert_eq!(tokens().owner(&format!("v4.local.{text}")), None);
        }

        #[test]
        fn a_changed_token_names_nobody(at in 9..200_usize, to in "[A-Za-z0-9_-]") {
            let mut text = tokens().issue(OwnerId::new()).text;
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(tokens().owner(&text), None);
        }
    }

    fn headers(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_comes_in_one_header() {
        let token = |values: &[&str]| bearer(&headers(AUTHORIZATION, values)).map(str::to_owned);
        assert_eq!(token(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["bearer  abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["Basic abc"]), None);
        assert_eq!(token(&["Bearer"]), None);
        assert_eq!(token(&["Bearer a", "Bearer a"]), None);
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let headers = headers(
            COOKIE,
            &[
                "a=1; __Host-session=x.y; b",
                "session=z; __Host-session=second",
            ],
        );
        let found: Vec<_> = cookies(&headers).collect();
        assert_eq!(found, ["x.y", "second"]);
    }

    #[test]
    fn the_cookie_is_for_this_host_alone() {
        let cookie = tokens().cookie(&tokens().issue(OwnerId::new()));
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.starts_with("__Host-session=v4.local."), "{cookie}");
        let attributes = "; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=3600";
        assert!(cookie.ends_with(attributes), "{cookie}");
        assert!(cookie.len() < 1024, "{}", cookie.len());
    }
}
