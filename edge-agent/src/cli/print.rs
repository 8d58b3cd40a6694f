//! How a local run is told: lines and a table for people, one JSON object a line for programs.

use std::{cell::RefCell, io};

use serde_json::json;
use sloth_cli::{
    Format, Table,
    events::{self, Origin, exact},
    print_json, print_line,
};
use sloth_core::{Millis, RunId};
use sloth_protocol::wire::{Record, RecordBody};
use sloth_workflow::{Attempt, LogLine, Plan, RunEnd, TaskEnd};

use crate::convert;

/// Tells what happens in a run.
#[derive(Debug)]
pub(super) struct Teller {
    run: RunId,
    format: Format,
    /// Why standard output takes nothing more.
    broken: RefCell<Option<io::Error>>,
}

impl Teller {
    pub(super) const fn new(run: RunId, format: Format) -> Self {
        Self { run, format, broken: RefCell::new(None) }
    }

    /// Why not all was told, if so.
    pub(super) fn broken(&self) -> Option<io::Error> {
        self.broken.take()
    }

    pub(super) fn planned(&self, plans: &[Plan]) {
        if self.format == Format::Json {
            self.tell(|| print_json(&json!({ "event": "planned", "run": self.run, "workflows": plans })));
        }
    }

    pub(super) fn started(&self, at: Millis, attempt: &Attempt) {
        let task = convert::name_to_wire(&attempt.task);
        self.show(at, RecordBody::TaskStarted { task, attempt: attempt.number });
    }

    pub(super) fn logged(&self, at: Millis, line: &LogLine) {
        let task = line.task.as_ref().map(convert::name_to_wire);
        let stream = convert::stream_to_wire(line.stream);
        self.show(at, RecordBody::Log { task, stream, text: line.text.clone() });
    }

    pub(super) fn ended(&self, end: &TaskEnd) {
        self.show(end.ended, RecordBody::TaskEnded(convert::end_to_wire(end)));
    }

    pub(super) fn run_ended(&self, at: Millis, end: &RunEnd, took: Millis) {
        self.show(at, RecordBody::RunEnded(convert::run_end_to_wire(end)));
        if self.format == Format::Text {
            self.tell(|| summary(end, took));
        }
    }

    fn show(&self, at: Millis, body: RecordBody) {
        let record = Record { seq: 0, at, run: self.run, body };
        self.tell(|| events::show(Origin::default(), &record, self.format));
    }

    /// Once something was not told, nothing more is: half of it would be no story.
    fn tell(&self, print: impl FnOnce() -> io::Result<()>) {
        let mut broken = self.broken.borrow_mut();
        if broken.is_none() {
            *broken = print().err();
        }
    }
}

fn summary(end: &RunEnd, took: Millis) -> io::Result<()> {
    if !end.tasks.is_empty() {
        print_line("")?;
        let mut table = Table::new(&["TASK", "STATUS", "ATTEMPTS", "TIME", "MESSAGE"]);
        for task in &end.tasks {
            let time = if task.attempts == 0 { String::new() } else { exact(task.ended.since(task.started)) };
            let (status, attempts) = (task.status.to_string(), task.attempts.to_string());
            table.row(vec![task.task.to_string(), status, attempts, time, events::printable(&task.message)]);
        }
        table.print()?;
        print_line("")?;
    }
    let count = end.tasks.len();
    let tasks = if count == 1 { "task" } else { "tasks" };
    print_line(&format!("{count} {tasks} in {}", exact(took)))
}

/// A number of bytes as people read it.
pub(super) fn bytes(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        MIB.. => format!("{} MiB", bytes / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, expected) in [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (5 << 20, "5 MiB")] {
            assert_eq!(bytes(count), expected);
        }
    }
}
