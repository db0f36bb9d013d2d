//! Sets of global transaction identifiers, tags included (MySQL 8.3 and later):
//! <https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html>.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The largest transaction number: 2^63 − 2, for MySQL keeps the largest signed number out.
const LAST: u64 = i64::MAX as u64 - 1;
/// The longest tag.
const TAG_CHARACTERS: usize = 32;

/// Who made a transaction: a server's UUID, and a tag that may be empty.
type Source = (String, String);
/// Transaction numbers, both ends included.
type Interval = (u64, u64);

/// A set of GTIDs. Its intervals are kept sorted, disjoint and not adjacent, so two sets are equal exactly if they hold the same GTIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet(BTreeMap<Source, Vec<Interval>>);

/// A text that is no GTID set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not part of a GTID set: {reason}")]
pub struct GtidError {
    part: String,
    reason: &'static str,
}

impl GtidSet {
    /// Whether there is no GTID in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many GTIDs are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
            .values()
            .flatten()
            .fold(0, |sum: u64, (first, last)| {
                sum.saturating_add(last - first + 1)
            })
    }

    /// Whether every GTID of `other` is in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|(source, wanted)| {
            let held = self.0.get(source).map_or(&[][..], Vec::as_slice);
            wanted.iter().all(|&(first, last)| {
                // Intervals are disjoint and not adjacent, so one of them must hold all of it.
                let at = held.partition_point(|&(_, end)| end < first);
                held.get(at)
                    .is_some_and(|&(start, end)| start <= first && last <= end)
            })
        })
    }

    /// The GTIDs that are in it and not in `other`: MySQL's `GTID_SUBTRACT`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = BTreeMap::new();
        for (source, held) in &self.0 {
            let taken = other.0.get(source).map_or(&[][..], Vec::as_slice);
            let left: Vec<Interval> = held
                .iter()
                .flat_map(|&interval| without(interval, taken))
                .collect();
            if !left.is_empty() {
                rest.insert(source.clone(), left);
            }
        }
        Self(rest)
    }

    /// The GTIDs that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.subtract(&self.subtract(other))
    }

    /// The GTIDs that are in one of the two.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (source, intervals) in &other.0 {
            all.0.entry(source.clone()).or_default().extend(intervals);
        }
        all.0.values_mut().for_each(normalise);
        all
    }

    /// The servers' UUIDs that it has transactions of, each once.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        self.0.keys().filter_map(move |(server, _)| {
            let new = last != Some(server.as_str());
            last = Some(server.as_str());
            new.then_some(server.as_str())
        })
    }

    /// What one server made of it, whatever its tags.
    #[must_use]
    pub fn of_server(&self, uuid: &str) -> Self {
        let made = (self.0.iter()).filter(|((server, _), _)| server.eq_ignore_ascii_case(uuid));
        Self(
            made.map(|(source, intervals)| (source.clone(), intervals.clone()))
                .collect(),
        )
    }

    /// The set without what one server made, whatever its tags.
    #[must_use]
    pub fn without_server(&self, uuid: &str) -> Self {
        let kept = (self.0.iter()).filter(|((server, _), _)| !server.eq_ignore_ascii_case(uuid));
        Self(
            kept.map(|(source, intervals)| (source.clone(), intervals.clone()))
                .collect(),
        )
    }

    /// The set without the transactions of one tag, whichever server made them: the app's writes without the arbiter's heartbeats.
    #[must_use]
    pub fn without_tag(&self, tag: &str) -> Self {
        let kept = self.0.iter().filter(|((_, of), _)| of != tag);
        Self(
            kept.map(|(source, intervals)| (source.clone(), intervals.clone()))
                .collect(),
        )
    }
}

/// Sorts, and joins what touches.
fn normalise(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable();
    let mut joined: Vec<Interval> = Vec::with_capacity(intervals.len());
    for &(first, last) in intervals.iter() {
        match joined.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    *intervals = joined;
}

/// What is left of an interval when others are taken out; `taken` is sorted and disjoint.
fn without((first, last): Interval, taken: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let mut next = first;
    let begin = taken.partition_point(|&(_, end)| end < first);
    for &(start, end) in taken[begin..]
        .iter()
        .take_while(|&&(start, _)| start <= last)
    {
        if next < start {
            left.push((next, start - 1));
        }
        next = end + 1;
    }
    if next <= last {
        left.push((next, last));
    }
    left
}

impl FromStr for GtidSet {
    type Err = GtidError;

    /// Reads what `@@gtid_executed` prints: `uuid:1-3:5:tag:1-2, uuid:7`. Blanks and line ends may stand around every part.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let refuse = |reason| GtidError {
                part: part.chars().take(120).collect(),
                reason,
            };
            let mut fields = part.split(':').map(str::trim);
            let server = uuid(fields.next().unwrap_or_default())
                .ok_or_else(|| refuse("it does not begin with a UUID"))?;
            let mut tag = String::new();
            let mut empty = true;
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_digit()) {
                    let interval = interval(field)
                        .ok_or_else(|| refuse("an interval is `n` or `n-m`, from 1"))?;
                    set.0
                        .entry((server.clone(), tag.clone()))
                        .or_default()
                        .push(interval);
                    empty = false;
                } else {
                    tag = tag_name(field).ok_or_else(|| {
                        refuse("a tag is up to 32 letters, digits and underscores")
                    })?;
                    empty = true;
                }
            }
            if empty {
                return Err(refuse("no interval follows"));
            }
        }
        set.0.values_mut().for_each(normalise);
        Ok(set)
    }
}

