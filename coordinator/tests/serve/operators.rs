//! Operators, and health.

use sloth_core::{Digest, Millis, RunId};
use sloth_protocol::wire::{
    AgentRequest, Dropped, Events, Follow, FollowWait, Lane, LogStream, OperatorRequest, OperatorResponse, Record,
    RecordBody, RefusalCode, Report, RunEnd, RunOutcome, StartRun, Started,
};
use sloth_transport::KeyRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Coordinator, follow, next, now, operate, random};

const DAY: Millis = Millis::from_secs(86_400);

fn refused(answer: &OperatorResponse) -> RefusalCode {
    let OperatorResponse::Refused(refusal) = answer else { panic!("{answer:?}") };
    refusal.code
}

fn events(answer: OperatorResponse) -> Events {
    let OperatorResponse::Events(events) = answer else { panic!("{answer:?}") };
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_to_its_end() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let run = coordinator.start_run("*").await.run;
    let operator = coordinator.operator().await;
    let whole = Follow { run, after: 0, agent: None, wait: FollowWait::UntilEnd };
    let say = async |lane, seq, body| {
        let records = vec![Record { seq, at: now(), run, body }];
        agent.ask(AgentRequest::Report(Report { lane, dropped: Dropped::default(), records })).await;
    };
    let log = RecordBody::Log { task: None, stream: LogStream::Info, text: "hello".into() };
    let (first, ()) =
        tokio::join!(follow(&operator, OperatorRequest::Follow(whole)), say(Lane::Results, 1, RecordBody::RunStarted));
    let (first, mut rest) = first;
    let first = events(first);
    assert_eq!((first.events.len(), first.events[0].number, first.last), (1, 1, false));
    say(Lane::Logs, 1, log).await;
    let second = events(next(&mut rest).await);
    assert_eq!((second.events[0].number, second.events[0].agent, second.last), (2, agent.id, false));
    let end = RunEnd { outcome: RunOutcome::Failed, message: "no".into(), outputs: String::new() };
    say(Lane::Results, 2, RecordBody::RunEnded(end)).await;
    let third = events(next(&mut rest).await);
    assert_eq!((third.events.len(), third.last), (1, true));

    let from = Follow { after: 2, ..whole };
    let (answer, _) = follow(&operator, OperatorRequest::Follow(from)).await;
    let rest = events(answer);
    assert_eq!((rest.events.len(), rest.events[0].number, rest.last), (1, 3, true));
    let nobody = Follow { run: RunId::new(now(), 1), ..whole };
    assert_eq!(refused(&follow(&operator, OperatorRequest::Follow(nobody)).await.0), RefusalCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_once_however_often_it_is_asked_for() {
    let coordinator = Coordinator::published().await;
    let _agent = coordinator.agent("web-1").await;
    let operator = coordinator.operator().await;
    let start = StartRun {
        run: RunId::new(now(), random()),
        bundle: "web".into(),
        version: None,
        workflow: None,
        selector: "role=web".into(),
        values: "{}".into(),
        ttl: Millis::from_secs(60),
    };
    for _ in 0..2 {
        let answer = operate(&operator, OperatorRequest::StartRun(start.clone())).await;
        assert!(matches!(answer, OperatorResponse::Started(started) if started.agents == 1), "{answer:?}");
    }
    let OperatorResponse::Runs(page) = operate(&operator, OperatorRequest::Runs { before: None, rows: 9 }).await else {
        panic!("no runs")
    };
    assert_eq!(page.runs.len(), 1);
    for (wrong, code) in [
        (StartRun { bundle: "none".into(), ..start.clone() }, RefusalCode::NotFound),
        (StartRun { version: Some("0.9".into()), ..start.clone() }, RefusalCode::Conflict),
        (StartRun { workflow: Some("none".into()), ..start.clone() }, RefusalCode::Invalid),
        (StartRun { selector: "a b".into(), ..start.clone() }, RefusalCode::Invalid),
        (StartRun { values: "[]".into(), ..start.clone() }, RefusalCode::Invalid),
    ] {
        let wrong = StartRun { run: RunId::new(now(), random()), ..wrong };
        assert_eq!(refused(&operate(&operator, OperatorRequest::StartRun(wrong)).await), code);
    }
    // Nobody was connected, so nobody was told, and the run has ended with its cancellation.
    let answer = operate(&operator, OperatorRequest::CancelRun(start.run)).await;
    let OperatorResponse::Run(view) = answer else { panic!("{answer:?}") };
    assert!(view.summary.cancelled && view.summary.ended.is_some(), "{view:?}");
    // Whoever lost the first answer and asks when all is over is told of the same run.
    let answer = operate(&operator, OperatorRequest::StartRun(start.clone())).await;
    assert_eq!(answer, OperatorResponse::Started(Started { run: start.run, agents: 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_that_was_revoked_lets_nobody_in() {
    let coordinator = Coordinator::published().await;
    let operator = coordinator.operator().await;
    let (kept, revoked) = (coordinator.token(1, DAY).await, coordinator.token(2, DAY).await);
    let OperatorResponse::Tokens(page) = operate(&operator, OperatorRequest::Tokens { after: None }).await else {
        panic!("no tokens")
    };
    assert_eq!(page.tokens.iter().map(|token| token.uses).sum::<u32>(), 3, "{page:?}");
    for expected in [None, Some(RefusalCode::NotFound)] {
        let answer = operate(&operator, OperatorRequest::RevokeToken(revoked.id)).await;
        assert_eq!((answer != OperatorResponse::Done).then(|| refused(&answer)), expected);
    }
    let key = KeyRequest::generate().expect("a key");
    let refusal = coordinator.enroll(&revoked, "web-1", &key).await.expect_err("it counts no more");
    assert_eq!(refusal.code, RefusalCode::Denied);
    coordinator.enroll(&kept, "web-1", &key).await.expect("the other one counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whole_blobs_under_their_own_names_are_kept() {
    let coordinator = Coordinator::start().await;
    let operator = coordinator.operator().await;
    let plain = b"some bytes";
    let digest = Digest::of(plain);
    let frame = sloth_bundle::chunk::compress(digest, plain).expect("compressed");
    for (digest, length, bytes, code) in [
        (digest, 10, &frame[..4], RefusalCode::Invalid),
        (digest, 11, &frame[..], RefusalCode::Invalid),
        (Digest::of(b"other"), 10, &frame[..], RefusalCode::Invalid),
        (digest, u64::MAX, &frame[..], RefusalCode::TooLarge),
    ] {
        let question = OperatorRequest::PutBlob { digest, length };
        assert_eq!(refused(&upload(&operator, question, bytes).await), code);
    }
    let ask = OperatorRequest::MissingBlobs(vec![digest]);
    assert_eq!(operate(&operator, ask.clone()).await, OperatorResponse::Missing(vec![digest]));
    let question = OperatorRequest::PutBlob { digest, length: 10 };
    assert_eq!(upload(&operator, question, &frame).await, OperatorResponse::Done);
    assert_eq!(operate(&operator, ask).await, OperatorResponse::Missing(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_told() {
    let coordinator = Coordinator::published().await;
    let _agent = coordinator.agent("web-1").await;
    for (path, status, expected) in [
        ("/healthz", "200", "alive"),
        ("/readyz", "200", "ready"),
        ("/metrics", "200", "sloth_agents_connected"),
        ("/none", "404", ""),
    ] {
        let answer = get(&coordinator.http, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(expected), "{answer}");
    }
    let metrics = get(&coordinator.http, "/metrics").await;
    for expected in [
        "sloth_commit_seconds_bucket{le=\"0.001\"}",
        "sloth_bundle_expires_seconds{bundle=\"web\"}",
        "sloth_root_expires_seconds",
        "sloth_head_expires_seconds",
        "sloth_build_info",
    ] {
        assert!(metrics.contains(expected), "{metrics}");
    }
}

async fn upload(link: &sloth_transport::Link, question: OperatorRequest, bytes: &[u8]) -> OperatorResponse {
    let (mut sending, mut receiving) = link.connection.open_bi().await.expect("a stream");
    sloth_transport::send(&mut sending, &question).await.expect("sent");
    if sending.write_all(bytes).await.is_ok() {
        let _ = sending.finish();
    }
    next(&mut receiving).await
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let question = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}
