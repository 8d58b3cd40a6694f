//! Records, and the small enums that stand in them and in every other message.

use sloth_core::Millis;
use sloth_protocol::wire::{
    Class, FollowWait, JobState, Lane, LogStream, OnInterrupt, Record, RecordBody, Refusal, RefusalCode, RunOutcome,
    TaskStatus, UpdateState, UpdateVerdict,
};

use super::{
    check,
    values::{log, record, run_end, task, task_end, update_report},
    variants,
};

#[test]
fn records() {
    variants!(Record {
        Record { body: RecordBody::RunStarted, .. } => "RunStarted",
        Record { body: RecordBody::TaskStarted { .. }, .. } => "TaskStarted",
        Record { body: RecordBody::TaskEnded(_), .. } => "TaskEnded",
        Record { body: RecordBody::RunEnded(_), .. } => "RunEnded",
        Record { body: RecordBody::Log { .. }, .. } => "Log",
        Record { body: RecordBody::Receipt { .. }, .. } => "Receipt",
        Record { body: RecordBody::Update(_), .. } => "Update",
    });
    let samples = [
        record(1, RecordBody::RunStarted),
        record(2, RecordBody::TaskStarted { task: task(), attempt: 3 }),
        record(300, RecordBody::TaskEnded(task_end(TaskStatus::Succeeded))),
        record(70_000, RecordBody::RunEnded(run_end(RunOutcome::Failed))),
        record(u64::MAX, log(LogStream::Stderr)),
        record(5, RecordBody::Log { task: None, stream: LogStream::Info, text: String::new() }),
        record(6, RecordBody::Receipt { payload: b"{}".to_vec(), signature: "four lines".to_owned() }),
        record(7, RecordBody::Update(update_report(UpdateVerdict::RolledBack))),
    ];
    check("record", &samples, variant, VARIANTS);
}

#[test]
fn task_statuses() {
    variants!(TaskStatus {
        TaskStatus::Succeeded => "Succeeded",
        TaskStatus::Unchanged => "Unchanged",
        TaskStatus::Failed => "Failed",
        TaskStatus::TimedOut => "TimedOut",
        TaskStatus::Skipped => "Skipped",
        TaskStatus::Cancelled => "Cancelled",
        TaskStatus::Interrupted => "Interrupted",
    });
    let samples = [
        TaskStatus::Succeeded,
        TaskStatus::Unchanged,
        TaskStatus::Failed,
        TaskStatus::TimedOut,
        TaskStatus::Skipped,
        TaskStatus::Cancelled,
        TaskStatus::Interrupted,
    ];
    check("task_status", &samples, variant, VARIANTS);
}

#[test]
fn update_verdicts() {
    variants!(UpdateVerdict {
        UpdateVerdict::Staged => "Staged",
        UpdateVerdict::Switched => "Switched",
        UpdateVerdict::Confirmed => "Confirmed",
        UpdateVerdict::RolledBack => "RolledBack",
        UpdateVerdict::Refused => "Refused",
        UpdateVerdict::Held => "Held",
        UpdateVerdict::Withdrawn => "Withdrawn",
    });
    let samples = [
        UpdateVerdict::Staged,
        UpdateVerdict::Switched,
        UpdateVerdict::Confirmed,
        UpdateVerdict::RolledBack,
        UpdateVerdict::Refused,
        UpdateVerdict::Held,
        UpdateVerdict::Withdrawn,
    ];
    check("update_verdict", &samples, variant, VARIANTS);
}

#[test]
fn update_states() {
    variants!(UpdateState {
        UpdateState::Queued => "Queued",
        UpdateState::Accepted => "Accepted",
        UpdateState::Staged => "Staged",
        UpdateState::Switched => "Switched",
        UpdateState::Confirmed => "Confirmed",
        UpdateState::RolledBack => "RolledBack",
        UpdateState::Refused => "Refused",
        UpdateState::Held => "Held",
        UpdateState::Withdrawn => "Withdrawn",
    });
    let samples = [
        UpdateState::Queued,
        UpdateState::Accepted,
        UpdateState::Staged,
        UpdateState::Switched,
        UpdateState::Confirmed,
        UpdateState::RolledBack,
        UpdateState::Refused,
        UpdateState::Held,
        UpdateState::Withdrawn,
    ];
    check("update_state", &samples, variant, VARIANTS);
}

