//! What one session has written and seen: its mark, its token, and where its statements went.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
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
    /// What a token proved, until every server is known to have it.
    token: Option<Token>,
    /// Whether the token's history turned out to be gone.
    token_gone: std::sync::atomic::AtomicBool,
    /// When the session began: a sample that was taken later knows all that the token can.
    began: Instant,
    steps: Mutex<Vec<Step>>,
}

impl Session {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self {
            mark: AtomicU64::new(0),
            token,
            token_gone: false.into(),
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
        let mut steps = self.steps.lock().expect("nothing panics with it");
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
        let mut steps = self.steps.lock().expect("nothing panics with it");
        if let Some(step) = step.and_then(|at| steps.get_mut(at)) {
            step.took.get_or_insert_with(|| step.begun.elapsed());
        }
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.lock().expect("nothing panics with it").clone()
    }
}
