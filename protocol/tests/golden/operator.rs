//! What operators ask and are answered.

use sloth_core::Millis;
use sloth_protocol::wire::{
    AgentView, AgentsPage, AssignRelease, BundleView, Copied, CreateToken, Events, Follow, FollowWait, HeadLine,
    HeadsPage, JobState, JobView, LogStream, OperatorHello, OperatorRequest, OperatorResponse, Published,
    ReceiptsAsked, ReceiptsPage, RecordBody, ReleaseTarget, ReleaseView, RunEvent, RunSummary, RunView, RunsPage,
    StartRun, Started, TaskStatus, TaskView, TokenIssued, TokenView, TokensPage, UpdateState, UpdateView,
};

use sloth_trust::{ChainEnds, ChainLink, HeadEnds, HeadRef, Trigger};

use super::{
    check,
    values::{AT, agent, digest, dropped, labels, log, platform, receipt_key, record, refusal, run, task_end, token},
    variants,
};

#[test]
fn requests() {
    variants!(OperatorRequest {
        OperatorRequest::Hello(_) => "Hello",
        OperatorRequest::Root => "Root",
        OperatorRequest::PutRoot(_) => "PutRoot",
        OperatorRequest::MissingBlobs(_) => "MissingBlobs",
        OperatorRequest::PutBlob { .. } => "PutBlob",
        OperatorRequest::Publish(_) => "Publish",
        OperatorRequest::CreateToken(_) => "CreateToken",
        OperatorRequest::Agents { .. } => "Agents",
        OperatorRequest::Agent(_) => "Agent",
        OperatorRequest::RevokeAgent(_) => "RevokeAgent",
        OperatorRequest::Bundles => "Bundles",
        OperatorRequest::Bundle(_) => "Bundle",
        OperatorRequest::StartRun(_) => "StartRun",
        OperatorRequest::Runs { .. } => "Runs",
        OperatorRequest::Run(_) => "Run",
        OperatorRequest::Follow(_) => "Follow",
        OperatorRequest::CancelRun(_) => "CancelRun",
        OperatorRequest::OnlineKeys => "OnlineKeys",
        OperatorRequest::NewOnlineKey => "NewOnlineKey",
        OperatorRequest::Heads { .. } => "Heads",
        OperatorRequest::Receipts(_) => "Receipts",
        OperatorRequest::PublishRelease(_) => "PublishRelease",
        OperatorRequest::Releases => "Releases",
        OperatorRequest::WithdrawRelease(_) => "WithdrawRelease",
        OperatorRequest::AssignRelease(_) => "AssignRelease",
        OperatorRequest::Tokens { .. } => "Tokens",
        OperatorRequest::RevokeToken(_) => "RevokeToken",
        OperatorRequest::ForgetAgent(_) => "ForgetAgent",
        OperatorRequest::Rollout(_) => "Rollout",
        OperatorRequest::Operators { .. } => "Operators",
        OperatorRequest::RevokeOperator(_) => "RevokeOperator",
        OperatorRequest::NewestReceipts(_) => "NewestReceipts",
        OperatorRequest::Results { .. } => "Results",
    });
    let mut samples = asks_about_bundles_and_agents();
    samples.extend(asks_about_runs());
    samples.extend(asks_about_releases());
    samples.extend(super::rollout::asks());
    samples.extend(super::audit::asks());
    check("operator_request", &samples, variant, VARIANTS);
}

fn asks_about_bundles_and_agents() -> Vec<OperatorRequest> {
    vec![
        OperatorRequest::Hello(OperatorHello { proto_min: 1, proto_max: 2, version: "0.1.0".to_owned() }),
        OperatorRequest::Root,
        OperatorRequest::PutRoot(vec![1, 2, 3]),
        OperatorRequest::MissingBlobs(vec![digest(), digest()]),
        OperatorRequest::PutBlob { digest: digest(), length: 4096 },
        OperatorRequest::Publish(vec![4, 5, 6]),
        OperatorRequest::CreateToken(CreateToken { uses: 10, ttl: Millis::from_secs(3600), labels: labels() }),
        OperatorRequest::Agents { selector: "role=web".to_owned(), after: Some(agent()) },
        OperatorRequest::Agents { selector: "*".to_owned(), after: None },
        OperatorRequest::Agent("web-1".to_owned()),
        OperatorRequest::RevokeAgent("web-2".to_owned()),
        OperatorRequest::Bundles,
        OperatorRequest::Bundle("shop".to_owned()),
    ]
}

