//! Agents that are the protocol's own machine on a real connection, without a disk and without room for work.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use sloth_core::{AgentId, Clock, Labels, Millis, Secret};
use sloth_protocol::{
    agent::{self, Ask, Durable, Effect, Event, Pacing, Updates},
    wire::{
        AgentRequest, AgentResponse, Enroll, EnrollRequest, EnrollResponse, JoinToken, PROTO_MAX, PROTO_MIN, Platform,
    },
};
use sloth_transport::{CloseCode, Connector, Identity, KeyRequest, Link, Priority, request};
use sloth_trust::{MachineKey, PublicKey, RootPin};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

/// How long each poll of a member is held.
const HOLD: Millis = Millis::from_secs(120);
/// How far off the next wake is when the machine wants none.
const NO_WAKE: Duration = Duration::from_secs(3600);

/// An enrolled agent.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Who it is.
    pub(crate) id: AgentId,
    /// Its name.
    pub(crate) name: String,
    /// Its certificate and key.
    pub(crate) identity: Identity,
    /// Its coordinator's authority.
    pub(crate) authority: Vec<u8>,
    /// Where its coordinator is.
    pub(crate) addresses: Vec<String>,
    root: Vec<u8>,
    root_pin: RootPin,
}

impl Member {
    /// The same agent at another server.
    pub(crate) fn at(&self, address: String, authority: Vec<u8>, identity: Identity) -> Self {
        Self { identity, authority, addresses: vec![address], ..self.clone() }
    }
}

/// A member's connection, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Held(JoinSet<Result<()>>);

impl Held {
    /// Why a member gave up, if one did.
    pub(crate) fn failure(&mut self) -> Option<String> {
        self.0.try_join_next().map(|end| match end {
            Ok(Ok(())) => "a member ended".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        })
    }
}

/// Enrols a host under `name`: key, connection, request, answer.
pub(crate) async fn enrol(token: &JoinToken, name: String) -> Result<Member> {
    let clock = Clock::new();
    let key = KeyRequest::generate()?;
    let link = Connector::enrolling(token.authority).connect(&token.addresses, clock.now()).await?;
    let enroll = Enroll {
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        token: token.id,
        secret: token.secret,
        csr: key.csr().to_vec(),
        name: name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: Platform::default(),
        labels: Labels::default(),
        receipt_key: receipt_key()?,
    };
    let asked = request(&link.connection, &EnrollRequest::Enroll(enroll), Priority::Control).await?;
    CloseCode::Normal.close(&link.connection);
    match asked.0 {
        EnrollResponse::Enrolled(enrolled) => Ok(Member {
            id: enrolled.agent,
            name,
            identity: key.certified(enrolled.certificate)?,
            authority: link.authority,
            addresses: token.addresses.clone(),
            root: enrolled.root,
            root_pin: token.root,
        }),
        EnrollResponse::Refused(refusal) => Err(anyhow!(refusal).context("the coordinator refuses")),
    }
}

/// Connects `members`, some at a time, and returns when each has a poll held.
pub(crate) async fn hold(members: Vec<Member>, at_once: usize) -> Result<Held> {
    let count = members.len();
    let (tell, mut polling) = mpsc::channel(count.max(1));
    let permits = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    for member in members {
        tasks.spawn(live(member, Arc::clone(&permits), tell.clone()));
    }
    drop(tell);
    let mut held = Held(tasks);
    for _ in 0..count {
        if polling.recv().await.is_none() {
            bail!("a member gave up: {}", held.failure().unwrap_or_default());
        }
        if let Some(failure) = held.failure() {
            bail!("a member gave up: {failure}");
        }
    }
    Ok(held)
}

async fn live(member: Member, permits: Arc<Semaphore>, polling: mpsc::Sender<()>) -> Result<()> {
    let clock = Clock::new();
    let seed = member.id.to_bytes().iter().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
    let mut machine = agent::Agent::restore(config(&member), Durable::default(), clock.now(), seed)?;
    let mut driver = Driver { member, permits, polling: Some(polling), link: None, work: JoinSet::new() };
    let mut event = Event::Wake;
    loop {
        let output = machine.handle(clock.now(), event);
        for effect in output.effects {
            driver.act(effect)?;
        }
        let wake = output.wake_at.map_or(NO_WAKE, |at| at.since(clock.now()).as_duration());
        event = tokio::select! {
            done = driver.work.join_next(), if !driver.work.is_empty() => driver.done(done.context("nothing to wait for")??)?,
            () = tokio::time::sleep(wake) => Event::Wake,
        };
    }
}

