//! Whose Lua runs at this moment, as other threads see it.
//!
//! All Lua of a run lives on one thread. A call into the host, such as the rendering of a template, is not interrupted;
//! one that outlives its time keeps that thread from everything, also from ending it. Only another thread can.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::TaskName;

/// The time between two looks.
const LOOK_MS: u64 = 250;
/// How many looks in a row must find the same turn past its time. Looks are counted, not time: a process that was
/// stopped for a while is not stuck.
const LOOKS: u32 = 8;

/// Shows whose Lua runs, to whoever holds a clone of it on another thread.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Shown>>);

/// What is shown.
#[derive(Debug, Default)]
struct Shown {
    /// Counts the turns: no two have the same number.
    turn: u64,
    /// Whose turn it is; `None` = no Lua runs.
    whose: Option<Arc<Whose>>,
    /// When the workflow's own time is over, where it has one.
    workflow_ends: Option<Instant>,
}

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Whose {
    pub(crate) task: Option<TaskName>,
    pub(crate) deadline: Instant,
}

/// A call that nothing interrupts has outlived the time of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The task that made it; `None` = the top level of a file, a hook of a workflow, or a test.
    pub task: Option<TaskName>,
}

impl Watch {
    /// Waits until a call is stuck. Blocks its thread, for good where none is.
    #[must_use]
    pub fn wait(&self) -> Stuck {
        let (mut last, mut looks) = (0, 0);
        loop {
            thread::sleep(Duration::from_millis(LOOK_MS));
            let shown = self.shown();
            let over = shown.over(Instant::now());
            looks = if over.is_some() && shown.turn == last { looks + 1 } else { 0 };
            last = shown.turn;
            if let Some(whose) = over.filter(|_| LOOKS <= looks) {
                return Stuck { task: whose.task.clone() };
            }
        }
    }

    /// Begins a turn.
    pub(crate) fn turn(&self, whose: Option<&Arc<Whose>>) {
        let mut shown = self.shown();
        shown.turn += 1;
        shown.whose = whose.cloned();
    }

    /// Says when the workflow's own time is over.
    pub(crate) fn workflow(&self, ends: Option<Instant>) {
        self.shown().workflow_ends = ends;
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    /// Whose turn it is, if the time for it is over.
    fn over(&self, now: Instant) -> Option<&Arc<Whose>> {
        let whose = self.whose.as_ref()?;
        let deadline = self.workflow_ends.map_or(whose.deadline, |ends| ends.min(whose.deadline));
        (deadline <= now).then_some(whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_turn_whose_time_is_over_is_stuck() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for (deadline, workflow_ends, at, expected) in [
            (later, None, now, false),
            (later, None, later, true),
            (later + Duration::from_secs(1), Some(later), later, true),
            (now, Some(later), now, true),
        ] {
            let watch = Watch::default();
            assert!(watch.shown().over(at).is_none());
            watch.workflow(workflow_ends);
            watch.turn(Some(&Arc::new(Whose { task: None, deadline })));
            assert_eq!(watch.shown().over(at).is_some(), expected);
            watch.turn(None);
            assert!(watch.shown().over(at).is_none());
        }
    }

    #[test]
    fn one_long_turn_is_stuck_and_many_short_ones_are_not() {
        let watch = Watch::default();
        let name = |task: &str| TaskName { workflow: "w".into(), task: task.into() };
        let whose = |task: &str| Arc::new(Whose { task: Some(name(task)), deadline: Instant::now() });
        let (busy, long) = (whose("busy"), whose("long"));
        let watching = thread::spawn({
            let watch = watch.clone();
            move || watch.wait()
        });
        let until = Instant::now() + 2 * LOOKS * Duration::from_millis(LOOK_MS);
        while Instant::now() < until {
            watch.turn(Some(&busy));
            thread::yield_now();
        }
        assert!(!watching.is_finished());
        watch.turn(Some(&long));
        assert_eq!(watching.join().expect("it ends"), Stuck { task: Some(name("long")) });
    }
}
