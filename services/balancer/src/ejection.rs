//! Which backends are taken out for a while for what they do to requests, though they pass their checks: passive ejection, on errors in
//! a row and on the share of errors.
//!
//! Knows nothing of sockets or clocks, and sends nothing elsewhere: requests count their ends in [`Outcomes`], one task asks the
//! [`Judge`] again and again, and the caller obeys. What an error is, is the caller's to say: an answer of 5xx, or none.
//!
//! A fault that all share is nobody's. So nobody is ejected for errors alone: first somebody else must be seen to do better, and later
//! than the errors (see [`Judge`]). This costs one call of the judge, and an outage of the app costs no backend.
//!
//! ```
//! # use std::time::{Duration, Instant};
//! # use balancer::ejection::{Event, Judge, Outcomes, Policy, Seen};
//! let mut now = Instant::now();
//! let mut judge = Judge::new(Policy::default(), now);
//! let [broken, well] = [Outcomes::default(), Outcomes::default()];
//! let mut ask = || {
//!     now += Duration::from_millis(100);
//!     let seen = |key, outcomes| Seen { key, outcomes, is_usable: true };
//!     judge.judge(now, &[seen(1, &broken), seen(2, &well)])
//! };
//! ask();
//! for _ in 0..5 {
//!     broken.bad();
//!     well.good();
//! }
//! assert_eq!(None, ask()[0].ejected, "it is a suspect");
//! broken.bad();
//! well.good();
//! let verdicts = ask();
//! assert_eq!(Some(Event::Ejected), verdicts[0].event);
//! assert_eq!("6 errors in a row", verdicts[0].ejected.expect("it just was").why.to_string());
//! ```

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering as Access};
use std::time::{Duration, Instant};

/// A window slides by this part of itself: it covers nine tenths of it and what has passed of the tenth.
const BUCKETS: usize = 10;
/// For errors in a row: by how many percent points more of its requests must fail than of another's, over the window.
const BETTER_BY_PERCENT: u8 = 20;
/// And how improbable the run must be for one that fails as often as the other does, and as often as all others together that have no
/// such run. In a fault that all share, errors in a row are common, and with few requests shares differ by chance; without this the
/// first unlucky one would go.
const CHANCE_MAX: f64 = 1e-3;
/// Or it is as improbable as this: then the window does not matter. One that has just broken has many good answers in it; without this
/// it would stay until a fifth of the window is lost.
const CHANCE_OF_NONE: f64 = 1e-9;
/// How long a good answer speaks for a backend, and how long a suspect must have been one before others are believed to do better that
/// have no requests: so long they have to show that they are no better. Without the one, an answer from before an outage would be
/// evidence in it; without the other, whoever fails first in an outage would be ejected for those that only fail more slowly.
const MOMENT: Duration = Duration::from_secs(1);

/// How long after an outage that all shared a suspect must go on failing: the last answers of the outage come a little later from one than
/// from another.
const RECOVERY: Duration = Duration::from_millis(250);

/// When a backend is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Errors in a row that make a suspect; 0: none do.
    pub consecutive_errors: u32,
    /// By how many percent points its share of errors must exceed that of the others together; 0: it does not matter.
    pub error_percent_over: u8,
    /// Requests in the window without which a share says nothing: those of a backend, and those of the others together.
    pub requests_min: u32,
    /// Over how long a time a share is taken.
    pub window: Duration,
    /// How long a first ejection lasts. Each that follows lasts twice as long as the one before.
    pub time: Duration,
    /// The most that one lasts. It is also how long what a backend has done is remembered when it has no requests.
    pub time_max: Duration,
    /// The most of the backends that may be ejected at one time, in percent, rounded down; of two or more, one may be in any case.
    pub share_max_percent: u8,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            consecutive_errors: 5,
            error_percent_over: 30,
            requests_min: 20,
            window: Duration::from_secs(10),
            time: Duration::from_secs(5),
            time_max: Duration::from_secs(300),
            share_max_percent: 50,
        }
    }
}

impl Policy {
    /// How many of `backends` may be ejected at one time.
    pub fn ejected_max(&self, backends: usize) -> usize {
        match backends {
            0 | 1 => 0,
            _ => (backends.saturating_mul(self.share_max_percent.into()) / 100).max(1),
        }
    }

    /// How long an ejection lasts, after so many that count.
    fn time_after(&self, earlier: u32) -> Duration {
        2_u32
            .checked_pow(earlier)
            .and_then(|factor| self.time.checked_mul(factor))
            .map_or(self.time_max, |time| time.min(self.time_max))
    }
}

/// How the requests to one backend have ended, counted by all threads.
#[derive(Debug, Default)]
pub struct Outcomes {
    run: AtomicU32,
    good: AtomicU64,
    errors: AtomicU64,
}

impl Outcomes {
    /// A request has been answered well.
    pub fn good(&self) {
        self.good.fetch_add(1, Access::Relaxed);
        // Most often there is no run to be ended, and what is only read stays in everybody's cache.
        if self.run() != 0 {
            self.end_run();
        }
    }

    /// A request has ended in an error; tells how many in a row there are now. At [`Policy::consecutive_errors`] it is time to call the
    /// judge.
    pub fn bad(&self) -> u32 {
        self.errors.fetch_add(1, Access::Relaxed);
        let longer = |run: u32| Some(run.saturating_add(1));
        match self
            .run
            .try_update(Access::Relaxed, Access::Relaxed, longer)
        {
            Ok(before) | Err(before) => before.saturating_add(1),
        }
    }

    /// Errors in a row, up to now.
    pub fn run(&self) -> u32 {
        self.run.load(Access::Relaxed)
    }

    /// Requests that ended in an error. Only grows.
    pub fn errors(&self) -> u64 {
        self.errors.load(Access::Relaxed)
    }

    fn end_run(&self) {
        self.run.store(0, Access::Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            good: self.good.load(Access::Relaxed),
            errors: self.errors(),
        }
    }
}

/// A backend as it is when the judge is asked.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What tells it from every other; a backend that comes back under its old key after it was left out is a new one.
    pub key: u64,
    /// How its requests have ended. Its run is ended here when it comes back.
    pub outcomes: &'a Outcomes,
    /// Whether it would get requests if it were not ejected: it passes its checks, and nobody has taken it out.
    pub is_usable: bool,
}

/// What the judge says about one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whom it is about.
    pub key: u64,
    /// Whether it is ejected now.
    pub ejected: Option<Ejected>,
    /// How often it was so far, for a counter.
    pub ejections: u64,
    /// What has changed by this call, to be logged.
    pub event: Option<Event>,
}

/// An ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// When it ends, if the backend is not needed before.
    pub until: Instant,
    /// How long it lasts in all.
    pub time: Duration,
    /// What for.
    pub why: Why,
}

/// What a backend was ejected for. Displayed, it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many errors in a row.
    Run(u32),
    /// Too large a share of errors.
    Share {
        /// Its own, in percent of its requests, rounded.
        percent: u8,
        /// That of all others together; `None` if they have had no requests.
        others_percent: Option<u8>,
    },
}

