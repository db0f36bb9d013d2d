//! What can be reached from here: connects to addresses, and says what came of each. Run in a pod's owner it sees what the pod's
//! services see.

use std::{fmt, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How long an answer may take. What is dropped never answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Somebody listens there.
    Open,
    /// It may be reached, and nobody listens there.
    Closed,
    /// A firewall says no, ours or another one, or there is no way there.
    Refused,
    /// Nothing came back.
    Silent,
    /// There is no such name.
    Unknown,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
        })
    }
}

/// Tries all of them at the same time. Prints a line for each, `ADDRESS OUTCOME`, in their order.
///
/// # Errors
/// When there is no run-time.
pub fn reach(addresses: &[String]) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let tries: Vec<_> = addresses
            .iter()
            .map(|address| tokio::spawn(one(address.clone())))
            .collect();
        for (address, tried) in addresses.iter().zip(tries) {
            println!("{address} {}", tried.await.map_err(io::Error::other)?);
        }
        Ok(())
    })
}

async fn one(address: String) -> Reached {
    let found: Option<SocketAddr> = match timeout(PATIENCE, lookup_host(&address)).await {
        Ok(Ok(mut found)) => found.next(),
        Ok(Err(_)) | Err(_) => None,
    };
    let Some(address) = found else {
        return Reached::Unknown;
    };
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Reached::Open,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reached::Closed,
        Ok(Err(_)) => Reached::Refused,
        Err(_) => Reached::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_is_open_and_a_port_without_one_closed() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(one(address.clone()).await, Reached::Open);
        drop(listener);
        assert_eq!(one(address).await, Reached::Closed);
        assert_eq!(
            one("no-such-name.invalid:1".to_owned()).await,
            Reached::Unknown
        );
    }
}
