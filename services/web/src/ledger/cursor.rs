//! Cursors: where a page of a list ended, as an opaque text that no other list accepts.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{AccountId, OwnerId};

/// A list that is read page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The accounts of an owner.
    Accounts(OwnerId),
    /// The transfers of an account.
    Transfers(AccountId),
}

impl List {
    /// The cursor of a page of this list that ended with `last`.
    pub(super) fn cursor(self, last: Uuid) -> String {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(last.as_bytes());
        bytes[16..].copy_from_slice(&self.seal(last));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where the page that gave `cursor` ended, if it was a page of this list.
    pub(super) fn position(self, cursor: &str) -> Option<Uuid> {
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
        let last = Uuid::from_slice(&bytes[..16]).ok()?;
        (bytes[16..] == self.seal(last)).then_some(last)
    }

    /// What binds a position to its list. No secret: a caller who forges one reads a page of its own list.
    fn seal(self, last: Uuid) -> [u8; 16] {
        let (kind, of) = match self {
            Self::Accounts(owner) => ("accounts", owner.uuid()),
            Self::Transfers(account) => ("transfers", account.uuid()),
        };
        let digest = Sha256::new()
            .chain_update(kind)
            .chain_update(of)
            .chain_update(last)
            .finalize();
        let mut seal = [0; 16];
        seal.copy_from_slice(&digest[..16]);
        seal
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uuid() -> impl Strategy<Value = Uuid> {
        any::<u128>().prop_map(Uuid::from_u128)
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_its_place_in_its_list_alone(of in uuid(), other in uuid(), last in uuid()) {
            prop_assume!(of != other);
            let list = List::Transfers(AccountId::fixed(of));
            let cursor = list.cursor(last);
            prop_assert_eq!(list.position(&cursor), Some(last));
            prop_assert_eq!(List::Accounts(OwnerId::fixed(of)).position(&cursor), None);
            prop_assert_eq!(List::Transfers(AccountId::fixed(other)).position(&cursor), None);
        }

        #[test]
        fn a_changed_cursor_is_none(of in uuid(), last in uuid(), at in 0..43usize, to in "[A-Za-z0-9_-]") {
            let list = List::Accounts(OwnerId::fixed(of));
            let mut cursor = list.cursor(last);
            prop_assume!(cursor[at..=at] != to);
            cursor.replace_range(at..=at, &to);
            prop_assert_eq!(list.position(&cursor), None);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            prop_assert_eq!(List::Accounts(OwnerId::fixed(Uuid::nil())).position(&text), None);
        }
    }
}
