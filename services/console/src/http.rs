//! A plain HTTP question to a port of this machine's loopback: Jaeger's and Prometheus's.

use std::{net::Ipv4Addr, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens at the port.
    #[error("nobody answers at 127.0.0.1:{0}")]
    Nobody(u16),
    /// Somebody listens, and does not answer as HTTP has it.
    #[error("127.0.0.1:{port}: {reason}")]
    Broken {
        /// The port.
        port: u16,
        /// What went wrong.
        reason: String,
    },
}

/// `GET http://127.0.0.1:PORT/PATH`: the status and the body.
///
/// # Errors
/// When nobody answers, or not in time, or more than can be read.
pub async fn get(port: u16, path: &str) -> Result<(StatusCode, String), HttpError> {
    let Ok(Ok(stream)) = timeout(LIMIT, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await
    else {
        return Err(HttpError::Nobody(port));
    };
    let broken = |reason: String| HttpError::Broken { port, reason };
    match timeout(LIMIT, exchange(stream, port, path)).await {
        // A published port whose container is away accepts, and closes at once.
        Ok(Err(error)) if error.is::<hyper::Error>() => Err(HttpError::Nobody(port)),
        Ok(answer) => answer.map_err(|error| broken(error.to_string())),
        Err(_) => Err(broken(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    stream: TcpStream,
    port: u16,
    path: &str,
) -> Result<(StatusCode, String), AnyError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", format!("localhost:{port}"))
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BYTES_MAX)
        .collect()
        .await?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok((status, text))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn answering(text: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn an_answer_is_read_whatever_its_status() {
        let port = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await;
        let (status, text) = get(port, "/x").await.unwrap();
        assert_eq!((status, text.as_str()), (StatusCode::NOT_FOUND, "no"));
    }

    #[tokio::test]
    async fn who_does_not_listen_or_closes_at_once_is_nobody() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(matches!(get(port, "/").await, Err(HttpError::Nobody(_))));
        let port = answering("").await;
        assert!(matches!(get(port, "/").await, Err(HttpError::Nobody(_))));
    }
}
