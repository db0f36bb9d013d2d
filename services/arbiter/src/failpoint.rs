//! Where the arbiter dies on purpose, for tests of what the next one makes of it: `before:save`, or `after:stop_receiver#2` for the second
//! time that this step is done. It aborts, as if it were killed there: nothing is cleaned up.

use std::str::FromStr;

use crate::step::Step;

/// A place in the course of the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failpoint {
    after: bool,
    step: &'static str,
    /// How many times more it is passed, that one included.
    times: u32,
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`before:STEP` or `after:STEP`, with #N for the Nth time, where STEP is one of {}", Step::NAMES.join(", "))]
pub struct FailpointError;

impl FromStr for Failpoint {
    type Err = FailpointError;

    fn from_str(text: &str) -> Result<Self, FailpointError> {
        let (side, place) = text.split_once(':').ok_or(FailpointError)?;
        let after = match side {
            "before" => false,
            "after" => true,
            _ => return Err(FailpointError),
        };
        let (name, times) = match place.split_once('#') {
            Some((name, times)) => (name, times.parse().map_err(|_| FailpointError)?),
            None => (place, 1),
        };
        let step = Step::NAMES.into_iter().find(|step| *step == name);
        Ok(Self {
            after,
            step: step.ok_or(FailpointError)?,
            times: (times > 0).then_some(times).ok_or(FailpointError)?,
        })
    }
}

impl Failpoint {
    /// A step is about to be done, or was done: dies if that is the place.
    pub fn pass(&mut self, step: &Step, after: bool) {
        if self.after != after || self.step != step.name() {
            return;
        }
        self.times -= 1;
        if self.times == 0 {
            tracing::error!(step = self.step, after, "dying at the failpoint");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_side_a_step_and_perhaps_a_number() {
        let place = |text: &str| text.parse::<Failpoint>();
        assert_eq!(
            place("after:stop_receiver#2"),
            Ok(Failpoint {
                after: true,
                step: "stop_receiver",
                times: 2
            })
        );
        assert!(place("before:save").is_ok());
        for wrong in [
            "",
            "save",
            "at:save",
            "after:leap",
            "after:save#0",
            "after:save#x",
        ] {
            assert_eq!(place(wrong), Err(FailpointError), "{wrong}");
        }
    }
}
