//! Parameters of a query: known, each once, each with a value that can be read.

use super::{
    fields::{Fault, UNKNOWN_MAX},
    json,
};
use crate::ledger::{AccountId, Invalid, Paging};

/// The parameters that nobody has taken yet, and the faults found so far.
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Parameters {
    /// The parameters of a URI's query.
    pub(super) fn of(query: Option<&str>) -> Self {
        Self {
            pairs: form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
            faults: Vec::new(),
        }
    }

    /// Takes a parameter that must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(String) -> Result<T, Invalid>,
    ) -> Option<T> {
        let faults = self.faults.len();
        let taken = self.optional(name, read);
        if taken.is_none() && self.faults.len() == faults {
            self.fault(name, "is missing");
        }
        taken
    }

    /// Takes a parameter that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(String) -> Result<T, Invalid>,
    ) -> Option<T> {
        let mut values = self.pairs.extract_if(.., |pair| pair.0 == name);
        let (first, again) = (values.next(), values.next().is_some());
        drop(values);
        self.pairs.retain(|pair| pair.0 != name);
        let (_, value) = first?;
        if again {
            self.fault(name, "comes more than once");
            return None;
        }
        read(value)
            .map_err(|Invalid(detail)| self.fault(name, detail))
            .ok()
    }

    /// Takes `limit` and `after`.
    pub(super) fn paging(&mut self) -> Option<Paging> {
        let faults = self.faults.len();
        let limit = self.optional("limit", limit);
        let after = self.optional("after", Ok);
        if self.faults.len() > faults {
            return None;
        }
        Paging::new(limit.unwrap_or(20), after)
    }

    /// What `build` makes of the parameters, if none is at fault and none is left.
    pub(super) fn build<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Vec<Fault>> {
        let mut unknown: Vec<_> = self.pairs.iter().map(|(name, _)| name.clone()).collect();
        unknown.sort();
        unknown.dedup();
        for name in unknown.into_iter().take(UNKNOWN_MAX) {
            self.fault(&name, "is not a parameter of this call");
        }
        match build() {
            Some(built) if self.faults.is_empty() => Ok(built),
            _ => Err(self.faults),
        }
    }

    fn fault(&mut self, name: &str, detail: &'static str) {
        self.faults.push(Fault::new(json::pointer(name), detail));
    }
}

/// An account's id.
pub(super) fn account(value: String) -> Result<AccountId, Invalid> {
    AccountId::parse(&value).ok_or(Invalid("must be a UUIDv7 in lower case"))
}

/// 1 to 100, in decimal digits.
fn limit(value: String) -> Result<u8, Invalid> {
    let invalid = Invalid("must be an integer from 1 to 100");
    if !value.bytes().all(|byte| byte.is_ascii_digit()) || value.starts_with('0') {
        return Err(invalid);
    }
    match value.parse() {
        Ok(limit @ 1..=Paging::LIMIT_MAX) => Ok(limit),
        _ => Err(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(query: &str) -> Vec<String> {
        let mut parameters = Parameters::of(Some(query));
        let paging = parameters.paging();
        let account = parameters.required("account", account);
        match parameters.build(|| Some((paging?, account?))) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.into_iter().map(|fault| fault.pointer).collect(),
        }
    }

    #[test]
    fn every_parameter_at_fault_is_named_at_once() {
        let id = AccountId::new();
        assert_eq!(pointers(&format!("account={id}")), [""; 0]);
        assert_eq!(
            pointers(&format!("account={id}&limit=100&after=x&")),
            [""; 0]
        );
        assert_eq!(pointers(""), ["/account"]);
        assert_eq!(
            pointers(&format!("account={id}&account={id}")),
            ["/account"]
        );
        assert_eq!(
            pointers("limit=0&a/b=1&account=1&after=x&after=x&zz&zz=2"),
            ["/limit", "/after", "/account", "/a~1b", "/zz"]
        );
    }

    #[test]
    fn a_limit_is_1_to_100_in_plain_digits() {
        for bad in [
            "0",
            "101",
            "256",
            "99999999999999999999",
            "",
            "-1",
            "+1",
            "1.0",
            "01",
            "1e1",
            " 1",
            "1%20",
            "%00",
            "٣",
        ] {
            let query = format!("account={}&limit={bad}", AccountId::new());
            assert_eq!(pointers(&query), ["/limit"], "{bad}");
        }
        for good in ["1", "20", "100", "%31"] {
            let query = format!("account={}&limit={good}", AccountId::new());
            assert_eq!(pointers(&query), [""; 0], "{good}");
        }
    }
}