impl Why {
    /// In one word, for a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Run(_) => "run",
            Why::Share { .. } => "share",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Run(1) => write!(f, "1 error"),
            Why::Run(errors) => write!(f, "{errors} errors in a row"),
            Why::Share {
                percent,
                others_percent: Some(others),
            } => write!(f, "{percent} % errors, the others {others} %"),
            Why::Share { percent, .. } => {
                write!(f, "{percent} % errors, the others have no requests")
            }
        }
    }
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It gets no more requests.
    Ejected,
    /// Its time is over.
    Returned,
    /// It is back before its time: no other is usable, or there are fewer backends now and so fewer may be ejected.
    Recalled,
}

impl Event {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Ejected => "ejected",
            Event::Returned => "returned",
            Event::Recalled => "recalled",
        }
    }
}

/// Judges backends by how their requests end. To be asked about every 100 ms, and when a run of errors is long enough.
///
/// A backend is a suspect while its run of errors is at least [`Policy::consecutive_errors`], or its share of errors in the window is
/// above [`Policy::error_percent_over`]. A suspect is ejected as soon as another that is usable does better, which is
/// - to have a lower share of errors in its window. For a share: by [`Policy::error_percent_over`] points, and so must that of the others
///   together. For a run: so low that the run is no chance (1 in 1,000 for one that fails as often as that other, or as the others
///   together), and by 20 points, or by any if the run is none at all (1 in 1,000,000,000). So the worse the others, and the less is
///   known about them, the longer a run has to be; and
/// - to have answered well since the suspect became one, within the last second, and with no error since.
///
/// While all others have such a run as well, it is nobody's. It is no evidence either when the others recover a moment earlier: the
/// suspect must then still fail a quarter of a second later.
///
/// Another that gets no requests, as a standby does, cannot show the second. It is believed to do better if its last request did not
/// fail and its share of errors was low enough when it had some (if it never had any, it counts as one that fails at half of them), but
/// only when the suspect has been one for a second, and not if it was itself ejected and has not answered well since. What a backend
/// did longer ago than [`Policy::time_max`], with nothing after it, is forgotten.
///
/// Of several suspects the one with the largest share of errors goes first. No more go than [`Policy::ejected_max`], and never the last
/// that is usable; if others fall away, so that this is no longer true, as many are recalled as it takes, or all that are usable.
///
/// One that comes back is judged by what it does from then on; so is one that was not usable and is again. For each whole time of its
/// last ejection that it has then not been ejected, one earlier ejection counts no more, and the next is half as long.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    began: Instant,
    calls: u64,
    records: HashMap<u64, Record>,
}

impl Judge {
    /// Knows nobody yet. `now` is the beginning.
    pub fn new(policy: Policy, now: Instant) -> Judge {
        Judge {
            policy,
            began: now,
            calls: 0,
            records: HashMap::new(),
        }
    }

