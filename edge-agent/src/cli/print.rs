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
use sloth_workflow::{Attempt, Level, LogLine, Plan, RunEnd, Stream, TaskEnd, TaskStatus};

use super::{live::Live, run_arguments::Arguments};
use crate::convert;

/// Most outputs of a run that people are shown.
const OUTPUTS_MAX: usize = 50;
/// Most characters of one of them.
const OUTPUT_CHARS_MAX: usize = 200;

/// Tells what happens in a run.
#[derive(Debug)]
pub(super) struct Teller {
    run: RunId,
    format: Format,
    /// Whether people see what is logged for finding faults; programs always do.
    debug: bool,
    /// Whether the run only checks.
    check: bool,
    live: RefCell<Option<Live>>,
    /// Why standard output takes nothing more.
    broken: RefCell<Option<io::Error>>,
}

impl Teller {
    pub(super) fn new(run: RunId, arguments: &Arguments, began: Millis) -> Self {
        let format = arguments.output.format;
        let live = if format == Format::Text { Live::new(began) } else { None };
        let (debug, check) = (arguments.debug, arguments.check);
        Self { run, format, debug, check, live: RefCell::new(live), broken: RefCell::new(None) }
    }

    /// A teller without a view that moves.
    pub(super) const fn plain(run: RunId, format: Format) -> Self {
        Self { run, format, debug: false, check: false, live: RefCell::new(None), broken: RefCell::new(None) }
    }

    /// Whether it has a view that moves.
    pub(super) fn is_live(&self) -> bool {
        self.live.borrow().is_some()
    }

    /// Moves the view on.
    pub(super) fn tick(&self, now: Millis) {
        let mut broken = self.broken.borrow_mut();
        if let (Some(live), None) = (&mut *self.live.borrow_mut(), &*broken) {
            *broken = live.tick(now).err();
        }
    }

    /// Why not all was told, if so.
    pub(super) fn broken(&self) -> Option<io::Error> {
        self.broken.take()
    }

    pub(super) fn planned(&self, plans: &[Plan]) {
        self.view(|live| live.planned(plans.iter().map(|plan| plan.tasks().len()).sum()));
        if self.format == Format::Json {
            let told = json!({ "event": "planned", "run": self.run, "check": self.check, "workflows": plans });
            self.tell(Millis::ZERO, || print_json(&told));
        }
    }

    pub(super) fn started(&self, at: Millis, attempt: &Attempt) {
        self.view(|live| live.started(attempt.task.to_string(), at));
        let task = convert::name_to_wire(&attempt.task);
        self.show(at, RecordBody::TaskStarted { task, attempt: attempt.number });
    }

    pub(super) fn logged(&self, at: Millis, line: &LogLine) {
        if let Some(task) = &line.task {
            self.view(|live| live.said(&task.to_string(), &line.text));
        }
        if self.debug && self.format == Format::Text && line.stream == Stream::Log(Level::Debug) {
            let task = line.task.as_ref().map_or(String::new(), |task| format!("{} | ", task.task));
            self.tell(at, || print_line(&format!("{task}debug: {}", events::printable(&line.text))));
            return;
        }
        let task = line.task.as_ref().map(convert::name_to_wire);
        let stream = convert::stream_to_wire(line.stream);
        self.show(at, RecordBody::Log { task, stream, text: line.text.clone() });
    }

    pub(super) fn ended(&self, end: &TaskEnd) {
        self.view(|live| live.ended(&end.task.to_string()));
        self.show(end.ended, RecordBody::TaskEnded(convert::end_to_wire(end)));
    }

    pub(super) fn run_ended(&self, at: Millis, end: &RunEnd, took: Millis, check: bool) {
        self.view_ends();
        self.show(at, RecordBody::RunEnded(convert::run_end_to_wire(end)));
        if self.format == Format::Text {
            self.tell(at, || summary(end, took, check));
        }
    }

    /// Nothing moves any more.
    pub(super) fn view_ends(&self) {
        if let Some(mut live) = self.live.take() {
            // Where the screen takes nothing, what is printed next says so.
            let _ = live.clear();
        }
    }

    fn show(&self, at: Millis, body: RecordBody) {
        let record = Record { seq: 0, at, run: self.run, body };
        self.tell(at, || events::show(Origin::default(), &record, self.format));
    }

    fn view(&self, change: impl FnOnce(&mut Live)) {
        if let Some(live) = &mut *self.live.borrow_mut() {
            change(live);
        }
    }

    /// Once something was not told, nothing more is: half of it would be no story.
    fn tell(&self, at: Millis, print: impl FnOnce() -> io::Result<()>) {
        let mut broken = self.broken.borrow_mut();
        if broken.is_some() {
            return;
        }
        let told = match &mut *self.live.borrow_mut() {
            None => print(),
            Some(live) => live.clear().and_then(|()| print()).and_then(|()| live.draw(at)),
        };
        *broken = told.err();
    }
}

fn summary(end: &RunEnd, took: Millis, check: bool) -> io::Result<()> {
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
    print_outputs(end)?;
    print_line(&totals(end, took, check))
}

/// What the run exports, a line each: the whole of it is in JSON.
fn print_outputs(end: &RunEnd) -> io::Result<()> {
    if end.outputs.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["OUTPUT", "VALUE"]);
    for (name, value) in end.outputs.iter().take(OUTPUTS_MAX) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.row(vec![events::printable(name), short(&events::printable(&text))]);
    }
    table.print()?;
    match end.outputs.len().saturating_sub(OUTPUTS_MAX) {
        0 => {}
        more => print_line(&format!("{more} more are shown with `-o json`"))?,
    }
    print_line("")
}

/// The start of a text.
fn short(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(OUTPUT_CHARS_MAX).collect();
    if chars.next().is_none() { start } else { format!("{start}…") }
}

/// The last line: how many tasks there were, and how many ended how.
fn totals(end: &RunEnd, took: Millis, check: bool) -> String {
    const STATUSES: [TaskStatus; 7] = [
        TaskStatus::Succeeded,
        TaskStatus::Unchanged,
        TaskStatus::Failed,
        TaskStatus::TimedOut,
        TaskStatus::Interrupted,
        TaskStatus::Skipped,
        TaskStatus::Cancelled,
    ];
    let tasks = counted(end.tasks.len(), "task");
    let of = |status: TaskStatus| match end.tasks.iter().filter(|task| task.status == status).count() {
        0 => None,
        count => Some(format!("{count} {}", status.as_str().replace('_', " "))),
    };
    let counts: Vec<String> = STATUSES.into_iter().filter_map(of).collect();
    let checked = if check { "; this was a check, nothing was changed" } else { "" };
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    format!("{tasks} in {}{counts}{checked}", exact(took))
}

/// How many of a thing there are, as in `1 task` and `2 tasks`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
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
