//! What agents ask and are answered.

use sloth_core::Millis;
use sloth_protocol::wire::{
    Acked, AgentRequest, AgentResponse, BlobHead, Fetch, Hello, Lane, LogStream, Order, Poll, RecordBody, Renew,
    Renewed, Report, RunOrder, RunOutcome, TaskStatus, UpdateOrder, Welcome, Work, WorkItem,
};

use super::{
    check,
    values::{AT, digest, dropped, labels, log, platform, record, refusal, run, run_end, task, task_end},
    variants,
};

#[test]
fn requests() {
    variants!(AgentRequest {
        AgentRequest::Hello(_) => "Hello",
        AgentRequest::Poll(_) => "Poll",
        AgentRequest::Report(_) => "Report",
        AgentRequest::Fetch(_) => "Fetch",
        AgentRequest::Renew(_) => "Renew",
    });
    let results = vec![
        record(1, RecordBody::RunStarted),
        record(2, RecordBody::TaskStarted { task: task(), attempt: 1 }),
        record(3, RecordBody::TaskEnded(task_end(TaskStatus::Unchanged))),
        record(4, RecordBody::RunEnded(run_end(RunOutcome::Succeeded))),
    ];
    let samples = [
        AgentRequest::Hello(Hello {
            proto_min: 1,
            proto_max: 300,
            features: 5,
            version: "0.1.0".to_owned(),
            platform: platform(),
            labels: labels(),
            instance: 300,
        }),
        AgentRequest::Poll(Poll {
            accepted: 1000,
            hold: Millis::from_secs(60),
            room: 64,
            root: 3,
            head: 1_700_000_000_000,
        }),
        AgentRequest::Report(Report { lane: Lane::Results, dropped: dropped(), records: results }),
        AgentRequest::Report(Report {
            lane: Lane::Logs,
            dropped: dropped(),
            records: vec![record(9, log(LogStream::Stdout))],
        }),
        AgentRequest::Fetch(Fetch { digest: digest(), offset: 65_536 }),
        AgentRequest::Renew(Renew { csr: vec![1, 2, 3] }),
    ];
    check("agent_request", &samples, variant, VARIANTS);
}

#[test]
fn responses() {
    variants!(AgentResponse {
        AgentResponse::Welcome(_) => "Welcome",
        AgentResponse::Work(_) => "Work",
        AgentResponse::Acked(_) => "Acked",
        AgentResponse::Blob(_) => "Blob",
        AgentResponse::Renewed(_) => "Renewed",
        AgentResponse::Refused(_) => "Refused",
    });
    let order = Order::Run(RunOrder {
        run: run(),
        assignment: vec![1, 2],
        metadata: vec![3, 4, 5],
        index: 300,
        path: vec![digest()],
    });
    let items =
        vec![WorkItem { generation: 7, order }, WorkItem { generation: 8, order: Order::Cancel { run: run() } }];
    let samples = [
        AgentResponse::Welcome(Welcome {
            proto: 1,
            features: 0,
            time: AT,
            acked: [300, 4],
            reconnect_within: Millis::from_secs(200),
        }),
        AgentResponse::Work(Work { items, next_poll: Millis::ZERO, roots: vec![vec![1, 2]], head: Some(vec![3, 4]) }),
        AgentResponse::Work(Work {
            items: Vec::new(),
            next_poll: Millis::from_secs(10),
            roots: Vec::new(),
            head: None,
        }),
        AgentResponse::Acked(Acked { lane: Lane::Logs, through: 12_345 }),
        AgentResponse::Blob(BlobHead { length: 1 << 40 }),
        AgentResponse::Renewed(Renewed {
            certificate: vec![9, 8],
            not_before: AT,
            not_after: AT + Millis::from_secs(86_400),
        }),
        AgentResponse::Refused(refusal()),
    ];
    check("agent_response", &samples, variant, VARIANTS);
}

#[test]
fn orders() {
    variants!(Order { Order::Run(_) => "Run", Order::Cancel { .. } => "Cancel", Order::Update(_) => "Update", Order::CancelUpdate { .. } => "CancelUpdate" });
    let samples = [
        Order::Run(RunOrder {
            run: run(),
            assignment: vec![0xff; 3],
            metadata: Vec::new(),
            index: 0,
            path: Vec::new(),
        }),
        Order::Cancel { run: run() },
        Order::Update(UpdateOrder {
            assignment: vec![1, 2],
            metadata: vec![3, 4, 5],
            index: 300,
            path: vec![digest()],
        }),
        Order::CancelUpdate { counter: 300 },
    ];
    check("order", &samples, variant, VARIANTS);
}
