//! MySQL's lexical grammar: a text as words, strings, variables and symbols, one at a time. Comments are skipped.
//!
//! It follows the server's own lexer where that is strange, because whoever reads a text otherwise can be led past a word:
//! `1.FOR` is a number and a keyword, `1FOR` is a name, and so is `FOR.x`.

use std::ops::Range;

use super::{
    Hint,
    words::{self, Role},
};

/// The oldest server that this crate is for, as executable comments write its version.
pub(super) const OLDEST: u32 = 80_000;
/// The newest one, with room for those to come: what is written for a later one is written so that no server executes it.
pub(super) const NEWEST: u32 = 98_999;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unquoted name or keyword.
    Word,
    /// A name in backquotes.
    Quoted,
    Number,
    /// `'…'`.
    Text,
    /// `"…"`, a string in the default mode.
    DoubleQuoted,
    /// `@x`, in any of its quotings, and the `@host` of an account.
    UserVariable,
    /// `@@x`; of `@@session.x` the scope, and the rest are tokens of their own.
    SystemVariable,
    /// `:=`.
    Assignment,
    /// Any other byte that is no blank.
    Symbol(u8),
    /// Behind the last one.
    End,
}

/// A token and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// What an unquoted word means; [`Role::Name`] for every other token.
    pub(super) role: Role,
    /// A comment stands before it.
    pub(super) behind_comment: bool,
    /// Where it begins and ends. No text is as long as this can be; four such tokens are copied around all the time.
    start: u32,
    end: u32,
}

impl Token {
    pub(super) const END: Self = Self {
        kind: Kind::End,
        role: Role::Name,
        behind_comment: false,
        start: 0,
        end: 0,
    };

    /// Which bytes of the text it is.
    pub(super) fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn is(&self, symbol: u8) -> bool {
        self.kind == Kind::Symbol(symbol)
    }

    /// A name, quoted or not.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted)
    }
}

/// What a leading comment that begins with `router:` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    For(Hint),
    /// A word that is no hint, and where it is.
    Unknown(usize, usize),
}

/// Reads a text from its beginning to its end.
pub(super) struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    /// The version of the server that reads it.
    server: u32,
    /// Within an executable comment that this server executes.
    executes: bool,
    /// No token but parentheses has come yet.
    leads: bool,
    /// The last token was a name or a period that the next byte belongs to: what comes is a name whatever it looks like.
    after_period: bool,
    /// What the comments before the statement ask for.
    pub(super) asked: Asked,
    /// The text ended within a string, a name or a comment, or holds what no statement does: where.
    pub(super) failed: Option<usize>,
    /// It holds what some servers read otherwise than others: where.
    pub(super) dubious: Option<usize>,
    /// The version of an executable comment that some of the servers execute and some do not.
    pub(super) version: Option<u32>,
}

impl<'a> Lexer<'a> {
    /// As a server of this version reads the text.
    pub(super) fn new(sql: &'a str, server: u32) -> Self {
        Self {
            sql,
            at: 0,
            server,
            executes: false,
            leads: true,
            after_period: false,
            asked: Asked::Nothing,
            // No server takes one that long.
            failed: (sql.len() > u32::MAX as usize).then_some(0),
            dubious: None,
            version: None,
        }
    }

