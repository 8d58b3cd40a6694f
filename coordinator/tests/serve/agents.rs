//! Agents at work.

use sloth_coord::serve;
use sloth_core::{Digest, Millis, RunId};
use sloth_protocol::wire::{
    AgentRequest, AgentResponse, BlobHead, Dropped, Fetch, Lane, LogStream, OperatorRequest, OperatorResponse, Order,
    Poll, Record, RecordBody, RefusalCode, Renew, Report, RunEnd, RunOutcome,
};
use sloth_transport::{CloseCode, KeyRequest, Priority, request};
use sloth_trust::{Assignment, BundleMetadata, Envelope};

use crate::harness::{Agent, Coordinator, closed, now, operate};

const HOLD: Millis = Millis::from_secs(60);

async fn report(agent: &Agent, lane: Lane, records: Vec<Record>) -> AgentResponse {
    agent.ask(AgentRequest::Report(Report { lane, dropped: Dropped::default(), records })).await
}

fn record(seq: u64, run: RunId, body: RecordBody) -> Record {
    Record { seq, at: now(), run, body }
}

fn succeeded() -> RecordBody {
    RecordBody::RunEnded(RunEnd { outcome: RunOutcome::Succeeded, message: String::new(), outputs: "{}".into() })
}

fn acked(answer: &AgentResponse) -> u64 {
    let AgentResponse::Acked(acked) = answer else { panic!("{answer:?}") };
    acked.through
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_poll_gets_work_at_once_and_what_is_reported_counts_once() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let (work, started) = tokio::join!(agent.poll(0, HOLD), coordinator.start_run("role=web"));
    assert_eq!(started.agents, 1);
    let [item] = work.items.as_slice() else { panic!("{work:?}") };
    let Order::Run(order) = &item.order else { panic!("{item:?}") };
    assert_eq!(order.run, started.run);
    let assignment: Assignment =
        serde_json::from_slice(&Envelope::decode(&order.assignment).expect("an envelope").payload).expect("JSON");
    let metadata: BundleMetadata =
        serde_json::from_slice(&Envelope::decode(&order.metadata).expect("an envelope").payload).expect("JSON");
    assert_eq!((assignment.agent, assignment.manifest), (agent.id, metadata.manifest.digest));
    // The same again, until it says that it has it.
    assert_eq!(agent.poll(0, Millis::ZERO).await.items, work.items);
    assert!(agent.poll(item.generation, Millis::ZERO).await.items.is_empty());

    let run = started.run;
    let log = RecordBody::Log { task: None, stream: LogStream::Stdout, text: "hello".into() };
    let logs = vec![record(1, run, log)];
    assert_eq!(acked(&report(&agent, Lane::Logs, logs.clone()).await), 1);
    let results = vec![record(1, run, RecordBody::RunStarted), record(2, run, succeeded())];
    for _ in 0..2 {
        assert_eq!(acked(&report(&agent, Lane::Results, results.clone()).await), 2);
        assert_eq!(acked(&report(&agent, Lane::Logs, logs.clone()).await), 1);
    }
    let wrong = report(&agent, Lane::Results, logs).await;
    assert!(matches!(wrong, AgentResponse::Refused(ref refusal) if refusal.code == RefusalCode::Invalid), "{wrong:?}");

    let coordinator = coordinator.restart().await;
    let read = coordinator.cli(&["runs", "show", &run.to_string()]).await;
    assert_eq!(read, Ok(sloth_cli::Outcome::Done));
    let OperatorResponse::Run(view) = operate(&coordinator.operator().await, OperatorRequest::Run(run)).await else {
        panic!("no run")
    };
    assert!(view.summary.ended.is_some() && view.jobs[0].name == "web-1", "{view:?}");
    let mut agent = coordinator.again(&agent).await;
    agent.hello().await;
    assert_eq!(acked(&report(&agent, Lane::Results, results).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agent_is_disconnected_at_once_and_stays_out() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let revoke = async {
        let question = OperatorRequest::RevokeAgent("web-1".into());
        operate(&coordinator.operator().await, question).await
    };
    let (code, answer) = tokio::join!(closed(&agent.link.connection), revoke);
    assert_eq!(code, CloseCode::Revoked);
    assert!(matches!(answer, OperatorResponse::Agent(view) if view.revoked));
    let again = coordinator.again(&agent).await;
    assert_eq!(closed(&again.link.connection).await, CloseCode::Revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_connections_counts() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let mut again = coordinator.again(&agent).await;
    // By its hello: what connects and says nothing takes nobody's place.
    again.hello().await;
    assert_eq!(closed(&agent.link.connection).await, CloseCode::Superseded);
    assert!(again.poll(0, Millis::ZERO).await.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_from_any_place_on() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let OperatorResponse::Bundles(bundles) = operate(&coordinator.operator().await, OperatorRequest::Bundles).await
    else {
        panic!("no bundles")
    };
    let digest = bundles[0].manifest;
    let mut whole = Vec::new();
    for offset in [0, 7] {
        let question = AgentRequest::Fetch(Fetch { digest, offset });
        let (answer, mut rest) = request(&agent.link.connection, &question, Priority::Blobs).await.expect("answered");
        let AgentResponse::Blob(BlobHead { length }) = answer else { panic!("{answer:?}") };
        let bytes = rest.read_to_end(1 << 20).await.expect("bytes");
        assert_eq!(u64::try_from(bytes.len()).expect("small") + offset, length);
        if offset == 0 { whole = bytes } else { assert_eq!(bytes, whole[7..]) }
    }
    for (digest, offset, code) in
        [(Digest::of(b"nothing"), 0, RefusalCode::NotFound), (digest, 1 << 40, RefusalCode::Invalid)]
    {
        let answer = agent.ask(AgentRequest::Fetch(Fetch { digest, offset })).await;
        assert!(matches!(answer, AgentResponse::Refused(ref refusal) if refusal.code == code), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_hear_that_the_coordinator_goes_down() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let (code, _dir) = tokio::join!(closed(&agent.link.connection), coordinator.stop());
    assert_eq!(code, CloseCode::Shutdown);
}

/// An agent that slept for longer than its certificate counts, or that got it while the coordinator's clock was ahead.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_does_not_count_is_told_the_time_and_gets_another() {
    const DAY: Millis = Millis::from_secs(86_400);
    let coordinator = Coordinator::published().await;
    let known = coordinator.agent("web-1").await;
    let authority = serve::authority(&coordinator.paths()).expect("an authority");
    for issued in [now() - DAY - DAY, now() + Millis::from_secs(14 * 365 * 86_400)] {
        let key = KeyRequest::generate().expect("a key");
        let old = authority.issue_agent(key.csr(), known.id, issued, DAY).expect("issued");
        let identity = key.certified(old.der).expect("an identity");
        let mut agent = coordinator.connect(known.id, identity, authority.certificate().to_vec()).await;
        agent.hello().await;
        let poll = || Poll { accepted: 0, hold: Millis::ZERO, room: 1, root: 1, head: 0 };
        let refused = agent.ask(AgentRequest::Poll(poll())).await;
        assert!(matches!(&refused, AgentResponse::Refused(r) if r.code == RefusalCode::Conflict), "{refused:?}");
        let key = KeyRequest::generate().expect("a key");
        let renewed = agent.ask(AgentRequest::Renew(Renew { csr: key.csr().to_vec() })).await;
        let AgentResponse::Renewed(renewed) = renewed else { panic!("{renewed:?}") };
        assert!(renewed.not_before <= now() && now() < renewed.not_after);
        let work = agent.ask(AgentRequest::Poll(poll())).await;
        assert!(matches!(work, AgentResponse::Work(_)), "{work:?}");
    }
}
