//! What a hostile coordinator, mirror or thief of a key can try, each attack as a row: it is refused with these words,
//! nothing of it runs, and a true order right after it does.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "../common/mod.rs"]
mod common;
mod releases;

use std::{cell::Cell, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{
    coordinator::{Coordinator, DAY, Draft, now, random_bytes},
    host::{Agent, until, until_within},
    mirror::Trick,
    trust::{key, machine_key},
    write,
};
use sloth_core::{AgentId, Digest, Millis, RunId};
use sloth_protocol::wire::{RunOutcome, UpdateVerdict};
use sloth_trust::{
    Assignment, BundleMetadata, Domain, DomainSubject, Envelope, Head, PayloadKind, RoleKeys, Signature, Trigger,
    Version,
    sign::{public_key, sign},
};

/// How an attack shows.
enum Shown {
    /// The run ends as refused, with the words.
    Refused(RunId),
    /// The run fails, with the words.
    Failed(RunId),
    /// The agent's log has the words; the order, if there was one, waits.
    Logged(Option<RunId>),
    /// The update ends like this, with the words.
    Update(Version, UpdateVerdict),
    /// The log has the words; the order of the update waits.
    UpdateLogged,
    /// The log has the words, and the run goes on by itself when the coordinator is true again.
    Delayed(RunId),
}

/// A name, what is tried, and what is said to it.
type Row = (&'static str, fn(&Stage) -> Shown, &'static str);

/// One agent for all rows.
struct Stage {
    agent: Agent,
    orders: Cell<u32>,
}

const ROWS: &[Row] = &[
    ("arbitrary install", signed_by_a_stranger, "0 of the 1 keys that must sign it"),
    ("content changed after signing", changed_content, "does not match the content"),
    ("unsigned metadata", |s| s.metadata(|e| e.signatures.clear()), "it carries no signature"),
    ("unsigned assignment", |s| s.assignment(|e| e.signatures.clear()), "it carries no signature"),
    ("unsigned head", |s| s.head_envelope(|e| e.signatures.clear()), "it carries no signature"),
    ("trusted comment of another file", comment_of_another, "does not match the content"),
    ("signature of another release", signature_of_another, "but says it is"),
    ("key of the same number", same_number, "0 of the 1 keys"),
    ("key of the same number, in the true one's name", same_number_and_name, "does not match the content"),
    ("rollback", |s| s.order(|d| counter(d, 0)), "is stale or turned back"),
    ("other content under an old number", other_content, "accepted before with other content"),
    ("indefinite freeze, of the head", |s| s.head(|h| h.expires = now()), "head expired at"),
    ("indefinite freeze, of the release", |s| s.order(|d| d.metadata.expires = now()), "expired at"),
    ("an older head", |s| s.head(|h| h.version = 1), "the head has number 1"),
    ("a head of another root", |s| s.head(|h| h.root.version += 1), "the head names root"),
    ("a head of an unknown root", |s| s.head(|h| h.root.sha256 = another_pin()), "the root's SHA-256 is"),
    ("a head by a publisher", head_by_a_publisher, "0 of the 1 keys"),
    ("mix-and-match: not among the newest", |s| s.order(|d| d.offered = false), "is none of those"),
    ("mix-and-match: another release", |s| s.order(|d| d.assignment.counter -= 1), "is of another release"),
    ("mix-and-match: another manifest", |s| s.order(|d| d.assignment.manifest = nothing()), "is of another release"),
    ("wrong software", |s| s.order(|d| d.metadata.name = name("db")), "is of another release"),
    ("wrong audience", |s| s.order(|d| audience(d, "role=db")), "hosts that match `role=db`"),
    (
        "wrong trigger",
        |s| s.order(|d| d.metadata.triggers = vec![Trigger::Schedule]),
        "does not let operators start it",
    ),
    ("another repository", another_repository, "it belongs to repository"),
    ("extraneous dependency", extraneous_dependency, "`extra.lua`"),
    ("capability that is not granted", capability, "fs:write"),
    ("capability that nobody knows", unknown_capability, "runs nothing of it"),
    ("assignment for another host", |s| s.order(|d| d.assignment.agent = AgentId::new(now(), 99)), "is for agent"),
    ("assignment for another run", |s| s.order(|d| d.assignment.run = RunId::new(now(), 99)), "came for run"),
    ("replayed assignment", replayed, "was made for order"),
    ("assignment before its time", |s| s.order(|d| d.assignment.not_before = now() + DAY), "may not begin before"),
    ("endless metadata", |s| s.metadata(|e| e.payload = vec![b' '; 300_000]), "takes 262144 bytes at most"),
    ("endless assignment", |s| s.assignment(|e| e.payload = vec![b' '; 600_000]), "takes 524288 bytes at most"),
    ("endless head", |s| s.head_envelope(|e| e.payload = vec![b' '; 20_000]), "takes 16384 bytes at most"),
    ("endless root", |s| s.root(&long_root()), "takes 65536 bytes at most"),
    ("endless answer", endless_answer, "a request has no answer"),
    ("endless blob", |s| s.download(Trick::Endless), "is larger than"),
    ("blob longer than it can be", |s| s.download(Trick::TooLong), "is larger than"),
    ("mirror that sends another blob", |s| s.download(Trick::Swapped), "are others"),
    ("mirror that withholds", |s| s.withheld(Trick::Withheld), "there is no such blob"),
    ("one of two root keys stolen", |s| s.root(&s.next_root(0, &[0])), "1 of the 2 keys"),
    ("one root key counted twice", root_signed_twice, "1 of the 2 keys"),
    ("one root key under two names", root_under_two_names, "does not match the content"),
    ("root by the new keys alone", root_by_new_keys, "0 of the 2 keys"),
    ("root that passes one over", |s| s.root(&s.next_root(1, &[0, 1])), "cannot follow root"),
    ("a second root of one version", |s| s.root(&s.next_root(-1, &[0, 1])), "accepted before with other content"),
    ("root by the online key", root_by_the_online_key, "0 of the 2 keys"),
    ("publisher's key stolen, no coordinator", assigned_by_a_publisher, "0 of the 1 keys"),
    ("online key stolen, no publisher", signed_by_the_online_key, "0 of the 1 keys"),
    ("fast-forward of orders", fast_forward_orders, "which is too far ahead"),
];

#[test]
fn each_attack_is_refused_and_a_true_order_right_after_it_runs() {
    let stage = Stage::new();
    stage.runs_a_true_order("before everything");
    for (name, attack, words) in ROWS.iter().chain(releases::ROWS) {
        stage.check(name, *attack, words);
    }
    let log = stage.agent.log();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

/// What both halves signed counts, also when a thief has both keys. That the numbers which he used up stand in nobody's
/// way is what the root is for.
#[test]
fn numbers_that_a_thief_used_up_are_forgotten_with_his_keys() {
    let stage = Stage::new();
    stage.runs_a_true_order("before everything");
    let (coordinator, log) = (stage.coordinator(), || stage.agent.log());
    let refused = |run, words: &str| {
        let end = coordinator.wait_for_end(run);
        assert!(end.outcome == RunOutcome::Refused && end.message.contains(words), "{end:?}");
    };
    let taken = stage.order_of("task('a'):command('true')", |draft| counter(draft, u64::MAX));
    assert_eq!(coordinator.wait_for_end(taken).outcome, RunOutcome::Succeeded, "publisher and coordinator signed it");
    refused(stage.evil(|_| {}), "stale or turned back");

    let newest = coordinator.head(|head| head.version = u64::MAX);
    coordinator.state().head = Some(newest);
    refused(stage.evil(|_| {}), "stale or turned back");
    stage.be_true_again();
    coordinator.hang_up();
    let waiting = stage.order_of("task('a'):command('true')", |_| {});
    until("the true head is held back", || log().contains("the head has number"));

    // What was ordered under the old keys is nobody's word any more.
    coordinator.withdraw(waiting);
    let next = coordinator.trust().rotate();
    coordinator.state().roots = vec![next];
    coordinator.hang_up();
    stage.runs_a_true_order("new keys, by two of three holders");
}

/// A minute of it is enough. It takes that long, so it is run where `SLOTH_SLOW` is set.
#[test]
fn a_trickle_is_dropped_and_goes_on_where_it_stopped() {
    if std::env::var_os("SLOTH_SLOW").is_none() {
        return;
    }
    let stage = Stage::new();
    stage.coordinator().state().trick = Some(Trick::Trickle);
    // Random digits cannot be compressed, so that the download is long enough.
    let digits: String = (0..400).map(|_| RunId::new(now(), u128::from_ne_bytes(random_bytes())).to_string()).collect();
    let run = stage.order_of(&format!("local noise = '{digits}'\ntask('a'):command('true')"), |_| {});
    let slow = || stage.agent.log().contains("less than 128 bytes a second for 60 s");
    until_within("it is too slow", Duration::from_secs(180), slow);
    stage.be_true_again();
    stage.coordinator().hang_up();
    assert_eq!(stage.coordinator().wait_for_end(run).outcome, RunOutcome::Succeeded);
    let offsets = stage.coordinator().state().offsets.clone();
    assert!(offsets.iter().any(|offset| 3000 < *offset), "{offsets:?}");
}

impl Stage {
    fn new() -> Self {
        let mut agent = Agent::enrolled();
        // Releases of the agent are for those whom a supervisor can hand over.
        agent.start_supervised();
        agent.coordinator.wait_for_agent();
        Self { agent, orders: Cell::new(0) }
    }

    fn coordinator(&self) -> &Coordinator {
        &self.agent.coordinator
    }

    fn check(&self, name: &str, attack: fn(&Self) -> Shown, words: &str) {
        let before = self.agent.log().len();
        let shown = attack(self);
        match &shown {
            Shown::Refused(run) | Shown::Failed(run) => {
                let end = self.coordinator().wait_for_end(*run);
                let wanted = if matches!(shown, Shown::Refused(_)) { RunOutcome::Refused } else { RunOutcome::Failed };
                let state = self.coordinator().state();
                let said = format!("{} {:?}", end.message, state.story(*run));
                let records: Vec<_> = state.records.iter().filter(|record| record.run == *run).collect();
                let all = format!("{said} {records:?}");
                assert!(end.outcome == wanted && all.contains(words), "«{name}»: {:?}, {all}", end.outcome);
            }
            Shown::Update(version, verdict) => {
                let reason = self.update_ended(version, *verdict);
                assert!(reason.contains(words), "«{name}»: {reason}");
            }
            Shown::Logged(_) | Shown::UpdateLogged | Shown::Delayed(_) => {
                until(&format!("`{words}` in the log, of «{name}»"), || self.agent.log()[before..].contains(words));
            }
        }
        self.be_true_again();
        if let Shown::Logged(Some(run)) = shown {
            self.coordinator().withdraw(run);
        }
        if matches!(shown, Shown::UpdateLogged) {
            self.coordinator().withdraw_update();
        }
        if matches!(shown, Shown::Logged(_) | Shown::UpdateLogged | Shown::Delayed(_)) {
            // What is held back is asked for again every minute, and at each new connection.
            self.coordinator().hang_up();
        }
        if let Shown::Delayed(run) = shown {
            assert_eq!(self.coordinator().wait_for_end(run).outcome, RunOutcome::Succeeded, "«{name}»");
        }
        self.runs_a_true_order(name);
    }

    fn be_true_again(&self) {
        let mut state = self.coordinator().state();
        (state.head, state.trick, state.endless_answers) = (None, None, false);
        state.roots.clear();
    }

    fn runs_a_true_order(&self, after: &str) {
        let run = self.order_of("task('a'):command('true')", |_| {});
        let end = self.coordinator().wait_for_end(run);
        assert_eq!(end.outcome, RunOutcome::Succeeded, "after «{after}»: {}", end.message);
        assert!(!self.agent.file("evil").exists(), "«{after}» did what nobody let it");
    }

    /// Orders a run of this text, which is like no other.
    fn order_of(&self, text: &str, change: impl FnOnce(&mut Draft)) -> RunId {
        self.orders.set(self.orders.get() + 1);
        let bundle = self.agent.file("bundle");
        write(&bundle, "main.sloth", &format!("{text} -- order {}", self.orders.get()));
        let dir = self.agent.dir.path().to_str().expect("text");
        self.coordinator().order(&bundle, &serde_json::json!({ "dir": dir }), change)
    }

    fn evil(&self, change: impl FnOnce(&mut Draft)) -> RunId {
        self.order_of("task('a'):command(function() fs.write(values.dir .. '/evil', 'x') return true end)", change)
    }

    /// An order of something evil, with a change: refused, or held back where its assignment is not this agent's.
    fn order(&self, change: impl FnOnce(&mut Draft)) -> Shown {
        let mut held = false;
        let run = self.evil(|draft| {
            let (agent, run) = (draft.assignment.agent, draft.assignment.run);
            change(draft);
            held = draft.assignment.agent != agent || draft.assignment.run != run;
        });
        if held { Shown::Logged(Some(run)) } else { Shown::Refused(run) }
    }

    /// The same, with a change of what was signed.
    fn metadata(&self, change: impl FnOnce(&mut Envelope)) -> Shown {
        let run = self.evil(|draft| {
            let mut envelope = self.signed(&draft.metadata);
            change(&mut envelope);
            draft.metadata_envelope = Some(envelope);
        });
        Shown::Refused(run)
    }

    fn assignment(&self, change: impl FnOnce(&mut Envelope)) -> Shown {
        let run = self.evil(|draft| {
            let mut envelope = self.assigned(&draft.assignment);
            change(&mut envelope);
            draft.assignment_envelope = Some(envelope);
        });
        Shown::Logged(Some(run))
    }

    fn head(&self, change: impl FnOnce(&mut Head)) -> Shown {
        let head = self.coordinator().head(change);
        self.coordinator().state().head = Some(head);
        Shown::Logged(Some(self.evil(|_| {})))
    }

    fn head_envelope(&self, change: impl FnOnce(&mut Envelope)) -> Shown {
        let mut envelope = Envelope::decode(&self.coordinator().head(|_| {})).expect("an envelope");
        change(&mut envelope);
        self.coordinator().state().head = Some(envelope.encode());
        Shown::Logged(Some(self.evil(|_| {})))
    }

    /// A root that is given with the next answer. What is signed well by then still runs.
    fn root(&self, envelope: &Envelope) -> Shown {
        self.coordinator().state().roots = vec![envelope.encode()];
        let run = self.order_of("task('a'):command('true')", |_| {});
        Shown::Delayed(run)
    }

    /// A root `ahead` of the next one, signed by these holders.
    fn next_root(&self, ahead: i64, holders: &[usize]) -> Envelope {
        let trust = self.coordinator().trust();
        let signers: Vec<_> = holders.iter().map(|at| &trust.holders[*at]).collect();
        let change = |root: &mut sloth_trust::Root| {
            root.version = root.version.saturating_add_signed(ahead);
            root.expires = root.expires + Millis::from_secs(1);
        };
        trust.next(change, &signers)
    }

    fn download(&self, trick: Trick) -> Shown {
        self.coordinator().state().trick = Some(trick);
        Shown::Refused(self.evil(|_| {}))
    }

    fn withheld(&self, trick: Trick) -> Shown {
        self.coordinator().state().trick = Some(trick);
        Shown::Delayed(self.order_of("task('a'):command('true')", |_| {}))
    }

    fn signed(&self, metadata: &BundleMetadata) -> Envelope {
        sign(metadata, &metadata.domain(), &[&self.coordinator().trust().publisher]).expect("signed")
    }

    fn assigned(&self, assignment: &Assignment) -> Envelope {
        let trust = self.coordinator().trust();
        trust.say(assignment, &assignment.domain(trust.root.repository))
    }

    /// Metadata that is signed otherwise than by the publisher.
    fn signed_otherwise(&self, sign: impl FnOnce(&BundleMetadata) -> Envelope) -> Shown {
        Shown::Refused(self.evil(|draft| draft.metadata_envelope = Some(sign(&draft.metadata))))
    }

    /// The publisher's key, as minisign numbers it.
    fn publishers_number(&self) -> [u8; 8] {
        let public = public_key(&self.coordinator().trust().publisher).expect("a key");
        let bytes = STANDARD.decode(public.as_str()).expect("base 64");
        bytes[2..10].try_into().expect("eight bytes")
    }
}

fn signed_by_a_stranger(stage: &Stage) -> Shown {
    stage.signed_otherwise(|metadata| sign(metadata, &metadata.domain(), &[&key()]).expect("signed"))
}

fn signed_by_the_online_key(stage: &Stage) -> Shown {
    stage.signed_otherwise(|metadata| stage.coordinator().trust().say(metadata, &metadata.domain()))
}

fn changed_content(stage: &Stage) -> Shown {
    stage.metadata(|envelope| {
        let text = String::from_utf8(envelope.payload.clone()).expect("text");
        envelope.payload = text.replace("\"fs:read\"", "\"net\"").into_bytes();
    })
}

/// The signature of these bytes, with the comment and its signature from another file of the same key.
fn comment_of_another(stage: &Stage) -> Shown {
    stage.signed_otherwise(|metadata| {
        let mut envelope = stage.signed(metadata);
        let other = stage.signed(&BundleMetadata { version: "2".to_owned(), ..metadata.clone() });
        let own: Vec<_> = envelope.signatures[0].minisig.lines().collect();
        let comment: Vec<_> = other.signatures[0].minisig.lines().skip(2).collect();
        let minisig = format!("{}\n{}\n{}\n{}\n", own[0], own[1], comment[0], comment[1]);
        envelope.signatures[0].minisig = minisig;
        envelope
    })
}

fn signature_of_another(stage: &Stage) -> Shown {
    stage.signed_otherwise(|metadata| {
        let domain = Domain { version: metadata.counter + 1, ..metadata.domain() };
        sign(metadata, &domain, &[&stage.coordinator().trust().publisher]).expect("signed")
    })
}

/// Minisign's number of a key is chosen by whoever makes it.
fn same_number(stage: &Stage) -> Shown {
    let thief = machine_key(66, stage.publishers_number());
    stage.signed_otherwise(|metadata| thief.seal(json(metadata), &metadata.domain()))
}

fn same_number_and_name(stage: &Stage) -> Shown {
    let thief = machine_key(66, stage.publishers_number());
    let publisher = public_key(&stage.coordinator().trust().publisher).expect("a key").id();
    stage.signed_otherwise(|metadata| {
        let mut envelope = thief.seal(json(metadata), &metadata.domain());
        envelope.signatures[0].key = publisher;
        envelope
    })
}

fn other_content(stage: &Stage) -> Shown {
    stage.order(|draft| {
        let last = draft.metadata.counter - 1;
        counter(draft, last);
    })
}

fn another_repository(stage: &Stage) -> Shown {
    let other = sloth_core::RepositoryId::new(now(), 7);
    stage.order(|draft| draft.metadata.repository = other)
}

fn head_by_a_publisher(stage: &Stage) -> Shown {
    let payload = Envelope::decode(&stage.coordinator().head(|_| {})).expect("an envelope").payload;
    let head: Head = serde_json::from_slice(&payload).expect("a head");
    let envelope = sign(&head, &head.domain(), &[&stage.coordinator().trust().publisher]).expect("signed");
    stage.coordinator().state().head = Some(envelope.encode());
    Shown::Logged(Some(stage.evil(|_| {})))
}

fn assigned_by_a_publisher(stage: &Stage) -> Shown {
    let run = stage.evil(|draft| {
        let trust = stage.coordinator().trust();
        let domain = draft.assignment.domain(trust.root.repository);
        draft.assignment_envelope = Some(sign(&draft.assignment, &domain, &[&trust.publisher]).expect("signed"));
    });
    Shown::Logged(Some(run))
}

fn replayed(stage: &Stage) -> Shown {
    let run = stage.evil(|draft| {
        let earlier = Assignment { nonce: draft.assignment.nonce - 1, ..draft.assignment.clone() };
        draft.assignment_envelope = Some(stage.assigned(&earlier));
    });
    Shown::Logged(Some(run))
}

fn extraneous_dependency(stage: &Stage) -> Shown {
    // It lies where the bundle is packed from, after it was packed.
    let run = stage.order_of("import('extra.lua')\ntask('a'):command('true')", |_| {});
    Shown::Failed(run)
}

fn capability(stage: &Stage) -> Shown {
    Shown::Failed(stage.evil(|draft| capabilities(draft, "facts")))
}

fn unknown_capability(stage: &Stage) -> Shown {
    Shown::Failed(stage.evil(|draft| draft.metadata.capabilities.push("teleport".to_owned())))
}

fn endless_answer(stage: &Stage) -> Shown {
    stage.coordinator().state().endless_answers = true;
    Shown::Delayed(stage.order_of("task('a'):command('true')", |_| {}))
}

fn fast_forward_orders(stage: &Stage) -> Shown {
    let run = stage.evil(|draft| {
        draft.generation += 1 << 25;
        draft.assignment.nonce = draft.generation;
    });
    Shown::Logged(Some(run))
}

fn long_root() -> Envelope {
    Envelope::unsigned(PayloadKind::Root, vec![b' '; 70_000])
}

fn root_signed_twice(stage: &Stage) -> Shown {
    let mut root = stage.next_root(0, &[0]);
    root.signatures.push(root.signatures[0].clone());
    stage.root(&root)
}

fn root_under_two_names(stage: &Stage) -> Shown {
    let mut root = stage.next_root(0, &[0]);
    let second = public_key(&stage.coordinator().trust().holders[1]).expect("a key").id();
    root.signatures.push(Signature { key: second, minisig: root.signatures[0].minisig.clone() });
    stage.root(&root)
}

fn root_by_new_keys(stage: &Stage) -> Shown {
    let new = [key(), key()];
    let publics = new.iter().map(|key| public_key(key).expect("a key")).collect();
    let role = RoleKeys::new(publics, 2).expect("a role");
    let root = stage.coordinator().trust().next(|root| root.roles.root = role, &[&new[0], &new[1]]);
    stage.root(&root)
}

fn root_by_the_online_key(stage: &Stage) -> Shown {
    let unsigned = stage.next_root(0, &[0]);
    let trust = stage.coordinator().trust();
    let domain =
        Domain { subject: DomainSubject::Root, repository: trust.root.repository, version: trust.root.version + 1 };
    let envelope = trust.online.seal(unsigned.payload, &domain);
    drop(trust);
    stage.root(&envelope)
}

fn counter(draft: &mut Draft, counter: u64) {
    (draft.metadata.counter, draft.assignment.counter) = (counter, counter);
}

fn audience(draft: &mut Draft, selector: &str) {
    draft.metadata.audience = selector.parse().expect("a selector");
}

fn capabilities(draft: &mut Draft, only: &str) {
    draft.metadata.capabilities = vec![only.to_owned()];
}

fn name(text: &str) -> sloth_trust::BundleName {
    text.parse().expect("a name")
}

fn nothing() -> Digest {
    Digest::of(b"nothing")
}

fn another_pin() -> sloth_trust::RootPin {
    sloth_trust::RootPin::of(b"another")
}

fn json(payload: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(payload).expect("JSON")
}
