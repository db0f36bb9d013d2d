//! What the arbiter can do. Each is one step that can be done twice with the same outcome, for the arbiter may die after any of them, and
//! the next one starts by looking.

use crate::state::State;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the durable state.
    Save(State),
    /// Point the replica at the primary. Only where nothing that was received is unapplied: it would be deleted.
    Wire {
        /// The replica.
        replica: String,
        /// The primary.
        primary: String,
    },
    /// Start the replica's applier.
    StartApplier(String),
    /// Start the replica's receiver.
    StartReceiver(String),
    /// Stop the replica's receiver.
    StopReceiver(String),
    /// Let a replica acknowledge what it receives, from the next start of its receiver on.
    EnableAcknowledging(String),
    /// Make commits on the primary wait for an acknowledgement.
    EnableSemiSync(String),
    /// Make a server read-only that must not write.
    ForbidWrites(String),
    /// Let clients in on a server that only reads: the app's reads, and the other server's receiver.
    LiftOfflineMode(String),
    /// Let the arbiter write on the primary, and nobody else: super_read_only goes off, read_only stays.
    AllowArbiter(String),
    /// Make the schema `holdfast`.
    CreateSchema(String),
    /// Publish the state in `holdfast.cluster`.
    Publish {
        /// The server to write it on.
        on: String,
        /// What to publish.
        state: State,
    },
    /// Let everybody write on the primary.
    AllowWrites(String),
}

impl Step {
    /// What every step is called, in metrics and logs.
    pub const NAMES: [&str; 13] = [
        "save",
        "wire",
        "start_applier",
        "start_receiver",
        "stop_receiver",
        "enable_acknowledging",
        "enable_semi_sync",
        "forbid_writes",
        "lift_offline_mode",
        "allow_arbiter",
        "create_schema",
        "publish",
        "allow_writes",
    ];

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let at = match self {
            Self::Save(_) => 0,
            Self::Wire { .. } => 1,
            Self::StartApplier(_) => 2,
            Self::StartReceiver(_) => 3,
            Self::StopReceiver(_) => 4,
            Self::EnableAcknowledging(_) => 5,
            Self::EnableSemiSync(_) => 6,
            Self::ForbidWrites(_) => 7,
            Self::LiftOfflineMode(_) => 8,
            Self::AllowArbiter(_) => 9,
            Self::CreateSchema(_) => 10,
            Self::Publish { .. } => 11,
            Self::AllowWrites(_) => 12,
        };
        Self::NAMES[at]
    }

    /// The server that it is done to; none for the state.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Save(_) => None,
            Self::Wire { replica, .. } => Some(replica),
            Self::Publish { on, .. } => Some(on),
            Self::StartApplier(server)
            | Self::StartReceiver(server)
            | Self::StopReceiver(server)
            | Self::EnableAcknowledging(server)
            | Self::EnableSemiSync(server)
            | Self::ForbidWrites(server)
            | Self::LiftOfflineMode(server)
            | Self::AllowArbiter(server)
            | Self::CreateSchema(server)
            | Self::AllowWrites(server) => Some(server),
        }
    }
}