fn asks_about_runs() -> Vec<OperatorRequest> {
    vec![
        OperatorRequest::StartRun(StartRun {
            run: run(),
            bundle: "shop".to_owned(),
            version: Some("1.4.0".to_owned()),
            workflow: None,
            selector: "role=web".to_owned(),
            values: r#"{"n":1}"#.to_owned(),
            ttl: Millis::from_secs(600),
        }),
        OperatorRequest::Runs { before: Some(run()), rows: 50 },
        OperatorRequest::Run(run()),
        OperatorRequest::Follow(Follow { run: run(), after: 300, agent: Some(agent()), wait: FollowWait::UntilEnd }),
        OperatorRequest::Follow(Follow { run: run(), after: 0, agent: None, wait: FollowWait::No }),
        OperatorRequest::CancelRun(run()),
        OperatorRequest::OnlineKeys,
        OperatorRequest::NewOnlineKey,
        OperatorRequest::Heads { after: 300 },
        OperatorRequest::Tokens { after: Some(token()) },
        OperatorRequest::RevokeToken(token()),
        OperatorRequest::ForgetAgent("web-1".to_owned()),
        OperatorRequest::Receipts(ReceiptsAsked { after: 300, agent: Some(agent()), run: None }),
        OperatorRequest::Receipts(ReceiptsAsked { after: 0, agent: None, run: Some(run()) }),
    ]
}

fn asks_about_releases() -> Vec<OperatorRequest> {
    let assign = AssignRelease { agent: "web-1".to_owned(), counter: 300, ttl: Millis::from_secs(3600) };
    vec![
        OperatorRequest::PublishRelease(vec![7, 8, 9]),
        OperatorRequest::Releases,
        OperatorRequest::WithdrawRelease(300),
        OperatorRequest::AssignRelease(assign),
    ]
}

#[test]
fn responses() {
    variants!(OperatorResponse {
        OperatorResponse::Welcome { .. } => "Welcome",
        OperatorResponse::Done => "Done",
        OperatorResponse::Root(_) => "Root",
        OperatorResponse::Missing(_) => "Missing",
        OperatorResponse::Published(_) => "Published",
        OperatorResponse::Token(_) => "Token",
        OperatorResponse::Agents(_) => "Agents",
        OperatorResponse::Agent(_) => "Agent",
        OperatorResponse::Bundles(_) => "Bundles",
        OperatorResponse::Started(_) => "Started",
        OperatorResponse::Runs(_) => "Runs",
        OperatorResponse::Run(_) => "Run",
        OperatorResponse::Events(_) => "Events",
        OperatorResponse::Refused(_) => "Refused",
        OperatorResponse::OnlineKeys(_) => "OnlineKeys",
        OperatorResponse::Heads(_) => "Heads",
        OperatorResponse::Receipts(_) => "Receipts",
        OperatorResponse::Releases(_) => "Releases",
        OperatorResponse::Tokens(_) => "Tokens",
        OperatorResponse::Rollout(_) => "Rollout",
        OperatorResponse::Operators(_) => "Operators",
        OperatorResponse::Operator(_) => "Operator",
        OperatorResponse::Results(_) => "Results",
    });
    let mut samples = answers_about_bundles_and_agents();
    samples.extend(answers_about_runs());
    samples.push(OperatorResponse::Releases(vec![release_view()]));
    samples.extend(super::rollout::answers());
    samples.extend(super::audit::answers());
    check("operator_response", &samples, variant, VARIANTS);
}

fn answers_about_bundles_and_agents() -> Vec<OperatorResponse> {
    vec![
        OperatorResponse::Welcome { proto: 1, version: "0.1.0".to_owned() },
        OperatorResponse::Done,
        OperatorResponse::Root(Some(vec![1, 2, 3])),
        OperatorResponse::Root(None),
        OperatorResponse::Missing(vec![digest()]),
        OperatorResponse::Published(Published {
            name: "shop".to_owned(),
            version: "1.4.0".to_owned(),
            counter: 300,
            repeated: true,
        }),
        OperatorResponse::Token(TokenIssued { id: token(), token: "sloth-join-1.x".to_owned(), expires: AT }),
        OperatorResponse::Agents(AgentsPage { agents: vec![agent_view()], more: true }),
        OperatorResponse::Agent(agent_view()),
        OperatorResponse::Bundles(vec![bundle_view()]),
    ]
}

