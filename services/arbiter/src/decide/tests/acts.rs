//! The state and the steps without names and numbers, so that they can be compared.

use super::gtids::Gtids;
use super::model::{Row, Set, Stage, boot};
use super::world::{NAMES, UUIDS};
use crate::state::{Phase, State};
use crate::step::Step;

impl Stage {
    /// With its name, where it has one: the replica's.
    pub(super) fn full(self, primary: u8) -> Phase {
        match self {
            Self::Bootstrap => Phase::Bootstrap,
            Self::Steady => Phase::Steady,
            Self::Failover => Phase::Failover,
            Self::ForcedPromotion => Phase::ForcedPromotion,
            Self::Switchover => Phase::Switchover,
            Self::Maintenance => Phase::Maintenance(NAMES[usize::from(1 - primary)].to_owned()),
        }
    }

    pub(super) fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Bootstrap => Self::Bootstrap,
            Phase::Steady => Self::Steady,
            Phase::Failover => Self::Failover,
            Phase::ForcedPromotion => Self::ForcedPromotion,
            Phase::Switchover => Self::Switchover,
            Phase::Maintenance(_) => Self::Maintenance,
        }
    }
}

/// The durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub row: Row,
    /// Whether the replica's recorded boot is the one that it is in.
    pub boot: Option<bool>,
}

impl Disk {
    pub(super) fn primary(&self) -> usize {
        self.row.primary.into()
    }

    pub(super) fn state(&self) -> State {
        let uuids = NAMES.iter().zip(UUIDS);
        let uuids = uuids.map(|(name, uuid)| ((*name).to_owned(), uuid.to_owned()));
        let primary = NAMES[self.primary()];
        let mut state = State::adopted(primary, self.row.epoch.into(), uuids.collect());
        if self.row.redundant {
            state.in_sync = NAMES.map(str::to_owned).into();
        }
        state.phase = self.row.phase.full(self.row.primary);
        state.replica_boot = self.boot.map(|current| boot(1 - self.primary(), current));
        state
    }

    pub(super) fn of(state: &State) -> Self {
        let primary = index(&state.primary);
        let recorded = state.replica_boot.as_ref();
        Self {
            row: row(state),
            boot: recorded.map(|recorded| *recorded == boot(1 - primary, true)),
        }
    }
}

fn row(state: &State) -> Row {
    Row {
        epoch: state.epoch.try_into().unwrap(),
        primary: u8::from(state.primary == NAMES[1]),
        redundant: state.is_redundant(),
        phase: Stage::of(&state.phase),
    }
}

pub(super) fn index(name: &str) -> usize {
    usize::from(name == NAMES[1])
}

/// A step, without names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    Save(Disk),
    Publish(usize, Row),
    SaveDiscarded(usize, Set),
    Do(Deed, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Deed {
    Wire,
    StartApplier,
    StartReceiver,
    StopReceiver,
    ForgetSource,
    EnableSemiSync,
    DisableSemiSync,
    ForbidWrites,
    TakeOffline,
    LiftOffline,
    AllowArbiter,
    CreateSchema,
    AllowWrites,
    Restart,
    RelaxRelayLog,
    SyncRelayLog,
    Clone,
}

impl Act {
    pub(super) fn of(step: &Step, gtids: &mut Gtids<'_>) -> Self {
        let deed = match step {
            Step::Save(state) => return Self::Save(Disk::of(state)),
            Step::Publish { on, state } => return Self::Publish(index(on), row(state)),
            Step::SaveDiscarded { server, errant } => {
                return Self::SaveDiscarded(index(server), gtids.set(errant));
            }
            Step::Wire { .. } => Deed::Wire,
            Step::StartApplier(_) => Deed::StartApplier,
            Step::StartReceiver(_) => Deed::StartReceiver,
            Step::StopReceiver(_) => Deed::StopReceiver,
            Step::ForgetSource(_) => Deed::ForgetSource,
            Step::EnableAcknowledging(_) => unreachable!("model servers always acknowledge"),
            Step::EnableSemiSync(_) => Deed::EnableSemiSync,
            Step::DisableSemiSync(_) => Deed::DisableSemiSync,
            Step::ForbidWrites(_) => Deed::ForbidWrites,
            Step::TakeOffline(_) => Deed::TakeOffline,
            Step::LiftOfflineMode(_) => Deed::LiftOffline,
            Step::AllowArbiter(_) => Deed::AllowArbiter,
            Step::CreateSchema(_) => Deed::CreateSchema,
            Step::AllowWrites(_) => Deed::AllowWrites,
            Step::Restart(_) => Deed::Restart,
            Step::RelaxRelayLog(_) => Deed::RelaxRelayLog,
            Step::SyncRelayLog(_) => Deed::SyncRelayLog,
            Step::Clone { .. } => Deed::Clone,
        };
        Self::Do(deed, index(step.server().unwrap()))
    }
}
