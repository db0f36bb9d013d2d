//! Whether a history is one that the router may have. Pure, and tested with histories made by hand: one that is right, and one for each way
//! of being wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use crate::history::{Did, Event, How, Item, Outcome, Seq, SessionId, TokenId};

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A session has not seen a write that was acknowledged to it, or that its token proves.
    Stale,
    /// A session without a claim has read what is older than the configuration allows.
    TooOld,
    /// Something was seen or is there that was never tried, or that was refused or taken back.
    Impossible,
    /// Something that was acknowledged or seen is not there.
    Lost,
    /// Something is there twice, or was done twice.
    Doubled,
    /// A transaction was seen in part.
    Torn,
    /// A call took longer than it may.
    Hung,
    /// An error that the router's documentation does not have for this.
    Untyped,
    /// The servers do not hold the same.
    Differs,
}

/// One thing that was found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) fault: Fault,
    pub(crate) item: Option<Item>,
    /// The event that shows it, by its place; `None` if only the end does.
    pub(crate) event: Option<usize>,
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.text)
    }
}

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest that a call may take.
    pub(crate) call: Duration,
    /// The oldest that may be read by whoever proves nothing.
    pub(crate) age: Duration,
}

/// What a server holds when all is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) server: String,
    /// Each item's number, and how often it was set.
    pub(crate) numbers: BTreeMap<Item, (Seq, u64)>,
    /// Each row, as often as it is there.
    pub(crate) rows: Vec<(Item, Seq)>,
}

/// One attempt to write.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    how: How,
    outcome: Outcome,
    began: Duration,
    ended: Duration,
}

/// A history, sorted so that it can be asked.
pub(crate) struct Judge<'h> {
    events: &'h [Event],
    limits: Limits,
    attempts: HashMap<Item, BTreeMap<Seq, Attempt>>,
    /// What a session began with.
    tokens: HashMap<SessionId, Option<TokenId>>,
    /// Who gave a token, and when it was asked for.
    given: HashMap<TokenId, (SessionId, Duration)>,
    /// What was acknowledged to a session, in order of time.
    acknowledged: HashMap<SessionId, Vec<(Duration, Item, Seq)>>,
}

/// For each item the newest write that must be seen.
type Floor = BTreeMap<Item, Seq>;

impl<'h> Judge<'h> {
    pub(crate) fn new(events: &'h [Event], limits: Limits) -> Self {
        let mut judge = Self {
            events,
            limits,
            attempts: HashMap::new(),
            tokens: HashMap::new(),
            given: HashMap::new(),
            acknowledged: HashMap::new(),
        };
        for event in events {
            match event.did {
                Did::Began(token) => drop(judge.tokens.insert(event.session, token)),
                Did::Proved(Some(token)) => {
                    judge.given.insert(token, (event.session, event.began));
                }
                Did::Wrote {
                    item,
                    seq,
                    how,
                    outcome,
                } => {
                    let (began, ended) = (event.began, event.ended);
                    let attempt = Attempt {
                        how,
                        outcome,
                        began,
                        ended,
                    };
                    judge.attempts.entry(item).or_default().insert(seq, attempt);
                    if outcome == Outcome::Acknowledged {
                        let acknowledged = judge.acknowledged.entry(event.session).or_default();
                        acknowledged.push((ended, item, seq));
                    }
                }
                _ => {}
            }
        }
        judge
    }

