//! One layer over another: the merged table, and where each of its values came from.

use std::{collections::BTreeMap, path::Path};

use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{ConfigError, Origin, Problem, Wrong};

/// The merged table, and where each of its values came from.
pub(super) struct Layers {
    pub(super) table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    pub(super) fn shipped(text: &str) -> Self {
        Self {
            table: text
                .parse()
                .expect("the shipped configuration is TOML: a unit test of the service loads it"),
            origins: BTreeMap::new(),
        }
    }

    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
        };
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        };
        let spans = DeTable::parse(text).map_err(syntax)?;
        let values: Table = text.parse().map_err(syntax)?;
        merge(
            &mut self.table,
            &values,
            spans.get_ref(),
            "",
            &at,
            &mut self.origins,
        )
    }

    pub(super) fn variable(
        &mut self,
        path: &[String],
        name: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        let origin = Origin::Environment(name.to_owned());
        let key = path.join(".");
        let (last, tables) = path.split_last().expect("a split gives at least one part");
        let mut table = &mut self.table;
        for part in tables {
            let known = known_keys(table);
            let Some(Value::Table(next)) = table.get_mut(part) else {
                return Err(ConfigError::UnknownKey { origin, key, known });
            };
            table = next;
        }
        let known = known_keys(table);
        let Some(slot) = table.get_mut(last) else {
            return Err(ConfigError::UnknownKey { origin, key, known });
        };
        let value = match slot {
            Value::String(_) => Ok(Value::String(text.to_owned())),
            _ => text.parse::<Value>().map_err(|_| ()),
        };
        match value {
            Ok(value) if value.same_type(slot) => *slot = value,
            _ => {
                let problem =
                    Problem::new(&key, with_article(slot.type_str()), format!("`{text}`"));
                return Err(ConfigError::Wrong(vec![Wrong { origin, problem }]));
            }
        }
        forget_below(&mut self.origins, &key);
        self.origins.insert(key, origin);
        Ok(())
    }

    /// The origin of the nearest enclosing key that somebody set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return Origin::Shipped,
            }
        }
    }

    /// What is at a key, `backends[1].weight`, as TOML has it.
    pub(super) fn found(&self, key: &str) -> String {
        let mut parts = key.split(['.', '[', ']']).filter(|part| !part.is_empty());
        let first = parts.next().and_then(|part| self.table.get(part));
        let value = parts.try_fold(first, |value, part| match value? {
            Value::Table(table) => Some(table.get(part)),
            Value::Array(elements) => Some(elements.get(part.parse::<usize>().ok()?)),
            _ => None,
        });
        value
            .flatten()
            .map_or_else(|| "nothing".to_owned(), |value| format!("`{value}`"))
    }

    pub(super) fn wrong(&self, problems: impl IntoIterator<Item = Problem>) -> ConfigError {
        let wrong = problems
            .into_iter()
            .map(|problem| Wrong {
                origin: self.origin(&problem.key),
                problem,
            })
            .collect();
        ConfigError::Wrong(wrong)
    }
}

fn merge(
    into: &mut Table,
    values: &Table,
    spans: &DeTable<'_>,
    prefix: &str,
    at: &impl Fn(usize) -> Origin,
    origins: &mut BTreeMap<String, Origin>,
) -> Result<(), ConfigError> {
    for (name, spanned) in spans {
        let path = format!("{prefix}{}", name.get_ref());
        let origin = at(name.span().start);
        let value = &values[name.get_ref().as_ref()];
        let known = known_keys(into);
        let Some(slot) = into.get_mut(name.get_ref().as_ref()) else {
            return Err(ConfigError::UnknownKey {
                origin,
                key: path,
                known,
            });
        };
        match (&mut *slot, value, spanned.get_ref()) {
            (Value::Table(into), Value::Table(values), DeValue::Table(spans)) => {
                merge(into, values, spans, &format!("{path}."), at, origins)?;
            }
            (slot, value, spans) if value.same_type(slot) => {
                *slot = value.clone();
                forget_below(origins, &path);
                origins_below(spans, &path, at, origins);
            }
            (slot, value, _) => {
                let expected = with_article(slot.type_str());
                let problem = Problem::new(&path, expected, format!("`{value}`"));
                return Err(ConfigError::Wrong(vec![Wrong { origin, problem }]));
            }
        }
        origins.insert(path, origin);
    }
    Ok(())
}

/// Notes where each element of a value stands, and each key of those that are tables.
fn origins_below(
    value: &DeValue<'_>,
    path: &str,
    at: &impl Fn(usize) -> Origin,
    origins: &mut BTreeMap<String, Origin>,
) {
    let mut note = |path: String, offset: usize, value: &DeValue<'_>| {
        origins_below(value, &path, at, origins);
        origins.insert(path, at(offset));
    };
    match value {
        DeValue::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                let start = element.span().start;
                note(format!("{path}[{index}]"), start, element.get_ref());
            }
        }
        DeValue::Table(keys) => {
            for (name, value) in keys {
                let start = name.span().start;
                note(format!("{path}.{}", name.get_ref()), start, value.get_ref());
            }
        }
        _ => {}
    }
}

/// Forgets where the parts of a value stood that another one replaces.
fn forget_below(origins: &mut BTreeMap<String, Origin>, key: &str) {
    origins.retain(|known, _| {
        !known
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    });
}

fn known_keys(table: &Table) -> String {
    let keys: Vec<String> = table.keys().map(|key| format!("`{key}`")).collect();
    format!("the keys here are {}", keys.join(", "))
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}
