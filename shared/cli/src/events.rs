//! What happens in a run, as it is shown everywhere: lines for people, one JSON object a line for programs.

use std::{collections::BTreeMap, io};

use serde::Serialize;
use serde_json::Value;
use sloth_core::{Millis, config::Span};
use sloth_protocol::wire::{LogStream, Record, RecordBody, RunOutcome, TaskEnd, TaskStatus, UpdateReport};

use crate::{Format, print_json, print_line};

/// Where something happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// The event's number among the run's, where it has one.
    pub number: Option<u64>,
    /// The agent, where there may be more than one.
    pub agent: Option<&'a str>,
}

#[derive(Serialize)]
struct EventLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<&'static str, Value>,
}

/// Shows something that happened.
///
/// # Errors
///
/// When standard output is gone.
pub fn show(origin: Origin<'_>, record: &Record, format: Format) -> io::Result<()> {
    match format {
        Format::Json => print_json(&line(origin, record)),
        Format::Text => text(origin.agent, record).iter().try_for_each(|line| print_line(line)),
    }
}

/// A task's end in one line, or in more when its message has them.
#[must_use]
pub fn task_end(end: &TaskEnd) -> String {
    let mut line = format!("{} {}", end.task, status_name(end.status));
    if 0 < end.attempts {
        line.push_str(&format!(" in {}", exact(end.ended.since(end.started))));
    }
    if 1 < end.attempts {
        line.push_str(&format!(", attempt {}", end.attempts));
    }
    if !end.message.is_empty() {
        line.push_str(&format!(": {}", end.message));
    }
    printable(&line)
}

/// A task's status in one word.
#[must_use]
pub const fn status_name(status: TaskStatus) -> &'static str {
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
pub const fn outcome_name(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::Cancelled => "cancelled",
        RunOutcome::Refused => "refused",
        RunOutcome::Expired => "expired",
    }
}

/// A span to the hundredth of a second below a minute.
#[must_use]
pub fn exact(span: Millis) -> String {
    let ms = span.as_u64();
    if ms < 60_000 {
        return format!("{}.{:02}s", ms / 1000, ms % 1000 / 10);
    }
    Span::from_secs(ms / 1000).to_string()
}

/// A text without what would steer a terminal: it comes from hosts, and they may be anybody's.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\t' | '\n') { '\u{fffd}' } else { c }).collect()
}

fn text(agent: Option<&str>, record: &Record) -> Vec<String> {
    let agent = agent.map(|agent| format!("{agent} | ")).unwrap_or_default();
    let lines = |text: &str| text.lines().map(|line| format!("{agent}{}", printable(line))).collect();
    match &record.body {
        RecordBody::RunStarted => lines("run started"),
        RecordBody::TaskStarted { task, attempt: 1 } => lines(&format!("{task} started")),
        RecordBody::TaskStarted { task, attempt } => lines(&format!("{task} started, attempt {attempt}")),
        RecordBody::TaskEnded(end) => lines(&task_end(end)),
        RecordBody::RunEnded(end) if end.message.is_empty() => lines(&format!("run {}", outcome_name(end.outcome))),
        RecordBody::RunEnded(end) => lines(&format!("run {}: {}", outcome_name(end.outcome), end.message)),
        // Its bytes say nothing to people; `sloth-coord audit` shows them.
        RecordBody::Receipt { .. } => Vec::new(),
        RecordBody::Update(report) => lines(&update(report)),
        // Who looks for a fault asks for it with `-o json`.
        RecordBody::Log { stream: LogStream::Debug, .. } => Vec::new(),
        RecordBody::Log { task, stream, text } => {
            let task = task.as_ref().map_or(String::new(), |task| format!("{} | ", task.task));
            let level = match stream {
                LogStream::Stdout | LogStream::Info | LogStream::Debug => "",
                LogStream::Stderr => "stderr: ",
                LogStream::Warn => "warn: ",
                LogStream::Error => "error: ",
            };
            text.lines().map(|line| format!("{agent}{task}{level}{}", printable(line))).collect()
        }
    }
}

