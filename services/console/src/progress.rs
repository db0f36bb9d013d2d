//! What a command that takes a while says on its way: a line for each step, with the time since it began.

use std::time::Instant;

/// A clock, and lines with its time.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    begun: Instant,
}

impl Progress {
    /// Begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
        }
    }

    /// Seconds since the beginning.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Says it on standard output.
    pub fn say(&self, text: &str) {
        println!("[{:5.1} s] {text}", self.seconds());
    }
}
