//! CLONE: a server's data is made anew from another one's, by the server itself, which restarts at the end. It takes seconds to hours, so it
//! runs beside the rounds; what became of it the server says at the next look.

use std::time::{Duration, Instant};

use replication::errors;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Executor};
use tokio::task::JoinHandle;

/// `ER_RESTART_SERVER_FAILED`: nobody starts the server again, so it ended.
const RESTART_FAILED: u16 = 3707;

/// A copy that is being made, or that has just failed.
#[derive(Debug)]
pub struct Copying {
    running: Option<(String, JoinHandle<Result<(), sqlx::Error>>)>,
    failed: Option<(String, Instant)>,
    /// How long to wait after a failure.
    retry: Duration,
}

impl Copying {
    /// None so far.
    #[must_use]
    pub fn none(retry: Duration) -> Self {
        Self {
            running: None,
            failed: None,
            retry,
        }
    }

    /// The server whose data is being made anew, or was just now in vain.
    pub async fn of(&mut self) -> Option<String> {
        if let Some((server, task)) = self.running.take_if(|(_, task)| task.is_finished()) {
            match task.await {
                Ok(Ok(())) => tracing::info!(server, "its data was made anew; it restarts"),
                Ok(Err(error)) => {
                    tracing::warn!(server, %error, "its data could not be made anew");
                    self.failed = Some((server, Instant::now()));
                }
                Err(_) => self.failed = Some((server, Instant::now())),
            }
        }
        if self
            .failed
            .as_ref()
            .is_some_and(|(_, at)| at.elapsed() > self.retry)
        {
            self.failed = None;
        }
        let running = self.running.as_ref().map(|(server, _)| server);
        running
            .or(self.failed.as_ref().map(|(server, _)| server))
            .cloned()
    }

    /// Begins one on the server that these options lead to.
    pub fn begin(&mut self, server: &str, options: MySqlConnectOptions, statements: Vec<String>) {
        let task = tokio::spawn(async move {
            let mut connection = options.connect().await?;
            for statement in statements {
                match connection.execute(sqlx::AssertSqlSafe(statement)).await {
                    Ok(_) => {}
                    // The server restarts on the new data before it answers.
                    Err(error) if has_restarted(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        self.running = Some((server.to_owned(), task));
    }
}

fn has_restarted(error: &sqlx::Error) -> bool {
    errors::number(error) == Some(RESTART_FAILED) || errors::kind(error) == errors::ErrorKind::Gone
}