fn line<'a>(origin: Origin<'a>, record: &Record) -> EventLine<'a> {
    let (event, task, rest) = match &record.body {
        RecordBody::RunStarted => ("run_started", None, BTreeMap::new()),
        RecordBody::TaskStarted { task, attempt } => {
            ("task_started", Some(task), BTreeMap::from([("attempt", Value::from(*attempt))]))
        }
        RecordBody::TaskEnded(end) => ("task_ended", Some(&end.task), task_fields(end)),
        RecordBody::RunEnded(end) => {
            let rest = BTreeMap::from([
                ("outcome", Value::from(outcome_name(end.outcome))),
                ("message", Value::from(end.message.as_str())),
                ("outputs", object(&end.outputs)),
            ]);
            ("run_ended", None, rest)
        }
        RecordBody::Receipt { payload, signature } => {
            let receipt = serde_json::from_slice(payload).unwrap_or(Value::Null);
            ("receipt", None, BTreeMap::from([("receipt", receipt), ("signature", signature.as_str().into())]))
        }
        RecordBody::Update(report) => ("update", None, BTreeMap::from([("message", Value::from(update(report)))])),
        RecordBody::Log { task, stream, text } => {
            let rest = BTreeMap::from([("stream", Value::from(stream_name(*stream))), ("text", text.as_str().into())]);
            ("log", task.as_ref(), rest)
        }
    };
    let Origin { number, agent } = origin;
    EventLine { number, at: record.at.to_string(), agent, event, task: task.map(ToString::to_string), rest }
}

/// Updates belong to no run; should one ever stand among the events of one, it says what it is.
fn update(report: &UpdateReport) -> String {
    format!("update of the agent from {} to {}", report.from, report.to)
}

fn task_fields(end: &TaskEnd) -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("status", Value::from(status_name(end.status))),
        ("attempts", Value::from(end.attempts)),
        ("message", Value::from(end.message.as_str())),
        ("outputs", object(&end.outputs)),
        ("started", Value::from(end.started.to_string())),
        ("ended", Value::from(end.ended.to_string())),
        ("duration_ms", Value::from(end.ended.since(end.started).as_u64())),
    ])
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
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
    use sloth_protocol::wire::TaskName;

    use super::*;

    fn record(body: RecordBody) -> Record {
        let at = Millis::from_secs(1_700_000_000);
        Record { seq: 1, at, run: RunId::new(at, 1), body }
    }

    fn end(status: TaskStatus) -> RecordBody {
        RecordBody::TaskEnded(TaskEnd {
            task: TaskName { workflow: "web".into(), task: "render".into() },
            status,
            attempts: 2,
            message: "written\u{1b}[2J".into(),
            outputs: r#"{"changed":true}"#.into(),
            started: Millis::from_u64(1_000),
            ended: Millis::from_u64(2_340),
        })
    }

    #[test]
    fn lines_are_for_people_and_cannot_steer_a_terminal() {
        let lines = text(Some("web-1"), &record(end(TaskStatus::Succeeded)));
        assert_eq!(lines, ["web-1 | web/render succeeded in 1.34s, attempt 2: written\u{fffd}[2J"]);
        let log = RecordBody::Log { task: None, stream: LogStream::Warn, text: "a\nb\r".into() };
        assert_eq!(text(None, &record(log)), ["warn: a", "warn: b\u{fffd}"]);
    }

    #[test]
    fn spans_are_exact_below_a_minute() {
        assert_eq!(exact(Millis::from_u64(1_234)), "1.23s");
        assert_eq!(exact(Millis::from_u64(61_234)), "1m 1s");
    }

    #[test]
    fn json_says_everything() {
        let origin = Origin { number: Some(7), agent: Some("web-1") };
        let json = serde_json::to_value(line(origin, &record(end(TaskStatus::TimedOut)))).expect("JSON");
        assert_eq!(json["number"], 7);
        assert_eq!(json["task"], "web/render");
        assert_eq!(json["status"], "timed_out");
        assert_eq!(json["outputs"]["changed"], true);
        assert_eq!(json["duration_ms"], 1_340);
        assert_eq!(json["at"], "2023-11-14T22:13:20Z");
    }
}
