//! Workers: they run a random DAG of tasks by the rules that the real worker keeps.
//!
//! An attempt is begun only after the daemon said so, and what depends on a task only after the daemon noted its
//! end. Frames to the daemon arrive in the order they were sent.

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{Digest, Millis, RunId};
use sloth_protocol::{
    agent::{Event, Start},
    random::Random,
    wire::{LogStream, OnInterrupt, RunEnd, RunOutcome, TaskEnd, TaskName, TaskStatus},
};

const TASKS_MAX: u64 = 6;
const ATTEMPTS_MAX: u64 = 3;
/// Longest that an attempt usually takes, and now and then.
const TASK_MS: u64 = 8_000;
const LONG_TASK_MS: u64 = 90_000;

/// One task of the DAG.
#[derive(Debug, Clone)]
struct Task {
    name: TaskName,
    needs: Vec<usize>,
    attempts: u32,
    idempotent: bool,
    duration: u64,
    /// In a thousand.
    failure: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Asked {
        attempt: u32,
    },
    Running {
        attempt: u32,
    },
    /// Its end is on its way to the daemon.
    Ending {
        ok: bool,
    },
    Ended {
        ok: bool,
    },
}

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    /// Tells it from every other worker of the simulation.
    pub id: u64,
    run: RunId,
    tasks: Vec<Task>,
    progress: Vec<Progress>,
    begun: BTreeMap<TaskName, u32>,
    /// Whether it was told to stop.
    pub stopping: bool,
    /// When its last frame arrives.
    pub last_frame: Millis,
}

/// What happens inside a worker.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// An attempt at the task with this place is over.
    Done(usize, u32),
    /// The process dies.
    Die,
    /// It has stopped, as it was told to.
    Stopped,
}

/// What a worker does about it.
#[derive(Debug)]
pub(super) enum Deed {
    /// Sends a frame to the daemon.
    Say(Event),
    /// Works for so long.
    Work(Step, u64),
    /// Is gone after its last frame.
    Exit,
}

impl Worker {
    pub(super) fn new(id: u64, start: &Start, now: Millis) -> Self {
        let tasks = dag(start.job.manifest);
        let ended: BTreeMap<&TaskName, bool> =
            start.ended.iter().map(|end| (&end.task, succeeded(end.status))).collect();
        let progress = tasks
            .iter()
            .map(|task| ended.get(&task.name).map_or(Progress::Waiting, |ok| Progress::Ended { ok: *ok }))
            .collect();
        let begun = start.attempts.clone();
        Self { id, run: start.job.run, tasks, progress, begun, stopping: false, last_frame: now }
    }

