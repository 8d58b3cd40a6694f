//! What one planning of a rollout takes: every host is looked at.

use std::time::Instant;

use anyhow::{Result, ensure};
use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    rollout::{Contact, Cuts, EVERYTHING, Host, Presence, Progress, Situation, Spec, Standing, Verdict, plan},
    wire::{Approval, OnHalt, RolloutBundle, RolloutSpec, RolloutStatus, RolloutWhat, Share, WaveMembers, WaveSpec},
};

use super::repeat;
use crate::{
    Bench,
    report::{Bar, Figure},
    samples::millis,
};

const HOSTS: u64 = 100_000;
const HOSTS_QUICK: u64 = 1_000;
const NOW: Millis = Millis::from_secs(1_700_000_000);
const MINUTE: Millis = Millis::from_secs(60);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let count = bench.pick(HOSTS, HOSTS_QUICK);
    let repeats = bench.pick(21, 1);
    let spec = Spec::new(&spec())?;
    let ids: Vec<AgentId> = (0..count).map(|number| AgentId::new(NOW, u128::from(number) << 40)).collect();
    let salt = Cuts::salt("bench", "web", 1);
    let settled = repeat(repeats, || {
        let began = Instant::now();
        let cuts = Cuts::settle(&spec, salt, ids.iter().copied(), |_, _| false);
        ensure!(cuts.last().len() == spec.waves.len(), "a place for each wave");
        Ok(millis(began.elapsed()))
    })?;
    let cuts = Cuts::settle(&spec, salt, ids.iter().copied(), |_, _| false);
    let placed = repeat(repeats, || {
        let began = Instant::now();
        let hosts = hosts(&ids, &cuts, &spec, |_| Standing::Waiting);
        ensure!(hosts.len() == ids.len(), "a row for each host");
        Ok(millis(began.elapsed()))
    })?;
    let waiting = hosts(&ids, &cuts, &spec, |_| Standing::Waiting);
    let assigning = repeat(repeats, || planned(&spec, &waiting, |verdict| matches!(verdict, Verdict::Assign(_))))?;
    let proven = |number: usize| if number == 0 { Standing::Assigned { at: NOW } } else { Standing::Proven };
    let late = hosts(&ids, &cuts, &spec, proven);
    let watching = repeat(repeats, || planned(&spec, &late, |verdict| matches!(verdict, Verdict::Wait(_))))?;
    let bar = Bar::AtMost(200.0);
    Ok(vec![
        Figure::new(format!("{count} hosts divided into four waves"), "ms", settled).bar(bar),
        Figure::new(format!("{count} hosts placed in their waves"), "ms", placed).bar(bar),
        Figure::new(format!("{count} hosts planned, all to be assigned"), "ms", assigning).bar(bar),
        Figure::new(format!("{count} hosts planned, all but one proven"), "ms", watching).bar(bar),
    ])
}

fn planned(spec: &Spec, hosts: &[Host], expected: impl Fn(&Verdict) -> bool) -> Result<f64> {
    let open = spec.waves.len();
    let progress = Progress { status: RolloutStatus::Running, open, approved: 0, passed: 0 };
    let began = Instant::now();
    let plan = plan(&Situation { now: NOW + MINUTE, spec, progress, hosts });
    let took = millis(began.elapsed());
    ensure!(expected(&plan.verdict), "another verdict");
    Ok(took)
}

fn hosts(ids: &[AgentId], cuts: &Cuts, spec: &Spec, standing: impl Fn(usize) -> Standing) -> Vec<Host> {
    let heard = Some(NOW + MINUTE);
    let contact = Contact { presence: Presence::Connected, heard, quiet_from: NOW, rhythm: MINUTE };
    let host = |(number, id): (usize, &AgentId)| Host {
        id: *id,
        wave: cuts.wave_of(spec, *id, |_| false),
        place: cuts.place(*id),
        standing: standing(number),
        contact,
    };
    ids.iter().enumerate().map(host).collect()
}

fn spec() -> RolloutSpec {
    let share = |percent: u32| WaveMembers::UpTo(Share::Hundredths(percent * 100));
    let wave = |members| WaveSpec { members, soak: MINUTE, approval: Approval::NotNeeded };
    let all = Share::Hundredths(EVERYTHING);
    let bundle = RolloutBundle { name: "web".to_owned(), version: None, workflow: None, values: "{}".to_owned() };
    RolloutSpec {
        name: "bench".to_owned(),
        what: RolloutWhat::Bundle(bundle),
        selector: "*".to_owned(),
        waves: [1, 10, 50, 100].map(|percent| wave(share(percent))).to_vec(),
        errors_per_wave: Share::Hundredths(200),
        errors_in_all: all,
        unproven_max: all,
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: 3,
        timeout: Millis::from_secs(3600),
        on_halt: OnHalt::Stop,
    }
}
