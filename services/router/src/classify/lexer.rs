//! Words, strings, variables and symbols of a text in MySQL's lexical grammar; comments are skipped.

/// A token. Words keep their spelling; what is quoted is never a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An unquoted name, keyword or number.
    Word(&'a str),
    /// A name in backquotes, without them; a doubled backquote stays doubled.
    Quoted(&'a str),
    /// `'…'`.
    String,
    /// `"…"`, a string in the default mode.
    DoubleQuoted,
    /// `@x`, in any of its quotings.
    UserVariable,
    /// `@@x`, `@@session.x`, `@@global.x`: the name behind the scope.
    SystemVariable(&'a str),
    /// `:=`.
    Assignment,
    /// `/*! … */`: the server executes what is in it, depending on its version.
    ExecutableComment,
    /// Any other character that is no blank.
    Symbol(char),
}

impl Token<'_> {
    /// An unquoted word in upper case.
    pub(super) fn keyword(&self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        }
    }
}

/// A text that ends within a string, a quoted name or a comment, or holds a NUL.
#[derive(Debug)]
pub(super) struct Unfinished;

/// All tokens of a text. What is inside of an executable comment comes as tokens too, behind [`Token::ExecutableComment`].
pub(super) fn tokens(sql: &str) -> Result<Vec<Token<'_>>, Unfinished> {
    let bytes = sql.as_bytes();
    let mut tokens = Vec::with_capacity(sql.len() / 4);
    let mut at = 0;
    let mut executable = false;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => at += 1,
            0 => return Err(Unfinished),
            b'#' => at = line_end(bytes, at),
            b'-' if next == Some(b'-')
                && bytes
                    .get(at + 2)
                    .is_none_or(|b| b.is_ascii_whitespace() || b.is_ascii_control()) =>
            {
                at = line_end(bytes, at);
            }
            b'/' if next == Some(b'*') => {
                if matches!(bytes.get(at + 2), Some(b'!' | b'M')) {
                    // Five or six digits say from which version on; whether this server is one is not known here.
                    tokens.push(Token::ExecutableComment);
                    executable = true;
                    let version = bytes[at + 3..]
                        .iter()
                        .take(6)
                        .take_while(|b| b.is_ascii_digit());
                    at += 3 + Some(version.count()).filter(|&n| n >= 5).unwrap_or(0);
                } else {
                    at = find(bytes, at + 2, b"*/").ok_or(Unfinished)? + 2;
                }
            }
            b'*' if next == Some(b'/') && executable => {
                executable = false;
                at += 2;
            }
            b'\'' => {
                at = string_end(bytes, at)?;
                tokens.push(Token::String);
            }
            b'"' => {
                at = string_end(bytes, at)?;
                tokens.push(Token::DoubleQuoted);
            }
            b'`' => {
                let end = quoted_end(bytes, at)?;
                tokens.push(Token::Quoted(&sql[at + 1..end - 1]));
                at = end;
            }
            b':' if next == Some(b'=') => {
                tokens.push(Token::Assignment);
                at += 2;
            }
            b'@' if next == Some(b'@') => {
                let (token, end) = system_variable(sql, at + 2)?;
                tokens.push(token);
                at = end;
            }
            b'@' => {
                at = match next {
                    Some(b'`') => quoted_end(bytes, at + 1)?,
                    Some(b'\'' | b'"') => string_end(bytes, at + 1)?,
                    _ => word_end(bytes, at + 1, true),
                };
                tokens.push(Token::UserVariable);
            }
            b'.' => {
                tokens.push(Token::Symbol('.'));
                at += 1;
            }
            _ if is_word(byte) => {
                let end = word_end(bytes, at, false);
                tokens.push(Token::Word(&sql[at..end]));
                at = end;
            }
            _ => {
                tokens.push(Token::Symbol(char::from(byte)));
                at += 1;
            }
        }
    }
    if executable {
        Err(Unfinished)
    } else {
        Ok(tokens)
    }
}

/// `@@` is behind: blanks may follow, then a scope and a period, then a name.
fn system_variable(sql: &str, start: usize) -> Result<(Token<'_>, usize), Unfinished> {
    let bytes = sql.as_bytes();
    let name = |mut at: usize| -> Result<(usize, usize, usize), Unfinished> {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if bytes.get(at) == Some(&b'`') {
            let end = quoted_end(bytes, at)?;
            return Ok((at + 1, end - 1, end));
        }
        let end = word_end(bytes, at, false);
        Ok((at, end, end))
    };
    let (mut from, mut to, mut end) = name(start)?;
    let mut behind = end;
    while bytes.get(behind).is_some_and(u8::is_ascii_whitespace) {
        behind += 1;
    }
    if bytes.get(behind) == Some(&b'.') {
        (from, to, end) = name(behind + 1)?;
    }
    Ok((Token::SystemVariable(&sql[from..to]), end))
}

/// Letters, digits, `_`, `$` and everything beyond ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn word_end(bytes: &[u8], start: usize, with_periods: bool) -> usize {
    let length = bytes[start.min(bytes.len())..]
        .iter()
        .take_while(|&&b| is_word(b) || (with_periods && b == b'.'))
        .count();
    start + length
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    let length = bytes[start..].iter().position(|&b| b == b'\n');
    length.map_or(bytes.len(), |length| start + length)
}

fn find(bytes: &[u8], start: usize, what: &[u8; 2]) -> Option<usize> {
    let rest = bytes.get(start..)?;
    rest.windows(2)
        .position(|pair| pair == what)
        .map(|at| start + at)
}

/// The end of a string that begins at `start`: a doubled quote and a backslash's follower belong to it.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, Unfinished> {
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            _ if byte == quote => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(Unfinished)
}

/// The end of a name in backquotes, in which only the doubled backquote is special.
fn quoted_end(bytes: &[u8], start: usize) -> Result<usize, Unfinished> {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'`' if bytes.get(at + 1) == Some(&b'`') => at += 2,
            b'`' => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(Unfinished)
}
