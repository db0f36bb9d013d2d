//! What keeps the pair from being as it should, in sentences for an operator. The arbiter goes on looking in every case; nothing is
//! given up for good.

use replication::GtidSet;
use thiserror::Error;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the sentences say it, with the fields in them")]
pub enum Condition {
    // What passes when something comes back.
    #[error("{server} ({role}) does not answer: {why}")]
    Silent {
        server: String,
        role: &'static str,
        why: String,
    },
    #[error(
        "writes wait for {primary}, which stays closed until {replica} is back or is given up: it may have committed what {replica} has not \
         received"
    )]
    ClosedWithoutReplica { primary: String, replica: String },
    #[error(
        "writes wait for {primary}, which stays closed until {replica} has received all of it: {missing} transactions are missing"
    )]
    Receiving {
        primary: String,
        replica: String,
        missing: u64,
    },
    #[error("{replica} is not connected to {primary}: {why}")]
    NotConnected {
        replica: String,
        primary: String,
        why: String,
    },
    #[error("{replica} receives from {primary} without acknowledging: its receiver is restarted")]
    ReceivingOnly { replica: String, primary: String },
    #[error(
        "writes wait for {primary}, which stays closed until {replica} has acknowledged a heartbeat"
    )]
    FirstHeartbeat { primary: String, replica: String },
    #[error("degraded: writes wait for {replica} to acknowledge them; reads go on")]
    NotAcknowledging { replica: String },
    #[error(
        "{0} answers, and has committed nothing for a while: is its disk full, or does it hang? (./stack logs {0})"
    )]
    CommitsNothing(String),
    #[error("{0} was restarted, and counts as in sync again once it has received everything")]
    GrowingBack(String),
    #[error(
        "{0} is wired to another address, and is wired anew once all that it has received is applied"
    )]
    Rewiring(String),
    #[error(
        "{0} was taken offline after it had been opened: it is stopping, or somebody did it by hand (SET GLOBAL offline_mode = OFF takes it back)"
    )]
    TakenOffline(String),

    #[error("degraded: {primary} alone has every acknowledged write, for {replica} is not in sync")]
    Alone { primary: String, replica: String },
    #[error("{replica} catches up with {primary}: {missing} transactions are missing")]
    CatchingUp {
        primary: String,
        replica: String,
        missing: u64,
    },
    #[error("{replica} counts as in sync as soon as it has applied what {primary} had executed")]
    Growing { primary: String, replica: String },
    #[error(
        "{primary} does not answer, but {replica} hears from it ({link}): it is busy or cut off from the arbiter alone, and not replaced"
    )]
    StillHeard {
        primary: String,
        replica: String,
        link: String,
    },
    #[error("{replica} takes the place of {primary}: its receiver is stopped")]
    Fencing { primary: String, replica: String },
    #[error(
        "{replica} takes the place of {primary}, once it has applied what it has received: {missing} transactions are missing"
    )]
    Draining {
        primary: String,
        replica: String,
        missing: u64,
    },
    #[error("{replica} is to take the place of {primary}, and does not answer")]
    PromotionWaits { primary: String, replica: String },
    #[error("switchover: {0}")]
    SwitchingOver(&'static str),
    #[error("{0} is in maintenance (`arbiter maintenance end {0}` ends it)")]
    Maintained(String),
    #[error("{0} is writable and is not the primary: it is being closed")]
    WritableReplica(String),
    #[error(
        "{server} has {} transactions of its own ({errant}): they are saved, and its data is made anew",
        errant.count()
    )]
    Errant { server: String, errant: GtidSet },
    #[error(
        "{replica} lacks transactions that {primary} has purged ({missing}): its data is made anew"
    )]
    Purged {
        primary: String,
        replica: String,
        missing: GtidSet,
    },
    #[error("{0} has no data, or only a part of it: it is made anew")]
    NotWhole(String),
    #[error("the data of {replica} is made anew from that of {primary}")]
    Cloning { primary: String, replica: String },
    #[error(
        "{0} has another data directory than the one in the state, an empty one: it is taken for a new server"
    )]
    Replaced(String),

    // What a person has to look at.
    #[error(
        "writes are closed: {primary}, which alone has every acknowledged write, is away, and {replica} may lack some of them. They are open \
         again when {primary} is back. If it is lost for good, `arbiter force-promote {replica}` says what would be lost with it"
    )]
    StaleReplica { primary: String, replica: String },
    #[error(
        "writes are closed: {primary} is away, and {replica} was restarted and not yet seen to hold everything that was acknowledged. They are \
         open again when {primary} is back. If it is lost for good, `arbiter force-promote {replica}` says what would be lost with it"
    )]
    RestartedReplica { primary: String, replica: String },
    #[error(
        "{server} {what}, and there is no state: only an empty pair is set up. Give the arbiter its state back (the volume arbiter-state), \
         begin with empty servers, or name the one whose data counts: `arbiter adopt SERVER`"
    )]
    NotEmpty { server: String, what: String },
    #[error(
        "{0} and {1} have the same server_uuid: they are one server under two addresses, or the data of one is a copy of the other's (then \
         remove the copy's auto.cnf)"
    )]
    SameServer(String, String),
    #[error(
        "the state is of {recorded}, and the configuration names {configured}: put `servers` right"
    )]
    OtherNames {
        recorded: String,
        configured: String,
    },
    #[error(
        "{primary}, the primary, has another data directory than the one in the state (server_uuid {found}, not {recorded}), and nothing is \
         touched. Give it its own back. If that is lost, stop {primary}: then {replica} takes its place, or `arbiter force-promote {replica}` \
         says what would be lost. Only if all data was thrown away on purpose, throw the arbiter's state away too"
    )]
    OtherPrimary {
        primary: String,
        replica: String,
        found: String,
        recorded: String,
    },
    #[error(
        "{replica} has another data directory than the one in the state (server_uuid {found}, not {recorded}), and is not touched. Give it its \
         own back, or an empty one: then it is made anew from {primary}"
    )]
    OtherReplica {
        primary: String,
        replica: String,
        found: String,
        recorded: String,
    },
    #[error(
        "{server} has a publication of epoch {published} with primary {primary}, and the state is of epoch {recorded}, so it is not the \
         newest. Nothing is opened: `docker compose stop arbiter`, `docker compose run --rm --no-deps arbiter forget-state`, `docker compose start \
         arbiter`, and name the server whose data counts (`arbiter adopt SERVER`)"
    )]
    OldState {
        server: String,
        published: u64,
        primary: String,
        recorded: u64,
    },
    #[error(
        "{primary} has lost transactions that {replica} received from it ({missing}), acknowledged writes perhaps among them: it is not opened. \
         Give it its data back; or stop it: then {replica} takes its place, or `arbiter force-promote {replica}` says what would be lost"
    )]
    PrimaryLost {
        primary: String,
        replica: String,
        missing: GtidSet,
    },
    #[error(
        "what {server} alone has cannot be saved, so nothing of it is thrown away: {why}. It is tried again"
    )]
    NotSaved { server: String, why: String },
    #[error(
        "the applier of {server} stopped at error {number}: {message}. Put it right, then START REPLICA"
    )]
    ApplierStopped {
        server: String,
        number: u32,
        message: String,
    },
    #[error(
        "{0} is the primary and replicates from somebody: it is not opened (RESET REPLICA ALL ends that)"
    )]
    PrimaryReplicates(String),
    #[error(
        "{replica} receives from a server with server_uuid {found}, which is not {primary}: is the address of {primary} right?"
    )]
    ForeignSource {
        replica: String,
        primary: String,
        found: String,
    },
    #[error(
        "semi-sync was off on {0} while it was open: somebody had turned it off, and what was acknowledged meanwhile {0} may have alone"
    )]
    SemiSyncWasOff(String),
    #[error(
        "semi-sync on {0} is not lossless: rpl_semi_sync_source_wait_point, _wait_for_replica_count, _wait_no_replica and _timeout have to be \
         AFTER_SYNC, 1, ON and for ever"
    )]
    Lossy(String),
}

