//! The network: connections, what is on its way in them, and what never arrives.

use std::collections::BTreeMap;

use sloth_protocol::{
    agent::{Ask, Event, Ticket},
    coordinator::{self, CheckedReport, ConnId},
    wire::{AgentRequest, AgentResponse, FRAME_HEADER_BYTES, Renewed, decode, encode},
};

use super::{Happening, Sim, disk::RecordName, invariants::Check};

/// Longest until an end of a dead connection notices.
const IDLE_TIMEOUT_MS: u64 = 30_000;
/// Longest until an attempt to connect is given up.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// A connection between a host and the coordinator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conn {
    pub host: usize,
    host_life: u64,
    link: u64,
    center_life: u64,
    alive: bool,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub conn: ConnId,
    pub ticket: Ticket,
    pub frame: Vec<u8>,
    pub names: BTreeMap<u64, RecordName>,
}

impl Sim {
    /// An agent would connect.
    pub(super) fn connect(&mut self, host: usize, link: u64) {
        let life = self.hosts[host].life;
        if self.is_cut_off(host) || !self.center.is_up() || self.chance(self.faults().loss) {
            let wait = 1 + self.random.below(CONNECT_TIMEOUT_MS);
            return self.after(wait, Happening::HostDisconnected { host, life, link });
        }
        let (wait, center_life) = (self.delay(), self.center.life);
        self.after(wait, Happening::Accept { host, life, link, center_life });
    }

    /// The coordinator's side of a new connection.
    pub(super) fn accept(&mut self, host: usize, life: u64, link: u64, center_life: u64) -> Check {
        let Some(agent) = self.hosts[host].id.filter(|_| self.center.is_up() && self.center.life == center_life) else {
            self.after(1, Happening::HostDisconnected { host, life, link });
            return Ok(());
        };
        self.conn_ids += 1;
        let conn = self.conn_ids;
        self.conns.insert(conn, Conn { host, host_life: life, link, center_life, alive: true });
        let wait = self.delay();
        self.after(wait, Happening::HostConnected { host, life, link, conn });
        self.center_event(coordinator::Event::Connected { conn, agent }, BTreeMap::new())
    }

    /// The agent's side of a new connection.
    pub(super) fn connected(&mut self, host: usize, link: u64, conn: ConnId) -> Check {
        if !self.is_alive(conn) {
            return self.host_event(host, Event::Disconnected { link, reason: "reset".to_owned() });
        }
        self.hosts[host].link = Some((link, conn));
        self.host_event(host, Event::Connected { link })
    }