    /// What each event shows by itself and in the light of those before it.
    pub(crate) fn on_the_way(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut proved = HashMap::new();
        for (place, event) in self.events.iter().enumerate() {
            let mut find = |fault, text: String| {
                let (item, event) = (event.item(), Some(place));
                found.push(Finding {
                    fault,
                    item,
                    event,
                    text,
                });
            };
            for (call, took) in &event.calls {
                if *took > self.limits.call {
                    find(Fault::Hung, format!("{call} took {took:?}: {event}"));
                }
            }
            if event.odd {
                find(Fault::Untyped, event.to_string());
            }
            let Did::Read {
                item,
                numbers,
                rows,
            } = &event.did
            else {
                continue;
            };
            let floor = self.floor(event.session, event.began, &mut proved);
            let floor = floor.get(item).copied().unwrap_or(0);
            let aged = self.aged(*item, event.began);
            for (fault, floor) in [(Fault::Stale, floor), (Fault::TooOld, aged)] {
                for number in numbers {
                    let newest = self.newest(*item, floor, event.began, How::sets_the_number);
                    if *number < newest {
                        find(fault, format!("{newest} is missing: {event}"));
                    }
                }
                let Some(rows) = rows else { continue };
                let of_item = self.attempts.get(item).into_iter().flatten();
                for (seq, attempt) in of_item {
                    let must = attempt.outcome == Outcome::Acknowledged
                        && attempt.how.adds_a_row()
                        && (rows.from..=floor).contains(seq)
                        && attempt.ended <= event.began;
                    if must && !rows.seen.contains(seq) {
                        find(fault, format!("row {seq} is missing: {event}"));
                    }
                }
            }
            if numbers.windows(2).any(|two| two[0] != two[1]) {
                find(
                    Fault::Torn,
                    format!("two answers in one transaction: {event}"),
                );
            }
            for number in numbers {
                if !self.may_be_seen(*item, *number, event.ended, How::sets_the_number) {
                    find(Fault::Impossible, format!("{number}: {event}"));
                }
            }
            let Some(rows) = rows else { continue };
            for seq in &rows.seen {
                if !self.may_be_seen(*item, *seq, event.ended, How::adds_a_row) {
                    find(Fault::Impossible, format!("row {seq}: {event}"));
                }
                if rows.seen.iter().filter(|other| *other == seq).count() > 1 {
                    find(Fault::Doubled, format!("row {seq}: {event}"));
                }
            }
            for number in numbers.iter().filter(|number| **number >= rows.from) {
                let both = self.attempt(*item, *number);
                let both = both.is_some_and(|attempt| attempt.how == How::Both);
                if both && !rows.seen.contains(number) {
                    find(Fault::Torn, format!("{number} without its row: {event}"));
                }
            }
        }
        found
    }

    /// What the tables of both servers show, after everything was healed and nothing is under way any more.
    pub(crate) fn in_the_end(&self, tables: &[Table]) -> Vec<Finding> {
        let mut found = Vec::new();
        for table in tables {
            let mut find = |fault, item: Item, event: Option<usize>, text: String| {
                let text = format!("item {item} on {}: {text}", table.server);
                found.push(Finding {
                    fault,
                    item: Some(item),
                    event,
                    text,
                });
            };
            let mut rows: HashMap<(Item, Seq), usize> = HashMap::new();
            for row in &table.rows {
                *rows.entry(*row).or_default() += 1;
            }
            for (&(item, seq), &count) in &rows {
                if !self.may_be_seen(item, seq, Duration::MAX, How::adds_a_row) {
                    find(
                        Fault::Impossible,
                        item,
                        self.place(item, seq),
                        format!("row {seq}"),
                    );
                }
                if count > 1 {
                    let text = format!("row {seq} is there {count} times");
                    find(Fault::Doubled, item, self.place(item, seq), text);
                }
            }
            for (&item, &(number, times)) in &table.numbers {
                if !self.may_be_seen(item, number, Duration::MAX, How::sets_the_number) {
                    find(
                        Fault::Impossible,
                        item,
                        self.place(item, number),
                        format!("{number}"),
                    );
                }
                let of_item = || self.attempts.get(&item).into_iter().flatten();
                for (seq, attempt) in of_item() {
                    if attempt.outcome != Outcome::Acknowledged {
                        continue;
                    }
                    let place = self.place(item, *seq);
                    if attempt.how.sets_the_number() && *seq > number {
                        let text = format!("{seq} was acknowledged, and it is {number}");
                        find(Fault::Lost, item, place, text);
                    }
                    if attempt.how.adds_a_row() && !rows.contains_key(&(item, *seq)) {
                        let text = format!("row {seq} was acknowledged");
                        find(Fault::Lost, item, place, text);
                    }
                }
                let setting = |outcome| {
                    let count = of_item().filter(|(_, attempt)| {
                        attempt.how.sets_the_number() && attempt.outcome == outcome
                    });
                    count.count() as u64
                };
                let (least, unknown) = (setting(Outcome::Acknowledged), setting(Outcome::Unknown));
                let text = format!("set {times} times, {least} acknowledged, {unknown} unknown");
                if times < least {
                    find(Fault::Lost, item, None, text);
                } else if times > least + unknown {
                    find(Fault::Doubled, item, None, text);
                }
            }
            for (place, event) in self.events.iter().enumerate() {
                let Did::Read {
                    item,
                    numbers,
                    rows: seen,
                } = &event.did
                else {
                    continue;
                };
                let number = table.numbers.get(item).map_or(0, |(number, _)| *number);
                for lost in numbers.iter().filter(|seen| **seen > number) {
                    let text = format!("{lost} was seen, and it is {number}: {event}");
                    find(Fault::Lost, *item, Some(place), text);
                }
                let seen = seen.iter().flat_map(|rows| &rows.seen);
                for lost in seen.filter(|seq| !rows.contains_key(&(*item, **seq))) {
                    find(
                        Fault::Lost,
                        *item,
                        Some(place),
                        format!("row {lost} was seen: {event}"),
                    );
                }
            }
        }
        for two in tables.windows(2) {
            let sorted = |table: &Table| {
                let mut rows = table.rows.clone();
                rows.sort_unstable();
                (table.numbers.clone(), rows)
            };
            if sorted(&two[0]) != sorted(&two[1]) {
                let (fault, item, event) = (Fault::Differs, None, None);
                let text = format!(
                    "{} and {} do not hold the same",
                    two[0].server, two[1].server
                );
                found.push(Finding {
                    fault,
                    item,
                    event,
                    text,
                });
            }
        }
        found
    }