fn uuid(text: &str) -> Option<String> {
    let groups: Vec<&str> = text.split('-').collect();
    let shaped = groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12]);
    let hex = groups
        .iter()
        .all(|g| g.bytes().all(|b| b.is_ascii_hexdigit()));
    (shaped && hex).then(|| text.to_ascii_lowercase())
}

fn tag_name(text: &str) -> Option<String> {
    let mut characters = text.chars();
    let begins = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let goes_on = characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    (begins && goes_on && text.len() <= TAG_CHARACTERS).then(|| text.to_ascii_lowercase())
}

fn interval(text: &str) -> Option<Interval> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first.trim_end())?, number(last.trim_start())?),
        None => (number(text)?, number(text)?),
    };
    (1 <= first && first <= last && last <= LAST).then_some((first, last))
}

impl fmt::Display for GtidSet {
    /// The shortest form that MySQL reads: no blanks, each server once, its tags behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut current = None;
        for ((server, tag), intervals) in &self.0 {
            if current != Some(server) {
                if current.is_some() {
                    f.write_str(",")?;
                }
                f.write_str(server)?;
                current = Some(server);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for (first, last) in intervals {
                write!(f, ":{first}")?;
                if first != last {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for GtidSet {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    #[test]
    fn what_the_server_prints_is_read_and_written_compactly() {
        for (text, compact) in [
            ("", ""),
            (" , ", ""),
            ("A:5", "A:5"),
            ("A:1-3:4:6-9", "A:1-4:6-9"),
            ("A:7:1-2,\nB:1", "A:1-2:7,B:1"),
            ("A:1:arbiter:1-2:5:other:3", "A:1:arbiter:1-2:5:other:3"),
            ("A:arbiter:1,A:2-3,A:arbiter:2", "A:2-3:arbiter:1-2"),
            ("A:Tick:1 - 2", "A:tick:1-2"),
        ] {
            let compact = compact.replace('A', A).replace('B', B);
            assert_eq!(set(text).to_string(), compact, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "A",
            "A:",
            "A:0",
            "A:3-2",
            "A:1-",
            "A:-1",
            "A:+1",
            "A:tag",
            "A:1:tag",
            "A:ta-g:1",
            "A:1-2-3",
            "x:1",
            "A B:1",
            "A:9223372036854775807",
            "A:99999999999999999999",
            "A:1:thistagisfarlongerthanthirtytwocharacters:1",
        ] {
            let text = text.replace('A', A).replace('B', B);
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tag_or_a_server_can_be_left_out() {
        assert_eq!(
            set("A:1-3:arbiter:1-9,B:2").without_server(&A.to_uppercase()),
            set("B:2")
        );
        assert_eq!(
            set("A:1-3:arbiter:1-9,B:arbiter:1").without_tag("arbiter"),
            set("A:1-3")
        );
        assert_eq!(
            set("A:1:arbiter:1,B:1").servers().collect::<Vec<_>>(),
            [A, B]
        );
    }

    type Plain = BTreeSet<(u8, u8, u64)>;

    fn plain() -> impl Strategy<Value = Plain> {
        prop::collection::btree_set((0..2_u8, 0..3_u8, 1..12_u64), 0..30)
    }

    /// Written one GTID at a time, so that the parser has to do all the joining.
    fn from_plain(plain: &Plain) -> GtidSet {
        let parts: Vec<String> = plain
            .iter()
            .map(|(server, tag, number)| {
                let tag = ["", ":arbiter", ":other"][usize::from(*tag)];
                format!("{}{tag}:{number}", [A, B][usize::from(*server)])
            })
            .collect();
        parts.join(",").parse().unwrap()
    }

    proptest! {
        #[test]
        fn it_agrees_with_sets_of_single_gtids(a in plain(), b in plain()) {
            let (x, y) = (from_plain(&a), from_plain(&b));
            prop_assert_eq!(x.count(), a.len() as u64);
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.contains(&y), a.is_superset(&b));
            prop_assert_eq!(x.subtract(&y), from_plain(&(&a - &b)));
            prop_assert_eq!(x.union(&y), from_plain(&(&a | &b)));
            prop_assert_eq!(x.to_string().parse::<GtidSet>().unwrap(), x);
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(text in "[0-9a-f:,\\- t_]{0,120}") {
            let _ = text.parse::<GtidSet>();
        }
    }
}