    /// Judges the backends as they are now: one verdict for each, in their order. No two may have the same key. A backend that is left
    /// out is forgotten. What requests did before a backend was first seen is not known; its run is.
    pub fn judge(&mut self, now: Instant, seen: &[Seen<'_>]) -> Vec<Verdict> {
        self.calls += 1;
        let mark = Mark {
            call: self.calls,
            at: now,
        };
        let mut court: Vec<Judged<'_>> = seen.iter().map(|seen| self.take_in(seen, mark)).collect();
        self.let_back(&mut court, now);
        for judged in &mut court {
            judged.suspect(&self.policy, mark);
        }
        self.share(&mut court, now);
        self.eject(&mut court, now);
        let verdicts = court.iter().map(Judged::verdict).collect();
        self.records = court
            .into_iter()
            .map(|judged| (judged.seen.key, judged.record))
            .collect();
        verdicts
    }

    /// Takes a backend for a new one, whatever it has done.
    pub fn forgive(&mut self, key: u64, outcomes: &Outcomes) {
        self.records.remove(&key);
        outcomes.end_run();
    }

    /// Whether there is a suspect. Then a caller that wants to know soon may ask again in 10 ms or so: what is missing is what others
    /// do next.
    pub fn is_in_doubt(&self) -> bool {
        self.records
            .values()
            .any(|record| record.suspect_since.is_some())
    }

    fn take_in<'a>(&mut self, seen: &Seen<'a>, mark: Mark) -> Judged<'a> {
        let record = self.records.remove(&seen.key);
        let mut judged = Judged {
            seen: *seen,
            record: record.unwrap_or_else(|| Record::new(seen, mark.at)),
            event: None,
        };
        judged.take_in(&self.policy, self.bucket(mark.at), mark);
        judged
    }

    /// The number of the window's bucket that it is time for.
    fn bucket(&self, now: Instant) -> u64 {
        let width_ns = (self.policy.window.as_nanos() / BUCKETS as u128).max(1);
        let passed_ns = now.saturating_duration_since(self.began).as_nanos();
        u64::try_from(passed_ns / width_ns).unwrap_or(u64::MAX)
    }

    fn let_back(&self, court: &mut [Judged<'_>], now: Instant) {
        for judged in court.iter_mut() {
            if judged.until().is_some_and(|until| until <= now) {
                judged.come_back(Event::Returned, now);
            }
        }
        let mut ejected: Vec<_> = court
            .iter()
            .enumerate()
            .filter_map(|(index, judged)| Some((judged.until()?, judged.seen.key, index)))
            .collect();
        ejected.sort_unstable();
        let too_many = ejected
            .len()
            .saturating_sub(self.policy.ejected_max(court.len()));
        for (.., index) in ejected.into_iter().take(too_many) {
            court[index].come_back(Event::Recalled, now);
        }
        if !court.iter().any(Judged::is_in_rotation) {
            for judged in court.iter_mut().filter(|judged| judged.seen.is_usable) {
                judged.come_back(Event::Recalled, now);
            }
        }
    }

    /// Finds out which suspects fail because all do.
    fn share(&self, court: &mut [Judged<'_>], now: Instant) {
        for index in 0..court.len() {
            let others = || {
                let others = court.iter().enumerate();
                let others = others.filter(|(other, one)| *other != index && one.is_in_rotation());
                others.map(|(_, one)| &one.record)
            };
            let mut at_work = others().filter(|other| other.window.sum().requests() > 0);
            let all_fail = at_work.next().is_some_and(|first| {
                first.is_run_too_long(&self.policy)
                    && at_work.all(|other| other.is_run_too_long(&self.policy))
            });
            let record = &mut court[index].record;
            record.outage = match record.outage {
                _ if record.suspect_since.is_none() => Outage::None,
                _ if all_fail => Outage::Shared,
                Outage::Shared => Outage::OverSince(now),
                outage => outage,
            };
        }
    }

    fn eject(&self, court: &mut [Judged<'_>], now: Instant) {
        let ejected = court.iter().filter(|judged| judged.until().is_some());
        let room = self.policy.ejected_max(court.len()) - ejected.count();
        let mut suspects: Vec<usize> = (0..court.len())
            .filter(|index| court[*index].record.suspect_since.is_some())
            .collect();
        suspects.sort_unstable_by(|left, right| court[*left].worse_first(&court[*right]));
        let mut left = room;
        for index in suspects {
            if left == 0 {
                return;
            }
            // Whoever does better is usable and stays, so this is never the last.
            if let Some(why) = self.why(court, index, now) {
                court[index].eject(&self.policy, why, now);
                left -= 1;
            }
        }
    }

    /// What a suspect is to be ejected for; nothing if nobody does better.
    fn why(&self, court: &[Judged<'_>], index: usize, now: Instant) -> Option<Why> {
        let policy = &self.policy;
        let others = || {
            court
                .iter()
                .enumerate()
                .filter(move |(other, judged)| *other != index && judged.is_in_rotation())
                .map(|(_, judged)| &judged.record)
        };
        let record = &court[index].record;
        let since = record.suspect_since?;
        if record.is_run_too_long(policy) && record.fails_alone() {
            let together: Counts = others()
                .filter(|other| !other.is_run_too_long(policy))
                .map(|other| other.known)
                .sum();
            let is_lower = |other: &Record| {
                let [chance, chance_together] =
                    [other.known, together].map(|known| known.chance_of(record.run));
                let chance = chance.max(chance_together);
                let is_clear = record.known.exceeds(other.known, BETTER_BY_PERCENT);
                chance <= CHANCE_OF_NONE || (chance <= CHANCE_MAX && is_clear)
            };
            let mut better = others().filter(|other| is_lower(other));
            if better.any(|other| other.does_well(since, now) || other.may_do_well(since, now)) {
                return Some(Why::Run(record.run));
            }
        }
        if record.is_share_too_large(policy) {
            let own = record.window.sum();
            let together: Counts = others().map(|other| other.window.sum()).sum();
            let mut better =
                others().filter(|other| own.exceeds(other.known, policy.error_percent_over));
            let is_better = if together.requests() == 0 {
                better.any(|other| other.may_do_well(since, now))
            } else {
                together.requests() >= policy.requests_min.into()
                    && own.exceeds(together, policy.error_percent_over)
                    && better.any(|other| other.does_well(since, now))
            };
            if is_better {
                return Some(Why::Share {
                    percent: own.percent().unwrap_or(0),
                    others_percent: together.percent(),
                });
            }
        }
        None
    }
}

/// A call of the judge.
#[derive(Clone, Copy, Debug)]
struct Mark {
    call: u64,
    at: Instant,
}

/// A backend during a call.
#[derive(Debug)]
struct Judged<'a> {
    seen: Seen<'a>,
    record: Record,
    event: Option<Event>,
}

impl Judged<'_> {
    fn take_in(&mut self, policy: &Policy, bucket: u64, mark: Mark) {
        let Judged { seen, record, .. } = self;
        record.window.advance(bucket);
        let totals = seen.outcomes.counts();
        let new = totals - record.totals;
        record.totals = totals;
        record.run = seen.outcomes.run();
        record.window.add(new);
        let sum = record.window.sum();
        if sum.requests() > 0 {
            record.known = sum;
        }
        if new.requests() > 0 {
            record.quiet_since = mark.at;
        }
        if new.errors > 0 {
            record.error_seen = Some(mark.at);
        }
        if new.good > 0 {
            record.good_seen = Some(mark);
            record.is_on_probation = false;
        }
        let is_usable_again = seen.is_usable && !record.was_usable;
        record.was_usable = seen.is_usable;
        let is_forgotten = mark.at.saturating_duration_since(record.quiet_since) >= policy.time_max;
        if is_forgotten {
            record.is_on_probation = false;
        }
        if is_usable_again || is_forgotten {
            self.clear(mark.at);
        }
    }

    /// Begins afresh.
    fn clear(&mut self, now: Instant) {
        let Judged { seen, record, .. } = self;
        seen.outcomes.end_run();
        record.run = 0;
        record.window.clear();
        record.known = Counts::NONE;
        record.good_seen = None;
        record.error_seen = None;
        record.quiet_since = now;
        record.suspect_since = None;
    }

    fn until(&self) -> Option<Instant> {
        self.record.ejected.map(|ejected| ejected.until)
    }

    fn is_in_rotation(&self) -> bool {
        self.seen.is_usable && self.record.ejected.is_none()
    }

    /// Ends the ejection, if there is one.
    fn come_back(&mut self, event: Event, now: Instant) {
        if self.record.ejected.take().is_some() {
            self.clear(now);
            self.record.is_on_probation = true;
            self.record.returned_at = now;
            self.event = Some(event);
        }
    }

    fn suspect(&mut self, policy: &Policy, mark: Mark) {
        let is_in_rotation = self.is_in_rotation();
        let record = &mut self.record;
        let is_suspect =
            is_in_rotation && (record.is_run_too_long(policy) || record.is_share_too_large(policy));
        record.suspect_since = is_suspect.then(|| record.suspect_since.unwrap_or(mark));
    }

    fn worse_first(&self, other: &Judged<'_>) -> Ordering {
        let [own, others] = [&self.record, &other.record];
        let by_share = others.known.compare_shares(own.known);
        by_share
            .then(others.run.cmp(&own.run))
            .then(self.seen.key.cmp(&other.seen.key))
    }

    fn eject(&mut self, policy: &Policy, why: Why, now: Instant) {
        let record = &mut self.record;
        let lived = now.saturating_duration_since(record.returned_at);
        let forgiven = lived
            .as_nanos()
            .checked_div(record.time_last.as_nanos())
            .map_or(u32::MAX, |times| u32::try_from(times).unwrap_or(u32::MAX));
        let earlier = record.counting.saturating_sub(forgiven);
        let time = policy.time_after(earlier);
        // At the most it counts no further, so that it is not at the most for longer than it takes to be forgiven.
        record.counting = earlier.saturating_add((time < policy.time_max).into());
        record.time_last = time;
        record.ejections += 1;
        record.suspect_since = None;
        record.ejected = Some(Ejected {
            until: now + time,
            time,
            why,
        });
        self.event = Some(Event::Ejected);
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            key: self.seen.key,
            ejected: self.record.ejected,
            ejections: self.record.ejections,
            event: self.event,
        }
    }
}

/// What is kept about a backend from call to call.
#[derive(Debug)]
struct Record {
    /// As counted at the last call.
    totals: Counts,
    run: u32,
    window: Window,
    /// The window, as it was when it last had a request in it.
    known: Counts,
    /// The last call that found a good answer.
    good_seen: Option<Mark>,
    /// When one last found an error.
    error_seen: Option<Instant>,
    /// Whether it has become or been a suspect while all others failed.
    outage: Outage,
    /// Since when it has had no request, or since it began afresh.
    quiet_since: Instant,
    was_usable: bool,
    /// The call that first found it a suspect.
    suspect_since: Option<Mark>,
    ejected: Option<Ejected>,
    /// Whether it has come back and not answered well since.
    is_on_probation: bool,
    returned_at: Instant,
    ejections: u64,
    /// How many of them count for the length of the next.
    counting: u32,
    time_last: Duration,
}

/// An outage that all share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    None,
    Shared,
    /// Another answers well again.
    OverSince(Instant),
}

impl Record {
    /// Whether its errors are not just those of an outage that all share.
    fn fails_alone(&self) -> bool {
        match self.outage {
            Outage::None => true,
            Outage::Shared => false,
            Outage::OverSince(over) => self.error_seen.is_some_and(|at| at >= over + RECOVERY),
        }
    }

