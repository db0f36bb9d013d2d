//! The whole numbers that a key takes: checked when a configuration is loaded, and said in its schema.

use std::ops::RangeInclusive;

use super::Problem;

/// The least and the greatest that a key takes, and what is there. They are the same whatever the configuration is: a bound that
/// depends on another key is a matter of `problems`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The key, its tables before it: `request.timeout_ms`. Of every element of an array: `backends[].weight`.
    pub key: &'static str,
    /// The least that is taken.
    pub min: u64,
    /// The most.
    pub max: u64,
    /// Each value that is there, with the key that it has: `backends[1].weight`.
    found: Vec<(String, u64)>,
}

impl Range {
    /// A key that takes what is in `range`. All of it fits into 64 bits without a sign, as a configuration's numbers do.
    pub fn of<T>(key: &'static str, value: T, range: RangeInclusive<T>) -> Self
    where
        T: Copy + TryInto<u64>,
    {
        Self {
            key,
            min: number(*range.start()),
            max: number(*range.end()),
            found: vec![(key.to_owned(), number(value))],
        }
    }

    /// A key of every element of an array, `backends[].weight`; `values` are those of the elements, `None` where one lacks it.
    pub fn of_each<T>(
        key: &'static str,
        values: impl IntoIterator<Item = Option<T>>,
        range: RangeInclusive<T>,
    ) -> Self
    where
        T: Copy + TryInto<u64>,
    {
        let found = values.into_iter().enumerate().filter_map(|(index, value)| {
            let key = key.replacen("[]", &format!("[{index}]"), 1);
            Some((key, number(value?)))
        });
        Self {
            key,
            min: number(*range.start()),
            max: number(*range.end()),
            found: found.collect(),
        }
    }

    /// What would be right, in words.
    pub(super) fn expected(&self) -> String {
        format!("{} to {}", self.min, self.max)
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let outside =
            |(key, value): &(String, u64)| Problem::outside(key, *value, self.min..=self.max);
        self.found.iter().filter_map(outside)
    }
}

/// A key, its value, and what it takes, from a crate that does not know this one.
impl From<(&'static str, u64, RangeInclusive<u64>)> for Range {
    fn from((key, value, range): (&'static str, u64, RangeInclusive<u64>)) -> Self {
        Self::of(key, value, range)
    }
}

fn number<T: TryInto<u64>>(value: T) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}
