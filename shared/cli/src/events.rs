//! What happens in a run, as it is shown: lines for people, one JSON object a line for programs.

use std::{collections::BTreeMap, fmt::Write as _, io};

use serde_json::{Value, json};
use sloth_core::Millis;
use sloth_protocol::wire::{LogStream, Record, RecordBody, RunEnd, RunOutcome, TaskEnd, TaskName, TaskStatus};

use crate::{Format, print_line};

/// Shows the events of a run in their order.
#[derive(Debug)]
pub struct EventPrinter {
    format: Format,
    counts: BTreeMap<&'static str, u32>,
}

impl EventPrinter {
    /// A printer for one run.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format, counts: BTreeMap::new() }
    }

    /// Shows what happened, on `agent` where there is more than one.
    ///
    /// # Errors
    ///
    /// When standard output is gone.
    pub fn show(&mut self, agent: Option<&str>, record: &Record) -> io::Result<()> {
        if let RecordBody::TaskEnded(end) = &record.body {
            *self.counts.entry(task_status(end.status)).or_default() += 1;
        }
        match self.format {
            Format::Json => print_line(&event_json(agent, record).to_string()),
            Format::Text => text_lines(agent, record).iter().try_for_each(|line| print_line(line)),
        }
    }

    /// How many tasks ended how, like `3 succeeded, 1 failed`.
    #[must_use]
    pub fn summary(&self) -> String {
        let parts: Vec<_> = self.counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        if parts.is_empty() { "no task ended".to_owned() } else { parts.join(", ") }
    }
}

/// A task's status in one word.
#[must_use]
pub const fn task_status(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Succeeded => "succeeded",
        TaskStatus::Unchanged => "unchanged",
        TaskStatus::Failed => "failed",
        TaskStatus::TimedOut => "timed_out",
        TaskStatus::Skipped => "skipped",
        TaskStatus::Cancelled => "cancelled",
        TaskStatus::Interrupted => "interrupted",
    }
}

/// A run's outcome in one word.
#[must_use]
pub const fn run_outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::Cancelled => "cancelled",
        RunOutcome::Refused => "refused",
        RunOutcome::Expired => "expired",
    }
}

