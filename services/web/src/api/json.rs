//! A strict reader of JSON (RFC 8259) that keeps what money and error messages need and common readers drop: numbers as they were
//! written, members in their order, a name that comes twice, a string that is no Unicode text.
//!
//! It reads requests, which are small: there is no streaming, and depth is bounded.

use std::collections::BTreeSet;

/// How deep arrays and objects may be nested.
const DEPTH_MAX: usize = 32;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool,
    /// The number as it was written.
    Number(String),
    /// None: it holds half of a surrogate pair, which no text can.
    Text(Option<String>),
    Array,
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name, where it is no text with U+FFFD for what is wrong.
    pub(super) name: String,
    pub(super) value: Value,
}

/// Why it is no JSON, or none that is read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("is not UTF-8: byte {0}")]
    NotUtf8(usize),
    #[error("is not JSON: {what} at line {line}, column {column}")]
    Syntax {
        what: &'static str,
        line: usize,
        column: usize,
    },
    #[error("is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// The RFC 6901 pointer of the member that comes again.
    #[error("comes twice")]
    Duplicate(String),
}

/// Reads one JSON text: a value, and nothing after it.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Error> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::NotUtf8(e.valid_up_to()))?;
    let mut reader = Reader {
        text,
        at: 0,
        path: Vec::new(),
    };
    reader.whitespace();
    let value = reader.value()?;
    reader.whitespace();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.syntax("something after the value")),
    }
}

/// A name as a part of an RFC 6901 pointer.
pub(super) fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

