//! Fields of a request: taken one by one, each that is at fault remembered, so that one answer names them all.

use super::json::{self, Member, Value};
use crate::ledger::Invalid;

/// A field at fault: its RFC 6901 pointer, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) pointer: String,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

/// The most unknown names that one answer tells of.
pub(super) const UNKNOWN_MAX: usize = 100;

/// The members of a JSON object that nobody has taken yet, and the faults found so far.
pub(super) struct Fields {
    members: Vec<Member>,
    faults: Vec<Fault>,
}

impl Fields {
    /// The members of `value`, which must be an object.
    pub(super) fn of(value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(members) => Ok(Self {
                members,
                faults: Vec::new(),
            }),
            _ => Err(Fault::new("", "must be an object")),
        }
    }

    /// Takes a field that must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        match self.take(name) {
            Some(value) => self.judge(name, read(value)),
            None => self.judge(name, Err(Invalid("is missing"))),
        }
    }

    /// Takes a field that may be left out; null is the same.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        match self.take(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.judge(name, read(value)),
        }
    }

    /// Remembers a fault of a field that was taken.
    pub(super) fn fault(&mut self, name: &str, detail: &'static str) {
        self.faults.push(Fault::new(json::pointer(name), detail));
    }

    /// What `build` makes of the fields, if none is at fault and none is left.
    pub(super) fn build<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Vec<Fault>> {
        for member in self.members.iter().take(UNKNOWN_MAX) {
            self.faults.push(Fault::new(
                json::pointer(&member.name),
                "is not a field of this request",
            ));
        }
        match build() {
            Some(built) if self.faults.is_empty() => Ok(built),
            _ => Err(self.faults),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.members.iter().position(|member| member.name == name)?;
        Some(self.members.remove(index).value)
    }

    fn judge<T>(&mut self, name: &str, read: Result<T, Invalid>) -> Option<T> {
        read.map_err(|Invalid(detail)| self.fault(name, detail))
            .ok()
    }
}

/// A field's value as text.
pub(super) fn text(value: Value) -> Result<String, Invalid> {
    match value {
        Value::Text(Some(text)) => Ok(text),
        Value::Text(None) => Err(Invalid("holds half of a surrogate pair, which is no text")),
        _ => Err(Invalid("must be a string")),
    }
}

/// A field's value as an integer, written as one.
pub(super) fn integer(value: Value) -> Result<i64, Invalid> {
    let Value::Number(number) = value else {
        return Err(Invalid("must be an integer"));
    };
    if number.contains(['.', 'e', 'E']) {
        return Err(Invalid("must be an integer without fraction or exponent"));
    }
    // What does not fit is out of every range.
    Ok(number.parse().unwrap_or(if number.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::of(json::read(json.as_bytes()).unwrap()).unwrap_or_else(|_| panic!("{json}"))
    }

    #[test]
    fn every_field_at_fault_is_named_at_once() {
        let mut fields = fields(r#"{"a":"x","c/d":1,"b":2.0}"#);
        let (a, b) = (fields.required("a", integer), fields.required("b", integer));
        let c = fields.required("c", text);
        let none = fields.optional("memo", text);
        assert_eq!(none, None);
        let faults = fields.build(|| Some((a?, b?, c?))).unwrap_err();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a", "/b", "/c", "/c~1d"]);
    }

    #[test]
    fn null_is_as_good_as_absent_only_where_a_field_may_be_left_out() {
        let mut fields = fields(r#"{"a":null,"memo":null}"#);
        assert_eq!(fields.required("a", text), None);
        assert_eq!(fields.optional("memo", text), None);
        let faults = fields.build(|| Some(())).unwrap_err();
        assert_eq!(faults, [Fault::new("/a", "must be a string")]);
    }

    #[test]
    fn an_integer_is_digits_and_nothing_else() {
        let number = |text: &str| integer(Value::Number(text.to_owned()));
        assert_eq!(number("0"), Ok(0));
        assert_eq!(number("-7"), Ok(-7));
        assert_eq!(number("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(number("99999999999999999999999"), Ok(i64::MAX));
        assert_eq!(number("-99999999999999999999999"), Ok(i64::MIN));
        for other in ["1.0", "1e3", "1E3", "0e0", "-0.0"] {
            assert!(number(other).is_err(), "{other}");
        }
        assert!(integer(Value::Text(Some("1".to_owned()))).is_err());
        assert!(integer(Value::Null).is_err());
    }

    #[test]
    fn only_an_object_has_fields() {
        for json in ["[]", "1", "null", "\"a\"", "true"] {
            let fault = Fields::of(json::read(json.as_bytes()).unwrap()).err();
            assert_eq!(fault, Some(Fault::new("", "must be an object")), "{json}");
        }
    }
}