    /// An agent closes its connection: the other end hears of it, or notices later.
    pub(super) fn hang_up(&mut self, host: usize) {
        let Some((_, conn)) = self.hosts[host].link.take() else { return };
        let cut_off = self.is_cut_off(host);
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.alive = false;
        }
        let wait = if cut_off { IDLE_TIMEOUT_MS } else { self.delay() };
        self.after(wait, Happening::CenterClosed { life: self.center.life, conn });
    }

    /// A connection dies: both ends notice, each in its time.
    pub(super) fn sever(&mut self, conn: ConnId) {
        let Some(known) = self.conns.get_mut(&conn).filter(|conn| conn.alive) else { return };
        known.alive = false;
        let Conn { host, host_life: life, link, center_life, .. } = *known;
        let (near, far) = (self.random.below(IDLE_TIMEOUT_MS), self.random.below(IDLE_TIMEOUT_MS));
        self.after(near, Happening::HostDisconnected { host, life, link });
        self.after(far, Happening::CenterClosed { life: center_life, conn });
    }

    /// The coordinator closes a connection.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(mut known) = self.conns.remove(&conn) else { return };
        if std::mem::replace(&mut known.alive, false) {
            let wait = self.delay();
            let Conn { host, host_life: life, link, .. } = known;
            self.after(wait, Happening::HostDisconnected { host, life, link });
        }
    }

    /// Every connection of a host dies.
    pub(super) fn sever_host(&mut self, host: usize) {
        let conns: Vec<ConnId> = self.conns.iter().filter(|(_, c)| c.host == host).map(|(id, _)| *id).collect();
        conns.into_iter().for_each(|conn| self.sever(conn));
    }

    pub(super) fn is_alive(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|conn| conn.alive)
    }

    pub(super) fn is_cut_off(&self, host: usize) -> bool {
        self.now < self.hosts[host].partitioned_until
    }

    /// An agent asks: the request arrives, is lost, or the connection dies of it.
    pub(super) fn ask(&mut self, host: usize, ticket: Ticket, ask: Ask) {
        let (request, names) = self.request(host, ask);
        let Some((link, conn)) = self.hosts[host].link else { return };
        let frame = encode(&request).expect("a request fits a frame");
        if self.chance(self.faults().loss) {
            self.tally.lost_requests += 1;
            self.trace(|| format!("host {host} link {link} request {ticket} is lost"));
            return self.maybe_sever(conn);
        }
        let wait = self.delay();
        self.after(wait, Happening::Request(Request { conn, ticket, frame, names }));
    }

    /// A request arrives.
    pub(super) fn requested(&mut self, request: Request) -> Check {
        let Request { conn, ticket, frame, names } = request;
        let Some(known) = self.conns.get(&conn).filter(|conn| conn.alive).copied() else { return Ok(()) };
        if !self.center.is_up() || self.center.life != known.center_life {
            return Ok(());
        }
        let message: AgentRequest = decode(&frame[FRAME_HEADER_BYTES..]).expect("what was encoded");
        let ask = match message {
            AgentRequest::Hello(hello) => coordinator::Ask::Hello(hello),
            AgentRequest::Poll(poll) => coordinator::Ask::Poll(poll),
            AgentRequest::Report(report) => {
                self.tally.reports += 1;
                let id = self.hosts[known.host].id;
                let record = id.and_then(|id| self.center.disk.state.agents.get(&id).map(|record| (id, record)));
                let Some((id, record)) = record else { return Ok(()) };
                coordinator::Ask::Report(CheckedReport::new(report, id, Some(&record.receipt_key)))
            }
            AgentRequest::Renew(renew) => coordinator::Ask::Renew(renew),
            AgentRequest::Fetch(_) => return Ok(()),
        };
        let ticket = self.center.wait_for(super::center::Waiting::Agent {
            conn,
            host: known.host,
            life: known.host_life,
            ticket,
        });
        self.center_event(coordinator::Event::Asked { conn, ticket, ask }, names)
    }

    /// The coordinator answers an agent.
    pub(super) fn answer_agent(
        &mut self,
        conn: ConnId,
        host: usize,
        life: u64,
        ticket: Ticket,
        response: &AgentResponse,
    ) {
        let frame = encode(response).expect("an answer fits a frame");
        if self.chance(self.faults().loss) {
            self.tally.lost_answers += 1;
            self.trace(|| format!("the answer {ticket} to host {host} is lost"));
            return self.maybe_sever(conn);
        }
        let wait = self.delay();
        self.after(wait, Happening::Answer { host, life, conn, ticket, frame });
    }

    /// An answer arrives. One whose connection is gone may still have been waiting in the driver's queue.
    pub(super) fn answered(&mut self, host: usize, conn: ConnId, ticket: Ticket, frame: &[u8]) -> Check {
        let current = self.hosts[host].link.is_some_and(|(_, open)| open == conn) && self.is_alive(conn);
        if !current && !self.chance(self.faults().late_answers) {
            return Ok(());
        }
        self.tally.late_answers += u64::from(!current);
        let response: AgentResponse = decode(&frame[FRAME_HEADER_BYTES..]).expect("what was encoded");
        if let AgentResponse::Renewed(Renewed { not_before: from, not_after: until, .. }) = response {
            self.tally.renewals += 1;
            self.hosts[host].disk.certificate = (from, until);
            return self.host_event(host, Event::Renewed { ticket, from, until });
        }
        if current && matches!(response, AgentResponse::Welcome(_)) {
            self.hosts[host].unsettled_since = None;
        }
        self.host_event(host, Event::Answered { ticket, response })
    }

    fn maybe_sever(&mut self, conn: ConnId) {
        if self.random.below(2) == 0 {
            self.sever(conn);
        }
    }
}