    fn new(seen: &Seen<'_>, now: Instant) -> Record {
        Record {
            totals: seen.outcomes.counts(),
            run: 0,
            window: Window::default(),
            known: Counts::NONE,
            good_seen: None,
            error_seen: None,
            outage: Outage::None,
            quiet_since: now,
            was_usable: seen.is_usable,
            suspect_since: None,
            ejected: None,
            is_on_probation: false,
            returned_at: now,
            ejections: 0,
            counting: 0,
            time_last: Duration::ZERO,
        }
    }

    fn is_run_too_long(&self, policy: &Policy) -> bool {
        policy.consecutive_errors > 0 && self.run >= policy.consecutive_errors
    }

    /// By itself; how the others do is another question.
    fn is_share_too_large(&self, policy: &Policy) -> bool {
        let sum = self.window.sum();
        policy.error_percent_over > 0
            && sum.requests() >= policy.requests_min.into()
            && sum.exceeds(Counts::NONE, policy.error_percent_over)
    }

    /// Whether it answers well while another is a suspect.
    fn does_well(&self, suspect_since: Mark, now: Instant) -> bool {
        let is_recent = |good: Mark| {
            good.call > suspect_since.call && now.saturating_duration_since(good.at) <= MOMENT
        };
        self.run == 0 && self.good_seen.is_some_and(is_recent)
    }

    /// Whether it has no requests, and nothing speaks against it.
    fn may_do_well(&self, suspect_since: Mark, now: Instant) -> bool {
        self.run == 0
            && self.window.sum().requests() == 0
            && !self.is_on_probation
            && now.saturating_duration_since(suspect_since.at) >= MOMENT
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    good: u64,
    errors: u64,
}

impl Counts {
    const NONE: Counts = Counts { good: 0, errors: 0 };

    fn requests(self) -> u64 {
        self.good + self.errors
    }

    /// Errors and requests; no errors if there are no requests.
    fn fraction(self) -> (i128, i128) {
        (self.errors.into(), self.requests().max(1).into())
    }

    /// Whether the share of errors is higher by more than so many percent points. Counts of a window are far from what would overflow.
    fn exceeds(self, other: Counts, percent: u8) -> bool {
        let ((errors, requests), (other_errors, other_requests)) =
            (self.fraction(), other.fraction());
        100 * (errors * other_requests - other_errors * requests)
            > i128::from(percent) * requests * other_requests
    }

    fn compare_shares(self, other: Counts) -> Ordering {
        let ((errors, requests), (other_errors, other_requests)) =
            (self.fraction(), other.fraction());
        (errors * other_requests).cmp(&(other_errors * requests))
    }

    /// How probable so many errors in a row are, if errors go on as they were. Of few requests little is known: Laplace's rule of
    /// succession keeps their share away from nothing and from all.
    fn chance_of(self, run: u32) -> f64 {
        let share = (self.errors + 1) as f64 / (self.requests() + 2) as f64;
        share.powi(i32::try_from(run).unwrap_or(i32::MAX))
    }

    /// The share of errors, rounded.
    fn percent(self) -> Option<u8> {
        let doubled = (200 * self.errors + self.requests()).checked_div(2 * self.requests())?;
        u8::try_from(doubled).ok()
    }
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            good: self.good + other.good,
            errors: self.errors + other.errors,
        }
    }
}

impl Sub for Counts {
    type Output = Counts;

    fn sub(self, other: Counts) -> Counts {
        Counts {
            good: self.good.saturating_sub(other.good),
            errors: self.errors.saturating_sub(other.errors),
        }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(all: I) -> Counts {
        all.fold(Counts::NONE, Add::add)
    }
}

/// A sliding window, in buckets.
#[derive(Debug, Default)]
struct Window {
    buckets: [Counts; BUCKETS],
    /// The number of the newest, counted from the beginning; it is in its place modulo [`BUCKETS`].
    newest: u64,
}

impl Window {
    fn advance(&mut self, bucket: u64) {
        let passed = bucket.saturating_sub(self.newest).min(BUCKETS as u64);
        self.newest = self.newest.max(bucket);
        for back in 0..passed {
            *self.bucket(back) = Counts::NONE;
        }
    }

    fn bucket(&mut self, back: u64) -> &mut Counts {
        // Less than BUCKETS.
        &mut self.buckets[((self.newest - back) % BUCKETS as u64) as usize]
    }

    fn add(&mut self, counts: Counts) {
        let bucket = self.bucket(0);
        *bucket = *bucket + counts;
    }

    fn sum(&self) -> Counts {
        self.buckets.iter().copied().sum()
    }

