//! Tasks that start a program, beside the system's own rate of starting it and beside ninja.

use std::{
    fmt::Write,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::write;
use crate::{
    Bench, process,
    report::{Bar, Figure},
    samples::{Samples, number},
};

/// Tasks of each run, with no dependency on each other.
const TASKS: usize = 2_000;
const TASKS_QUICK: usize = 50;
/// What a shell line is given to.
const SHELL: &str = "bash";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let tasks = bench.pick(TASKS, TASKS_QUICK);
    let repeats = bench.pick(7, 1);
    let cores = std::thread::available_parallelism()?.get();
    let dir = bench.directory()?;
    write(dir.path(), "list.sloth", &workflow(tasks, cores, "exec.run({ 'true' })"))?;
    write(dir.path(), "line.sloth", &workflow(tasks, cores, "exec.run('true')"))?;
    let program = bench.programs.join("sloth-agent");
    let run = |name: &str| {
        let mut command = Command::new(&program);
        let command = command.arg("run").arg(dir.path().join(name)).arg("--dir").arg(dir.path());
        Ok::<_, anyhow::Error>(number(tasks) / process::time(command)?.as_secs_f64())
    };
    let (mut lists, mut lines) = (Vec::new(), Vec::new());
    let (mut spawns, mut captures, mut shells, mut ninjas) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // In turns, so that what else the machine does falls on all alike.
    for _ in 0..repeats {
        lists.push(run("list.sloth")?);
        spawns.push(spawn_rate(tasks, cores, Output::Thrown, &["/bin/true"])?);
        captures.push(spawn_rate(tasks, cores, Output::Captured, &["/bin/true"])?);
        lines.push(run("line.sloth")?);
        shells.push(spawn_rate(tasks, cores, Output::Thrown, &[SHELL, "-c", "true"])?);
        ninjas.push(ninja(bench, tasks, cores)?);
    }
    let at_once = format!("{tasks} tasks, {cores} at once");
    let mut figures = Vec::new();
    let kinds = [
        ("`exec.run({ \"true\" })`", &lists, "bare `/bin/true`", spawns, Some(Bar::RatioAtLeast(0.9))),
        ("`exec.run({ \"true\" })`", &lists, "`/bin/true`, output captured", captures, None),
        ("`exec.run(\"true\")`", &lines, "bare `bash -c true`", shells, Some(Bar::RatioAtLeast(0.9))),
        ("`exec.run({ \"true\" })`", &lists, "ninja (`sh -c true`)", ninjas, None),
    ];
    for (what, ours, peer, theirs, bar) in kinds {
        let (Some(ours), Some(theirs)) = (Samples::new(ours.clone()), Samples::new(theirs)) else { continue };
        let figure = Figure::new(format!("{what}: {at_once}"), "/s", ours).beside(peer, theirs);
        figures.push(bar.into_iter().fold(figure, Figure::bar));
    }
    Ok(figures)
}

fn workflow(tasks: usize, parallel: usize, call: &str) -> String {
    format!(
        "local tasks = {{}}\n\
         for i = 1, {tasks} do\n\
             tasks[i] = task('t' .. i):command(function() return {call}.success end)\n\
         end\n\
         workflow.define('bench'):tasks(tasks):config({{ max_parallel_tasks = {parallel} }})\n"
    )
}

/// What becomes of what a bare process prints.
#[derive(Clone, Copy)]
enum Output {
    /// It goes to `/dev/null`.
    Thrown,
    /// It is read from two pipes, as tasks' output is.
    Captured,
}

/// How many processes a second `threads` threads start and wait for, each one after the other.
fn spawn_rate(count: usize, threads: usize, output: Output, words: &[&str]) -> Result<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let start_all = || -> Result<()> {
            for _ in 0..count / threads {
                let (program, arguments) = words.split_first().context("no program")?;
                let mut command = Command::new(program);
                command.args(arguments).stdin(Stdio::null());
                match output {
                    Output::Thrown => drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?),
                    Output::Captured => drop(command.output()?),
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(start_all)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread died")))
    })?;
    Ok(number(count / threads * threads) / began.elapsed().as_secs_f64())
}

/// How many commands a second ninja runs.
fn ninja(bench: &Bench, count: usize, parallel: usize) -> Result<f64> {
    let dir = bench.directory()?;
    let mut text = String::from("rule r\n  command = true\n");
    for number in 0..count {
        writeln!(text, "build t{number}: r")?;
    }
    write(dir.path(), "build.ninja", &text)?;
    let mut command = Command::new("ninja");
    command.arg("--quiet").arg("-j").arg(parallel.to_string()).arg("-C").arg(Path::new(dir.path()));
    Ok(number(count) / process::time(&mut command)?.as_secs_f64())
}
