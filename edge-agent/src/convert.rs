//! Between the words of the workflow language and those of the wire.

use serde_json::{Map, Value};
use sloth_protocol::wire;
use sloth_workflow as workflow;

/// Most bytes of a task's or a run's message on the wire.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The outputs of a task or a run as they are on the wire. Too large ones are left out: the engine has said so.
pub(crate) fn outputs_to_wire(outputs: &Map<String, Value>) -> String {
    let text = serde_json::to_string(outputs).unwrap_or_default();
    if text.is_empty() || wire::OUTPUT_BYTES_MAX < text.len() { "{}".to_owned() } else { text }
}

/// The outputs of a task as the engine takes them.
pub(crate) fn outputs_from_wire(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The start of a message that fits the wire.
pub(crate) fn message(text: &str) -> String {
    text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned()
}

pub(crate) fn name_to_wire(name: &workflow::TaskName) -> wire::TaskName {
    wire::TaskName { workflow: name.workflow.clone(), task: name.task.clone() }
}

pub(crate) fn name_from_wire(name: wire::TaskName) -> workflow::TaskName {
    workflow::TaskName { workflow: name.workflow, task: name.task }
}

pub(crate) fn end_to_wire(end: &workflow::TaskEnd) -> wire::TaskEnd {
    wire::TaskEnd {
        task: name_to_wire(&end.task),
        status: status_to_wire(end.status),
        attempts: end.attempts,
        message: message(&end.message),
        outputs: outputs_to_wire(&end.outputs),
        started: end.started,
        ended: end.ended,
    }
}

pub(crate) fn end_from_wire(end: wire::TaskEnd) -> workflow::TaskEnd {
    workflow::TaskEnd {
        task: name_from_wire(end.task),
        status: status_from_wire(end.status),
        attempts: end.attempts,
        message: end.message,
        outputs: outputs_from_wire(&end.outputs),
        started: end.started,
        ended: end.ended,
    }
}

pub(crate) fn run_end_to_wire(end: &workflow::RunEnd) -> wire::RunEnd {
    let outcome = match end.outcome {
        workflow::Outcome::Succeeded => wire::RunOutcome::Succeeded,
        workflow::Outcome::Failed => wire::RunOutcome::Failed,
        workflow::Outcome::Cancelled => wire::RunOutcome::Cancelled,
    };
    wire::RunEnd { outcome, message: message(&end.message), outputs: outputs_to_wire(&end.outputs) }
}

pub(crate) const fn on_interrupt_to_wire(on_interrupt: workflow::OnInterrupt) -> wire::OnInterrupt {
    match on_interrupt {
        workflow::OnInterrupt::Retry => wire::OnInterrupt::Retry,
        workflow::OnInterrupt::Fail => wire::OnInterrupt::Fail,
    }
}

pub(crate) const fn stream_to_wire(stream: workflow::Stream) -> wire::LogStream {
    match stream {
        workflow::Stream::Log(workflow::Level::Debug) => wire::LogStream::Debug,
        workflow::Stream::Log(workflow::Level::Info) => wire::LogStream::Info,
        workflow::Stream::Log(workflow::Level::Warn) => wire::LogStream::Warn,
        workflow::Stream::Log(workflow::Level::Error) => wire::LogStream::Error,
        workflow::Stream::Stdout => wire::LogStream::Stdout,
        workflow::Stream::Stderr => wire::LogStream::Stderr,
    }
}

const fn status_to_wire(status: workflow::TaskStatus) -> wire::TaskStatus {
    match status {
        workflow::TaskStatus::Succeeded => wire::TaskStatus::Succeeded,
        workflow::TaskStatus::Unchanged => wire::TaskStatus::Unchanged,
        workflow::TaskStatus::Failed => wire::TaskStatus::Failed,
        workflow::TaskStatus::TimedOut => wire::TaskStatus::TimedOut,
        workflow::TaskStatus::Skipped => wire::TaskStatus::Skipped,
        workflow::TaskStatus::Cancelled => wire::TaskStatus::Cancelled,
        workflow::TaskStatus::Interrupted => wire::TaskStatus::Interrupted,
    }
}

const fn status_from_wire(status: wire::TaskStatus) -> workflow::TaskStatus {
    match status {
        wire::TaskStatus::Succeeded => workflow::TaskStatus::Succeeded,
        wire::TaskStatus::Unchanged => workflow::TaskStatus::Unchanged,
        wire::TaskStatus::Failed => workflow::TaskStatus::Failed,
        wire::TaskStatus::TimedOut => workflow::TaskStatus::TimedOut,
        wire::TaskStatus::Skipped => workflow::TaskStatus::Skipped,
        wire::TaskStatus::Cancelled => workflow::TaskStatus::Cancelled,
        wire::TaskStatus::Interrupted => workflow::TaskStatus::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::Millis;
    use workflow::TaskStatus;

    use super::*;

    #[test]
    fn ends_survive_the_wire() {
        for status in [
            TaskStatus::Succeeded,
            TaskStatus::Unchanged,
            TaskStatus::Failed,
            TaskStatus::TimedOut,
            TaskStatus::Skipped,
            TaskStatus::Cancelled,
            TaskStatus::Interrupted,
        ] {
            let mut outputs = Map::new();
            outputs.insert("list".to_owned(), serde_json::json!([1, 2.5, "x", null, { "deep": true }]));
            let end = workflow::TaskEnd {
                task: workflow::TaskName { workflow: "w".into(), task: "t".into() },
                status,
                attempts: 3,
                message: "said".into(),
                outputs,
                started: Millis::from_u64(5),
                ended: Millis::from_u64(9),
            };
            assert_eq!(end_from_wire(end_to_wire(&end)), end);
        }
    }

    #[test]
    fn what_is_too_large_for_the_wire_is_cut() {
        let mut outputs = Map::new();
        outputs.insert("large".to_owned(), "x".repeat(wire::OUTPUT_BYTES_MAX).into());
        assert_eq!(outputs_to_wire(&outputs), "{}");
        assert_eq!(message(&"ä".repeat(MESSAGE_BYTES_MAX)).len(), MESSAGE_BYTES_MAX);
    }
}
