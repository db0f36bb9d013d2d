//! What the arbiter can do. Each is one step that can be done twice with the same outcome, for the arbiter may die after any of them, and
//! the next one starts by looking.

use std::fmt;

use replication::GtidSet;

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
    /// Stop the replica's receiver. On the server that is to be promoted it is the fence: from then on the old primary can acknowledge
    /// nothing.
    StopReceiver(String),
    /// Stop replicating for good and forget the source. Only where nothing that was received is unapplied: it is deleted.
    ForgetSource(String),
    /// Let a replica acknowledge what it receives, from the next start of its receiver on.
    EnableAcknowledging(String),
    /// Make commits on the primary wait for an acknowledgement.
    EnableSemiSync(String),
    /// Let commits on the primary wait for nobody. Those that wait are acknowledged at once, so only after it is recorded that it is alone.
    DisableSemiSync(String),
    /// Make a server read-only that must not write.
    ForbidWrites(String),
    /// Cut all clients off, and let none in.
    TakeOffline(String),
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
    /// Restart a server that is offline: commits that wait for an acknowledgement which never comes end in no other way.
    Restart(String),
    /// Let a replica that is not in sync, and far behind, write what it receives without waiting for its disk at each event.
    RelaxRelayLog(String),
    /// Make a replica's disk have each event before it is acknowledged.
    SyncRelayLog(String),
    /// Save the transactions that a server has alone, in a form that a person can read, before they are thrown away.
    SaveDiscarded {
        /// The server.
        server: String,
        /// The transactions.
        errant: GtidSet,
    },
    /// Make a server's data anew from the primary's, in the background.
    Clone {
        /// The server whose data is replaced.
        replica: String,
        /// The one that has the data.
        primary: String,
    },
}

impl Step {
    /// What every step is called, in metrics, logs and failpoints.
    pub const NAMES: [&str; 21] = [
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

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Save(_) => "save",
            Self::Wire { .. } => "wire",
            Self::StartApplier(_) => "start_applier",
            Self::StartReceiver(_) => "start_receiver",
            Self::StopReceiver(_) => "stop_receiver",
            Self::ForgetSource(_) => "forget_source",
            Self::EnableAcknowledging(_) => "enable_acknowledging",
            Self::EnableSemiSync(_) => "enable_semi_sync",
            Self::DisableSemiSync(_) => "disable_semi_sync",
            Self::ForbidWrites(_) => "forbid_writes",
            Self::TakeOffline(_) => "take_offline",
            Self::LiftOfflineMode(_) => "lift_offline_mode",
            Self::AllowArbiter(_) => "allow_arbiter",
            Self::CreateSchema(_) => "create_schema",
            Self::Publish { .. } => "publish",
            Self::AllowWrites(_) => "allow_writes",
            Self::Restart(_) => "restart",
            Self::RelaxRelayLog(_) => "relax_relay_log",
            Self::SyncRelayLog(_) => "sync_relay_log",
            Self::SaveDiscarded { .. } => "save_discarded",
            Self::Clone { .. } => "clone",
        }
    }

    /// The server that it is done to; none for the state.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Save(_) => None,
            Self::Wire { replica, .. } | Self::Clone { replica, .. } => Some(replica),
            Self::Publish { on, .. } => Some(on),
            Self::SaveDiscarded { server, .. } => Some(server),
            Self::StartApplier(server)
            | Self::StartReceiver(server)
            | Self::StopReceiver(server)
            | Self::ForgetSource(server)
            | Self::EnableAcknowledging(server)
            | Self::EnableSemiSync(server)
            | Self::DisableSemiSync(server)
            | Self::ForbidWrites(server)
            | Self::TakeOffline(server)
            | Self::LiftOfflineMode(server)
            | Self::AllowArbiter(server)
            | Self::CreateSchema(server)
            | Self::AllowWrites(server)
            | Self::Restart(server)
            | Self::RelaxRelayLog(server)
            | Self::SyncRelayLog(server) => Some(server),
        }
    }
}

impl fmt::Display for Step {
    /// In few words, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Save(state) => {
                let in_sync: Vec<&str> = state.in_sync.iter().map(String::as_str).collect();
                write!(
                    f,
                    "save(epoch {}, primary {}, in sync {}, {})",
                    state.epoch,
                    state.primary,
                    in_sync.join("+"),
                    state.phase
                )
            }
            step => write!(f, "{}({})", step.name(), step.server().unwrap_or_default()),
        }
    }
}
