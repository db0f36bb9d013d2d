//! Ids: UUIDv7, one type for each thing that has one.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, Variant};

/// A UUIDv7 in lower case with its hyphens, and nothing else.
fn parse(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    let is_v7 = id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122;
    (is_v7 && id.hyphenated().to_string() == text).then_some(id)
}

/// The millisecond inside a UUIDv7: its first 48 bits.
fn created_at(id: Uuid) -> OffsetDateTime {
    let milliseconds = id.as_u128() >> 80;
    let since = Duration::milliseconds(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    OffsetDateTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one; in one process each is greater than the one before.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "two new ids are never equal")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// From its only text form: UUIDv7 in lower case.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse(text).map(Self)
            }

            /// The one that has this UUID.
            #[must_use]
            pub const fn fixed(id: Uuid) -> Self {
                Self(id)
            }

            /// When it was made, in UTC, to the millisecond.
            #[must_use]
            pub fn created_at(self) -> OffsetDateTime {
                created_at(self.0)
            }

            /// The bare UUID.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id! {
    /// An owner's id.
    OwnerId
}
id! {
    /// An account's id.
    AccountId
}
id! {
    /// A transfer's id.
    TransferId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_text_form() {
        let id = AccountId::new();
        let text = id.to_string();
        assert_eq!(AccountId::parse(&text), Some(id));
        for other in [
            text.to_uppercase(),
            text.replace('-', ""),
            format!("{{{text}}}"),
            format!("urn:uuid:{text}"),
            format!(" {text}"),
            String::new(),
            "1".to_owned(),
            Uuid::nil().to_string(),
            Uuid::max().to_string(),
            // A UUIDv4.
            "0b5f8a7e-6d1c-4f2a-9b3e-1c2d3e4f5a6b".to_owned(),
            // Version 7 of another variant.
            "01900000-0000-7000-c000-000000000000".to_owned(),
        ] {
            assert_eq!(AccountId::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn ids_of_one_process_only_grow_and_hold_their_time() {
        let before = OffsetDateTime::now_utc() - Duration::milliseconds(1);
        let ids: Vec<_> = (0..1000).map(|_| TransferId::new()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        let after = OffsetDateTime::now_utc() + Duration::milliseconds(10);
        assert!(
            ids.iter()
                .all(|id| (before..after).contains(&id.created_at()))
        );
        assert_eq!(ids[0].created_at().nanosecond() % 1_000_000, 0);
    }
}
