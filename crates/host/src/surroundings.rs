//! What must never be blocked on this host, read from the system at the moment of asking.

use std::io;

use sakimori_respond::guard::Surroundings;
use sakimori_sys::net;
use sakimori_sys::netlink::NetlinkError;

/// Why the surroundings are not known. Without them nothing should be blocked.
#[derive(Debug, thiserror::Error)]
pub enum SurroundingsError {
    /// Addresses or routes.
    #[error("cannot learn what must not be blocked: {0}")]
    Routing(#[from] NetlinkError),
    /// Connections.
    #[error("cannot learn whose ssh sessions must not be cut: {0}")]
    Sessions(#[from] io::Error),
}

/// Own addresses, gateways, name servers and peers of ssh sessions (on port 22, the ports of a running sshd, and
/// `ssh_ports`). The manager's addresses are the caller's to add.
///
/// # Errors
/// The kernel or `/proc` does not answer.
pub fn guard_facts(ssh_ports: &[u16]) -> Result<Surroundings, SurroundingsError> {
    Ok(Surroundings {
        own: net::own_addresses()?.into_iter().collect(),
        gateways: net::gateways()?.into_iter().collect(),
        resolvers: net::resolvers().into_iter().collect(),
        manager: Vec::new(),
        ssh_peers: net::ssh_peers(ssh_ports)?.into_iter().collect(),
    })
}