    /// The text of a token; of a name or a string in quotes, what is between them.
    pub(super) fn text(&self, token: &Token) -> &'a str {
        let Range { start, end } = token.range();
        let inside = match token.kind {
            Kind::Quoted | Kind::DoubleQuoted => start + 1..end - 1,
            Kind::SystemVariable => start + 2..end,
            _ => start..end,
        };
        self.sql.get(inside).unwrap_or_default()
    }

    /// The text from the beginning of one token to the end of another.
    pub(super) fn span(&self, from: &Token, to: &Token) -> (&'a str, Range<usize>) {
        let range = from.range().start..to.range().end;
        (self.sql.get(range.clone()).unwrap_or_default(), range)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.sql.as_bytes().get(at).copied()
    }

    /// The next token; behind the last one, or where the text cannot be read, [`Kind::End`] for ever.
    pub(super) fn next(&mut self) -> Token {
        let mut token = Token::END;
        self.read(&mut token);
        token
    }

    /// As [`Lexer::next`], in place: a token that is handed on by value is written in parts and read as a whole, for which processors
    /// wait.
    #[inline]
    pub(super) fn read(&mut self, token: &mut Token) {
        token.behind_comment = self.skip();
        token.start = self.at as u32;
        token.role = Role::Name;
        let kind = if self.failed.is_some() {
            Kind::End
        } else {
            self.token(&mut token.role)
        };
        token.kind = if self.failed.is_some() {
            Kind::End
        } else {
            kind
        };
        token.end = self.at as u32;
        self.leads &= kind == Kind::Symbol(b'(');
    }

    /// Skips blanks and comments; whether there was a comment.
    fn skip(&mut self) -> bool {
        let mut comment = false;
        while let Some(byte) = self.byte(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'#' => self.line_comment(1),
                b'-' if self.byte(self.at + 1) == Some(b'-')
                    && self
                        .byte(self.at + 2)
                        .is_none_or(|byte| byte == b' ' || byte.is_ascii_control()) =>
                {
                    self.line_comment(2);
                }
                b'/' if self.byte(self.at + 1) == Some(b'*') => self.comment(),
                b'*' if self.executes && self.byte(self.at + 1) == Some(b'/') => {
                    self.executes = false;
                    self.at += 2;
                }
                _ => return comment,
            }
            comment |= !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
            self.after_period = false;
            if self.failed.is_some() {
                return comment;
            }
        }
        if self.executes {
            self.fail();
        }
        comment
    }

    fn fail(&mut self) {
        self.failed.get_or_insert(self.at.min(self.sql.len()));
    }

    /// `#` or `-- `, to the end of the line.
    fn line_comment(&mut self, marker: usize) {
        let rest = &self.sql.as_bytes()[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n' || byte == 0);
        let end = length.map_or(self.sql.len(), |length| self.at + length);
        self.hint(self.at + marker, end);
        self.at = end;
        // There the comment ends, and what follows is read.
        if self.byte(end) == Some(0) {
            self.fail();
        }
    }

    /// `/* … */`, which the server executes what is in if it begins with `!` and a version that it has reached, or with none.
    fn comment(&mut self) {
        let inside = self.at + 2;
        if self.byte(inside) != Some(b'!') {
            match find(self.sql.as_bytes(), inside, b"*/") {
                Some(end) => {
                    self.hint(inside, end);
                    self.at = end + 2;
                }
                None => self.fail(),
            }
            return;
        }
        let digits = |from: usize| {
            let digits = self.sql.as_bytes()[from..].iter().take(7);
            digits.take_while(|byte| byte.is_ascii_digit()).count()
        };
        let count = digits(inside + 1);
        let blank_behind = self
            .byte(inside + 7)
            .is_some_and(|byte| byte == b' ' || matches!(byte, 0x09..=0x0d));
        // Six digits need a blank behind them; up to some version of 8.0 they needed none.
        let length = match count {
            0..=4 => 0,
            6 if blank_behind => 6,
            _ => 5,
        };
        let begin = inside + 1 + length;
        let version = self.sql.as_bytes()[inside + 1..begin]
            .iter()
            .fold(0, |version, digit| version * 10 + u32::from(digit - b'0'));
        if count > 5 && length == 5 && version <= NEWEST {
            self.dubious.get_or_insert(self.at);
        }
        if version > OLDEST && version <= NEWEST {
            match self.version {
                Some(other) if other != version => {
                    self.dubious.get_or_insert(self.at);
                }
                _ => self.version = Some(version),
            }
        }
        if version <= self.server {
            self.executes = true;
            self.at = begin;
            return;
        }
        // A comment, in which others may be.
        let bytes = self.sql.as_bytes();
        let mut at = begin;
        loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'*'), Some(b'/')) => {
                    self.at = at + 2;
                    return;
                }
                (Some(b'/'), Some(b'*')) => match find(bytes, at + 2, b"*/") {
                    Some(end) => at = end + 2,
                    None => return self.fail(),
                },
                (Some(_), _) => at += 1,
                (None, _) => return self.fail(),
            }
        }
    }

    /// Of a comment before the statement, what it asks the router for.
    fn hint(&mut self, start: usize, end: usize) {
        if !self.leads || self.asked == Asked::For(Hint::Primary) {
            return;
        }
        let Some(comment) = self.sql.get(start..end) else {
            return;
        };
        let comment = comment.trim_ascii();
        let Some((prefix, asked)) = comment.split_at_checked("router:".len()) else {
            return;
        };
        if !prefix.eq_ignore_ascii_case("router:") {
            return;
        }
        let asked = asked.trim_ascii();
        self.asked = if asked.eq_ignore_ascii_case("primary") {
            Asked::For(Hint::Primary)
        } else if !asked.eq_ignore_ascii_case("replica") {
            Asked::Unknown(start, end)
        } else if self.asked == Asked::Nothing {
            Asked::For(Hint::Replica)
        } else {
            self.asked
        };
    }

    /// The token that begins here; [`Kind::End`] where none does.
    fn token(&mut self, role: &mut Role) -> Kind {
        let Some(byte) = self.byte(self.at) else {
            return Kind::End;
        };
        let after_period = std::mem::take(&mut self.after_period);
        let next = self.byte(self.at + 1);
        match byte {
            b'0'..=b'9' if !after_period => self.number(role),
            _ if is_word(byte) => self.word(after_period, role),
            b'\'' => {
                self.string();
                Kind::Text
            }
            b'"' => {
                self.string();
                Kind::DoubleQuoted
            }
            b'`' => {
                self.backquoted();
                Kind::Quoted
            }
            b':' if next == Some(b'=') => {
                self.at += 2;
                Kind::Assignment
            }
            b'@' if next == Some(b'@') => {
                self.at += 2;
                if self.byte(self.at) == Some(b'`') {
                    self.backquoted();
                } else {
                    self.at = word_end(self.sql.as_bytes(), self.at);
                    self.after_period = self.period_and_word();
                }
                Kind::SystemVariable
            }
            b'@' => {
                self.at += 1;
                match next {
                    Some(b'`') => self.backquoted(),
                    Some(b'\'' | b'"') => self.string(),
                    _ => {
                        let rest = &self.sql.as_bytes()[self.at..];
                        let length = rest.iter().take_while(|&&b| is_word(b) || b == b'.');
                        self.at += length.count();
                    }
                }
                Kind::UserVariable
            }
            b'.' if !after_period && next.is_some_and(|byte| byte.is_ascii_digit()) => {
                self.at += 1;
                self.fraction()
            }
            0 => {
                self.fail();
                Kind::End
            }
            _ => {
                self.at += 1;
                self.after_period = byte == b'.' && self.byte(self.at).is_some_and(is_word);
                Kind::Symbol(byte)
            }
        }
    }

    /// A period comes, and what a name is made of right behind it.
    fn period_and_word(&self) -> bool {
        self.byte(self.at) == Some(b'.') && self.byte(self.at + 1).is_some_and(is_word)
    }

    fn word(&mut self, after_period: bool, role: &mut Role) -> Kind {
        let start = self.at;
        self.at = word_end(self.sql.as_bytes(), start);
        let word = &self.sql.as_bytes()[start..self.at];
        // Text between dollars is a string since 8.1, and was a name before.
        if word[0] == b'$' && word[1..].contains(&b'$') {
            self.dubious.get_or_insert(start);
        }
        // The period and what follows are read as such, even if a digit follows.
        self.after_period = self.period_and_word();
        if !after_period && !self.after_period {
            *role = words::role(word);
        }
        Kind::Word
    }

    /// A number, or a name that begins with digits.
    fn number(&mut self, role: &mut Role) -> Kind {
        let bytes = self.sql.as_bytes();
        let start = self.at;
        let run = |from: usize, belongs: fn(&u8) -> bool| {
            let length = bytes.get(from..).unwrap_or_default().iter();
            from + length.take_while(|byte| belongs(byte)).count()
        };
        let radix: Option<fn(&u8) -> bool> = match (bytes[start], bytes.get(start + 1)) {
            (b'0', Some(b'x')) => Some(u8::is_ascii_hexdigit),
            (b'0', Some(b'b')) => Some(|byte| matches!(byte, b'0' | b'1')),
            _ => None,
        };
        if let Some(belongs) = radix {
            let end = run(start + 2, belongs);
            if end > start + 2 && !bytes.get(end).is_some_and(|&byte| is_word(byte)) {
                self.at = end;
                return Kind::Number;
            }
            return self.word(false, role);
        }
        let end = run(start, u8::is_ascii_digit);
        match bytes.get(end) {
            Some(b'e' | b'E') => {
                let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                    self.at = run(end + 1 + sign, u8::is_ascii_digit);
                    return Kind::Number;
                }
                self.word(false, role)
            }
            Some(b'.') => {
                self.at = end + 1;
                self.fraction()
            }
            Some(&byte) if is_word(byte) => self.word(false, role),
            _ => {
                self.at = end;
                Kind::Number
            }
        }
    }

    /// What may follow the period of a number.
    fn fraction(&mut self) -> Kind {
        let bytes = self.sql.as_bytes();
        let digits = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default().iter();
            from + rest.take_while(|byte| byte.is_ascii_digit()).count()
        };
        let end = digits(self.at);
        self.at = end;
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent == end + 1 + sign {
                // The server drops all of it and gives out the byte behind.
                self.dubious.get_or_insert(end);
            }
            self.at = exponent;
        }
        Kind::Number
    }

    /// A string that begins here: a doubled quote and a backslash's follower belong to it.
    fn string(&mut self) {
        let bytes = self.sql.as_bytes();
        let quote = bytes[self.at];
        let mut at = self.at + 1;
        while let Some(&byte) = bytes.get(at) {
            if byte == b'\\' {
                at += 2;
            } else if byte != quote {
                at += 1;
            } else if bytes.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                self.at = at + 1;
                return;
            }
        }
        self.fail();
    }

    /// A name in backquotes, in which only the doubled backquote is special.
    fn backquoted(&mut self) {
        let bytes = self.sql.as_bytes();
        let mut at = self.at + 1;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'`' if bytes.get(at + 1) == Some(&b'`') => at += 2,
                b'`' => {
                    self.at = at + 1;
                    return;
                }
                0 => break,
                _ => at += 1,
            }
        }
        self.fail();
    }
}

/// Letters, digits, `_`, `$` and everything beyond ASCII.
fn is_word(byte: u8) -> bool {
    WORD[usize::from(byte)]
}

static WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        word[byte] =
            ascii.is_ascii_alphanumeric() || ascii == b'_' || ascii == b'$' || byte >= 0x80;
        byte += 1;
    }
    word
};

fn word_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().take_while(|&&byte| is_word(byte)).count()
}

fn find(bytes: &[u8], start: usize, what: &[u8; 2]) -> Option<usize> {
    let rest = bytes.get(start..)?;
    rest.windows(2)
        .position(|pair| pair == what)
        .map(|at| start + at)
}