/// A span as people write it, to a tenth of what it is counted in.
#[must_use]
pub fn span(span: Millis) -> String {
    let ms = span.as_u64();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

fn event_json(agent: Option<&str>, record: &Record) -> Value {
    let (event, mut fields) = match &record.body {
        RecordBody::RunStarted => ("run_started", json!({})),
        RecordBody::TaskStarted { task, attempt } => {
            ("task_started", json!({ "workflow": task.workflow, "task": task.task, "attempt": attempt }))
        }
        RecordBody::TaskEnded(end) => ("task_ended", task_json(end)),
        RecordBody::RunEnded(end) => ("run_ended", run_json(end)),
        RecordBody::Log { task, stream, text } => ("log", log_json(task.as_ref(), *stream, text)),
    };
    if let Value::Object(map) = &mut fields {
        map.insert("event".to_owned(), event.into());
        map.insert("at".to_owned(), record.at.to_string().into());
        map.insert("run".to_owned(), record.run.to_string().into());
        if let Some(agent) = agent {
            map.insert("agent".to_owned(), agent.into());
        }
    }
    fields
}

/// A task's end as JSON.
#[must_use]
pub fn task_json(end: &TaskEnd) -> Value {
    json!({
        "workflow": end.task.workflow,
        "task": end.task.task,
        "status": task_status(end.status),
        "attempts": end.attempts,
        "message": end.message,
        "outputs": object(&end.outputs),
        "started": end.started.to_string(),
        "duration_ms": end.ended.since(end.started).as_u64(),
    })
}

fn run_json(end: &RunEnd) -> Value {
    json!({ "outcome": run_outcome(end.outcome), "message": end.message, "outputs": object(&end.outputs) })
}

fn log_json(task: Option<&TaskName>, stream: LogStream, text: &str) -> Value {
    json!({
        "workflow": task.map(|task| &task.workflow),
        "task": task.map(|task| &task.task),
        "stream": stream_name(stream),
        "text": text,
    })
}

/// A JSON object that came as text; an empty one when it is none.
#[must_use]
pub fn object(text: &str) -> Value {
    serde_json::from_str::<serde_json::Map<String, Value>>(text).map_or_else(|_| json!({}), Value::Object)
}

fn text_lines(agent: Option<&str>, record: &Record) -> Vec<String> {
    let agent = agent.map(|agent| format!("{agent}  ")).unwrap_or_default();
    match &record.body {
        RecordBody::RunStarted => vec![format!("{agent}● run started")],
        RecordBody::TaskStarted { task, attempt: 1 } => vec![format!("{agent}▶ {task}")],
        RecordBody::TaskStarted { task, attempt } => vec![format!("{agent}▶ {task}, attempt {attempt}")],
        RecordBody::TaskEnded(end) => vec![format!("{agent}{}", task_line(end))],
        RecordBody::RunEnded(end) => vec![format!("{agent}{}", run_line(end))],
        RecordBody::Log { task, stream, text } => {
            let task = task.as_ref().map(|task| format!("{task} ")).unwrap_or_default();
            let mark = match stream {
                LogStream::Stdout | LogStream::Info => "│",
                LogStream::Stderr => "┆",
                LogStream::Debug => "│ debug:",
                LogStream::Warn => "│ warning:",
                LogStream::Error => "│ error:",
            };
            text.lines().map(|line| format!("{agent}  {task}{mark} {}", printable(line))).collect()
        }
    }
}

fn task_line(end: &TaskEnd) -> String {
    let mark = match end.status {
        TaskStatus::Succeeded => "✓",
        TaskStatus::Unchanged => "=",
        TaskStatus::Skipped => "-",
        TaskStatus::Failed | TaskStatus::TimedOut | TaskStatus::Cancelled | TaskStatus::Interrupted => "✗",
    };
    let mut line = format!("{mark} {} {}", end.task, task_status(end.status));
    if 0 < end.attempts {
        let _ = write!(line, " in {}", span(end.ended.since(end.started)));
    }
    if !end.message.is_empty() {
        let _ = write!(line, ": {}", printable(&end.message));
    }
    line
}

fn run_line(end: &RunEnd) -> String {
    let mut line = format!("● run {}", run_outcome(end.outcome));
    if !end.message.is_empty() {
        let _ = write!(line, ": {}", printable(&end.message));
    }
    line
}

/// A text without what would steer a terminal: what hosts print must not.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' && c != '\n' { '\u{fffd}' } else { c }).collect()
}

const fn stream_name(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
        LogStream::Debug => "debug",
        LogStream::Info => "info",
        LogStream::Warn => "warn",
        LogStream::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::RunId;

    use super::*;

    fn record(body: RecordBody) -> Record {
        let at = Millis::from_secs(1_700_000_000);
        Record { seq: 1, at, run: RunId::new(at, 1), body }
    }

    fn end(status: TaskStatus) -> TaskEnd {
        TaskEnd {
            task: TaskName { workflow: "web".into(), task: "render".into() },
            status,
            attempts: 1,
            message: "written\u{1b}[2J".into(),
            outputs: r#"{"changed":true}"#.into(),
            started: Millis::from_u64(1_000),
            ended: Millis::from_u64(2_340),
        }
    }

    #[test]
    fn lines_are_for_people_and_cannot_steer_a_terminal() {
        let lines = text_lines(Some("web-1"), &record(RecordBody::TaskEnded(end(TaskStatus::Succeeded))));
        assert_eq!(lines, ["web-1  ✓ web/render succeeded in 1.3s: written\u{fffd}[2J"]);
        let log = RecordBody::Log { task: None, stream: LogStream::Warn, text: "a\nb".into() };
        assert_eq!(text_lines(None, &record(log)), ["  │ warning: a", "  │ warning: b"]);
    }

    #[test]
    fn json_says_everything() {
        let json = event_json(None, &record(RecordBody::TaskEnded(end(TaskStatus::TimedOut))));
        assert_eq!(json["status"], "timed_out");
        assert_eq!(json["outputs"]["changed"], true);
        assert_eq!(json["duration_ms"], 1_340);
        assert_eq!(json["at"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn spans_are_short() {
        for (ms, expected) in [(0, "0ms"), (999, "999ms"), (1_950, "1.9s"), (61_000, "1m01s"), (3_660_000, "1h01m")] {
            assert_eq!(span(Millis::from_u64(ms)), expected);
        }
    }
}
