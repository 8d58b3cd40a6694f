//! A coordinator on loopback that says whom it sees, and hosts to visit it.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::net::{Ipv4Addr, SocketAddr};

use quinn::{Connection, Endpoint};
use sloth_core::{AgentId, Clock, Millis};
use sloth_transport::{
    Authority, CloseCode, Connector, Identity, KeyRequest, Limits, Link, Peer, Priority, RequestError, admit, listen,
    recv, request, send, server,
};

pub const DAY: Millis = Millis::from_secs(24 * 3600);
pub const YEAR: Millis = Millis::from_secs(365 * 24 * 3600);
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

pub fn now() -> Millis {
    Clock::new().now()
}

pub fn authority(seed: u8) -> Authority {
    Authority::create(now(), [seed; 16]).expect("an authority")
}

pub fn agent_id() -> AgentId {
    AgentId::new(Millis::from_secs(1_700_000_000), 7)
}

/// An agent's identity, issued at a time and for a term.
pub fn agent(authority: &Authority, at: Millis, term: Millis) -> Identity {
    let key = KeyRequest::generate().expect("a key");
    let issued = authority.issue_agent(key.csr(), agent_id(), at, term).expect("a certificate");
    let identity = key.certified(issued.der).expect("an identity");
    assert_eq!((identity.not_before(), identity.not_after()), (issued.not_before, issued.not_after));
    identity
}

/// A socket on loopback, any port, with the coordinator's TLS.
pub fn endpoint(authority: &Authority, identity: &Identity) -> Endpoint {
    let config = server(authority, identity, Limits::default()).expect("usable TLS");
    listen(loopback(), config, &authority.continuity()).expect("a free port")
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub fn address(endpoint: &Endpoint) -> String {
    endpoint.local_addr().expect("bound").to_string()
}

/// A coordinator that answers every text with who asked, from which port, and the text. It gives its address.
pub fn coordinator(authority: &Authority, identity: &Identity) -> String {
    serve(endpoint(authority, identity), Limits::default())
}

/// A coordinator of `authority` with a certificate that counts now.
pub fn healthy(authority: &Authority) -> String {
    coordinator(authority, &authority.issue_server(now(), DAY).expect("a certificate"))
}

pub fn serve(endpoint: Endpoint, limits: Limits) -> String {
    let address = address(&endpoint);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Some(incoming) = admit(incoming, 0, limits) else { continue };
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    echo(connection).await;
                }
            });
        }
    });
    address
}

/// A coordinator's side of one connection and the visitor's.
pub async fn pair() -> (Connection, Link) {
    let authority = authority(1);
    let endpoint = endpoint(&authority, &authority.issue_server(now(), DAY).expect("a certificate"));
    let addresses = [address(&endpoint)];
    let connector = Connector::enrolled(authority.certificate().to_vec(), agent(&authority, now(), DAY));
    let accept = async {
        let incoming = endpoint.accept().await.expect("a visitor");
        incoming.await.expect("a handshake")
    };
    let (accepted, link) = tokio::join!(accept, connector.connect(&addresses, now()));
    (accepted, link.expect("connected"))
}

pub async fn ask(link: &Link, text: &str) -> Result<String, RequestError> {
    request(&link.connection, &text.to_owned(), Priority::Control).await.map(|(answer, _rest)| answer)
}

async fn echo(connection: Connection) {
    let peer = Peer::of(&connection, now()).expect("a known peer");
    while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
        Priority::Control.apply(&sending);
        let Ok(text) = recv::<String>(&mut receiving, FRAME_BYTES_MAX).await else {
            CloseCode::Misbehaved.close(&connection);
            return;
        };
        let port = connection.remote_address().port();
        if send(&mut sending, &format!("{peer:?} {port} {text}")).await.is_err() {
            return;
        }
    }
}
