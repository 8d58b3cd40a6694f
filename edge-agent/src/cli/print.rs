//! How a local run is told: lines and a table for people, one JSON object a line for programs.

use std::{cell::RefCell, io, time::Duration};

use serde_json::{Value, json};
use sloth_cli::{Format, Table, print_json, print_line};
use sloth_core::{Millis, RunId};
use sloth_workflow::{Attempt, Level, LogLine, Outcome, Plan, RunEnd, Stream, TaskEnd, TaskName};

/// Tells what happens in a run.
#[derive(Debug)]
pub(super) struct Teller {
    format: Format,
    /// Why standard output takes nothing more.
    broken: RefCell<Option<io::Error>>,
}

impl Teller {
    pub(super) const fn new(format: Format) -> Self {
        Self { format, broken: RefCell::new(None) }
    }

    /// Why not all was told, if so.
    pub(super) fn broken(&self) -> Option<io::Error> {
        self.broken.take()
    }

    pub(super) fn planned(&self, run: RunId, plans: &[Plan]) {
        if self.format == Format::Json {
            self.tell(|| print_json(&json!({ "event": "planned", "run": run, "workflows": plans })));
        }
    }

    pub(super) fn started(&self, attempt: &Attempt) {
        let name = &attempt.task;
        self.tell(|| match self.format {
            Format::Text if attempt.number == 1 => print_line(&format!("{name}: started")),
            Format::Text => print_line(&format!("{name}: attempt {}", attempt.number)),
            Format::Json => print_json(&json!({
                "event": "started", "workflow": name.workflow, "task": name.task, "attempt": attempt.number,
            })),
        });
    }

    pub(super) fn logged(&self, line: &LogLine) {
        let mark = match line.stream {
            // People ask for it with `-o json`.
            Stream::Log(Level::Debug) if self.format == Format::Text => return,
            Stream::Log(Level::Debug | Level::Info) | Stream::Stdout | Stream::Stderr => "",
            Stream::Log(Level::Warn) => "warning: ",
            Stream::Log(Level::Error) => "error: ",
        };
        self.tell(|| match self.format {
            Format::Text => {
                let task = line.task.as_ref().map(TaskName::to_string).unwrap_or_default();
                print_line(format!("{task} | {mark}{}", line.text).trim_start())
            }
            Format::Json => print_json(&json!({
                "event": "log",
                "workflow": line.task.as_ref().map(|task| &task.workflow),
                "task": line.task.as_ref().map(|task| &task.task),
                "stream": stream(line.stream),
                "text": line.text,
            })),
        });
    }

    pub(super) fn ended(&self, end: &TaskEnd) {
        let took = end.ended.since(end.started);
        self.tell(|| match self.format {
            Format::Text => {
                let message = if end.message.is_empty() { String::new() } else { format!(": {}", end.message) };
                let time = if end.attempts == 0 { String::new() } else { format!(" in {}", duration(took)) };
                print_line(&format!("{}: {}{time}{message}", end.task, end.status))
            }
            Format::Json => print_json(&task(end)),
        });
    }

    pub(super) fn run_ended(&self, end: &RunEnd, took: Millis) {
        self.tell(|| match self.format {
            Format::Text => summary(end, took),
            Format::Json => print_json(&json!({
                "event": "run",
                "outcome": outcome(end.outcome),
                "message": end.message,
                "tasks": end.tasks.len(),
                "outputs": end.outputs,
                "duration_ms": took.as_u64(),
            })),
        });
    }

    /// Once something was not told, nothing more is: half of it would be no story.
    fn tell(&self, print: impl FnOnce() -> io::Result<()>) {
        let mut broken = self.broken.borrow_mut();
        if broken.is_none() {
            *broken = print().err();
        }
    }
}

fn task(end: &TaskEnd) -> Value {
    json!({
        "event": "ended",
        "workflow": end.task.workflow,
        "task": end.task.task,
        "status": end.status,
        "attempts": end.attempts,
        "message": end.message,
        "outputs": end.outputs,
        "started": end.started.to_string(),
        "duration_ms": end.ended.since(end.started).as_u64(),
    })
}

fn summary(end: &RunEnd, took: Millis) -> io::Result<()> {
    if !end.tasks.is_empty() {
        print_line("")?;
        let mut table = Table::new(&["TASK", "STATUS", "ATTEMPTS", "TIME", "MESSAGE"]);
        for task in &end.tasks {
            let time = if task.attempts == 0 { String::new() } else { duration(task.ended.since(task.started)) };
            let (status, attempts) = (task.status.to_string(), task.attempts.to_string());
            table.row(vec![task.task.to_string(), status, attempts, time, task.message.clone()]);
        }
        table.print()?;
        print_line("")?;
    }
    let count = end.tasks.len();
    let tasks = if count == 1 { "task" } else { "tasks" };
    let message = if end.message.is_empty() { String::new() } else { format!(": {}", end.message) };
    print_line(&format!("{} after {}, {count} {tasks}{message}", outcome(end.outcome), duration(took)))
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
    }
}

const fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Log(Level::Debug) => "debug",
        Stream::Log(Level::Info) => "info",
        Stream::Log(Level::Warn) => "warn",
        Stream::Log(Level::Error) => "error",
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// A span as people read it: exact where it is short.
fn duration(span: Millis) -> String {
    match span.as_u64() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms => humantime::format_duration(Duration::from_secs(ms / 1000)).to_string(),
    }
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
    fn spans_and_sizes_are_short() {
        for (ms, expected) in [(0, "0 ms"), (999, "999 ms"), (1950, "1.9 s"), (61_000, "1m 1s"), (3_600_000, "1h")] {
            assert_eq!(duration(Millis::from_u64(ms)), expected);
        }
        for (count, expected) in [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (5 << 20, "5 MiB")] {
            assert_eq!(bytes(count), expected);
        }
    }
}
