//! How fast hosts become agents, and how fast agents come back.
//!
//! Both ends share this machine's processors, so the figures are of both. What the server alone takes is told beside.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use sloth_core::{Clock, Labels};
use sloth_protocol::wire::{AgentRequest, AgentResponse, Hello, PROTO_MAX, PROTO_MIN, Platform};
use sloth_transport::{CloseCode, Connector, Priority, request};
use tokio::task::JoinSet;

use crate::{
    Bench,
    bare::Bare,
    fleet::{Coordinator, Member, enrol},
    process::Process,
    report::{Bar, Figure},
    samples::{Samples, number},
};

/// Hosts that enrol.
const HOSTS: usize = 3_000;
const HOSTS_QUICK: usize = 64;
/// Clients at a time.
const CLIENTS: usize = 64;
/// Handshakes of each agent that comes back.
const RETURNS: usize = 40;
const RETURNS_QUICK: usize = 2;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let hosts = bench.pick(HOSTS, HOSTS_QUICK);
    let (mut enrolments, mut ours, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.pick(3, 1) {
        let coordinator = Coordinator::start(bench)?;
        let (rate, members) = enrol_many(&coordinator, hosts).await?;
        enrolments.push(rate);
        ours.push(come_back(bench, &coordinator.process, &members).await?);
        drop(coordinator);
        let bare = Bare::start(bench)?;
        let adopted = members.iter().map(|member| bare.adopt(member)).collect::<Result<Vec<_>>>()?;
        bares.push(come_back(bench, &bare.process, &adopted).await?);
    }
    let mut figures = Vec::new();
    if let Some(enrolments) = Samples::new(enrolments.iter().map(|rate| rate.per_second * 60.0).collect()) {
        let what = format!("enrolments, {CLIENTS} clients at once");
        figures.push(Figure::new(what, "/min", enrolments).bar(Bar::AtLeast(10_000.0)));
    }
    let server = Samples::new(enrolments.iter().map(|rate| rate.server_ms).collect());
    figures.extend(server.map(|server| Figure::new("the server's processor for each enrolment", "ms", server)));
    type Pick = fn(&Rate) -> f64;
    let kinds: [(&str, &str, Pick, Option<Bar>); 2] = [
        ("full mTLS handshakes with hello", "/s", |rate| rate.per_second, Some(Bar::RatioAtLeast(0.8))),
        ("the server's processor for each handshake", "ms", |rate| rate.server_ms, None),
    ];
    for (what, unit, pick, bar) in kinds {
        let pair = (Samples::new(ours.iter().map(pick).collect()), Samples::new(bares.iter().map(pick).collect()));
        let (Some(our), Some(peer)) = pair else { continue };
        let figure = Figure::new(what, unit, our).beside("bare quinn", peer);
        figures.push(bar.into_iter().fold(figure, Figure::bar));
    }
    Ok(figures)
}

/// How fast it went.
struct Rate {
    per_second: f64,
    /// The server's processor time for each.
    server_ms: f64,
}

impl Rate {
    fn of(count: usize, began: Instant, server: &Process, cpu_before: f64) -> Result<Self> {
        let per_second = number(count) / began.elapsed().as_secs_f64();
        Ok(Self { per_second, server_ms: (server.cpu_ms()? - cpu_before) / number(count) })
    }
}

async fn enrol_many(coordinator: &Coordinator, hosts: usize) -> Result<(Rate, Vec<Member>)> {
    let token = Arc::new(coordinator.operator().await?.token(u32::try_from(hosts)?).await?);
    let cpu_before = coordinator.process.cpu_ms()?;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let token = Arc::clone(&token);
        clients.spawn(async move {
            let mut members = Vec::new();
            for number in (client..hosts).step_by(CLIENTS) {
                members.push(enrol(&token, format!("host-{number}")).await?);
            }
            Ok::<_, anyhow::Error>(members)
        });
    }
    let mut members = Vec::new();
    while let Some(client) = clients.join_next().await {
        members.extend(client??);
    }
    Ok((Rate::of(hosts, began, &coordinator.process, cpu_before)?, members))
}

/// Has as many agents as there are clients connect, say hello and leave, again and again.
async fn come_back(bench: &Bench, server: &Process, members: &[Member]) -> Result<Rate> {
    let returns = bench.pick(RETURNS, RETURNS_QUICK);
    let cpu_before = server.cpu_ms()?;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for member in members.iter().take(CLIENTS) {
        let member = member.clone();
        clients.spawn(async move {
            for _ in 0..returns {
                hello(&member).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let count = clients.len() * returns;
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Rate::of(count, began, server, cpu_before)
}

async fn hello(member: &Member) -> Result<()> {
    let connector = Connector::enrolled(member.authority.clone(), member.identity.clone());
    let link = connector.connect(&member.addresses, Clock::new().now()).await?;
    let hello = AgentRequest::Hello(Hello {
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        features: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: Platform::default(),
        labels: Labels::default(),
        instance: 1,
    });
    let (answer, _) = request(&link.connection, &hello, Priority::Control).await?;
    let AgentResponse::Welcome(_) = answer else { anyhow::bail!("no welcome: {answer:?}") };
    CloseCode::Normal.close(&link.connection);
    Ok(())
}
