//! Workers on their hosts: what they send arrives at the machine, and what it says reaches them.

use sloth_core::RunId;
use sloth_protocol::{
    agent::{Event, Start},
    wire::TaskName,
};

use super::{
    Happening, Sim,
    invariants::{self, Check},
    worker::{Deed, Step, Worker},
};

/// Longest that a frame between worker and daemon takes.
const FRAME_MS: u64 = 10;
/// Longest that a worker takes to stop, and to die by itself.
const STOP_MS: u64 = 10_000;
const DEATH_MS: u64 = 30_000;

impl Sim {
    pub(super) fn start_worker(&mut self, host: usize, start: &Start) -> Check {
        self.worker_ids += 1;
        self.tally.workers += 1;
        let mut worker = Worker::new(self.worker_ids, start, self.now);
        let deeds = worker.advance(self.host_now(host));
        let (run, id) = (start.job.run, worker.id);
        self.hosts[host].workers.insert(run, worker);
        invariants::queues_stay_under_their_bounds(&self.hosts[host])?;
        if self.chance(self.faults().worker_death) {
            let wait = self.random.below(DEATH_MS);
            self.after(wait, Happening::Worker { host, run, id, step: Step::Die });
        }
        self.do_all(host, run, deeds);
        Ok(())
    }

    pub(super) fn go(&mut self, host: usize, run: RunId, task: &TaskName) {
        let Some(worker) = self.hosts[host].workers.get_mut(&run) else { return };
        let deeds = worker.go(task, &mut self.random);
        self.do_all(host, run, deeds);
    }

    pub(super) fn noted(&mut self, host: usize, run: RunId, task: &TaskName) {
        let now = self.host_now(host);
        let Some(worker) = self.hosts[host].workers.get_mut(&run) else { return };
        let deeds = worker.noted(task, now);
        self.do_all(host, run, deeds);
    }

    /// Tells a worker to stop. Most do, some die of it, a few never hear of it.
    pub(super) fn stop_worker(&mut self, host: usize, run: RunId) {
        let (how, wait) = (self.random.below(20), self.random.below(STOP_MS));
        let Some(worker) = self.hosts[host].workers.get_mut(&run) else { return };
        worker.stopping = true;
        let id = worker.id;
        match how {
            0 => {}
            1..=3 => self.after(wait, Happening::Worker { host, run, id, step: Step::Die }),
            _ => self.after(wait, Happening::Worker { host, run, id, step: Step::Stopped }),
        }
    }

    /// Something happens in a worker, if it is still that one.
    pub(super) fn worker_step(&mut self, host: usize, run: RunId, id: u64, step: Step) {
        let now = self.host_now(host);
        let Some(worker) = self.hosts[host].workers.get_mut(&run).filter(|worker| worker.id == id) else { return };
        let deeds = match step {
            Step::Done(place, attempt) => worker.done(place, attempt, now, &mut self.random),
            Step::Stopped => worker.stopped(now),
            Step::Die => {
                self.tally.worker_deaths += 1;
                vec![Deed::Say(Event::WorkerDied { run, how: "killed by signal 9".to_owned() }), Deed::Exit]
            }
        };
        self.do_all(host, run, deeds);
    }

    fn do_all(&mut self, host: usize, run: RunId, deeds: Vec<Deed>) {
        for deed in deeds {
            let (life, delay) = (self.hosts[host].life, self.random.below(FRAME_MS));
            let now = self.now;
            let Some(worker) = self.hosts[host].workers.get_mut(&run) else { return };
            match deed {
                Deed::Say(event) => {
                    worker.last_frame = worker.last_frame.max(now + sloth_core::Millis::from_u64(delay));
                    let wait = worker.last_frame.since(now).as_u64();
                    self.after(wait, Happening::Local { host, life, event: Box::new(event) });
                }
                Deed::Work(step, wait) => {
                    let id = worker.id;
                    self.after(wait, Happening::Worker { host, run, id, step });
                }
                Deed::Exit => {
                    self.hosts[host].workers.remove(&run);
                    return;
                }
            }
        }
    }
}
