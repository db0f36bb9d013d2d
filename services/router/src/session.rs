//! What one session has written and seen: its mark, its token, what it demands, and where its statements went.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    causal::Token,
    decision::{Decision, Step},
};

/// How many steps are kept; a session is a request, and a header has its limits.
const STEPS: usize = 64;

pub(crate) struct Session {
    /// The process's write counter after this session's last acknowledged write; 0 if it has written nothing.
    mark: AtomicU64,
    /// The same for a write of which nobody knows what became: it is looked for, and proven to nobody.
    doubt: AtomicU64,
    /// How many write for it in a way that cannot be seen.
    unseen: AtomicUsize,
    /// What a token proved, until every server is known to have it.
    token: Option<Token>,
    /// Whether the token's history turned out to be gone.
    token_gone: AtomicBool,
    /// When the session began: a sample that was taken later knows all that the token can.
    began: Instant,
    steps: Mutex<Vec<Step>>,
}

impl Session {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self {
            mark: AtomicU64::new(0),
            doubt: AtomicU64::new(0),
            unseen: AtomicUsize::new(0),
            token,
            token_gone: AtomicBool::new(false),
            began: Instant::now(),
            steps: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn mark(&self) -> u64 {
        self.mark.load(Ordering::Acquire)
    }

    /// The session has written; `mark` was taken after the write was acknowledged.
    pub(crate) fn wrote(&self, mark: u64) {
        self.mark.fetch_max(mark, Ordering::AcqRel);
    }

    /// The session may have written; `mark` was taken after it was clear that nobody knows.
    pub(crate) fn may_have_written(&self, mark: u64) {
        self.doubt.fetch_max(mark, Ordering::AcqRel);
    }

    /// What its reads must see: all that it has written, and what it may have.
    pub(crate) fn must_see(&self) -> u64 {
        self.mark().max(self.doubt.load(Ordering::Acquire))
    }

    /// Something begins to write for it in a way that cannot be seen: no replica is known to have everything meanwhile.
    pub(crate) fn writes_unseen(&self) {
        self.unseen.fetch_add(1, Ordering::AcqRel);
    }

    /// It has ended, and the session is marked for what it may have written.
    pub(crate) fn writes_are_seen(&self) {
        self.unseen.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether something may be writing for it now.
    pub(crate) fn is_writing_unseen(&self) -> bool {
        self.unseen.load(Ordering::Acquire) > 0
    }

    pub(crate) fn token(&self) -> Option<&Token> {
        self.token
            .as_ref()
            .filter(|_| !self.token_gone.load(Ordering::Acquire))
    }

    /// The primary has never executed what the token says. Returns whether this is news.
    pub(crate) fn forget_token(&self) -> bool {
        !self.token_gone.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// A statement that was asked for at `begun` has a connection now. Returns its place, if it is kept.
    pub(crate) fn decided(
        &self,
        decision: Decision,
        summary: String,
        begun: Instant,
    ) -> Option<usize> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() >= STEPS {
            return None;
        }
        steps.push(Step {
            decision,
            summary,
            begun,
            took: None,
        });
        Some(steps.len() - 1)
    }

    /// The step at this place has ended, well or not; the first word counts.
    pub(crate) fn ended(&self, step: Option<usize>) {
        let Some(at) = step else { return };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = steps.get_mut(at) {
            step.took.get_or_insert_with(|| step.begun.elapsed());
        }
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
