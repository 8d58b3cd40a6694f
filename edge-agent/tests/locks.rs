//! Locks and values of the state, held by several processes at once.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::{Running, agent, write};
use rustix::process::Signal;

/// A lock that nobody holds any more must be had sooner.
const SOON: Duration = Duration::from_secs(10);

/// Starts a run of one task with this body in a process of its own, in the state of `dir`.
fn start(dir: &Path, name: &str, body: &str) -> Running {
    write(dir, &format!("{name}.sloth"), &format!("task('{name}'):command(function()\n{body}\nend)\n"));
    let mut command = agent(&["run", &format!("{name}.sloth"), "--dir"]);
    command.arg(dir.join("state")).current_dir(dir).env("HOME", dir).env("TMPDIR", dir);
    Running::start(command)
}

fn ended_well(run: Running) -> String {
    let (out, errors, code) = run.end();
    assert_eq!(code, Some(0), "{out}\n--\n{errors}");
    out
}

#[test]
fn one_process_at_a_time_has_a_lock() {
    const PROCESSES: usize = 4;
    const ROUNDS: usize = 12;
    let dir = tempfile::tempdir().expect("a directory");
    let body = format!(
        "for _ = 1, {ROUNDS} do
            assert(state.with_lock('pool', function()
                assert(not fs.exists('{0}/inside'))
                fs.write('{0}/inside', 'x')
                local before = state.get('count', 0)
                goroutine.sleep(2)
                state.set('count', before + 1)
                fs.rm('{0}/inside')
                return true
            end))
        end
        return true",
        dir.path().display()
    );
    let runs: Vec<_> = (0..PROCESSES).map(|at| start(dir.path(), &format!("p{at}"), &body)).collect();
    runs.into_iter().for_each(|run| drop(ended_well(run)));
    let seen = ended_well(start(dir.path(), "look", "log.info('count is ' .. state.get('count')) return true"));
    assert!(seen.contains(&format!("count is {}", PROCESSES * ROUNDS)), "no change is lost: {seen}");
}

#[test]
fn the_lock_of_a_killed_process_goes_to_who_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut holder = start(dir.path(), "holder", "state.lock('deploy') log.info('has it') goroutine.sleep(600000)");
    holder.line_with("has it");
    let refused = "local had, reason = state.try_lock('deploy') log.info(reason) return not had";
    let told = ended_well(start(dir.path(), "refused", refused));
    assert!(told.contains(&format!("(process {})", holder.child.id())), "{told}");
    let late = "local had, reason = state.lock('deploy', '50ms') log.info(reason) return not had";
    assert!(ended_well(start(dir.path(), "late", late)).contains("the lock `deploy` is held by run"));

    let mut waiter = start(dir.path(), "waiter", "log.info('asks') assert(state.lock('deploy')) return true, 'had it'");
    waiter.line_with("asks");
    holder.signal(Signal::KILL);
    let killed = Instant::now();
    assert!(ended_well(waiter).contains("had it"));
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    // It went with the process that had it.
    ended_well(start(dir.path(), "after", "return (state.try_lock('deploy'))"));
}

#[test]
fn who_waits_longest_is_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut holder = start(
        dir.path(),
        "holder",
        &format!(
            "state.lock('q') log.info('has it')
            while not fs.exists('{}/go') do goroutine.sleep(5) end
            return state.unlock('q')",
            dir.path().display()
        ),
    );
    holder.line_with("has it");
    let body = format!(
        "-- Who has waited for so long stands in the queue.
        goroutine.spawn(function() goroutine.sleep(400) log.info('waits') end)
        assert(state.lock('q', '1m'))
        fs.append('{0}/order', this.name() .. ' ')
        goroutine.sleep(20)
        return state.unlock('q')",
        dir.path().display()
    );
    let mut waiters = Vec::new();
    for name in ["second", "third", "fourth"] {
        write(dir.path(), &format!("{name}.sloth"), &format!("task('{name}'):command(function(this)\n{body}\nend)\n"));
        let mut command = agent(&["run", &format!("{name}.sloth"), "--dir"]);
        command.arg(dir.path().join("state")).current_dir(dir.path()).env("HOME", dir.path());
        let mut run = Running::start(command);
        run.line_with("waits");
        waiters.push(run);
    }
    // One that is killed while it waits holds nobody up.
    waiters.remove(1).signal(Signal::KILL);
    write(dir.path(), "go", "");
    ended_well(holder);
    waiters.into_iter().for_each(|run| drop(ended_well(run)));
    assert_eq!(std::fs::read_to_string(dir.path().join("order")).expect("written"), "second fourth ");
}

#[test]
fn a_lock_with_a_time_to_live_is_lost_when_it_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut holder = start(
        dir.path(),
        "holder",
        &format!(
            "state.lock('short', nil, '300ms') log.info('has it')
            while not fs.exists('{}/go') do goroutine.sleep(5) end
            return not state.unlock('short')",
            dir.path().display()
        ),
    );
    holder.line_with("has it");
    ended_well(start(dir.path(), "next", "return (state.lock('short', '20s'))"));
    write(dir.path(), "go", "");
    ended_well(holder);
}
