//! What an update of an agent costs its host, from the order to the end of the trial, and for how long nobody polls.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sloth_core::fs::{Access, replace};

use crate::{
    Bench,
    fleet::{Agent, Coordinator},
    process::{self, Process, children},
    report::{Bar, Figure},
    samples::{Samples, millis},
};

/// The version of the shipped program, and that of the same program which updates it; they are of one length.
const OWN: &[u8] = env!("CARGO_PKG_VERSION").as_bytes();
const NEW: &str = "9.9.9";
/// Polls are held for so long, and the trial goes on for as long as one poll and the soak.
const SETTINGS: &str = "hold = '3s'\n[update]\ntrial = '30s'\nsoak = '1s'\n";
/// What the coordinator counts of polls that wait for work.
const POLLS_HELD: &str = "sloth_polls_held";
/// How often that is looked at: what the figure is exact to.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long an update may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let bench = &Bench { programs: bench.shipped.clone(), ..bench.clone() };
    let coordinator = Coordinator::start(bench)?;
    let operator = coordinator.operator().await?;
    let agent = Agent::enrol(bench, &coordinator, &operator.token(1).await?, "updated")?;
    replace(&agent.settings(), SETTINGS.as_bytes(), Access::Owner)?;
    let old = bench.programs.join("sloth-agent");
    let new = newer(&coordinator, &std::fs::read(&old)?)?;
    let key = coordinator.dir().join("publisher.key");
    let mut publish = coordinator.command(["release", "publish", "--version", NEW, "--file"]);
    process::run(publish.arg(&new).arg("--delta-from").arg(&old).arg("--key").arg(key))?;
    let process = agent.supervise(&operator).await?;
    let before = cpu_ms(&process)?;
    process::run(&mut coordinator.command(["release", "assign", NEW, "--on", "updated"]))?;
    let away = longest_gap(&coordinator, &agent).await?;
    let spent = cpu_ms(&process)? - before;
    let cpu = "processor of supervisor and daemons, from the order to the end of the trial";
    Ok(vec![
        Figure::new(cpu, "ms", Samples::one(spent)).bar(Bar::AtMost(2000.0)),
        Figure::new("longest time without a poll", "ms", Samples::one(away)).bar(Bar::AtMost(3000.0)),
    ])
}

/// The shipped program under another version.
fn newer(coordinator: &Coordinator, old: &[u8]) -> Result<PathBuf> {
    ensure!(OWN.len() == NEW.len(), "the version is longer than `{NEW}`");
    let mut bytes = old.to_vec();
    let places = old.windows(OWN.len()).enumerate().filter(|(_, window)| *window == OWN);
    for (at, _) in places {
        bytes.splice(at..at + NEW.len(), NEW.bytes());
    }
    let path = coordinator.dir().join("newer");
    replace(&path, &bytes, Access::Owner)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

/// For how long no poll was held at most, in milliseconds, until the new version is confirmed.
async fn longest_gap(coordinator: &Coordinator, agent: &Agent) -> Result<f64> {
    let (began, mut held_at, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while !agent.update_status()?.contains(&format!("to {NEW}, confirmed")) {
        ensure!(began.elapsed() < PATIENCE, "the update is not confirmed within {PATIENCE:?}");
        let looked = Instant::now();
        while looked.elapsed() < Duration::from_millis(500) {
            if 0.5 < coordinator.metric(POLLS_HELD)?.unwrap_or(0.0) {
                longest = longest.max(held_at.elapsed());
                held_at = Instant::now();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(millis(longest))
}

/// What the supervisor, the daemon that runs and those that have ended took.
fn cpu_ms(supervisor: &Process) -> Result<f64> {
    let own = process::cpu_with_ended_ms(supervisor.id())?;
    children(supervisor.id())?.into_iter().try_fold(own, |sum, child| Ok(sum + process::cpu_with_ended_ms(child)?))
}
