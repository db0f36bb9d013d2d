//! Who is primary, as simple clients see it: by reading the published row on each server again and again.

use std::sync::Arc;
use std::time::Duration;

use harness::Server;
use replication::{ClusterRow, Published, cluster_row};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::history::History;

/// Between two looks at a server.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a look may take, connecting included; then the server counts as away.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What the servers say now. One that does not answer says nothing: what it said before is forgotten, so that clients go wherever one is
/// left that calls itself primary. It is the arbiter's part to have closed that one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    rows: [Option<ClusterRow>; 2],
}

impl View {
    /// The server whose row has the highest epoch and names itself, and that epoch.
    pub(crate) fn primary(&self) -> Option<(usize, u64)> {
        let named = |(server, row): (usize, &Option<ClusterRow>)| {
            let row = row.as_ref()?;
            (row.primary_server == name(server)).then_some((row.epoch, server))
        };
        let highest = self.rows.iter().enumerate().filter_map(named).max();
        highest.map(|(epoch, server)| (server, epoch))
    }

    /// What a server's own row says.
    pub(crate) fn epoch_at(&self, server: usize) -> Option<u64> {
        self.rows[server].as_ref().map(|row| row.epoch)
    }

    /// Whether a planned change of the primary was announced.
    pub(crate) fn announces_a_switchover(&self) -> bool {
        let newest = self.rows.iter().flatten().max_by_key(|row| row.epoch);
        newest.is_some_and(|row| row.published() == Published::Switchover)
    }
}

/// mysql-1 is 0.
pub(crate) fn name(server: usize) -> String {
    format!("mysql-{}", server + 1)
}

/// Looks at both, for as long as the tasks live.
pub(crate) fn look(
    servers: [&Server; 2],
    options: [MySqlConnectOptions; 2],
    history: &Arc<History>,
) -> (watch::Receiver<View>, JoinSet<()>) {
    debug_assert!(
        servers
            .iter()
            .enumerate()
            .all(|(number, server)| server.name() == name(number))
    );
    let sender = Arc::new(watch::Sender::new(View::default()));
    let view = sender.subscribe();
    let mut looking = JoinSet::new();
    for (server, options) in options.into_iter().enumerate() {
        let (sender, history) = (Arc::clone(&sender), Arc::clone(history));
        looking.spawn(async move {
            let mut connection = None;
            loop {
                let looked = timeout(LOOK_MAX, look_once(&mut connection, &options)).await;
                let row = looked.ok().flatten();
                if let Some(row) = &row {
                    history.saw(row.epoch, &row.primary_server);
                } else {
                    connection = None;
                }
                sender.send_if_modified(|view| {
                    let changed = view.rows[server] != row;
                    view.rows[server] = row;
                    changed
                });
                sleep(PAUSE).await;
            }
        });
    }
    (view, looking)
}

async fn look_once(
    connection: &mut Option<MySqlConnection>,
    options: &MySqlConnectOptions,
) -> Option<ClusterRow> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await.ok()?),
    };
    cluster_row(connection).await.ok()?
}