#[test]
fn run_outcomes() {
    variants!(RunOutcome {
        RunOutcome::Succeeded => "Succeeded",
        RunOutcome::Failed => "Failed",
        RunOutcome::Cancelled => "Cancelled",
        RunOutcome::Refused => "Refused",
        RunOutcome::Expired => "Expired",
    });
    let samples =
        [RunOutcome::Succeeded, RunOutcome::Failed, RunOutcome::Cancelled, RunOutcome::Refused, RunOutcome::Expired];
    check("run_outcome", &samples, variant, VARIANTS);
}

#[test]
fn job_states() {
    variants!(JobState {
        JobState::Pending => "Pending",
        JobState::Accepted => "Accepted",
        JobState::Running => "Running",
        JobState::Succeeded => "Succeeded",
        JobState::Failed => "Failed",
        JobState::Cancelled => "Cancelled",
        JobState::Refused => "Refused",
        JobState::Expired => "Expired",
    });
    let samples = [
        JobState::Pending,
        JobState::Accepted,
        JobState::Running,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
        JobState::Refused,
        JobState::Expired,
    ];
    check("job_state", &samples, variant, VARIANTS);
}

#[test]
fn log_streams() {
    variants!(LogStream {
        LogStream::Stdout => "Stdout",
        LogStream::Stderr => "Stderr",
        LogStream::Debug => "Debug",
        LogStream::Info => "Info",
        LogStream::Warn => "Warn",
        LogStream::Error => "Error",
    });
    let samples =
        [LogStream::Stdout, LogStream::Stderr, LogStream::Debug, LogStream::Info, LogStream::Warn, LogStream::Error];
    check("log_stream", &samples, variant, VARIANTS);
}

#[test]
fn lanes() {
    variants!(Lane { Lane::Results => "Results", Lane::Logs => "Logs" });
    check("lane", &[Lane::Results, Lane::Logs], variant, VARIANTS);
}

#[test]
fn classes() {
    variants!(Class {
        Class::Log => "Log",
        Class::Progress => "Progress",
        Class::Task => "Task",
        Class::Run => "Run",
    });
    check("class", &[Class::Log, Class::Progress, Class::Task, Class::Run], variant, VARIANTS);
}

#[test]
fn interruptions() {
    variants!(OnInterrupt { OnInterrupt::Retry => "Retry", OnInterrupt::Fail => "Fail" });
    check("on_interrupt", &[OnInterrupt::Retry, OnInterrupt::Fail], variant, VARIANTS);
}

#[test]
fn follow_waits() {
    variants!(FollowWait { FollowWait::No => "No", FollowWait::UntilEnd => "UntilEnd" });
    check("follow_wait", &[FollowWait::No, FollowWait::UntilEnd], variant, VARIANTS);
}

#[test]
fn refusals() {
    variants!(Refusal {
        Refusal { code: RefusalCode::Invalid, .. } => "Invalid",
        Refusal { code: RefusalCode::Denied, .. } => "Denied",
        Refusal { code: RefusalCode::NotFound, .. } => "NotFound",
        Refusal { code: RefusalCode::Conflict, .. } => "Conflict",
        Refusal { code: RefusalCode::TooLarge, .. } => "TooLarge",
        Refusal { code: RefusalCode::Busy, .. } => "Busy",
        Refusal { code: RefusalCode::Version, .. } => "Version",
        Refusal { code: RefusalCode::Internal, .. } => "Internal",
        Refusal { code: RefusalCode::Values, .. } => "Values",
    });
    let refusal = |code| Refusal { code, reason: "no".to_owned(), retry_after: Millis::from_secs(9) };
    let samples = [
        refusal(RefusalCode::Invalid),
        refusal(RefusalCode::Denied),
        refusal(RefusalCode::NotFound),
        refusal(RefusalCode::Conflict),
        refusal(RefusalCode::TooLarge),
        refusal(RefusalCode::Busy),
        refusal(RefusalCode::Version),
        refusal(RefusalCode::Internal),
        refusal(RefusalCode::Values),
    ];
    check("refusal", &samples, variant, VARIANTS);
}
