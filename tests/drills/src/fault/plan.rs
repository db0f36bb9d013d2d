//! What happens in a round: one to three faults, at what moment each, drawn by the seed and the round's number.

use std::time::Duration;

use super::dice::Dice;
use super::{Fault, Path, Role, Trigger};
use crate::link::Broken;

/// Every step of the arbiter's that it can be made to die at.
pub const STEPS: [&str; 21] = [
    "save",
    "wire",
    "start_applier",
    "start_receiver",
    "stop_receiver",
    "forget_source",
    "enable_acknowledging",
    "enable_semi_sync",
    "disable_semi_sync",
    "forbid_writes",
    "take_offline",
    "lift_offline_mode",
    "allow_arbiter",
    "create_schema",
    "publish",
    "allow_writes",
    "restart",
    "relax_relay_log",
    "sync_relay_log",
    "save_discarded",
    "clone",
];

/// How long something lasts.
const LENGTH: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(6)];

/// The first fault comes at once or after this at most; so does each further one, so that they overlap more often than not.
const APART_MAX: Duration = Duration::from_millis(2500);

/// A fault, and how long after the round's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From the beginning of the round.
    pub after: Duration,
    /// What.
    pub fault: Fault,
}

/// The faults of a round. Half of the rounds have one alone, so that its effect can be told from others'.
pub fn plan(seed: u64, round: u32) -> Vec<Planned> {
    let mut dice = Dice::of(seed, round);
    let number = dice.one_of(&[1, 1, 1, 2, 2, 3]);
    (0..number)
        .map(|_| Planned {
            after: dice.time(Duration::ZERO, APART_MAX),
            fault: draw(&mut dice),
        })
        .collect()
}

fn draw(dice: &mut Dice) -> Fault {
    let [shortest, longest] = LENGTH;
    let length = dice.time(shortest, longest);
    let role = dice.one_of(&[Role::Primary, Role::Primary, Role::Replica]);
    match dice.below(24) {
        0..5 => Fault::Kill(role, length),
        5..8 => Fault::Freeze(role, length),
        8..13 => {
            let path = dice.one_of(&[
                Path::ArbiterToPrimary,
                Path::ArbiterToReplica,
                Path::Replication,
                Path::AllToPrimary,
                Path::AllToPrimary,
                Path::AllOfArbiter,
            ]);
            let how = dice.one_of(&[
                Broken::Cut,
                Broken::Silent,
                Broken::DeafServer,
                Broken::DeafCaller,
            ]);
            Fault::Break(path, how, length)
        }
        13..15 => Fault::Restart(role),
        15 => Fault::KillBoth(length),
        16 => Fault::RestartBoth,
        17 => Fault::KillArbiter,
        18..20 => {
            let when = dice.one_of(&["before", "after"]);
            let trigger = dice.one_of(&[
                Trigger::PrimaryDies,
                Trigger::ReplicaDies,
                Trigger::Switchover,
            ]);
            Fault::Failpoint(format!("{when}:{}", dice.one_of(&STEPS)), trigger)
        }
        20 => Fault::SlowDisk(role, length),
        21 => Fault::HoldApplier(length),
        22 => Fault::Switchover,
        _ => Fault::Maintenance(length),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_dies_at_every_step_that_there_is() {
        assert_eq!(arbiter::step::Step::NAMES, STEPS);
    }

    #[test]
    fn a_round_is_the_same_again_and_every_kind_is_drawn() {
        assert_eq!(plan(7, 3), plan(7, 3));
        let rounds: Vec<_> = (1..=500).map(|round| plan(7, round)).collect();
        assert!(rounds.iter().all(|round| (1..=3).contains(&round.len())));
        let kinds: BTreeSet<String> = rounds
            .iter()
            .flatten()
            .map(|planned| planned.fault.kind())
            .collect();
        // Kills, freezes, restarts and stutters of two roles; five paths; three triggers; and six others.
        assert_eq!(4 * 2 + 5 + 3 + 6, kinds.len(), "{kinds:#?}");
    }
}
