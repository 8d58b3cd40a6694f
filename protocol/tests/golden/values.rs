//! Values that the samples share. They never change: the golden bytes are made of them.

use sloth_core::{AgentId, Digest, Labels, Millis, RunId, TokenId};
use sloth_protocol::wire::{
    Dropped, LogStream, Platform, Record, RecordBody, Refusal, RefusalCode, RunEnd, RunOutcome, TaskEnd, TaskName,
    TaskStatus, UpdateReport, UpdateVerdict,
};
use sloth_trust::PublicKey;

/// 2023-11-14T22:13:20Z.
pub(crate) const AT: Millis = Millis::from_secs(1_700_000_000);

pub(crate) fn agent() -> AgentId {
    AgentId::new(AT, 0x1111)
}

pub(crate) fn run() -> RunId {
    RunId::new(AT, 0x2222)
}

pub(crate) fn token() -> TokenId {
    TokenId::new(AT, 0x3333)
}

pub(crate) fn digest() -> Digest {
    Digest::from_bytes([0xab; 32])
}

pub(crate) fn labels() -> Labels {
    [("role".to_owned(), "web".to_owned()), ("site".to_owned(), "hall".to_owned())].into()
}

pub(crate) fn platform() -> Platform {
    Platform { os: "debian 12".to_owned(), arch: "x86_64".to_owned(), hostname: "web-1".to_owned() }
}

pub(crate) fn receipt_key() -> PublicKey {
    "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().expect("a key")
}

pub(crate) fn dropped() -> Dropped {
    Dropped { logs: 1, progress: 2, tasks: 3, runs: 300 }
}

pub(crate) fn refusal() -> Refusal {
    Refusal { code: RefusalCode::Busy, reason: "too much is going on".to_owned(), retry_after: Millis::from_u64(1500) }
}

pub(crate) fn task() -> TaskName {
    TaskName { workflow: "deploy".to_owned(), task: "restart".to_owned() }
}

pub(crate) fn task_end(status: TaskStatus) -> TaskEnd {
    TaskEnd {
        task: task(),
        status,
        attempts: 2,
        message: "done".to_owned(),
        outputs: r#"{"n":1}"#.to_owned(),
        started: AT,
        ended: AT + Millis::from_u64(750),
    }
}

pub(crate) fn run_end(outcome: RunOutcome) -> RunEnd {
    RunEnd { outcome, message: "in the end".to_owned(), outputs: "{}".to_owned() }
}

pub(crate) fn record(seq: u64, body: RecordBody) -> Record {
    Record { seq, at: AT, run: run(), body }
}

pub(crate) fn update_report(verdict: UpdateVerdict) -> UpdateReport {
    UpdateReport {
        counter: Some(7),
        from: "0.1.0".to_owned(),
        to: "0.2.0".to_owned(),
        verdict,
        reason: "it did not connect".to_owned(),
        log_tail: "a line".to_owned(),
    }
}

pub(crate) fn log(stream: LogStream) -> RecordBody {
    RecordBody::Log { task: Some(task()), stream, text: "a line".to_owned() }
}
