//! What `Connection` says (RFC 9110, 7.6.1): whether the connection stays, whether `Upgrade` counts, and which fields end here.

use super::class;
use super::known::Known;
use super::refusal::Refusal;

/// The options of all `Connection` fields of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Whether any other field is named.
    pub(crate) others: bool,
}

impl Options {
    /// Adds the options of one field.
    pub(crate) fn add(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // What nearly every client sends, without a look at lists.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in members(value) {
            if !class::all(option, class::TOKEN) {
                return Err(Refusal::ConnectionOption);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.others = true;
            }
        }
        Ok(())
    }

    /// Whether another message may follow (RFC 9112, 9.3).
    pub(crate) fn keeps(self, version_minor: u8) -> bool {
        !self.close && (version_minor > 0 || self.keep_alive)
    }
}

/// Whether `name` ends at this hop because one of the `Connection` values `named` lists it. What is known by name never does, but
/// for the fields that always end here.
pub(crate) fn names<'a>(
    mut named: impl Iterator<Item = &'a [u8]>,
    known: Known,
    name: &[u8],
) -> bool {
    known == Known::Other
        && named.any(|value| members(value).any(|option| option.eq_ignore_ascii_case(name)))
}

/// The members of a list, empty ones left out (RFC 9110, 5.6.1.2).
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',')
        .map(class::trim)
        .filter(|member| !member.is_empty())
}

/// Whether `value` is a list of protocols (RFC 9110, 7.8): names, each with or without a version.
pub(crate) fn is_protocols(value: &[u8]) -> bool {
    let is_protocol = |member: &[u8]| {
        let mut parts = member.splitn(2, |byte| *byte == b'/');
        parts.all(class::is_token)
    };
    members(value).next().is_some() && members(value).all(is_protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(value: &str) -> Options {
        let mut options = Options::default();
        options.add(value.as_bytes()).unwrap();
        options
    }

    #[test]
    fn options_are_found_in_any_case_and_place() {
        let all = options("Keep-Alive,, UPGRADE , close\t, x-own");
        assert!(all.keep_alive && all.upgrade && all.close && all.others);
        assert_eq!(Options::default(), options(" , "));
        assert!(!options("closed").close);
    }

    #[test]
    fn what_is_no_list_of_tokens_is_refused() {
        for value in ["clo se", "\"close\"", "close;now", "a=b"] {
            let refused = Options::default().add(value.as_bytes());
            assert_eq!(Err(Refusal::ConnectionOption), refused, "{value}");
        }
    }

    #[test]
    fn a_connection_stays_by_its_version_and_options() {
        assert!(options("").keeps(1) && !options("").keeps(0));
        assert!(options("keep-alive").keeps(0) && !options("keep-alive, close").keeps(0));
        assert!(!options("close").keeps(1));
    }

    #[test]
    fn a_field_that_is_known_by_name_is_not_taken_out_by_naming_it() {
        let named = || [b"x-own, idempotency-key, host".as_slice()].into_iter();
        assert!(names(named(), Known::Other, b"X-Own"));
        assert!(!names(named(), Known::IdempotencyKey, b"idempotency-key"));
        assert!(!names(named(), Known::Host, b"host"));
    }

    #[test]
    fn protocols_have_names_and_may_have_versions() {
        assert!(is_protocols(b"websocket") && is_protocols(b"HTTP/2.0, h2c"));
        for value in ["", ",", "a b", "a/", "/1", "a/b/c"] {
            assert!(!is_protocols(value.as_bytes()), "{value}");
        }
    }
}
