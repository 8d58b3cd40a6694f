//! What each connected agent takes at the coordinator, beside a bare QUIC server.
//!
//! Every connection has a socket of its own, is authenticated on both sides, and has one poll held. The figure is what
//! the process grew by between no connection and all of them, over their number.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    Bench,
    bare::Bare,
    fleet::{Coordinator, Member, enrol, hold},
    process::Process,
    report::{Bar, Figure},
    samples::{Samples, number},
};

/// Connections.
const FLEET: usize = 2_000;
const FLEET_QUICK: usize = 50;
/// Connections that are made at a time.
const AT_ONCE: usize = 32;
/// What a server is given to come to rest.
const SETTLE: Duration = Duration::from_secs(5);
const SETTLE_QUICK: Duration = Duration::from_millis(200);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = bench.pick(FLEET, FLEET_QUICK);
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..bench.pick(3, 1) {
        let members = members(bench, fleet).await?;
        let coordinator = members.coordinator;
        ours.push(grow(bench, &coordinator.process, members.enrolled.clone()).await?);
        drop(coordinator);
        let bare = Bare::start(bench)?;
        let adopted = members.enrolled.iter().map(|member| bare.adopt(member)).collect::<Result<_>>()?;
        bares.push(grow(bench, &bare.process, adopted).await?);
    }
    let mut figures = Vec::new();
    type Pick = fn(&Growth) -> f64;
    let kinds: [(&str, &str, Pick, Option<Bar>); 3] = [
        ("PSS", "KiB", |growth| growth.pss, Some(Bar::RatioAtMost(1.2))),
        ("anonymous", "KiB", |growth| growth.anonymous, Some(Bar::RatioAtMost(1.2))),
        ("processor to connect", "ms", |growth| growth.cpu_ms, None),
    ];
    for (what, unit, pick, bar) in kinds {
        let pair = (Samples::new(ours.iter().map(pick).collect()), Samples::new(bares.iter().map(pick).collect()));
        let (Some(our), Some(peer)) = pair else { continue };
        let figure = Figure::new(format!("each of {fleet} agents: {what}"), unit, our).beside("bare quinn", peer);
        figures.push(bar.into_iter().fold(figure, Figure::bar));
    }
    let all: Vec<_> = ours.iter().map(|growth| growth.whole_mib).collect();
    figures.extend(Samples::new(all).map(|all| Figure::new(format!("all of it with {fleet} agents: PSS"), "MiB", all)));
    Ok(figures)
}

struct Members {
    coordinator: Coordinator,
    enrolled: Vec<Member>,
}

/// A coordinator that was started anew after `count` agents had enrolled.
async fn members(bench: &Bench, count: usize) -> Result<Members> {
    let mut coordinator = Coordinator::start(bench)?;
    let token = coordinator.operator().await?.token(u32::try_from(count)?).await?;
    let mut enrolled = Vec::new();
    for number in 0..count {
        enrolled.push(enrol(&token, format!("member-{number}")).await?);
    }
    coordinator.restart()?;
    Ok(Members { coordinator, enrolled })
}

/// What one connection takes.
struct Growth {
    pss: f64,
    anonymous: f64,
    cpu_ms: f64,
    whole_mib: f64,
}

async fn grow(bench: &Bench, server: &Process, members: Vec<Member>) -> Result<Growth> {
    let settle = bench.pick(SETTLE, SETTLE_QUICK);
    let count = number(members.len());
    // The first connection also brings what all share.
    let (first, rest) = members.split_at(1);
    let mut one = hold(first.to_vec(), AT_ONCE).await?;
    tokio::time::sleep(settle).await;
    let (before, cpu_before) = (server.memory()?, server.cpu_ms()?);
    let mut held = hold(rest.to_vec(), AT_ONCE).await?;
    let cpu = server.cpu_ms()?;
    tokio::time::sleep(settle).await;
    let after = server.memory()?;
    let failure = one.failure().or_else(|| held.failure());
    ensure!(failure.is_none(), "a connection ended: {}", failure.unwrap_or_default());
    let each = |whole: f64| whole / (count - 1.0);
    Ok(Growth {
        pss: each(after.pss - before.pss),
        anonymous: each(after.anonymous - before.anonymous),
        cpu_ms: each(cpu - cpu_before),
        whole_mib: after.pss / 1024.0,
    })
}