/// What a member waits for.
enum Done {
    Connected(u64, Result<Link>),
    Answered(agent::Ticket, Result<AgentResponse>),
}

struct Driver {
    member: Member,
    permits: Arc<Semaphore>,
    /// Told once, when the first poll is on its way.
    polling: Option<mpsc::Sender<()>>,
    link: Option<Link>,
    work: JoinSet<Done>,
}

impl Driver {
    fn act(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Connect { link } => self.connect(link),
            Effect::Disconnect => self.link = None,
            Effect::Ask { ticket, ask } => self.ask(ticket, ask)?,
            Effect::Note(note) => bail!("a member without work has something to note: {note:?}"),
            Effect::Fetch { .. }
            | Effect::Start(_)
            | Effect::Go { .. }
            | Effect::Noted { .. }
            | Effect::Stop { .. }
            | Effect::Forget { .. }
            | Effect::Stage(_)
            | Effect::Switch { .. }
            | Effect::ForgetUpdate { .. }
            | Effect::UpdateNoted { .. } => bail!("a member without room was given work"),
        }
        Ok(())
    }

    fn connect(&mut self, name: u64) {
        let (member, permits) = (self.member.clone(), Arc::clone(&self.permits));
        self.work.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let connector = Connector::enrolled(member.authority, member.identity);
            let link = connector.connect(&member.addresses, Clock::new().now()).await;
            Done::Connected(name, link.map_err(anyhow::Error::from))
        });
    }

    fn ask(&mut self, ticket: agent::Ticket, ask: Ask) -> Result<()> {
        let message = match ask {
            Ask::Hello(hello) => AgentRequest::Hello(hello),
            Ask::Poll(poll) => {
                // Who started the members may have stopped waiting.
                self.polling.take().map(|polling| polling.try_send(()));
                AgentRequest::Poll(poll)
            }
            Ask::Report { .. } | Ask::Renew => bail!("a member without work has something to report or renew"),
        };
        let link = self.link.as_ref().context("a request without a connection")?;
        let connection = link.connection.clone();
        self.work.spawn(async move {
            let asked = request(&connection, &message, Priority::Control).await;
            Done::Answered(ticket, asked.map(|(answer, _)| answer).map_err(anyhow::Error::from))
        });
        Ok(())
    }

    fn done(&mut self, done: Done) -> Result<Event> {
        Ok(match done {
            Done::Connected(link, Ok(made)) => {
                self.link = Some(made);
                Event::Connected { link }
            }
            // A member that cannot be there makes the measurement wrong.
            Done::Connected(_, Err(error)) | Done::Answered(_, Err(error)) => return Err(error),
            Done::Answered(_, Ok(AgentResponse::Refused(refusal))) => {
                return Err(anyhow!(refusal).context("a member was refused"));
            }
            Done::Answered(ticket, Ok(response)) => Event::Answered { ticket, response },
        })
    }
}

fn config(member: &Member) -> agent::Config {
    agent::Config {
        id: member.id,
        name: member.name.clone(),
        host_labels: Labels::default(),
        enrolled_labels: Labels::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: Platform::default(),
        root: member.root.clone(),
        root_pin: member.root_pin,
        certificate_from: member.identity.not_before(),
        certificate_until: member.identity.not_after(),
        pacing: Pacing::Hold(HOLD),
        runs_max: 0,
        outbox_bytes_max: [0; 2],
        updates: Updates::default(),
    }
}

/// A key for receipts that nobody ever needs: a member runs nothing.
fn receipt_key() -> Result<PublicKey> {
    let key = MachineKey::from_seed(&Secret::new([1; 32]), [1; 8])?;
    Ok(key.public().clone())
}
