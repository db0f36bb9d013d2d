//! The users' own stored functions that are known to be pure.

use super::words;

/// The longest name that a routine or a schema has in MySQL, in characters.
const CHARACTERS_MAX: usize = 64;

/// Names as they are called: `name`, or `schema.name`. Kept in lower case and in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Registered {
    unqualified: Vec<String>,
    qualified: Vec<(String, String)>,
}

impl Registered {
    pub(super) fn new(functions: &[String]) -> Result<Self, String> {
        let mut registered = Self::default();
        for written in functions {
            let parts = parts(written).ok_or_else(|| {
                format!(
                    "`{written}` is not the name of a function: write `name` for calls without a schema, `schema.name` for calls with \
                     one, in backquotes where a part has other characters than letters, digits, `_` and `$`"
                )
            })?;
            let (schema, name) = match parts {
                (schema, Some(name)) => (Some(schema), name),
                (name, None) => (None, name),
            };
            if words::role(name.as_bytes()).is_impure_built_in() {
                return Err(format!(
                    "`{written}` cannot be registered as pure: {name} is a built-in function of MySQL that uses the session or the \
                     server; expected a stored function that only reads"
                ));
            }
            match schema {
                Some(schema) => registered.qualified.push((schema, name)),
                None => registered.unqualified.push(name),
            }
        }
        registered.unqualified.sort();
        registered.qualified.sort();
        Ok(registered)
    }

    /// Whether a call of this function, as the text has its name and schema, is one of a registered function.
    pub(super) fn has(&self, schema: Option<Written<'_>>, name: Written<'_>) -> bool {
        match schema {
            None => self
                .unqualified
                .binary_search_by(|known| name.compare(known))
                .is_ok(),
            Some(schema) => self
                .qualified
                .binary_search_by(|(known_schema, known)| {
                    schema
                        .compare(known_schema)
                        .then_with(|| name.compare(known))
                })
                .is_ok(),
        }
    }
}

/// A name in a text: without its backquotes, but with the doubled ones.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) text: &'a str,
    pub(super) quoted: bool,
}

impl Written<'_> {
    /// How `known` is to this name, by lower case.
    fn compare(self, known: &str) -> std::cmp::Ordering {
        let mut behind_backquote = false;
        let characters = self.text.chars().filter(move |&character| {
            let second = self.quoted && character == '`' && behind_backquote;
            behind_backquote = character == '`' && !second;
            !second
        });
        known.chars().cmp(characters.flat_map(char::to_lowercase))
    }
}

/// One or two names between periods, in lower case.
fn parts(written: &str) -> Option<(String, Option<String>)> {
    let (first, rest) = part(written)?;
    if rest.is_empty() {
        return Some((first, None));
    }
    let (second, rest) = part(rest.strip_prefix('.')?)?;
    rest.is_empty().then_some((first, Some(second)))
}

/// The name that a text begins with, and what follows.
fn part(text: &str) -> Option<(String, &str)> {
    let (name, rest) = match text.strip_prefix('`') {
        Some(quoted) => {
            let mut name = String::new();
            let mut characters = quoted.char_indices().peekable();
            let rest = loop {
                let (at, character) = characters.next()?;
                match character {
                    '`' if characters.next_if(|(_, next)| *next == '`').is_none() => {
                        break &quoted[at + 1..];
                    }
                    '\0' => return None,
                    character => name.push(character),
                }
            };
            (name, rest)
        }
        None => {
            let is_word =
                |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
            let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    let fits = !name.is_empty() && name.chars().count() <= CHARACTERS_MAX;
    fits.then(|| (name.chars().flat_map(char::to_lowercase).collect(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(functions: &[&str]) -> Result<Registered, String> {
        let functions: Vec<String> = functions.iter().map(|&name| name.to_owned()).collect();
        Registered::new(&functions)
    }

    fn plain(text: &str) -> Written<'_> {
        Written {
            text,
            quoted: false,
        }
    }

    fn quoted(text: &str) -> Written<'_> {
        Written { text, quoted: true }
    }

    #[test]
    fn names_are_the_same_in_any_case_and_quoting() {
        let known = new(&["Slug", "shop.Price", "`a``b`", "`x y`.`É`", "größe"]).unwrap();
        for (schema, name, is_known) in [
            (None, plain("slug"), true),
            (None, quoted("SLUG"), true),
            (None, plain("price"), false),
            (None, quoted("a``b"), true),
            (None, quoted("a`b"), true),
            (None, quoted("a````b"), false),
            (None, plain("GRÖSSE"), false),
            (None, plain("GRÖßE"), true),
            (Some(plain("SHOP")), quoted("price"), true),
            (Some(plain("shop")), plain("slug"), false),
            (Some(quoted("x y")), plain("é"), true),
        ] {
            assert_eq!(known.has(schema, name), is_known, "{}", name.text);
        }
    }

    #[test]
    fn what_is_no_function_or_no_pure_one_is_refused_with_what_is_expected() {
        for (name, part) in [
            ("", "schema.name"),
            ("a.b.c", "schema.name"),
            ("a.", "schema.name"),
            (".a", "schema.name"),
            ("a b", "backquotes"),
            ("a()", "schema.name"),
            ("`a", "schema.name"),
            ("`a`b", "schema.name"),
            ("``", "schema.name"),
            ("get_lock", "expected a stored function"),
            ("`Last_Insert_Id`", "expected a stored function"),
            ("shop.sleep", "expected a stored function"),
        ] {
            let refused = new(&[name]).unwrap_err();
            assert!(refused.contains(part), "{name}: {refused}");
        }
        assert!(new(&[&"é".repeat(64)]).is_ok());
        assert!(new(&[&"é".repeat(65)]).is_err());
    }
}