impl Condition {
    /// Whether it passes by itself when what is away comes back; else somebody has to do what the sentence says.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Silent { .. }
            | Self::ClosedWithoutReplica { .. }
            | Self::Receiving { .. }
            | Self::NotConnected { .. }
            | Self::ReceivingOnly { .. }
            | Self::FirstHeartbeat { .. }
            | Self::NotAcknowledging { .. }
            | Self::CommitsNothing(_)
            | Self::GrowingBack(_)
            | Self::Rewiring(_)
            | Self::TakenOffline(_)
            | Self::Alone { .. }
            | Self::CatchingUp { .. }
            | Self::Growing { .. }
            | Self::StillHeard { .. }
            | Self::Fencing { .. }
            | Self::Draining { .. }
            | Self::PromotionWaits { .. }
            | Self::SwitchingOver(_)
            | Self::Maintained(_)
            | Self::WritableReplica(_)
            | Self::Errant { .. }
            | Self::Purged { .. }
            | Self::NotWhole(_)
            | Self::Cloning { .. }
            | Self::Replaced(_) => true,
            Self::NotEmpty { .. }
            | Self::SameServer(..)
            | Self::OtherNames { .. }
            | Self::OtherPrimary { .. }
            | Self::OtherReplica { .. }
            | Self::OldState { .. }
            | Self::StaleReplica { .. }
            | Self::RestartedReplica { .. }
            | Self::PrimaryLost { .. }
            | Self::NotSaved { .. }
            | Self::ApplierStopped { .. }
            | Self::PrimaryReplicates(_)
            | Self::ForeignSource { .. }
            | Self::SemiSyncWasOff(_)
            | Self::Lossy(_) => false,
        }
    }
}
