//! Processes that a run left behind: found, and ended.
//!
//! A run's processes are those of its worker's session, and those whose environment names the run. The first is known
//! while the worker is, the second survives the daemon too: what is found after a crash is ended before the run goes
//! on, so that no task runs twice at a time.

use std::{collections::BTreeSet, fs::File, io::Read, path::Path, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sloth_core::RunId;

/// The environment variable that names the run, in its worker and in every command that it starts.
pub const RUN_VARIABLE: &str = "SLOTH_RUN_ID";

/// Most bytes of an environment that are read: what the system allows for one.
const ENVIRONMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes of a process's line in `/proc`.
const STAT_BYTES_MAX: u64 = 4 * 1024;
/// How often processes are looked for and killed: one may start another just before it dies.
const ROUNDS_MAX: u32 = 100;
/// The wait between two looks.
const ROUND_MS: u64 = 10;

/// Which processes are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// Those of these runs.
    pub runs: BTreeSet<RunId>,
    /// Those of this session. It must be the caller's own, or that of a child that was not waited for yet: other
    /// numbers may mean anything by now.
    pub session: Option<u32>,
}

/// A process that is meant.
struct Found {
    process: rustix::fd::OwnedFd,
}

impl Whose {
    /// The processes of one run, and of its worker's session where the worker is known.
    #[must_use]
    pub fn run(run: RunId, session: Option<u32>) -> Self {
        Self { runs: BTreeSet::from([run]), session }
    }
}

/// Sends `signal` to the processes that are meant, but never to the caller. Says how many there were.
#[must_use]
pub fn signal(whose: &Whose, signal: Signal) -> usize {
    let found = find(whose);
    for Found { process } in &found {
        // One that ended since it was found is what was wanted.
        let _ = pidfd_send_signal(process, signal);
    }
    found.len()
}

/// Kills the processes that are meant, and waits until they are gone. Blocks for a second at most, and says whether
/// any is left: one that the system does not let go of, or does not let us kill.
#[must_use]
pub fn kill(whose: &Whose) -> bool {
    for _ in 0..ROUNDS_MAX {
        if signal(whose, Signal::KILL) == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(ROUND_MS));
    }
    false
}

fn find(whose: &Whose) -> Vec<Found> {
    let wanted: Vec<Vec<u8>> = whose.runs.iter().map(|run| format!("{RUN_VARIABLE}={run}").into_bytes()).collect();
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| *id != own).filter_map(|id| look(id, whose.session, &wanted)).collect()
}

/// The process `id`, if it is meant. It is held before it is looked at, so that its number cannot come to mean another.
fn look(id: u32, session: Option<u32>, wanted: &[Vec<u8>]) -> Option<Found> {
    let process = pidfd_open(Pid::from_raw(i32::try_from(id).ok()?)?, PidfdFlags::empty()).ok()?;
    let dir = Path::new("/proc").join(id.to_string());
    let stat = stat(&read(&dir.join("stat"), STAT_BYTES_MAX)?)?;
    if stat.is_dead {
        return None;
    }
    let in_session = session == Some(stat.session);
    let meant = in_session || (!wanted.is_empty() && names_run(&dir.join("environ"), wanted));
    meant.then_some(Found { process })
}

struct Stat {
    session: u32,
    /// It has ended and only waits for its parent.
    is_dead: bool,
}

/// `id (name) state parent group session …`, where the name may hold anything.
fn stat(line: &[u8]) -> Option<Stat> {
    let after = line.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(line.get(after..)?).ok()?.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    Some(Stat { session: fields.nth(2)?.parse().ok()?, is_dead })
}

fn names_run(environ: &Path, wanted: &[Vec<u8>]) -> bool {
    let Some(environment) = read(environ, ENVIRONMENT_BYTES_MAX) else { return false };
    environment.split(|byte| *byte == 0).any(|variable| wanted.iter().any(|wanted| wanted == variable))
}

fn read(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        io::BufRead,
        os::unix::process::ExitStatusExt,
        process::{Child, Command, Stdio},
    };

    use sloth_core::Millis;

    use super::*;

    fn run_id(n: u128) -> RunId {
        RunId::new(Millis::from_secs(1_700_000_000), u128::from(std::process::id()) << 16 | n)
    }

    /// A process of a run that has started one of its own, in a session of its own, and says so.
    fn process(run: RunId) -> (Child, u32) {
        let mut child = Command::new("sh")
            .args(["-c", "setsid sleep 1000 & echo $!; exec sleep 1000"])
            .env(RUN_VARIABLE, run.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("read");
        (child, line.trim().parse().expect("a number"))
    }

    fn is_alive(id: u32) -> bool {
        let stat = read(&Path::new("/proc").join(id.to_string()).join("stat"), STAT_BYTES_MAX);
        stat.and_then(|line| super::stat(&line)).is_some_and(|stat| !stat.is_dead)
    }

    #[test]
    fn the_processes_of_a_run_are_ended_and_no_others() {
        let (mut first, first_child) = process(run_id(1));
        let (mut other, other_child) = process(run_id(2));
        assert!(kill(&Whose::run(run_id(1), None)));
        assert_eq!(first.wait().expect("waited for").signal(), Some(9));
        assert!(!is_alive(first_child));
        assert!(is_alive(other_child) && other.try_wait().expect("asked").is_none());
        assert!(kill(&Whose { runs: BTreeSet::from([run_id(2), run_id(3)]), session: None }));
        assert_eq!(other.wait().expect("waited for").signal(), Some(9));
        assert!(!is_alive(other_child));
    }

    #[test]
    fn a_session_is_ended_as_a_whole() {
        let mut leader = Command::new("setsid")
            .args(["sh", "-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(leader.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("read");
        let whose = Whose { runs: BTreeSet::new(), session: Some(leader.id()) };
        assert_eq!(signal(&whose, Signal::TERM), 2);
        assert_eq!(leader.wait().expect("waited for").signal(), Some(15));
        assert!(kill(&whose));
        assert!(!is_alive(line.trim().parse().expect("a number")));
    }

    #[test]
    fn a_name_with_anything_in_it_is_no_trouble() {
        let stat = stat(b"42 (a) b) c) S 1 2 3 0 -1").expect("readable");
        assert_eq!((stat.session, stat.is_dead), (3, false));
        assert!(super::stat(b"42 (a) Z 1 2 3 0").expect("readable").is_dead);
        assert!(super::stat(b"").is_none());
    }
}
