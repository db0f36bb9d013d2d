//! SHRINK: the primary goes on alone when its replica does not acknowledge. First it is recorded that the replica is no longer in sync, and
//! so will not be promoted; only then commits wait for it no more, and those that wait are acknowledged.

use super::{Decision, Roles, Timing, replicate};
use crate::look::{Heart, Look};
use crate::state::Phase;
use crate::step::Step;

/// Gives whether the pair shrinks.
pub(super) fn decide(
    roles: &Roles<'_>,
    look: &Look,
    timing: &Timing,
    decision: &mut Decision,
) -> bool {
    let Some(primary) = roles.primary_facts else {
        return false;
    };
    if !roles.state.is_redundant() || roles.state.phase != Phase::Steady {
        return false;
    }
    let open = primary.takes_ours();
    let silent = open && primary.semi_sync.source_enabled && look.heart == Heart::Silent;
    // A primary that lost what its replica still has is not one that has everything.
    let given_up =
        look.closed_alone > timing.open_alone_after && replicate::lost_by_primary(roles).is_none();
    let errant = open && replicate::errant(roles).is_some();
    if !(silent || given_up || errant) {
        return false;
    }
    let (name, state) = (roles.primary.name.clone(), roles.state.alone());
    decision.step(Step::Save(state.clone()));
    if open {
        decision.step(Step::DisableSemiSync(name.clone()));
        decision.step(Step::Publish { on: name, state });
    }
    true
}