    /// Begins what can be begun, or ends the run.
    pub(super) fn advance(&mut self, now: Millis) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for place in 0..self.tasks.len() {
            if self.stopping || self.progress[place] != Progress::Waiting {
                continue;
            }
            match self.ready(place) {
                None => {}
                Some(true) => deeds.push(self.ask(place)),
                Some(false) => {
                    self.progress[place] = Progress::Ending { ok: false };
                    deeds.push(self.end(place, TaskStatus::Skipped, 0, now));
                }
            }
        }
        if self.progress.iter().all(|progress| matches!(progress, Progress::Ended { .. })) {
            let ok = self.progress.iter().all(|progress| *progress == Progress::Ended { ok: true });
            deeds.push(self.end_run(if ok { RunOutcome::Succeeded } else { RunOutcome::Failed }));
            deeds.push(Deed::Exit);
        }
        deeds
    }

    /// The daemon said that an attempt may begin.
    pub(super) fn go(&mut self, task: &TaskName, random: &mut Random) -> Vec<Deed> {
        let Some(place) = self.place(task) else { return Vec::new() };
        let Progress::Asked { attempt } = self.progress[place] else { return Vec::new() };
        self.progress[place] = Progress::Running { attempt };
        let mut deeds = Vec::new();
        for line in 0..random.below(3) {
            let text = format!("line {line} of {task}, attempt {attempt}");
            deeds.push(Deed::Say(Event::Logged {
                run: self.run,
                task: Some(task.clone()),
                stream: LogStream::Stdout,
                text,
            }));
        }
        deeds.push(Deed::Work(Step::Done(place, attempt), 1 + random.below(self.tasks[place].duration)));
        deeds
    }

    /// The daemon has noted a task's end.
    pub(super) fn noted(&mut self, task: &TaskName, now: Millis) -> Vec<Deed> {
        if let Some(place) = self.place(task)
            && let Progress::Ending { ok } = self.progress[place]
        {
            self.progress[place] = Progress::Ended { ok };
            return self.advance(now);
        }
        Vec::new()
    }

    /// An attempt is over.
    pub(super) fn done(&mut self, place: usize, attempt: u32, now: Millis, random: &mut Random) -> Vec<Deed> {
        if self.stopping || self.progress[place] != (Progress::Running { attempt }) {
            return Vec::new();
        }
        let failed = random.below(1000) < self.tasks[place].failure;
        if failed && attempt < self.tasks[place].attempts {
            return vec![self.ask(place)];
        }
        self.progress[place] = Progress::Ending { ok: !failed };
        let status = if failed { TaskStatus::Failed } else { TaskStatus::Succeeded };
        vec![self.end(place, status, attempt, now)]
    }

    /// Ends as one that was told to: what runs is reported as cancelled, then the run.
    pub(super) fn stopped(&mut self, now: Millis) -> Vec<Deed> {
        let running = |place: &usize| matches!(self.progress[*place], Progress::Running { .. });
        let places: Vec<usize> = (0..self.tasks.len()).filter(running).collect();
        let mut deeds: Vec<Deed> =
            places.into_iter().map(|place| self.end(place, TaskStatus::Cancelled, 1, now)).collect();
        deeds.extend([self.end_run(RunOutcome::Cancelled), Deed::Exit]);
        deeds
    }

    /// Whether a task may begin: not yet, yes, or never.
    fn ready(&self, place: usize) -> Option<bool> {
        let mut ok = true;
        for need in &self.tasks[place].needs {
            match self.progress[*need] {
                Progress::Ended { ok: good } => ok &= good,
                Progress::Waiting | Progress::Asked { .. } | Progress::Running { .. } | Progress::Ending { .. } => {
                    return None;
                }
            }
        }
        Some(ok)
    }

    fn ask(&mut self, place: usize) -> Deed {
        let task = &self.tasks[place];
        let attempt = self.begun.get(&task.name).copied().unwrap_or(0) + 1;
        self.begun.insert(task.name.clone(), attempt);
        self.progress[place] = Progress::Asked { attempt };
        let again = task.idempotent || attempt < task.attempts;
        let on_interrupt = if again { OnInterrupt::Retry } else { OnInterrupt::Fail };
        Deed::Say(Event::TaskStarting { run: self.run, task: task.name.clone(), attempt, on_interrupt })
    }

    fn end(&self, place: usize, status: TaskStatus, attempts: u32, now: Millis) -> Deed {
        let task = self.tasks[place].name.clone();
        let outputs = r#"{"changed":true}"#.to_owned();
        let end = TaskEnd { task, status, attempts, message: String::new(), outputs, started: now, ended: now };
        Deed::Say(Event::TaskEnded { run: self.run, end })
    }

    fn end_run(&self, outcome: RunOutcome) -> Deed {
        let end = RunEnd { outcome, message: String::new(), outputs: "{}".to_owned() };
        Deed::Say(Event::RunEnded { run: self.run, end })
    }

    fn place(&self, task: &TaskName) -> Option<usize> {
        self.tasks.iter().position(|candidate| candidate.name == *task)
    }
}

/// The tasks of a bundle: the same whenever they are read from the same manifest.
fn dag(manifest: Digest) -> Vec<Task> {
    let seed = manifest.as_bytes().iter().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
    let mut random = Random::new(seed);
    let mut tasks: Vec<Task> = Vec::new();
    for number in 0..1 + random.below(TASKS_MAX) {
        let needs: BTreeSet<usize> = (0..tasks.len()).filter(|_| random.below(3) == 0).collect();
        let longest = if random.below(6) == 0 { LONG_TASK_MS } else { TASK_MS };
        tasks.push(Task {
            name: TaskName { workflow: "main".to_owned(), task: format!("task-{number}") },
            needs: needs.into_iter().collect(),
            attempts: u32::try_from(1 + random.below(ATTEMPTS_MAX)).unwrap_or(1),
            idempotent: random.below(2) == 0,
            duration: 1 + random.below(longest),
            failure: if random.below(3) == 0 { 400 } else { 0 },
        });
    }
    tasks
}

const fn succeeded(status: TaskStatus) -> bool {
    match status {
        TaskStatus::Succeeded | TaskStatus::Unchanged => true,
        TaskStatus::Failed
        | TaskStatus::TimedOut
        | TaskStatus::Skipped
        | TaskStatus::Cancelled
        | TaskStatus::Interrupted => false,
    }
}