    fn attempt(&self, item: Item, seq: Seq) -> Option<&Attempt> {
        self.attempts.get(&item)?.get(&seq)
    }

    /// Where in the history it was written.
    fn place(&self, item: Item, seq: Seq) -> Option<usize> {
        self.events.iter().position(|event| {
            matches!(event.did, Did::Wrote { item: i, seq: s, .. } if (i, s) == (item, seq))
        })
    }

    /// Whether a write of this kind may be seen by this time.
    fn may_be_seen(&self, item: Item, seq: Seq, by: Duration, kind: fn(How) -> bool) -> bool {
        seq == 0
            || self.attempt(item, seq).is_some_and(|attempt| {
                kind(attempt.how) && attempt.outcome != Outcome::Refused && attempt.began <= by
            })
    }

    /// The newest acknowledged write of this kind that is no newer than `floor` and was acknowledged before `by`. Those of one item come
    /// one after the other and the servers keep their order, so whoever must see one must see those before it.
    fn newest(&self, item: Item, floor: Seq, by: Duration, kind: fn(How) -> bool) -> Seq {
        let Some(attempts) = self.attempts.get(&item) else {
            return 0;
        };
        let mut down = attempts.range(..=floor).rev();
        let newest = down.find(|(_, attempt)| {
            kind(attempt.how) && attempt.outcome == Outcome::Acknowledged && attempt.ended <= by
        });
        newest.map_or(0, |(seq, _)| *seq)
    }

    /// What everybody must see who reads now: it was acknowledged long enough ago.
    fn aged(&self, item: Item, now: Duration) -> Seq {
        let by = now.saturating_sub(self.limits.age);
        self.newest(item, Seq::MAX, by, |_| true)
    }

    /// What a session must see: what was acknowledged to it before, and what the token proves that it began with.
    fn floor(
        &self,
        session: SessionId,
        before: Duration,
        proved: &mut HashMap<TokenId, Floor>,
    ) -> Floor {
        // A token proves what its giver must see when it gives it; and so on, up to one who began without.
        let mut above: Vec<(TokenId, SessionId, Duration)> = Vec::new();
        let (mut giver, mut floor) = (session, Floor::new());
        while let Some(token) = self.tokens.get(&giver).copied().flatten() {
            if let Some(known) = proved.get(&token) {
                floor = known.clone();
                break;
            }
            let Some(&(by, when)) = self.given.get(&token) else {
                break;
            };
            above.push((token, by, when));
            giver = by;
        }
        for (token, by, when) in above.into_iter().rev() {
            self.raise(&mut floor, by, when);
            proved.insert(token, floor.clone());
        }
        self.raise(&mut floor, session, before);
        floor
    }

