//! Programs that run beside this one, and what they take.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::samples::number;

/// How long a program that was asked to stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// What `/proc` counts processor time in, on every Linux.
const TICK_MS: f64 = 10.0;
/// How often something that has no way to tell is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A program that is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// What a process has in memory, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Its proportional share.
    pub(crate) pss: f64,
    /// Of that, what is its own and no file's.
    pub(crate) anonymous: f64,
}

impl Memory {
    /// What the process of this number has now.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
        Ok(Self { pss: kib(&text, "Pss:")?, anonymous: kib(&text, "Pss_Anon:")? })
    }
}

impl Memory {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { pss: self.pss + other.pss, anonymous: self.anonymous + other.anonymous }
    }
}

impl Process {
    /// Starts `command` with its output in the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot create `{}`", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self { child: child.with_context(|| format!("cannot start {command:?}"))? })
    }

    /// Takes on a program that was started otherwise.
    pub(crate) const fn of(child: Child) -> Self {
        Self { child }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has in memory now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.id())
    }

    /// The processor time that it ever took, in milliseconds, to the hundredth of a second.
    pub(crate) fn cpu_ms(&self) -> Result<f64> {
        ticks_ms(self.id(), 2)
    }

    /// Asks it to stop and waits until it did.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
        kill_process(pid, Signal::TERM)?;
        let patient_until = Instant::now() + STOP_PATIENCE;
        while self.child.try_wait()?.is_none() {
            if patient_until < Instant::now() {
                self.child.kill()?;
                self.child.wait()?;
                bail!("process {} did not stop in time", self.id());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            crate::note(format_args!("{error:#}"));
        }
    }
}

/// The processor time that this process ever took, and those that it has waited for, in milliseconds, to the hundredth of a
/// second.
pub(crate) fn cpu_with_ended_ms(process: u32) -> Result<f64> {
    ticks_ms(process, 4)
}

/// The sum of the first of the four counters of processor time: its own as user and as system, and the same of those that
/// it has waited for.
fn ticks_ms(process: u32, counters: usize) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(counters).filter_map(|word| word.parse::<u64>().ok());
    Ok(number(ticks.sum::<u64>()) * TICK_MS)
}

/// The processes that this one has started, on whichever of its threads, and that are there.
pub(crate) fn children(process: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{process}/task");
    let threads = std::fs::read_dir(&path).with_context(|| format!("cannot read `{path}`"))?;
    let mut found = Vec::new();
    for thread in threads {
        let text = std::fs::read_to_string(thread?.path().join("children"))?;
        found.extend(text.split_whitespace().filter_map(|number| number.parse::<u32>().ok()));
    }
    Ok(found)
}

/// Runs `command` to its end and gives what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end with its output thrown away, and gives how long that took.
pub(crate) fn time(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    let took = began.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(took)
}

/// What a run of a command takes, its children included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// The processor's time.
    pub(crate) cpu: Duration,
    /// From start to end.
    pub(crate) wall: Duration,
}

/// As [`time`], with the processor's time of the command and of all that it waited for.
pub(crate) fn cost(command: &mut Command) -> Result<Cost> {
    // The shell tells it by the millisecond; what `/proc` has of children is ten times coarser.
    let mut line = Command::new("bash");
    line.args(["-c", "\"$@\" >/dev/null 2>&1 || exit; times", "bash"]).arg(command.get_program());
    line.args(command.get_args()).stdin(Stdio::null());
    line.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let began = Instant::now();
    let output = line.output().with_context(|| format!("cannot start {command:?}"))?;
    let wall = began.elapsed();
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let spans = text.lines().nth(1).unwrap_or_default().split_whitespace().map(span);
    let cpu = spans.sum::<Option<Duration>>().with_context(|| format!("`times` says `{text}`"))?;
    Ok(Cost { cpu, wall })
}

/// Reads `0m1.234s`.
fn span(text: &str) -> Option<Duration> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(Duration::from_secs(60 * minutes.parse::<u64>().ok()?) + Duration::from_secs_f64(seconds.parse().ok()?))
}

fn kib(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no `{name}`"))?;
    let word = line.split_whitespace().next().unwrap_or_default();
    Ok(number(word.parse::<u64>().with_context(|| format!("`{name}` is `{word}`"))?))
}
