//! The admin interface of a service: a Unix socket in its own container. Who may use the engine may administer; on the network
//! there is nothing to attack.
//!
//! The protocol is one line in (`health`, `status`, `drain web-1`), one line of JSON out, and the end. Every service answers
//! `health` with `"ok"` or with a string that says what it waits for.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

/// The longest command, in bytes, its end of line included: room for a statement that somebody wants explained.
const COMMAND_BYTES: u64 = 64 * 1024;
/// How much of a longer one is read and thrown away.
const DRAINED_BYTES: u64 = 64 * 1024;
/// How many calls are served at the same time; the others wait in the kernel's queue.
const CALLS: usize = 16;
/// How long a caller may take to send its line, and how long an answer may take to be read.
const CALLER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens there.
    #[error("nobody answers at {}: {source}; is the service running?", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {} within {after:?}", path.display())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The service refuses the command; its own words.
    #[error("{0}")]
    Refused(String),
}

/// Listens at `path` and answers every command by `handler`: `Ok` is one line of JSON, `Err` a sentence that says what to do. Runs
/// until it is dropped. A stale socket file is replaced, and only the owner may connect.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve<H, F>(path: &Path, handler: H) -> io::Result<()>
where
    H: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    let listener = bind(path)?;
    let handler = Arc::new(handler);
    let calls = Arc::new(Semaphore::new(CALLS));
    loop {
        let call = calls
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: it passes, and a busy loop would not help.
                tracing::warn!(%error, "an admin call was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let _call = call;
            if let Err(error) = answer(stream, &*handler).await {
                tracing::debug!(%error, "an admin call ended early");
            }
        });
    }
}

/// Binds the socket: the directory is made, a stale file replaced, the mode set to 0600.
fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer<H, F>(stream: UnixStream, handler: &H) -> io::Result<()>
where
    H: Fn(String) -> F,
    F: Future<Output = Result<String, String>>,
{
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(COMMAND_BYTES));
    timeout(CALLER_TIMEOUT, reader.read_line(&mut line)).await??;
    let reply = match line.strip_suffix('\n') {
        Some(command) => handler(command.trim().to_owned()).await,
        None => Err(format!(
            "a command is one line of at most {COMMAND_BYTES} bytes"
        )),
    };
    let text = match reply {
        Ok(json) => format!("ok {json}\n"),
        Err(sentence) => format!("error {}\n", sentence.replace('\n', " ")),
    };
    timeout(CALLER_TIMEOUT, writer.write_all(text.as_bytes())).await??;
    writer.shutdown().await?;
    // Closing with bytes unread would reset the connection, and the caller would lose the answer.
    let mut rest = reader.into_inner().into_inner().take(DRAINED_BYTES);
    timeout(
        CALLER_TIMEOUT,
        tokio::io::copy(&mut rest, &mut tokio::io::sink()),
    )
    .await??;
    Ok(())
}

/// Sends one command and returns the JSON of the answer.
///
/// # Errors
/// When nobody listens, nothing comes within `limit`, or the service refuses.
pub async fn call(path: &Path, command: &str, limit: Duration) -> Result<String, AdminError> {
    let unreachable = |source| AdminError::Unreachable {
        path: path.to_owned(),
        source,
    };
    let exchange = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        io::Result::Ok(text)
    };
    let text = timeout(limit, exchange)
        .await
        .map_err(|_| AdminError::Timeout {
            path: path.to_owned(),
            after: limit,
        })?
        .map_err(unreachable)?;
    let text = text.trim_end();
    if let Some(json) = text.strip_prefix("ok ") {
        return Ok(json.to_owned());
    }
    match text.strip_prefix("error ") {
        Some(sentence) => Err(AdminError::Refused(sentence.to_owned())),
        None => Err(unreachable(io::ErrorKind::UnexpectedEof.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn served() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "left by a dead process").unwrap();
        let at = path.clone();
        tokio::spawn(async move {
            serve(&at, |command| async move {
                match command.as_str() {
                    "health" => Ok("\"ok\"".to_owned()),
                    "hang" => std::future::pending().await,
                    other => Err(format!("no such command: {other}")),
                }
            })
            .await
        });
        while UnixStream::connect(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
        (directory, path)
    }

    #[tokio::test]
    async fn a_command_is_answered_and_an_unknown_one_refused_in_words() {
        let (_directory, path) = served().await;
        let limit = Duration::from_secs(5);
        assert_eq!(call(&path, "health", limit).await.unwrap(), "\"ok\"");
        let error = call(&path, "explode", limit).await.unwrap_err();
        assert_eq!(error.to_string(), "no such command: explode");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_and_a_hanging_command_times_out() {
        let (_directory, path) = served().await;
        let long = "x".repeat(70_000);
        let error = call(&path, &long, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("at most 65536 bytes"), "{error}");
        let error = call(&path, "hang", Duration::from_millis(20))
            .await
            .unwrap_err();
        assert!(matches!(error, AdminError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_socket_asks_whether_the_service_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let error = call(&path, "health", Duration::from_secs(1))
            .await
            .unwrap_err();
        assert!(
            error.to_string().ends_with("is the service running?"),
            "{error}"
        );
    }
}