    fn raise(&self, floor: &mut Floor, session: SessionId, before: Duration) {
        for (when, item, seq) in self.acknowledged.get(&session).into_iter().flatten() {
            if *when <= before {
                let at = floor.entry(*item).or_default();
                *at = (*at).max(*seq);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Rows;

    const LIMITS: Limits = Limits {
        call: Duration::from_secs(3),
        age: Duration::from_secs(2),
    };

    /// A history in the making: each step takes 10 ms, and begins 10 ms after the one before it.
    #[derive(Default)]
    struct Story {
        events: Vec<Event>,
        pause: Duration,
    }

    impl Story {
        fn then(mut self, process: usize, session: SessionId, did: Did) -> Self {
            let at = self
                .events
                .last()
                .map_or(Duration::ZERO, |event| event.ended);
            let began = at + Duration::from_millis(10) + std::mem::take(&mut self.pause);
            self.events.push(Event {
                process,
                session,
                began,
                ended: began + Duration::from_millis(10),
                did,
                calls: vec![("call".to_owned(), Duration::from_millis(10))],
                went: Vec::new(),
                error: None,
                odd: false,
            });
            self
        }

        fn begins(self, process: usize, session: SessionId, token: Option<TokenId>) -> Self {
            self.then(process, session, Did::Began(token))
        }

        fn gives(self, session: SessionId, token: TokenId) -> Self {
            self.then(0, session, Did::Proved(Some(token)))
        }

        fn writes(self, session: SessionId, seq: Seq, how: How, outcome: Outcome) -> Self {
            let item = 1;
            self.then(
                0,
                session,
                Did::Wrote {
                    item,
                    seq,
                    how,
                    outcome,
                },
            )
        }

        fn reads(self, session: SessionId, number: Seq) -> Self {
            let (item, numbers, rows) = (1, vec![number], None);
            self.then(
                0,
                session,
                Did::Read {
                    item,
                    numbers,
                    rows,
                },
            )
        }

        fn reads_all(self, session: SessionId, numbers: [Seq; 2], from: Seq, rows: &[Seq]) -> Self {
            let (item, seen) = (1, rows.to_vec());
            let (numbers, rows) = (numbers.to_vec(), Some(Rows { from, seen }));
            self.then(
                0,
                session,
                Did::Read {
                    item,
                    numbers,
                    rows,
                },
            )
        }

        fn pause(mut self, pause: Duration) -> Self {
            self.pause = pause;
            self
        }

        fn found(&self) -> Vec<Fault> {
            faults(Judge::new(&self.events, LIMITS).on_the_way())
        }

        fn ends(&self, number: Seq, times: u64, rows: &[Seq]) -> Vec<Fault> {
            let table = table("mysql-1", number, times, rows);
            faults(Judge::new(&self.events, LIMITS).in_the_end(&[table]))
        }
    }

    fn faults(found: Vec<Finding>) -> Vec<Fault> {
        let mut faults: Vec<Fault> = found.into_iter().map(|finding| finding.fault).collect();
        faults.dedup();
        faults
    }

    fn table(server: &str, number: Seq, times: u64, rows: &[Seq]) -> Table {
        Table {
            server: server.to_owned(),
            numbers: [(1, (number, times))].into(),
            rows: rows.iter().map(|seq| (1, *seq)).collect(),
        }
    }

    use How::{Both, Number, Row, TakenBack};
    use Outcome::{Acknowledged, Refused, Unknown};

    /// Two processes, a token each way, one write of each outcome.
    fn good() -> Story {
        Story::default()
            .begins(0, 1, None)
            .reads(1, 0)
            .writes(1, 1, Both, Acknowledged)
            .reads(1, 1)
            .gives(1, 11)
            .begins(1, 2, Some(11))
            .reads_all(2, [1, 1], 0, &[1])
            .writes(2, 2, Number, Unknown)
            .writes(2, 3, TakenBack, Refused)
            .writes(2, 4, Row, Acknowledged)
            .gives(2, 12)
            .begins(0, 3, Some(12))
            .reads_all(3, [2, 2], 1, &[4, 1])
    }

    #[test]
    fn what_may_be_is_not_found_fault_with() {
        assert_eq!(good().found(), []);
        assert_eq!(good().ends(2, 2, &[1, 4]), []);
        // What is not known may be seen by one and not by the next, who has another server; but what was seen stays.
        let story = good().reads(3, 1);
        assert_eq!(story.found(), []);
        // Whoever proves nothing may read what is a little old.
        let story = good().begins(1, 4, None).reads_all(4, [0, 0], 0, &[]);
        assert_eq!(story.found(), []);
    }

    #[test]
    fn a_session_that_does_not_see_its_own_write_is_found() {
        let story = Story::default()
            .begins(0, 1, None)
            .writes(1, 1, Number, Acknowledged);
        assert_eq!(story.reads(1, 0).found(), [Fault::Stale]);
        assert_eq!(good().reads_all(3, [2, 2], 0, &[1]).found(), [Fault::Stale]);
        // What comes later does not make up for what is missing in between.
        let story = Story::default()
            .begins(0, 1, None)
            .writes(1, 1, Row, Acknowledged)
            .writes(1, 2, Row, Acknowledged)
            .reads_all(1, [0, 0], 0, &[2]);
        assert_eq!(story.found(), [Fault::Stale]);
    }

    #[test]
    fn a_session_that_does_not_see_what_its_token_proves_is_found() {
        let proven = || {
            Story::default()
                .begins(0, 1, None)
                .writes(1, 1, Number, Acknowledged)
                .gives(1, 11)
        };
        let story = proven().begins(1, 2, Some(11)).reads(2, 0);
        assert_eq!(story.found(), [Fault::Stale]);
        // By way of a third one, who has written something else.
        let (item, seq, how, outcome) = (2, 1, Number, Acknowledged);
        let third = proven()
            .begins(1, 2, Some(11))
            .then(
                1,
                2,
                Did::Wrote {
                    item,
                    seq,
                    how,
                    outcome,
                },
            )
            .gives(2, 12)
            .begins(0, 3, Some(12));
        assert_eq!(third.reads(3, 0).found(), [Fault::Stale]);
        // What was written after the token was asked for is not in it.
        let story = proven()
            .writes(1, 2, Number, Acknowledged)
            .begins(1, 2, Some(11));
        assert_eq!(story.reads(2, 1).found(), []);
    }

    #[test]
    fn a_session_that_proves_nothing_and_reads_what_is_too_old_is_found() {
        let story = Story::default()
            .begins(0, 1, None)
            .writes(1, 1, Number, Acknowledged)
            .pause(LIMITS.age)
            .begins(1, 2, None)
            .reads(2, 0);
        assert_eq!(story.found(), [Fault::TooOld]);
    }

    #[test]
    fn what_was_never_written_or_was_refused_and_is_there_is_found() {
        assert_eq!(good().reads(3, 3).found(), [Fault::Impossible]);
        assert_eq!(good().reads(3, 4).found(), [Fault::Impossible]);
        assert_eq!(good().reads(3, 9).found(), [Fault::Impossible]);
        assert_eq!(good().ends(2, 2, &[1, 3, 4]), [Fault::Impossible]);
        assert_eq!(good().ends(9, 2, &[1, 4]), [Fault::Impossible]);
    }

    #[test]
    fn what_was_acknowledged_or_seen_and_is_not_there_is_found() {
        assert_eq!(good().ends(2, 2, &[1]), [Fault::Lost]);
        assert_eq!(good().ends(2, 0, &[1, 4]), [Fault::Lost]);
        assert_eq!(good().ends(0, 1, &[1, 4]), [Fault::Lost]);
        // It was not known; but it was seen.
        assert_eq!(good().ends(1, 2, &[1, 4]), [Fault::Lost]);
    }

    #[test]
    fn what_was_done_twice_is_found() {
        assert_eq!(good().ends(2, 3, &[1, 4]), [Fault::Doubled]);
        assert_eq!(good().ends(2, 2, &[1, 4, 4]), [Fault::Doubled]);
        let story = good().reads_all(3, [2, 2], 1, &[4, 1, 4]);
        assert_eq!(story.found(), [Fault::Doubled]);
    }

    #[test]
    fn half_a_transaction_is_found() {
        assert_eq!(
            good().reads_all(3, [1, 2], 1, &[1, 4]).found(),
            [Fault::Torn]
        );
        let story = Story::default()
            .begins(0, 1, None)
            .writes(1, 1, Both, Unknown)
            .reads_all(1, [1, 1], 0, &[]);
        assert_eq!(story.found(), [Fault::Torn]);
    }

    #[test]
    fn a_call_without_an_end_and_an_error_without_a_type_are_found() {
        let mut story = good();
        story.events[3].calls[0].1 = Duration::from_secs(30);
        assert_eq!(story.found(), [Fault::Hung]);
        let mut story = good();
        story.events[3].odd = true;
        assert_eq!(story.found(), [Fault::Untyped]);
    }

    #[test]
    fn servers_that_differ_are_found() {
        let story = Story::default()
            .begins(0, 1, None)
            .writes(1, 1, Row, Unknown);
        let tables = [table("mysql-1", 0, 0, &[1]), table("mysql-2", 0, 0, &[])];
        let found = Judge::new(&story.events, LIMITS).in_the_end(&tables);
        assert_eq!(faults(found), [Fault::Differs]);
        let other_order = [
            table("mysql-1", 0, 0, &[1, 2]),
            table("mysql-2", 0, 0, &[2, 1]),
        ];
        let story = story.writes(1, 2, Row, Unknown);
        assert_eq!(
            faults(Judge::new(&story.events, LIMITS).in_the_end(&other_order)),
            []
        );
    }
}
