//! CLONE: a server's data is made anew from another one's, by the server itself, which restarts at the end. It takes seconds to hours, so it
//! runs beside the rounds; what became of it the server says at the next look.

use std::time::{Duration, Instant};

use replication::errors;
use sqlx::{ConnectOptions, Executor};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    look::Look,
    observe::{Failure, Server},
};

/// `ER_RESTART_SERVER_FAILED`: nobody starts the server again, so it ended.
const RESTART_FAILED: u16 = 3707;

/// A copy that is being made, or that has just failed.
#[derive(Debug)]
pub struct Copying {
    running: Option<Running>,
    failed: Option<(String, Instant)>,
    /// How long to wait after a failure.
    retry: Duration,
    /// How long it may take to connect.
    connect_max: Duration,
}

#[derive(Debug)]
struct Running {
    server: String,
    /// The boot in which it was begun.
    boot: Option<String>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Copying {
    /// None so far.
    #[must_use]
    pub fn none(retry: Duration, connect_max: Duration) -> Self {
        Self {
            running: None,
            failed: None,
            retry,
            connect_max,
        }
    }

    /// The server whose data is being made anew, or was just now in vain.
    pub async fn of(&mut self, look: &Look) -> Option<String> {
        if let Some(Running { server, task, .. }) =
            self.running.take_if(|running| running.has_ended(look))
        {
            // One whose server has restarted meanwhile may wait for an answer that never comes.
            task.abort();
            match task.await {
                Ok(Ok(())) => tracing::info!(server, "its data was made anew; it restarts"),
                Ok(Err(error)) => {
                    tracing::warn!(server, %error, "its data could not be made anew");
                    self.failed = Some((server, Instant::now()));
                }
                Err(_) => tracing::info!(server, "it has restarted"),
            }
        }
        if self
            .failed
            .as_ref()
            .is_some_and(|(_, at)| at.elapsed() > self.retry)
        {
            self.failed = None;
        }
        let running = self.running.as_ref().map(|running| &running.server);
        running
            .or(self.failed.as_ref().map(|(server, _)| server))
            .cloned()
    }

    /// Begins one on the server, by these statements; the last of them does it.
    pub fn begin(&mut self, server: &Server, statements: Vec<String>) {
        let (options, connect_max) = (server.options(), self.connect_max);
        let task = tokio::spawn(async move {
            let connecting = timeout(connect_max, options.connect()).await;
            let mut connection = connecting.map_err(|_| Failure::Late(connect_max))??;
            let last = statements.len().saturating_sub(1);
            for (number, statement) in statements.into_iter().enumerate() {
                match connection.execute(sqlx::AssertSqlSafe(statement)).await {
                    Ok(_) => {}
                    // The server restarts on the new data before it answers.
                    Err(error) if number == last && has_restarted(&error) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
        self.running = Some(Running {
            server: server.name.clone(),
            boot: server.boot().map(str::to_owned),
            task,
        });
    }
}

impl Running {
    fn has_ended(&self, look: &Look) -> bool {
        let boot = look.facts(&self.server).map(|facts| facts.boot.as_str());
        self.task.is_finished() || boot.is_some_and(|boot| self.boot.as_deref() != Some(boot))
    }
}

fn has_restarted(error: &sqlx::Error) -> bool {
    errors::number(error) == Some(RESTART_FAILED) || errors::kind(error) == errors::ErrorKind::Gone
}
