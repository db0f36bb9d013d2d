//! What the tour has broken and not put back yet.

use std::{collections::BTreeMap, sync::Mutex};

use crate::command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Frozen,
    Stopped,
}

/// Services and what was done to them.
#[derive(Debug)]
pub(super) struct Broken(Mutex<BTreeMap<String, How>>);

impl Broken {
    pub(super) fn nothing() -> Self {
        Self(Mutex::default())
    }

    /// It is about to be frozen: said before, for being ended in between.
    pub(super) fn freezes(&self, service: &str) {
        self.notes(service, How::Frozen);
    }

    /// It is about to be stopped.
    pub(super) fn stops(&self, service: &str) {
        self.notes(service, How::Stopped);
    }

    /// It was put back.
    pub(super) fn is_whole(&self, service: &str) {
        self.0
            .lock()
            .expect("nobody panics with it")
            .remove(service);
    }

    /// Puts back what is left, and says so. What is not broken after all takes no harm.
    pub(super) async fn put_back(&self) {
        let left = std::mem::take(&mut *self.0.lock().expect("nobody panics with it"));
        for (service, how) in left {
            let arguments: &[&str] = match how {
                How::Frozen => &["compose", "kill", "--signal", "CONT", &service],
                How::Stopped => &["compose", "start", &service],
            };
            match command::output("docker", arguments).await {
                Ok(_) => eprintln!("{service} is put back"),
                Err(error) => {
                    eprintln!("{service} could not be put back: {error}; ./stack up does it")
                }
            }
        }
    }

    fn notes(&self, service: &str, how: How) {
        self.0
            .lock()
            .expect("nobody panics with it")
            .insert(service.to_owned(), how);
    }
}
