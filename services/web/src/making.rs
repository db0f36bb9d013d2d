//! How an answer was made: its steps and how long each of them took. The panel at the foot of every page shows it.
//!
//! One [`Making`] goes with each request, in its extensions; whoever does something worth knowing adds to it. The statements are the
//! router's to tell: the session that a handler opens is left here.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use router::{Decision, Router};

/// A request's own record. Cheap to clone; a clone is the same record.
#[derive(Clone, Debug)]
pub struct Making(Arc<Record>);

#[derive(Debug)]
struct Record {
    begun: Instant,
    session: OnceLock<Router>,
    notes: Mutex<Vec<Step>>,
}

/// Something that was done for an answer.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it was.
    pub what: String,
    /// Where a statement went, and why; `None` for what the web server did itself.
    pub decision: Option<Decision>,
    /// From the request's head to its begin.
    pub at: Duration,
    /// How long it took; `None` if it did not end.
    pub took: Option<Duration>,
}

impl Default for Making {
    fn default() -> Self {
        Self::begin()
    }
}

impl Making {
    /// A request has come.
    #[must_use]
    pub fn begin() -> Self {
        Self(Arc::new(Record {
            begun: Instant::now(),
            session: OnceLock::new(),
            notes: Mutex::default(),
        }))
    }

    /// The database session of this request: opened by the first who asks.
    pub fn session(&self, open: impl FnOnce() -> Router) -> Router {
        self.0.session.get_or_init(open).clone()
    }

    /// The session, if somebody asked for one.
    #[must_use]
    pub fn session_if_any(&self) -> Option<&Router> {
        self.0.session.get()
    }

    /// Something that began at `begun` has ended now.
    pub fn note(&self, what: &str, begun: Instant) {
        let step = Step {
            what: what.to_owned(),
            decision: None,
            at: begun.saturating_duration_since(self.0.begun),
            took: Some(begun.elapsed()),
        };
        self.0
            .notes
            .lock()
            .expect("nothing panics with it")
            .push(step);
    }

    /// Since the request's head.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// Everything that was done so far, in the order in which it was begun.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.0.notes.lock().expect("nothing panics with it").clone();
        let statements = self.session_if_any().map(Router::steps).unwrap_or_default();
        steps.extend(statements.into_iter().map(|step| Step {
            what: step.summary,
            decision: Some(step.decision),
            at: step.begun.saturating_duration_since(self.0.begun),
            took: step.took,
        }));
        steps.sort_by_key(|step| step.at);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_the_order_in_which_they_began() {
        let making = Making::begin();
        let first = Instant::now();
        let second = first + Duration::from_millis(1);
        making.note("second", second);
        making.note("first", first);
        let steps = making.steps();
        let told: Vec<_> = steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(told, ["first", "second"]);
        assert!(steps.iter().all(|step| step.took.is_some()));
        assert!(making.session_if_any().is_none());
    }
}