    fn clear(&mut self) {
        self.buckets = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// A judge, its backends, and the time.
    struct Stand {
        judge: Judge,
        now: Instant,
        outcomes: Vec<Outcomes>,
        usable: Vec<bool>,
    }

    impl Stand {
        fn new(policy: Policy, backends: usize) -> Stand {
            let now = Instant::now();
            let mut stand = Stand {
                judge: Judge::new(policy, now),
                now,
                outcomes: (0..backends).map(|_| Outcomes::default()).collect(),
                usable: vec![true; backends],
            };
            stand.judge();
            stand
        }

        fn judge(&mut self) -> Vec<Verdict> {
            let backends = self.outcomes.iter().zip(&self.usable).enumerate();
            let seen: Vec<_> = backends
                .map(|(index, (outcomes, is_usable))| Seen {
                    key: index as u64,
                    outcomes,
                    is_usable: *is_usable,
                })
                .collect();
            self.judge.judge(self.now, &seen)
        }

        /// Requests to each backend, with letters for how they end: good or bad.
        fn requests(&self, ends: &[&str]) {
            for (outcomes, ends) in self.outcomes.iter().zip(ends) {
                for end in ends.chars() {
                    match end {
                        'g' => outcomes.good(),
                        _ => _ = outcomes.bad(),
                    }
                }
            }
        }

        /// Requests, and a call after so long.
        fn after(&mut self, passed: Duration, ends: &[&str]) -> Vec<Verdict> {
            self.requests(ends);
            self.now += passed;
            self.judge()
        }

        fn tick(&mut self, ends: &[&str]) -> Vec<Verdict> {
            self.after(TICK, ends)
        }

        /// So many ticks that are all the same: the last verdicts.
        fn ticks(&mut self, count: usize, ends: &[&str]) -> Vec<Verdict> {
            (0..count).map(|_| self.tick(ends)).last().unwrap()
        }

        /// The first ejection in so many such ticks, and at which it was.
        fn ejection(&mut self, ticks: usize, ends: &[&str]) -> Option<(usize, Verdict)> {
            (1..=ticks).find_map(|tick| {
                let verdicts = self.tick(ends);
                let ejected = verdicts
                    .into_iter()
                    .find(|verdict| verdict.event == Some(Event::Ejected));
                ejected.map(|verdict| (tick, verdict))
            })
        }
    }

    fn ejected(verdicts: &[Verdict]) -> Vec<u64> {
        let ejected = verdicts.iter().filter(|verdict| verdict.ejected.is_some());
        ejected.map(|verdict| verdict.key).collect()
    }

    fn runs() -> Policy {
        Policy {
            error_percent_over: 0,
            ..Policy::default()
        }
    }

    fn shares() -> Policy {
        Policy {
            consecutive_errors: 0,
            ..Policy::default()
        }
    }

    #[test]
    fn a_good_answer_ends_a_run() {
        let outcomes = Outcomes::default();
        outcomes.good();
        assert_eq!(vec![1, 2], [(); 2].map(|()| outcomes.bad()));
        outcomes.good();
        assert_eq!(0, outcomes.run());
        assert_eq!(1, outcomes.bad());
        assert_eq!(3, outcomes.errors());
        assert_eq!(Counts { good: 2, errors: 3 }, outcomes.counts());
        outcomes.run.store(u32::MAX, Access::Relaxed);
        assert_eq!(u32::MAX, outcomes.bad());
    }

    #[test]
    fn threads_count_every_outcome() {
        let outcomes = Outcomes::default();
        let together = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..1_000 {
                        outcomes.good();
                        outcomes.bad();
                    }
                });
            }
        });
        let expected = Counts {
            good: 4_000,
            errors: 4_000,
        };
        assert_eq!(expected, outcomes.counts());
        outcomes.good();
        assert_eq!(0, outcomes.run());
    }

    #[test]
    fn a_run_of_errors_ejects_as_soon_as_another_is_seen_to_do_better() {
        let mut stand = Stand::new(runs(), 2);
        assert!(ejected(&stand.tick(&["bbbb", "gggg"])).is_empty());
        // The run is long enough; what the other did before that says nothing.
        assert!(!stand.judge.is_in_doubt());
        assert!(ejected(&stand.tick(&["b", "g"])).is_empty());
        assert!(stand.judge.is_in_doubt());
        let verdicts = stand.tick(&["bb", "g"]);
        let until = stand.now + Duration::from_secs(5);
        let expected = Ejected {
            until,
            time: Duration::from_secs(5),
            why: Why::Run(7),
        };
        assert_eq!(
            Verdict {
                key: 0,
                ejected: Some(expected),
                ejections: 1,
                event: Some(Event::Ejected)
            },
            verdicts[0]
        );
        assert_eq!(None, verdicts[1].ejected);
        assert!(!stand.judge.is_in_doubt());
        assert_eq!(None, stand.tick(&["", "g"])[0].event);
    }

    #[test]
    fn a_run_that_was_ended_is_none() {
        let mut stand = Stand::new(runs(), 2);
        assert_eq!(None, stand.ejection(100, &["bbbbg", "ggggg"]));
        stand.tick(&["bbbbb", "ggggg"]);
        assert!(stand.judge.is_in_doubt());
        assert!(ejected(&stand.tick(&["g", "ggggg"])).is_empty());
        assert!(!stand.judge.is_in_doubt());
    }

    #[test]
    fn a_backend_that_breaks_suddenly_goes_though_its_window_is_full_of_good_answers() {
        let many = "g".repeat(1_000);
        let mut stand = Stand::new(Policy::default(), 2);
        stand.ticks(100, &[&many, &many]);
        let broken = "b".repeat(1_000);
        let (tick, verdict) = stand.ejection(10, &[&broken, &many]).unwrap();
        assert_eq!((2, 0), (tick, verdict.key));
    }

    #[test]
    fn each_rule_can_be_off() {
        let mut stand = Stand::new(
            Policy {
                consecutive_errors: 0,
                ..runs()
            },
            2,
        );
        assert_eq!(None, stand.ejection(200, &["bbbbbbbbb", "ggg"]));
        assert!(!stand.judge.is_in_doubt());
        let mut stand = Stand::new(runs(), 2);
        assert_eq!(None, stand.ejection(200, &["bbbbg", "ggggg"]));
        let mut stand = Stand::new(shares(), 2);
        let (_, verdict) = stand.ejection(200, &["bbbbb", "ggggg"]).unwrap();
        assert_eq!("share", verdict.ejected.unwrap().why.as_str());
    }

    #[test]
    fn a_share_of_errors_far_above_that_of_the_others_ejects() {
        let mut stand = Stand::new(Policy::default(), 3);
        let (tick, verdict) = stand
            .ejection(100, &["gbgbgb", "gggggggggg", "ggggggggbg"])
            .unwrap();
        // Three ticks make 18 requests, four make 24; and one more is for the others to do better.
        assert_eq!((5, 0), (tick, verdict.key));
        let why = verdict.ejected.unwrap().why;
        assert_eq!("50 % errors, the others 5 %", why.to_string());
    }

    #[test]
    fn a_share_that_is_above_that_of_the_others_but_not_far_does_not() {
        let mut stand = Stand::new(shares(), 2);
        // 40 % and 10 %: that is not more than 30 points.
        assert_eq!(None, stand.ejection(300, &["bbbbgggggg", "bggggggggg"]));
        // 40 % and 0 %.
        assert!(stand.ejection(300, &["bbbbgggggg", "gggggggggg"]).is_some());
    }

    #[test]
    fn a_share_of_few_requests_says_nothing() {
        // 19 in a window.
        let mut stand = Stand::new(shares(), 2);
        for _ in 0..20 {
            let verdicts = stand.after(Duration::from_secs(1), &["b", "gggg"]);
            assert!(ejected(&verdicts).is_empty());
        }
        // Nor does that of the others.
        let mut stand = Stand::new(shares(), 2);
        for _ in 0..20 {
            let verdicts = stand.after(Duration::from_secs(1), &["bbbb", "g"]);
            assert!(ejected(&verdicts).is_empty());
        }
        let verdicts = stand.after(Duration::from_secs(1), &["bbbb", "gggggggggggg"]);
        assert_eq!(vec![0], ejected(&verdicts));
    }

    #[test]
    fn what_has_left_the_window_counts_no_more() {
        let mut stand = Stand::new(
            Policy {
                share_max_percent: 0,
                ..shares()
            },
            2,
        );
        // Errors of which nobody else knew better.
        stand.tick(&["bbbbbbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbbbbbb"]);
        assert_eq!(None, stand.ejection(89, &["", ""]));
        assert!(stand.judge.is_in_doubt());
        stand.ticks(11, &["", ""]);
        assert!(!stand.judge.is_in_doubt());
        assert_eq!(None, stand.ejection(100, &["ggg", "ggg"]));
    }

    #[test]
    fn an_outage_that_all_share_ejects_nobody_from_the_first_second_on() {
        for policy in [Policy::default(), runs(), shares()] {
            for backends in 1..5 {
                let mut stand = Stand::new(policy, backends);
                assert_eq!(None, stand.ejection(4_000, &["bbb"; 4]));
            }
            // After good times, and with one that fails sooner and takes most of the requests.
            let mut stand = Stand::new(policy, 2);
            let good = "g".repeat(50);
            stand.ticks(200, &[&good, &good]);
            stand.requests(&["bbbbb", "gb"]);
            assert!(ejected(&stand.judge()).is_empty());
            let bad = "b".repeat(100);
            assert_eq!(None, stand.ejection(20, &[&bad, ""]));
            assert_eq!(None, stand.ejection(1_000, &[&bad, "bb"]));
        }
    }

    /// Numbers from 0 to 99, each time the same.
    fn rolls(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) % 100
        }
    }

    #[test]
    fn an_outage_in_part_that_all_share_ejects_next_to_nobody() {
        // By chance one can look much worse than the others, above all while there is little data: so this is not never, but at most
        // once in twenty minutes of failing at random.
        let minutes_each = 100;
        let mut ejections = 0;
        for (percent, each) in [(20, 1), (50, 1), (50, 3), (50, 30), (80, 2), (95, 2)] {
            for seed in 0..minutes_each {
                let mut roll = rolls(seed * 100 + percent);
                let mut stand = Stand::new(Policy::default(), 3);
                for _ in 0..600 {
                    for outcomes in &stand.outcomes {
                        (0..each).for_each(|_| run(outcomes, &[roll() >= percent]));
                    }
                    let verdicts = stand.tick(&[]);
                    let new = verdicts.iter().filter(|v| v.event == Some(Event::Ejected));
                    ejections += new.count() as u64;
                }
            }
        }
        let minutes = 6 * minutes_each;
        assert!(
            20 * ejections <= minutes,
            "{ejections} in {minutes} minutes"
        );
    }

    #[test]
    fn a_good_answer_from_before_an_outage_is_no_evidence_in_it() {
        let mut stand = Stand::new(runs(), 2);
        stand.ticks(20, &["ggg", "ggg"]);
        // One fails at once, the other hangs.
        assert_eq!(None, stand.ejection(95, &["bbb", ""]));
    }

    #[test]
    fn an_old_good_answer_is_no_evidence_for_one_that_hangs() {
        let mut stand = Stand::new(shares(), 2);
        // Both are suspects; then one fails at once, and the other hangs.
        assert_eq!(None, stand.ejection(100, &["bgbg", "bgbg"]));
        assert_eq!(None, stand.ejection(85, &["bbbb", ""]));
    }

    #[test]
    fn one_that_answers_but_no_better_is_no_evidence_though_the_others_together_are() {
        let mut stand = Stand::new(shares(), 3);
        stand.ticks(20, &["", "", "gggggggggg"]);
        assert_eq!(None, stand.ejection(50, &["bbg", "bbg", ""]));
    }

    #[test]
    fn a_standby_that_was_restarted_is_as_a_new_one() {
        let mut stand = Stand::new(runs(), 2);
        stand.tick(&["g", "bbbbbbbbbg"]);
        stand.ticks(200, &["ggg", ""]);
        stand.usable[1] = false;
        stand.tick(&["g", ""]);
        stand.usable[1] = true;
        stand.tick(&["g", ""]);
        let (tick, verdict) = stand.ejection(100, &["bbb", ""]).unwrap();
        assert_eq!((12, 0), (tick, verdict.key));
    }

    #[test]
    fn of_two_that_only_fail_the_one_with_the_longer_run_goes_first() {
        let mut stand = Stand::new(runs(), 3);
        stand.tick(&["ggg", "bbbbb", "bbbbbbb"]);
        assert_eq!(vec![2], ejected(&stand.tick(&["g", "b", "b"])));
    }

    #[test]
    fn a_standby_that_has_no_requests_takes_over_after_a_moment() {
        let mut stand = Stand::new(Policy::default(), 2);
        stand.ticks(200, &["ggg", ""]);
        let (tick, verdict) = stand.ejection(100, &["bbb", ""]).unwrap();
        assert_eq!((12, 0), (tick, verdict.key));
        // By its share, too.
        let mut stand = Stand::new(shares(), 2);
        stand.ticks(200, &["ggg", ""]);
        let (_, verdict) = stand.ejection(200, &["bbg", ""]).unwrap();
        let why = verdict.ejected.unwrap().why.to_string();
        assert!(why.ends_with(" % errors, the others have no requests"));
    }

    #[test]
    fn an_outage_of_a_pair_in_which_one_stands_by_costs_one_ejection() {
        // The requests go to the first while it is not ejected, and all of them fail.
        let mut stand = Stand::new(Policy::default(), 2);
        let (mut verdicts, mut ejections) = (stand.judge(), Vec::new());
        for _ in 0..2_500 {
            let ends = match verdicts[0].ejected {
                None => ["bb", ""],
                Some(_) => ["", "bb"],
            };
            verdicts = stand.tick(&ends);
            let new = verdicts.iter().filter(|v| v.event == Some(Event::Ejected));
            ejections.extend(new.map(|verdict| verdict.key));
        }
        assert_eq!(vec![0], ejections);
        // The standby is well again, but nobody knows: after the longest time it gets a chance.
        let (tick, verdict) = stand.ejection(3_000, &["bb", ""]).unwrap();
        assert_eq!(0, verdict.key);
        assert!(tick < 3_000 - 2_000, "{tick}");
    }

    #[test]
    fn no_more_are_ejected_than_allowed_and_the_worst_goes_first() {
        for (backends, share_max_percent, expected) in [
            (1, 100, vec![]),
            (2, 0, vec![1]),
            (2, 100, vec![1]),
            (3, 50, vec![1]),
            (4, 50, vec![1, 2]),
            (5, 60, vec![1, 2, 3]),
            (5, 100, vec![1, 2, 3, 4]),
        ] {
            let policy = Policy {
                share_max_percent,
                ..runs()
            };
            let mut stand = Stand::new(policy, backends);
            let good = ["g"; 5];
            let mixed = ["g", "g", "gg", "ggg", "gggg"];
            stand.tick(&mixed);
            let bad = ["g", "bbbbb", "bbbbb", "bbbbb", "bbbbb"];
            stand.tick(&bad);
            let mut last = good;
            last[1..].fill("b");
            assert_eq!(expected, ejected(&stand.tick(&last)), "{backends}");
        }
    }

    #[test]
    fn the_last_that_is_usable_stays_and_one_that_is_needed_is_recalled() {
        let mut stand = Stand::new(runs(), 2);
        stand.usable[1] = false;
        assert_eq!(None, stand.ejection(50, &["bbb", "ggg"]));
        stand.usable[1] = true;
        stand.tick(&["b", "g"]);
        assert_eq!(vec![0], ejected(&stand.tick(&["b", "g"])));
        // Now the other fails its checks.
        stand.usable[1] = false;
        let verdicts = stand.tick(&["", ""]);
        assert_eq!(Some(Event::Recalled), verdicts[0].event);
        assert!(ejected(&verdicts).is_empty());
    }

    #[test]
    fn one_that_is_not_usable_is_neither_ejected_nor_a_measure_for_others() {
        let mut stand = Stand::new(runs(), 3);
        stand.usable[2] = false;
        assert_eq!(None, stand.ejection(50, &["bbb", "bbb", "ggg"]));
        assert_eq!(None, stand.ejection(50, &["ggg", "ggg", "bbb"]));
        // When it is back, its old run is no matter.
        stand.usable[2] = true;
        assert_eq!(None, stand.ejection(50, &["ggg", "ggg", ""]));
        assert_eq!(0, stand.outcomes[2].run());
    }

    #[test]
    fn a_measure_that_is_ejected_is_none() {
        let policy = Policy {
            share_max_percent: 100,
            ..runs()
        };
        let mut stand = Stand::new(policy, 2);
        stand.ticks(2, &["bbbbb", "g"]);
        // The ejected one ends well what it had; the other fails now.
        assert_eq!(None, stand.ejection(40, &["g", "bbb"]));
    }

    #[test]
    fn membership_may_change_and_who_was_gone_is_new() {
        let now = Instant::now();
        let mut judge = Judge::new(
            Policy {
                share_max_percent: 50,
                ..runs()
            },
            now,
        );
        let all: [Outcomes; 5] = Default::default();
        let mut judge = |members: &[usize], tick: u32| {
            let seen: Vec<_> = members
                .iter()
                .map(|key| Seen {
                    key: *key as u64,
                    outcomes: &all[*key],
                    is_usable: true,
                })
                .collect();
            for key in members {
                if *key < 2 {
                    (0..5).for_each(|_| _ = all[*key].bad());
                } else {
                    all[*key].good();
                }
            }
            judge.judge(now + TICK * tick, &seen)
        };
        judge(&[0, 1, 2, 3, 4], 0);
        judge(&[0, 1, 2, 3, 4], 1);
        assert_eq!(vec![0, 1], ejected(&judge(&[0, 1, 2, 3, 4], 2)));
        // Of three only one may be.
        let verdicts = judge(&[1, 0, 2], 3);
        assert_eq!(vec![1], ejected(&verdicts));
        assert_eq!(Some(Event::Recalled), verdicts[1].event);
        assert_eq!(1, verdicts[1].ejections);
        let verdicts = judge(&[0], 4);
        assert!(ejected(&verdicts).is_empty());
        // Back, and unknown.
        let verdicts = judge(&[0, 1, 2, 3, 4], 5);
        assert_eq!((None, 0), (verdicts[1].ejected, verdicts[1].ejections));
        assert_eq!(1, verdicts[0].ejections);
    }

    #[test]
    fn who_comes_back_is_judged_by_what_it_does_from_then_on() {
        let mut stand = Stand::new(Policy::default(), 2);
        stand.ticks(2, &["bbbbbbbbbbbbbbbbbbbb", "gggggggggg"]);
        // What it still had in flight.
        stand.tick(&["bbbbbbbbbb", "g"]);
        let verdicts = stand.after(Duration::from_millis(4_899), &["", "g"]);
        assert_eq!(vec![0], ejected(&verdicts));
        let verdicts = stand.after(Duration::from_millis(1), &["", "g"]);
        assert_eq!(
            (None, Some(Event::Returned)),
            (verdicts[0].ejected, verdicts[0].event)
        );
        assert_eq!(0, stand.outcomes[0].run());
        // It may fail a little: the share of before, and the run, would make it too much.
        assert_eq!(None, stand.ejection(200, &["bbbggggggggg", "gggg"]));
    }

    #[test]
    fn each_ejection_is_twice_as_long_up_to_the_most_and_good_conduct_is_counted() {
        let policy = Policy {
            time_max: Duration::from_secs(30),
            ..runs()
        };
        let mut stand = Stand::new(policy, 2);
        // Lives so long after it has come back and is ejected again: for how many seconds, and how often by now.
        let mut next = |lived_ms| {
            stand.now += Duration::from_millis(lived_ms) - 2 * TICK;
            stand.judge();
            stand.tick(&["bbbbb", "g"]);
            let verdict = stand.tick(&["b", "g"])[0];
            let time = verdict.ejected.unwrap().time;
            let returned = stand.after(time, &["", "g"])[0];
            assert_eq!(Some(Event::Returned), returned.event);
            (time.as_secs(), verdict.ejections)
        };
        let times = [200; 5].map(&mut next);
        assert_eq!([(5, 1), (10, 2), (20, 3), (30, 4), (30, 5)], times);
        // Three count. 30 s as before the last: two do.
        assert_eq!((20, 6), next(30_000));
        // Not the whole time: none is forgiven.
        assert_eq!((30, 7), next(19_900));
        assert_eq!((5, 8), next(200_000));
        assert_eq!((5, 9), next(5_000));
        assert_eq!((10, 10), next(4_900));
    }

    #[test]
    fn reasons_are_words_for_people() {
        for (why, expected) in [
            (Why::Run(1), "1 error"),
            (Why::Run(7), "7 errors in a row"),
            (
                Why::Share {
                    percent: 63,
                    others_percent: Some(1),
                },
                "63 % errors, the others 1 %",
            ),
            (
                Why::Share {
                    percent: 63,
                    others_percent: None,
                },
                "63 % errors, the others have no requests",
            ),
        ] {
            assert_eq!(expected, why.to_string());
        }
        let events = [Event::Ejected, Event::Returned, Event::Recalled];
        assert_eq!(
            ["ejected", "returned", "recalled"],
            events.map(Event::as_str)
        );
    }

    #[test]
    fn who_recovers_a_moment_later_from_an_outage_of_all_is_not_ejected_and_who_does_not_is() {
        let start = Instant::now();
        let mut judge = Judge::new(Policy::default(), start);
        let outcomes = [(); 3].map(|()| Outcomes::default());
        let mut at = start;
        let mut ejected = |judge: &mut Judge, good: &[bool; 3], ms: u64| {
            at += Duration::from_millis(ms);
            for (outcomes, good) in outcomes.iter().zip(good) {
                for _ in 0..20 {
                    match good {
                        true => outcomes.good(),
                        false => drop(outcomes.bad()),
                    }
                }
            }
            let seen: Vec<Seen<'_>> = (0..)
                .zip(&outcomes)
                .map(|(key, outcomes)| Seen {
                    key,
                    outcomes,
                    is_usable: true,
                })
                .collect();
            let verdicts = judge.judge(at, &seen);
            verdicts.iter().filter(|one| one.ejected.is_some()).count()
        };
        for _ in 0..10 {
            assert_eq!(0, ejected(&mut judge, &[true; 3], 100));
        }
        for _ in 0..30 {
            assert_eq!(0, ejected(&mut judge, &[false; 3], 10));
        }
        for _ in 0..10 {
            assert_eq!(0, ejected(&mut judge, &[true, false, false], 10));
        }
        assert_eq!(0, ejected(&mut judge, &[true, true, false], 10));
        let later = (0..30).map(|_| ejected(&mut judge, &[true, true, false], 10));
        assert_eq!(Some(1), later.last());
    }

    #[test]
    fn silly_numbers_are_no_panic() {
        let policy = Policy {
            consecutive_errors: 1,
            error_percent_over: 255,
            requests_min: 0,
            window: Duration::ZERO,
            time: Duration::ZERO,
            time_max: Duration::ZERO,
            share_max_percent: 255,
        };
        let mut stand = Stand::new(policy, 3);
        stand.ejection(300, &["bbb", "g", "bg"]);
        stand.after(Duration::from_secs(1 << 40), &["b", "g", "b"]);
        assert!(
            Judge::new(policy, stand.now)
                .judge(stand.now, &[])
                .is_empty()
        );
    }

    /// What happens before a call: how long it takes, and for each backend whether it is a member, whether it is usable, and how its
    /// requests end.
    type Step = (u64, Vec<(bool, bool, Vec<bool>)>);

    fn steps(backends: usize) -> impl Strategy<Value = Vec<Step>> {
        let ends = prop_oneof![
            vec(any::<bool>(), 0..12),
            vec(Just(true), 0..12),
            vec(Just(false), 0..12)
        ];
        let backend = (prop::bool::weighted(0.95), prop::bool::weighted(0.9), ends);
        vec(
            (
                prop_oneof![Just(100), 0..3_000_u64],
                vec(backend, backends..=backends),
            ),
            1..80,
        )
    }

    fn policies() -> impl Strategy<Value = Policy> {
        (
            0..7_u32,
            0..60_u8,
            1..30_u32,
            0..=100_u8,
            1..20_u64,
            1..6_u64,
        )
            .prop_map(
                |(
                    consecutive_errors,
                    error_percent_over,
                    requests_min,
                    share_max_percent,
                    window_s,
                    time_s,
                )| Policy {
                    consecutive_errors,
                    error_percent_over,
                    requests_min,
                    window: Duration::from_secs(window_s),
                    time: Duration::from_secs(time_s),
                    time_max: Duration::from_secs(30),
                    share_max_percent,
                },
            )
    }

    fn run(outcomes: &Outcomes, ends: &[bool]) {
        for is_good in ends {
            match is_good {
                true => outcomes.good(),
                false => _ = outcomes.bad(),
            }
        }
    }

    proptest! {
        #[test]
        fn never_more_are_ejected_than_allowed_and_never_the_last_that_is_usable(
            policy in policies(), steps in steps(5), is_turned in any::<bool>()
        ) {
            // Twice the same, once in another order: nothing depends on it.
            let now = Instant::now();
            let mut judges = [Judge::new(policy, now), Judge::new(policy, now)];
            let all: [[Outcomes; 5]; 2] = Default::default();
            let (mut now, mut before) = (now, HashMap::new());
            for (passed_ms, backends) in steps {
                now += Duration::from_millis(passed_ms);
                let [verdicts, others] = [0, 1].map(|index| {
                    let mut seen = Vec::new();
                    for ((key, outcomes), (is_member, is_usable, ends)) in all[index].iter().enumerate().zip(&backends) {
                        run(outcomes, ends);
                        if *is_member {
                            seen.push(Seen { key: key as u64, outcomes, is_usable: *is_usable });
                        }
                    }
                    if index == 1 && is_turned {
                        seen.reverse();
                    }
                    let verdicts = judges[index].judge(now, &seen);
                    assert!(seen.iter().map(|seen| seen.key).eq(verdicts.iter().map(|verdict| verdict.key)));
                    verdicts
                });
                let mut sorted = others.clone();
                sorted.sort_by_key(|verdict| verdict.key);
                prop_assert_eq!(&verdicts, &sorted);
                let gone = ejected(&verdicts);
                prop_assert!(gone.len() <= policy.ejected_max(verdicts.len()));
                let usable: Vec<_> = verdicts.iter().filter(|verdict| backends[verdict.key as usize].1).collect();
                prop_assert!(usable.is_empty() || usable.iter().any(|verdict| verdict.ejected.is_none()));
                for verdict in &verdicts {
                    if let Some(ejected) = verdict.ejected {
                        prop_assert!(ejected.until > now && ejected.until <= now + ejected.time);
                        prop_assert!(policy.time <= ejected.time && ejected.time <= policy.time_max);
                    }
                    // An event is what has changed, and the counter counts them.
                    let (was, count) = before.get(&verdict.key).copied().unwrap_or((false, 0));
                    let is = verdict.ejected.is_some();
                    prop_assert_eq!(verdict.event.is_some(), was != is);
                    prop_assert_eq!(verdict.event == Some(Event::Ejected), is && !was);
                    prop_assert_eq!(verdict.ejections, count + u64::from(is && !was));
                }
                before = verdicts.iter().map(|verdict| (verdict.key, (verdict.ejected.is_some(), verdict.ejections))).collect();
            }
        }

        #[test]
        fn when_all_fail_nobody_is_ejected(
            policy in policies(), backends in 1..6_usize,
            // Together less than what is remembered.
            steps in vec((0..250_u64, vec(0..9_u8, 5)), 1..100)
        ) {
            let mut stand = Stand::new(policy, backends);
            // Each is asked at least once before the first call.
            stand.requests(&["b"; 5]);
            for (passed_ms, errors) in steps {
                let ends: Vec<_> = errors.iter().map(|count| "b".repeat((*count).into())).collect();
                let ends: Vec<_> = ends.iter().map(String::as_str).collect();
                let verdicts = stand.after(Duration::from_millis(passed_ms), &ends);
                prop_assert!(ejected(&verdicts).is_empty());
            }
        }

        #[test]
        fn who_always_fails_goes_while_another_does_well_and_that_one_never_does(
            policy in policies(), errors in 1..9_usize, good in 1..9_usize,
            others in vec(vec(vec(any::<bool>(), 0..9), 90), 0..4), which in any::<Index>()
        ) {
            let policy = Policy { share_max_percent: 100, consecutive_errors: policy.consecutive_errors.max(1), ..policy };
            let mut stand = Stand::new(policy, others.len() + 2);
            let bad = which.index(others.len() + 2);
            let well = (bad + 1) % (others.len() + 2);
            let mut ejections = 0;
            for step in 0..90 {
                let mut others = others.iter();
                for (index, outcomes) in stand.outcomes.iter().enumerate() {
                    match index {
                        _ if index == bad => run(outcomes, &vec![false; errors]),
                        _ if index == well => run(outcomes, &vec![true; good]),
                        _ => run(outcomes, &others.next().unwrap()[step]),
                    }
                }
                let verdicts = stand.tick(&[]);
                prop_assert_eq!(None, verdicts[well].ejected);
                ejections = verdicts[bad].ejections;
                // As soon as the run is known, is no chance, and the other has answered once more.
                let [run, answers] = [errors, good].map(|each| (step + 1) * each);
                let is_long = run >= policy.consecutive_errors as usize + errors;
                if stand.outcomes.len() == 2 && is_long && (answers as f64 + 2.0).powi(run as i32) >= 1e3 {
                    prop_assert!(ejections > 0, "{}", step);
                }
            }
            prop_assert!(ejections > 0);
        }

        #[test]
        fn shares_are_compared_as_fractions(left in (0..99_u64, 0..99_u64), right in (0..99_u64, 0..99_u64), percent in 0..=100_u8) {
            let [left, right] = [left, right].map(|(good, errors)| Counts { good, errors });
            let share = |counts: Counts| counts.errors as f64 / counts.requests().max(1) as f64;
            let over = share(left) - share(right) - f64::from(percent) / 100.0;
            // No two such fractions are closer to each other and not the same.
            prop_assert_eq!(over > 1e-9, left.exceeds(right, percent));
            prop_assert_eq!(Some(left.compare_shares(right)), share(left).partial_cmp(&share(right)));
            let rounded = left.percent().map(f64::from);
            prop_assert_eq!(rounded.is_some(), left.requests() > 0);
            prop_assert!(rounded.is_none_or(|percent| (percent - 100.0 * share(left)).abs() < 0.5 + 1e-9));
        }
    }
}
