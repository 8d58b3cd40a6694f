//! From the order to the first task on an agent that holds a poll.
//!
//! A task's first act is to make a directory, and the kernel tells when: the agent's own word is not taken. The end is
//! therefore after the worker has started, the file was evaluated, and the attempt was committed to the journal.

use std::time::Instant;

use anyhow::{Result, ensure};
use sloth_core::fs::{Access, create_dir};

use crate::{
    Bench,
    fleet::{Agent, Coordinator, Held, Operator, Signs, enrol, hold},
    process,
    report::{Bar, Figure},
    samples::{Samples, millis},
};

const BUNDLE: &str = "sign";
const WORKFLOW: &str = "task('sign'):command(function() return fs.mkdir(values.sign) end)";
/// Agents that are connected in the second part.
const FLEET: usize = 200;
const FLEET_QUICK: usize = 5;
/// Members that connect at a time.
const AT_ONCE: usize = 32;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let coordinator = Coordinator::start(bench)?;
    let operator = coordinator.operator().await?;
    coordinator.publish(&coordinator.write_bundle(BUNDLE, "1", WORKFLOW)?)?;
    let fleet = bench.pick(FLEET, FLEET_QUICK);
    let token = operator.token(u32::try_from(fleet)?).await?;
    let agent = Agent::enrol(bench, &coordinator, &token, "real")?;
    let _process = agent.connect(&operator).await?;
    let signs = coordinator.dir().join("signs");
    create_dir(&signs, Access::Everyone)?;
    let mut row =
        Latency { coordinator: &coordinator, operator: &operator, agent, signs: Signs::watch(&signs)?, next: 0 };
    // The first run also fetches the bundle.
    row.on_the_wire().await?;
    let mut figures = row.figures(bench, 1).await?;
    let mut members = Vec::new();
    for number in 1..fleet {
        members.push(enrol(&token, format!("member-{number}")).await?);
    }
    let mut held: Held = hold(members, AT_ONCE).await?;
    figures.extend(row.figures(bench, fleet).await?);
    let failure = held.failure();
    ensure!(failure.is_none(), "a member gave up: {}", failure.unwrap_or_default());
    Ok(figures)
}

struct Latency<'a> {
    coordinator: &'a Coordinator,
    operator: &'a Operator,
    agent: Agent,
    signs: Signs,
    next: usize,
}

/// Milliseconds to the first task.
struct Waits {
    from_request: f64,
    from_answer: f64,
}

impl Latency<'_> {
    async fn figures(&mut self, bench: &Bench, connected: usize) -> Result<Vec<Figure>> {
        let (mut requests, mut answers, mut commands, mut releases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.pick(300, 5) {
            let waits = self.on_the_wire().await?;
            requests.push(waits.from_request);
            answers.push(waits.from_answer);
        }
        for _ in 0..bench.pick(40, 2) {
            commands.push(self.by_command().await?);
        }
        for _ in 0..bench.pick(20, 2) {
            releases.push(self.of_a_new_release().await?);
        }
        let agents = if connected == 1 { "1 agent".to_owned() } else { format!("{connected} agents") };
        let mut figures = Vec::new();
        for (what, waits, bar) in [
            ("request to start a run sent", requests, Some(Bar::AtMost(20.0))),
            ("the coordinator's answer, run committed", answers, None),
            ("start of `sloth-coord run`", commands, None),
            ("start of `sloth-coord publish` of a new release, then `run`", releases, None),
        ] {
            let Some(waits) = Samples::new(waits) else { continue };
            let p99 = Samples::one(waits.quantile(990));
            let figure = Figure::new(format!("{agents}: {what} → task, p50"), "ms", waits);
            figures.push(bar.into_iter().fold(figure, Figure::bar));
            if bar.is_some() {
                figures.push(Figure::new(format!("{agents}: {what} → task, p99"), "ms", p99));
            }
        }
        Ok(figures)
    }

    fn sign(&mut self) -> String {
        self.next += 1;
        format!("{}", self.next)
    }

    /// The wait of a run that is asked for on a connection that is open.
    async fn on_the_wire(&mut self) -> Result<Waits> {
        let sign = self.sign();
        let values = serde_json::json!({ "sign": self.signs.path(&sign) }).to_string();
        let selector = self.agent.selector();
        let asked = Instant::now();
        let run = self.operator.start_run(BUNDLE, &selector, values).await?;
        let answered = Instant::now();
        let begun = self.signs.when(&sign).await?;
        self.operator.wait_for(run).await?;
        let whole = millis(begun.saturating_duration_since(asked));
        Ok(Waits { from_request: whole, from_answer: whole - millis(answered.duration_since(asked)) })
    }

    /// The wait of a run that a command asks for.
    async fn by_command(&mut self) -> Result<f64> {
        let sign = self.sign();
        let began = Instant::now();
        self.run_command(&sign)?;
        let begun = self.signs.when(&sign).await?;
        Ok(millis(begun.saturating_duration_since(began)))
    }

    /// The wait of a release that is published and run by commands.
    async fn of_a_new_release(&mut self) -> Result<f64> {
        let sign = self.sign();
        let workflow = format!("{WORKFLOW}\n-- {sign}");
        let bundle = self.coordinator.write_bundle(BUNDLE, &format!("1.{sign}"), &workflow)?;
        let began = Instant::now();
        self.coordinator.publish(&bundle)?;
        self.run_command(&sign)?;
        let begun = self.signs.when(&sign).await?;
        Ok(millis(begun.saturating_duration_since(began)))
    }

    fn run_command(&self, sign: &str) -> Result<()> {
        let set = format!("sign={}", self.signs.path(sign).display());
        let mut command = self.coordinator.command(["run", BUNDLE, "--on"]);
        process::run(command.arg(self.agent.selector()).args(["--set", &set])).map(drop)
    }
}