struct Reader<'a> {
    text: &'a str,
    /// The next byte; always between two characters, or inside a string that is being read byte by byte.
    at: usize,
    /// Pointers of the values that the next one is in.
    path: Vec<String>,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, Error> {
        match self.peek() {
            Some(b'{' | b'[') if self.path.len() >= DEPTH_MAX => Err(Error::TooDeep),
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => {
                let text = self.string()?;
                Ok(Value::Text(String::from_utf8(text).ok()))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool),
            Some(b'f') => self.word("false", Value::Bool),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.syntax("no value")),
            None => Err(self.syntax("the end where a value should be")),
        }
    }

    fn object(&mut self) -> Result<Value, Error> {
        let mut members = Vec::new();
        let mut names = BTreeSet::new();
        self.at += 1;
        self.whitespace();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.syntax("no name in quotes"));
            }
            let bytes = self.string()?;
            let name = String::from_utf8_lossy(&bytes).into_owned();
            self.path.push(pointer(&name));
            if !names.insert(bytes) {
                return Err(Error::Duplicate(self.path.concat()));
            }
            self.whitespace();
            if !self.eat(b':') {
                return Err(self.syntax("no colon after a name"));
            }
            self.whitespace();
            let value = self.value()?;
            self.path.pop();
            members.push(Member { name, value });
            self.whitespace();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.syntax("no comma and no end after a member"));
            }
            self.whitespace();
        }
    }

    fn array(&mut self) -> Result<Value, Error> {
        self.at += 1;
        self.whitespace();
        if self.eat(b']') {
            return Ok(Value::Array);
        }
        for index in 0_usize.. {
            self.path.push(format!("/{index}"));
            self.value()?;
            self.path.pop();
            self.whitespace();
            if self.eat(b']') {
                break;
            }
            if !self.eat(b',') {
                return Err(self.syntax("no comma and no end after an element"));
            }
            self.whitespace();
        }
        Ok(Value::Array)
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.syntax("no digit in a number"));
        }
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Error> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.syntax("no value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// A string's bytes in UTF-8, in which the half of a surrogate pair is written like any other code point: then they are not UTF-8.
    fn string(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(bytes);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut bytes)?;
                }
                Some(0..=0x1f) => return Err(self.syntax("a control character in a string")),
                Some(byte) => {
                    bytes.push(byte);
                    self.at += 1;
                }
                None => return Err(self.syntax("the end inside a string")),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let mut code = u32::from(self.hex()?);
                if (0xd800..0xdc00).contains(&code)
                    && let Some(low) = self.low_surrogate()
                {
                    code = 0x10000 + ((code - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                }
                push(bytes, code);
                return Ok(());
            }
            _ => return Err(self.syntax("an unknown escape in a string")),
        };
        bytes.push(byte);
        self.at += 1;
        Ok(())
    }

    /// The second half of a surrogate pair, if it comes next; else nothing is read.
    fn low_surrogate(&mut self) -> Option<u16> {
        let start = self.at;
        if self.eat(b'\\')
            && self.eat(b'u')
            && let Ok(low @ 0xdc00..0xe000) = self.hex()
        {
            return Some(low);
        }
        self.at = start;
        None
    }

    fn hex(&mut self) -> Result<u16, Error> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let code = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u16::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.syntax("no four hexadecimal digits after \\u"))?;
        self.at += 4;
        Ok(code)
    }

    fn whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn syntax(&self, what: &'static str) -> Error {
        let before = String::from_utf8_lossy(&self.text.as_bytes()[..self.at]);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Error::Syntax {
            what,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Appends a code point as UTF-8 would, surrogates like others.
fn push(bytes: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(character) => {
            let mut buffer = [0; 4];
            bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
        None => {
            // U+D800 to U+DFFF: three bytes.
            let low = |shift: u32| u8::try_from((code >> shift) & 0x3f).unwrap_or(0x3f);
            bytes.extend_from_slice(&[0xed, 0x80 | low(6), 0x80 | low(0)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(Some(value.to_owned()))
    }

    #[test]
    fn values_are_kept_as_they_were_written() {
        let value = read(
            br#" { "a" : 1e3 , "b":-0.50,"c":null,"d":[1,{"x":2}],"e":"\u0041\ud83d\ude00\n\/" } "#,
        );
        let member = |name: &str, value| Member {
            name: name.to_owned(),
            value,
        };
        assert_eq!(
            value,
            Ok(Value::Object(vec![
                member("a", Value::Number("1e3".to_owned())),
                member("b", Value::Number("-0.50".to_owned())),
                member("c", Value::Null),
                member("d", Value::Array),
                member("e", text("A😀\n/")),
            ]))
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_a_string_but_no_text() {
        for lone in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#""\udbff\u0041""#,
        ] {
            assert_eq!(read(lone.as_bytes()), Ok(Value::Text(None)), "{lone}");
        }
        // They are two names, although both are shown as U+FFFD.
        assert!(read(br#"{"\ud800":1,"\ud801":2}"#).is_ok());
    }

    #[test]
    fn a_name_that_comes_twice_is_pointed_at_wherever_it_is() {
        for (json, at) in [
            (r#"{"a":1,"a":1}"#, "/a"),
            (r#"{"a":1,"\u0061":2}"#, "/a"),
            (r#"{"a":[0,{"b/c":1,"~":2,"b\/c":3}]}"#, "/a/1/b~1c"),
            (r#"{"":1,"":1}"#, "/"),
        ] {
            assert_eq!(
                read(json.as_bytes()),
                Err(Error::Duplicate(at.to_owned())),
                "{json}"
            );
        }
    }

    #[test]
    fn depth_is_bounded_without_recursion_to_match() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(read(nested(DEPTH_MAX + 1).as_bytes()), Err(Error::TooDeep));
        assert_eq!(read("[".repeat(1_000_000).as_bytes()), Err(Error::TooDeep));
        assert_eq!(
            read("{\"a\":".repeat(100_000).as_bytes()),
            Err(Error::TooDeep)
        );
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for json in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" 1}",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "--1",
            "nul",
            "True",
            "NaN",
            "Infinity",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\t\"",
            "1 2",
            "{} {}",
            "\u{feff}{}",
            "// c\n1",
            "0x10",
            "1_000",
            "[1 2]",
            "\u{a0}1",
        ] {
            assert!(
                matches!(read(json.as_bytes()), Err(Error::Syntax { .. })),
                "{json}"
            );
        }
        assert_eq!(read(b"\"\xff\""), Err(Error::NotUtf8(1)));
        let place = Error::Syntax {
            what: "no value",
            line: 2,
            column: 7,
        };
        assert_eq!(read("{\n\"é\" : x}".as_bytes()), Err(place));
    }

    /// JSON texts and near misses.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just(":".to_owned()),
            Just("\"a\"".to_owned()),
            Just("\"b\":".to_owned()),
            Just("1".to_owned()),
            Just("-2.5e+7".to_owned()),
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just(" \n".to_owned()),
            Just("\"\\u00e9\"".to_owned()),
            "[-+0-9.eE]{1,4}",
            "\"[ -~]{0,6}\"",
            ".{0,3}",
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_takes_what_serde_json_takes_and_refuses_what_that_refuses(json in texts()) {
            // Where they differ on purpose: names that come twice, huge exponents, lone surrogates.
            let ours = read(json.as_bytes());
            match serde_json::from_str::<serde_json::Value>(&json) {
                Ok(_) => prop_assert!(matches!(ours, Ok(_) | Err(Error::Duplicate(_))), "{ours:?}"),
                Err(error) if error.to_string().contains("surrogate") || error.to_string().contains("out of range")
                    || error.to_string().contains("hex escape") => {}
                Err(error) => prop_assert!(ours.is_err(), "{error}"),
            }
        }

        #[test]
        fn a_string_is_read_as_it_was_meant(string in any::<String>()) {
            let json = serde_json::to_string(&string).unwrap();
            prop_assert_eq!(read(json.as_bytes()), Ok(text(&string)));
            let escaped: String = string.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            prop_assert_eq!(read(format!("\"{escaped}\"").as_bytes()), Ok(text(&string)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes);
        }
    }
}
