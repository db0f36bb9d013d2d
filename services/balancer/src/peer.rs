//! Who is at the other end of a client's connection.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clients::Client;

/// The other end of a client's connection: the client, or a proxy that is believed.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: of the connection, or of what a PROXY header has announced.
    pub address: IpAddr,
    /// What it may do, where that is limited.
    pub limited: Option<Arc<Client>>,
}
