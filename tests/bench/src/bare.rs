//! The coordinator's peer: a QUIC server with the coordinator's transport settings, TLS and client certificates, and
//! nothing behind it. It answers a hello with a welcome and keeps every poll open, as the coordinator does, so that both
//! have the same streams.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result};
use quinn::{Incoming, RecvStream, SendStream};
use sloth_core::{
    Clock, Millis, Secret,
    fs::{Access, replace},
};
use sloth_protocol::wire::{AgentRequest, AgentResponse, FRAME_BYTES_MAX, PROTO_MAX, Welcome};
use sloth_transport::{Authority, KeyRequest, Limits, listen, recv, send, server};

use crate::{Bench, fleet::Member, process::Process};

/// How long certificates of a measurement count.
const TERM: Millis = Millis::from_secs(24 * 3600);
const CERTIFICATE_FILE: &str = "authority.pem";
const KEY_FILE: &str = "authority.key";

/// A running bare server with an authority of its own.
#[derive(Debug)]
pub(crate) struct Bare {
    /// The program.
    pub(crate) process: Process,
    address: String,
    authority: Authority,
    _dir: tempfile::TempDir,
}

impl Bare {
    /// Starts one.
    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let dir = bench.directory()?;
        let mut serial = [0; 16];
        serial.copy_from_slice(&crate::fleet::random()?.to_ne_bytes());
        let authority = Authority::create(Clock::new().now(), serial)?;
        replace(&dir.path().join(CERTIFICATE_FILE), authority.certificate_pem().as_bytes(), Access::Owner)?;
        replace(&dir.path().join(KEY_FILE), authority.key_pem().expose().as_bytes(), Access::Owner)?;
        let mut command = std::process::Command::new(std::env::current_exe()?);
        let child = command.arg("bare-server").arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot start the bare server")?;
        let stdout = child.stdout.take().context("the bare server has no output")?;
        let process = Process::of(child);
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        Ok(Self { process, address: address.trim().to_owned(), authority, _dir: dir })
    }

    /// `member` with a certificate for this server, and this server's address.
    pub(crate) fn adopt(&self, member: &Member) -> Result<Member> {
        let key = KeyRequest::generate()?;
        let issued = self.authority.issue_agent(key.csr(), member.id, Clock::new().now(), TERM)?;
        let authority = self.authority.certificate().to_vec();
        Ok(member.at(self.address.clone(), authority, key.certified(issued.der)?))
    }
}

/// Is the bare server whose authority is in `dir`, until it is ended. Tells its address on standard output.
pub(crate) async fn serve(dir: &Path) -> Result<()> {
    let certificate = std::fs::read_to_string(dir.join(CERTIFICATE_FILE))?;
    let key = Secret::new(std::fs::read_to_string(dir.join(KEY_FILE))?);
    let authority = Authority::from_pem(&certificate, &key)?;
    let identity = authority.issue_server(Clock::new().now(), TERM)?;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = listen(anywhere, server(&authority, &identity, Limits::default())?, &authority.continuity())?;
    writeln!(std::io::stdout(), "{}", endpoint.local_addr()?)?;
    while let Some(incoming) = endpoint.accept().await {
        // What one peer does wrong is no matter for the others.
        tokio::spawn(async move { drop(connection(incoming).await) });
    }
    Ok(())
}

async fn connection(incoming: Incoming) -> Result<()> {
    let connection = incoming.accept()?.await?;
    let mut polls: Vec<(SendStream, RecvStream)> = Vec::new();
    loop {
        let (mut sending, mut receiving) = connection.accept_bi().await?;
        match recv(&mut receiving, FRAME_BYTES_MAX).await? {
            AgentRequest::Hello(_) => send(&mut sending, &welcome()).await?,
            AgentRequest::Poll(_) => polls.push((sending, receiving)),
            AgentRequest::Report(_) | AgentRequest::Fetch(_) | AgentRequest::Renew(_) => {}
        }
    }
}

const fn welcome() -> AgentResponse {
    AgentResponse::Welcome(Welcome {
        proto: PROTO_MAX,
        features: 0,
        time: Millis::ZERO,
        acked: [0; 2],
        reconnect_within: Millis::ZERO,
    })
}
