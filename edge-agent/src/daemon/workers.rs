//! The workers that run, by their runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sloth_core::RunId;
use sloth_protocol::{
    agent::{Event, Start},
    wire::TaskName,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tracing::Instrument;

use super::{Shared, supervise};
use crate::paths::Paths;

/// Most commands that wait for a worker: an answer for each task that may wait for one, twice over.
const COMMANDS_MAX: usize = 32 * 1024;
/// How long all workers together may take to end when the daemon does.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// What a worker's supervisor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// The attempt at this task may begin.
    Go(TaskName),
    /// This task's end is in the journal.
    Noted(TaskName),
    /// End the run.
    Stop,
}

/// The workers that run.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    running: BTreeMap<RunId, Running>,
    /// True once all must end.
    ending: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    told: mpsc::Sender<Told>,
    task: JoinHandle<()>,
}

impl Workers {
    pub(super) fn new(shared: Arc<Shared>, events: mpsc::Sender<Event>) -> Self {
        Self { shared, events, running: BTreeMap::new(), ending: watch::Sender::new(false) }
    }

    pub(super) fn start(&mut self, start: Start) {
        let run = start.job.run;
        let (told, hears) = mpsc::channel(COMMANDS_MAX);
        let (shared, events, ending) = (Arc::clone(&self.shared), self.events.clone(), self.ending.subscribe());
        let span = tracing::info_span!("worker", %run, bundle = %start.job.bundle);
        let task = async move {
            if let Some(end) = supervise::supervise(&shared, &events, start, hears, ending).await {
                // Without the loop there is nobody to tell.
                let _ = events.send(end).await;
            }
        };
        self.running.insert(run, Running { told, task: tokio::spawn(task.instrument(span)) });
    }

    pub(super) fn tell(&mut self, run: RunId, what: Told) {
        let Some(running) = self.running.get(&run) else { return };
        if let Err(error) = running.told.try_send(what) {
            // A worker that is gone is told of by its supervisor. One that does not listen gets nothing more, and
            // ends by its timeouts.
            tracing::debug!(%run, %error, "a worker was not told");
        }
    }

    /// The worker has ended.
    pub(super) fn forget(&mut self, run: RunId) {
        self.running.remove(&run);
    }

    /// The job is over: its directory goes.
    pub(super) fn remove(&mut self, run: RunId) {
        self.forget(run);
        let dir = self.shared.paths.run(run);
        tokio::task::spawn_blocking(move || remove_dir(&dir));
    }

    /// Ends every worker with all that it started.
    pub(super) async fn end(self) {
        self.ending.send_replace(true);
        let all = async {
            for (run, running) in self.running {
                if running.task.await.is_err() {
                    tracing::error!(%run, "the supervisor of a worker failed");
                }
            }
        };
        if timeout(END_TIMEOUT, all).await.is_err() {
            tracing::error!("not every worker has ended");
        }
    }
}

/// Removes the directories of runs that are no more.
pub(super) fn sweep(paths: &Paths, jobs: &BTreeSet<RunId>) {
    let Ok(entries) = std::fs::read_dir(paths.runs()) else { return };
    for entry in entries.flatten() {
        let run = entry.file_name().to_str().and_then(|name| name.parse::<RunId>().ok());
        if run.is_none_or(|run| !jobs.contains(&run)) {
            remove_dir(&entry.path());
        }
    }
}

fn remove_dir(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %dir.display(), %error, "cannot remove the directory of a run"),
    }
}
