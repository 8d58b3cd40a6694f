//! What the same people can try with releases of the agent.

use sloth_core::{AgentId, Millis};
use sloth_protocol::wire::{RecordBody, UpdateVerdict};
use sloth_trust::{AgentRelease, Envelope, Sha256, TargetBinary, Targets, UpdateAssignment, Version, sign::sign};

use crate::{
    Row, Shown, Stage,
    common::{
        coordinator::{DAY, now},
        trust::key,
        updates::UpdateDraft,
    },
    nothing,
};

/// The first two are taken on, since all signatures are right, so that the agent has a number to compare the others with.
pub(crate) const ROWS: &[Row] = &[
    ("release of something that is no program", |s| s.update(|_| {}), "not a program of Linux"),
    ("release with another binary than was signed", another_binary, "was signed"),
    ("unsigned release", |s| s.release(|e| e.signatures.clear()), "it carries no signature"),
    ("release changed after signing", changed_release, "does not match the content"),
    ("release by a stranger", by_a_stranger, "0 of the 1 keys"),
    ("release by a publisher of bundles", by_a_publisher, "0 of the 1 keys"),
    ("release by the online key", by_the_online_key, "0 of the 1 keys"),
    ("endless release", |s| s.release(|e| e.payload = vec![b' '; 300_000]), "bytes at most"),
    ("release of another repository", |s| s.update(|d| d.release.repository = other_repository()), "it belongs to"),
    ("release for another platform", another_platform, "this host is"),
    ("release of another channel", |s| s.held(|d| d.release.channel = "beta".parse().expect("a name")), "of channel"),
    ("rollback of releases", |s| s.update(|d| counter(d, 0)), "is stale or turned back"),
    ("other release under an old number", under_an_old_number, "accepted before with other content"),
    ("release that expired", |s| s.update(|d| d.release.expires = now()), "expired at"),
    ("release that the head does not have", |s| s.update(|d| d.offered = false), "none of those"),
    ("release that is not reached from here", not_from_here, "may be reached from"),
    ("release of another protocol", |s| s.update(|d| d.release.protocol.min = 900), "of the protocol"),
    ("update to another release than ordered", |s| s.update(|d| d.assignment.counter -= 1), "another one was verified"),
    ("update to another binary than ordered", |s| s.update(|d| d.assignment.manifest = nothing()), "another one was"),
    ("update before its time", |s| s.update(|d| d.assignment.not_before = now() + DAY), "may not begin before"),
    ("update after its time", |s| s.update(|d| d.assignment.deadline = now()), "expired at"),
    ("update for another host", |s| s.unassigned(|d| d.assignment.agent = AgentId::new(now(), 99)), "is for agent"),
    ("replayed update", |s| s.unassigned(|d| d.assignment.nonce -= 1), "was made for order"),
    ("unsigned update", |s| s.assigned_otherwise(|_, e| e.signatures.clear()), "it carries no signature"),
    ("update by a maker of agents", assigned_by_a_maker, "0 of the 1 keys"),
];

impl Stage {
    /// The order of an update with a change: it ends as refused.
    fn update(&self, change: impl FnOnce(&mut UpdateDraft)) -> Shown {
        Shown::Update(self.coordinator().order_update(change), UpdateVerdict::Refused)
    }

    /// The same, where the host's own rules speak against it.
    fn held(&self, change: impl FnOnce(&mut UpdateDraft)) -> Shown {
        Shown::Update(self.coordinator().order_update(change), UpdateVerdict::Held)
    }

    /// The same, where nobody who may assign work said so: the order waits, and the log says why.
    fn unassigned(&self, change: impl FnOnce(&mut UpdateDraft)) -> Shown {
        let _ = self.coordinator().order_update(change);
        Shown::UpdateLogged
    }

    fn release(&self, change: impl FnOnce(&mut Envelope)) -> Shown {
        self.released_otherwise(|release| {
            let mut envelope = sign(release, &release.domain(), &[&self.coordinator().trust().maker]).expect("signed");
            change(&mut envelope);
            envelope
        })
    }

