//! Where the coordinator listens, and whom it lets begin.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::{Endpoint, Incoming, ServerConfig, TokioRuntime};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::{
    continuity::Continuity,
    settings::{Limits, SOCKET_BUFFER_BYTES},
};

/// Why the coordinator does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on UDP `{address}`{}", way_out(source))]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Whether a peer has shown that it receives what is sent to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It has.
    Given,
    /// The address may be forged.
    Open,
}

/// What becomes of a peer that wants to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may begin its handshake.
    Accept,
    /// It has to prove its address first.
    Validate,
    /// It is told to go.
    Refuse,
}

/// Listens on `address` with what [`crate::server`] made. Peers of an earlier process with the same `continuity` are
/// told that it is gone. An address of all IPv6 interfaces takes IPv4 too.
///
/// # Errors
///
/// When the system refuses: the port is taken, or needs a permission.
///
/// Must be called within a tokio runtime.
pub fn listen(address: SocketAddr, config: ServerConfig, continuity: &Continuity) -> Result<Endpoint, ListenError> {
    let refuse = |source| ListenError { address, source };
    let socket = socket(address).map_err(refuse)?;
    if let Err(error) = sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)
        .and_then(|()| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES))
    {
        tracing::debug!(%error, "the socket keeps its small buffers");
    }
    Endpoint::new(continuity.endpoint(), Some(config), socket, Arc::new(TokioRuntime)).map_err(refuse)
}

/// Decides about `incoming` while `handshaking` others are under way, and turns it away where that is the answer.
#[must_use]
pub fn admit(incoming: Incoming, handshaking: usize, limits: Limits) -> Option<Incoming> {
    let proof = if incoming.remote_address_validated() { Proof::Given } else { Proof::Open };
    match decide(proof, handshaking, limits) {
        Admission::Accept => Some(incoming),
        Admission::Validate => {
            // Only who has proven its address cannot be asked to, and is not.
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            None
        }
        Admission::Refuse => {
            incoming.refuse();
            None
        }
    }
}

/// What becomes of a peer when `handshaking` others are under way.
#[must_use]
pub const fn decide(proof: Proof, handshaking: usize, limits: Limits) -> Admission {
    if limits.handshakes_max <= handshaking {
        return Admission::Refuse;
    }
    match proof {
        Proof::Open if limits.handshakes_validate_from <= handshaking => Admission::Validate,
        Proof::Open | Proof::Given => Admission::Accept,
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
    if address.is_ipv6() {
        // Whether IPv6 takes IPv4 along is otherwise the host's setting.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    Ok(socket.into())
}

fn way_out(error: &io::Error) -> &'static str {
    use rustix::io::Errno;

    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => ", the port is taken: stop what listens there, or choose another port",
        Some(Errno::ADDRNOTAVAIL) => ", this host does not have that address: use one of its own, or `[::]`",
        Some(Errno::ACCESS | Errno::PERM) => ", permission is missing: choose a port above 1023",
        Some(_) | None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_is_asked_for_proof_and_then_refused() {
        let limits = Limits { handshakes_validate_from: 2, handshakes_max: 4, ..Limits::default() };
        for (proof, handshaking, expected) in [
            (Proof::Open, 0, Admission::Accept),
            (Proof::Open, 1, Admission::Accept),
            (Proof::Open, 2, Admission::Validate),
            (Proof::Given, 2, Admission::Accept),
            (Proof::Given, 3, Admission::Accept),
            (Proof::Open, 4, Admission::Refuse),
            (Proof::Given, 4, Admission::Refuse),
        ] {
            assert_eq!(decide(proof, handshaking, limits), expected, "{proof:?} {handshaking}");
        }
    }
}