fn answers_about_runs() -> Vec<OperatorResponse> {
    let job = JobView {
        agent: agent(),
        name: "web-1".to_owned(),
        state: JobState::Failed,
        message: "a task failed".to_owned(),
        outputs: "{}".to_owned(),
        tasks: vec![TaskView { end: task_end(TaskStatus::Failed) }],
    };
    let event = |number, body| RunEvent { number, agent: agent(), record: record(number, body) };
    vec![
        OperatorResponse::Started(Started { run: run(), agents: 3 }),
        OperatorResponse::Runs(RunsPage { runs: vec![run_summary()], more: false }),
        OperatorResponse::Run(RunView { summary: run_summary(), jobs: vec![job] }),
        OperatorResponse::Events(Events {
            events: vec![event(1, RecordBody::RunStarted), event(2, log(LogStream::Warn))],
            last: true,
        }),
        OperatorResponse::Refused(refusal()),
        OperatorResponse::OnlineKeys(vec!["RWQf6LRCGA9i53ml".to_owned()]),
        OperatorResponse::Heads(HeadsPage {
            ends: HeadEnds { dropped: None, newest: Some(HeadRef { version: 300, payload: digest() }) },
            heads: vec![HeadLine { version: 300, payload: b"{}".to_vec() }],
            more: true,
        }),
        OperatorResponse::Tokens(TokensPage {
            tokens: vec![TokenView { id: token(), uses: 3, expires: AT, labels: labels(), operator: "ops".to_owned() }],
            more: false,
        }),
        OperatorResponse::Receipts(ReceiptsPage {
            ends: ChainEnds { dropped: None, newest: Some(ChainLink { number: 300, digest: digest() }) },
            lines: vec![b"{}".to_vec()],
            through: 300,
            more: false,
        }),
    ]
}

fn agent_view() -> AgentView {
    AgentView {
        id: agent(),
        name: "web-1".to_owned(),
        labels: labels(),
        version: "0.1.0".to_owned(),
        platform: platform(),
        connected: true,
        last_seen: AT,
        enrolled: AT,
        revoked: false,
        dropped: dropped(),
        jobs: 2,
        root: 3,
        head: 1_700_000_000_000,
        receipt_key: receipt_key(),
        proto: 2,
        update: Some(Box::new(update_view())),
        copied: Some(Box::new(Copied { since: AT, last: AT, hostname: "web-2".to_owned() })),
    }
}

fn update_view() -> UpdateView {
    UpdateView {
        counter: Some(7),
        rollout: None,
        from: "0.1.0".to_owned(),
        to: "0.2.0".to_owned(),
        state: UpdateState::RolledBack,
        at: AT,
        reason: "it did not connect".to_owned(),
        log_tail: "a line".to_owned(),
    }
}

fn release_view() -> ReleaseView {
    let target = ReleaseTarget {
        target: "x86_64-unknown-linux-gnu".to_owned(),
        sha256: "00ff".to_owned(),
        length: 9_000_000,
        manifest: digest(),
    };
    ReleaseView {
        version: "0.2.0".to_owned(),
        counter: 7,
        channel: "stable".to_owned(),
        targets: vec![target],
        oldest: "0.1.0".to_owned(),
        also: vec!["0.0.9".to_owned()],
        proto_min: 1,
        proto_max: 2,
        published: AT,
        expires: AT + AT,
        signers: vec!["00ff".to_owned()],
    }
}

fn bundle_view() -> BundleView {
    BundleView {
        name: "shop".to_owned(),
        version: "1.4.0".to_owned(),
        counter: 5,
        manifest: digest(),
        size: 70_000,
        audience: "role=web".to_owned(),
        capabilities: vec!["exec".to_owned()],
        triggers: vec![Trigger::Manual, Trigger::Rollout],
        published: AT,
        expires: AT + AT,
        signers: vec!["00ff".to_owned()],
        plan: "{}".to_owned(),
        parameters: "{}".to_owned(),
    }
}

fn run_summary() -> RunSummary {
    RunSummary {
        run: run(),
        bundle: "shop".to_owned(),
        version: "1.4.0".to_owned(),
        workflow: Some("deploy".to_owned()),
        selector: "*".to_owned(),
        operator: "ops".to_owned(),
        created: AT,
        ended: Some(AT + Millis::from_secs(9)),
        deadline: AT + Millis::from_secs(600),
        cancelled: false,
        jobs: vec![(JobState::Running, 2), (JobState::Failed, 1)],
    }
}
