//! What operators ask about rollouts and are answered.

use sloth_core::{Millis, RolloutId};
use sloth_protocol::wire::{
    Approval, HostView, HostsPage, OnHalt, OperatorRequest, OperatorResponse, Passing, ReasonView, Resume,
    RolloutAction, RolloutAgent, RolloutBundle, RolloutPlan, RolloutRequest, RolloutResponse, RolloutSpec,
    RolloutStatus, RolloutSubject, RolloutSummary, RolloutView, RolloutWhat, Share, WaveCounts, WaveMembers, WaveSpec,
    WaveView, WindowSpec,
};

use sloth_trust::Channel;

use super::values::{AT, agent, run};

pub(super) fn asks() -> Vec<OperatorRequest> {
    let act = |action| RolloutRequest::Act { name: "shop-2".to_owned(), action };
    let asks = vec![
        RolloutRequest::Create(spec()),
        RolloutRequest::Plan { spec: spec(), after: Some(agent()) },
        RolloutRequest::List,
        RolloutRequest::Show("shop-2".to_owned()),
        RolloutRequest::Hosts { name: "shop-2".to_owned(), after: None },
        act(RolloutAction::Approve(Passing::Proven)),
        act(RolloutAction::Approve(Passing::Unproven)),
        act(RolloutAction::Pause),
        act(RolloutAction::Resume(Resume::Same)),
        act(RolloutAction::Resume(Resume::Newest)),
        act(RolloutAction::Abort),
        act(RolloutAction::RollBack),
        RolloutRequest::Create(RolloutSpec { what: of_agents(), ..spec() }),
    ];
    asks.into_iter().map(OperatorRequest::Rollout).collect()
}

pub(super) fn answers() -> Vec<OperatorResponse> {
    let statuses = [
        RolloutStatus::Running,
        RolloutStatus::Paused,
        RolloutStatus::Halted,
        RolloutStatus::RollingBack,
        RolloutStatus::RolledBack,
        RolloutStatus::Complete,
        RolloutStatus::Aborted,
        RolloutStatus::Superseded,
    ];
    let answers = vec![
        RolloutResponse::Plan(RolloutPlan { version: "1.4.0".to_owned(), waves: vec![wave()], page: page() }),
        RolloutResponse::Rollouts(statuses.map(summary).to_vec()),
        RolloutResponse::Rollout(Box::new(RolloutView {
            summary: summary(RolloutStatus::Running),
            waves: vec![wave()],
            reasons: vec![ReasonView { code: "under_way".to_owned(), text: "wave 1: 1 host at work".to_owned() }],
            spec: spec(),
            attempt: 2,
        })),
        RolloutResponse::Hosts(page()),
        RolloutResponse::Rollouts(vec![RolloutSummary {
            subject: RolloutSubject::Agent(Channel::default()),
            ..summary(RolloutStatus::Running)
        }]),
    ];
    answers.into_iter().map(OperatorResponse::Rollout).collect()
}

fn spec() -> RolloutSpec {
    let (days, from, until) = (0b1_1111, 22 * 60, 4 * 60);
    let rules = "CET-1CEST,M3.5.0,M10.5.0/3".to_owned();
    let labelled = WaveMembers::Labelled("canary".to_owned());
    let all = WaveMembers::UpTo(Share::Hundredths(10_000));
    let wave = |members, approval| WaveSpec { members, soak: Millis::from_secs(600), approval };
    RolloutSpec {
        name: "shop-2".to_owned(),
        what: RolloutWhat::Bundle(RolloutBundle {
            name: "shop".to_owned(),
            version: Some("1.4.0".to_owned()),
            workflow: Some("main".to_owned()),
            values: r#"{"a":1}"#.to_owned(),
        }),
        selector: "role=web".to_owned(),
        waves: vec![wave(labelled, Approval::NotNeeded), wave(all, Approval::Needed)],
        errors_per_wave: Share::Hundredths(200),
        errors_in_all: Share::Count(5),
        unproven_max: Share::Count(50),
        proven_min: Share::Count(1),
        windows: vec![WindowSpec { days, from, until, zone: "Europe/Berlin".to_owned(), rules }],
        silent_after: 3,
        timeout: Millis::from_secs(3600),
        on_halt: OnHalt::RollBack,
    }
}

fn of_agents() -> RolloutWhat {
    RolloutWhat::Agent(RolloutAgent { version: "1.4.0".to_owned(), channel: Some("beta".to_owned()) })
}

fn summary(status: RolloutStatus) -> RolloutSummary {
    RolloutSummary {
        id: RolloutId::new(AT, 7),
        name: "shop-2".to_owned(),
        subject: RolloutSubject::Bundle("shop".parse().expect("a name")),
        version: "1.4.0".to_owned(),
        counter: 300,
        selector: "role=web".to_owned(),
        operator: "ann".to_owned(),
        created: AT,
        status,
        since: AT,
        waves: 2,
        open: 1,
        hosts: counts(),
    }
}

fn wave() -> WaveView {
    WaveView { spec: spec().waves.remove(0), counts: counts() }
}

fn counts() -> WaveCounts {
    WaveCounts {
        members: 300,
        waiting: 1,
        away: 2,
        under_way: 3,
        soaking: 4,
        proven: 5,
        failed: 6,
        silent: 7,
        returning: 8,
        returned: 9,
        not_returned: 10,
        held: 11,
    }
}

fn page() -> HostsPage {
    let (standing, run) = ("proven".to_owned(), run().to_string());
    let reason = "this host is pinned".to_owned();
    let host = HostView { agent: agent(), name: "web-1".to_owned(), wave: 1, standing, in_reach: true, run, reason };
    HostsPage { hosts: vec![host], more: true }
}