    fn released_otherwise(&self, sign: impl FnOnce(&AgentRelease) -> Envelope) -> Shown {
        self.update(|draft| draft.release_envelope = Some(sign(&draft.release)))
    }

    fn assigned_otherwise(&self, change: impl FnOnce(&UpdateAssignment, &mut Envelope)) -> Shown {
        self.unassigned(|draft| {
            let trust = self.coordinator().trust();
            let mut envelope = trust.say(&draft.assignment, &draft.assignment.domain(trust.root.repository));
            change(&draft.assignment, &mut envelope);
            draft.assignment_envelope = Some(envelope);
        })
    }

    /// What the agent said of the way to a version.
    pub(crate) fn update_ended(&self, version: &Version, verdict: UpdateVerdict) -> String {
        self.coordinator().wait(&format!("{verdict:?} of the update to {version}"), |state| {
            state.records.iter().find_map(|record| match &record.body {
                RecordBody::Update(report) if report.to == version.to_string() => {
                    assert_eq!(report.verdict, verdict, "{}", report.reason);
                    Some(report.reason.clone())
                }
                RecordBody::Update(_)
                | RecordBody::RunStarted
                | RecordBody::TaskStarted { .. }
                | RecordBody::TaskEnded(_)
                | RecordBody::RunEnded(_)
                | RecordBody::Log { .. }
                | RecordBody::Receipt { .. } => None,
            })
        })
    }
}

fn counter(draft: &mut UpdateDraft, counter: u64) {
    (draft.release.counter, draft.assignment.counter) = (counter, counter);
}

/// The second row's number, which was the last that was accepted.
fn under_an_old_number(stage: &Stage) -> Shown {
    let last = stage.coordinator().state().agent_releases.get(1).expect("a release").0.counter;
    stage.update(|draft| counter(draft, last))
}

fn another_binary(stage: &Stage) -> Shown {
    change_binary(stage, |binary| binary.digest = Sha256::of(b"another"))
}

fn another_platform(stage: &Stage) -> Shown {
    change_binary(stage, |binary| binary.target = "m68k-unknown-linux-gnu".parse().expect("a platform"))
}

fn change_binary(stage: &Stage, change: impl FnOnce(&mut TargetBinary)) -> Shown {
    stage.update(|draft| {
        let mut binary = draft.release.targets.iter().next().expect("a binary").clone();
        change(&mut binary);
        draft.release.targets = Targets::new(vec![binary]).expect("binaries");
    })
}

fn changed_release(stage: &Stage) -> Shown {
    stage.release(|envelope| {
        let text = String::from_utf8(envelope.payload.clone()).expect("text");
        envelope.payload = text.replace("\"min\":1", "\"min\":2").into_bytes();
    })
}

fn not_from_here(stage: &Stage) -> Shown {
    stage.update(|draft| draft.release.from.oldest = Version::new(8, 0, 0))
}

fn by_a_stranger(stage: &Stage) -> Shown {
    stage.released_otherwise(|release| sign(release, &release.domain(), &[&key()]).expect("signed"))
}

fn by_a_publisher(stage: &Stage) -> Shown {
    stage.released_otherwise(|release| {
        let trust = stage.coordinator().trust();
        sign(release, &release.domain(), &[&trust.publisher]).expect("signed")
    })
}

fn by_the_online_key(stage: &Stage) -> Shown {
    stage.released_otherwise(|release| stage.coordinator().trust().say(release, &release.domain()))
}

fn assigned_by_a_maker(stage: &Stage) -> Shown {
    stage.unassigned(|draft| {
        let trust = stage.coordinator().trust();
        let domain = draft.assignment.domain(trust.root.repository);
        draft.assignment_envelope = Some(sign(&draft.assignment, &domain, &[&trust.maker]).expect("signed"));
    })
}

fn other_repository() -> sloth_core::RepositoryId {
    sloth_core::RepositoryId::new(Millis::ZERO, 7)
}
