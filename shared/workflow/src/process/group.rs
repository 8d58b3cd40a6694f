//! The end of a process group.

use std::{io, time::Duration};

use rustix::process::{Pid, Signal};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

use super::{Ending, Known};

/// How soon a group that was asked to end is looked for again; each time is twice as long, up to the greatest.
const GROUP_POLL_MS: u64 = 5;
const GROUP_POLL_MS_MAX: u64 = 200;

/// Asks the group to end, makes it end when the grace is over, and takes the leader's status.
pub(super) async fn end(leader: &mut Child, known: &Known) -> io::Result<Ending> {
    known.asked.ask(known.id);
    let ended = async {
        let status = leader.wait().await;
        gone(|| vec![known.id]).await;
        status
    };
    let status = match timeout(known.grace, ended).await {
        Ok(status) => status,
        Err(_) => {
            signal(known.id, Signal::KILL);
            leader.wait().await
        }
    };
    status.map(Ending::of)
}

/// Resolves when nothing of the groups runs any more.
pub(super) async fn gone(groups: impl Fn() -> Vec<i32>) {
    let mut pause = GROUP_POLL_MS;
    while groups().into_iter().any(is_alive) {
        sleep(Duration::from_millis(pause)).await;
        pause = (2 * pause).min(GROUP_POLL_MS_MAX);
    }
}

pub(super) fn signal(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // A group that is gone already is what was wanted.
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Whether anything of the group still runs. A member that ended and that nobody has buried does not: in a
/// container the process that adopts orphans may never do it.
fn is_alive(group: i32) -> bool {
    let exists = Pid::from_raw(group).is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok());
    // Looking at every process is dear, and seldom needed.
    exists && std::fs::read_dir("/proc").map_or(true, |processes| has_running(group, processes))
}

fn has_running(group: i32, processes: std::fs::ReadDir) -> bool {
    processes.flatten().any(|process| {
        std::fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| is_running_in(group, &stat))
    })
}

/// Whether a line of `/proc/<pid>/stat` tells of a process in `group` that has not ended.
fn is_running_in(group: i32, stat: &str) -> bool {
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = fields.next();
    let its_group = fields.nth(1).and_then(|field| field.parse().ok());
    its_group == Some(group) && !matches!(state, Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_in_a_group_is_read_from_the_kernel() {
        for (stat, expected) in [
            ("12 (sleep) S 1 40 40 0 -1", true),
            ("12 (a) Z 9 40 (b) R 1 40 40", true),
            ("12 (sleep) Z 1 40 40 0 -1", false),
            ("12 (sleep) X 1 40 40 0 -1", false),
            ("12 (sleep) S 1 41 40 0 -1", false),
            ("", false),
        ] {
            assert_eq!(is_running_in(40, stat), expected, "{stat}");
        }
    }
}
