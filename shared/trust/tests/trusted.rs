//! What is accepted and what is refused, each refusal as a line of a table.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::collections::BTreeMap;

use sloth_core::{AgentId, Chain, Digest, Labels, Millis, RepositoryId, RunId, labels::Subject};
use sloth_trust::{
    Assignment, BundleMetadata, Domain, DomainSubject, Envelope, Head, HeadEnds, HeadRef, HeadWalk, Inclusion,
    ManifestRef, NamePattern, PayloadKind, PublicKey, Refusal, RoleKeys, Roles, Root, RootPin, RootRef, SPEC, Schema,
    Seen, Signature, Tree, Trigger, Trusted, VerifyError,
    head::leaf,
    sign::{SecretKey, add_signature, generate, open, public_key, sign},
    verify_threshold,
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const LATER: Millis = Millis::from_secs(1_800_000_000);

/// The keys of a small organisation and its root.
struct Fixture {
    root_keys: [SecretKey; 2],
    web_keys: [SecretKey; 3],
    any_key: SecretKey,
    online: SecretKey,
    root: Root,
    trusted: Trusted,
}

fn key() -> SecretKey {
    open(&generate(None).expect("a key").secret, None).expect("opens")
}

fn role(keys: &[&SecretKey], threshold: usize) -> RoleKeys {
    RoleKeys::new(keys.iter().map(|key| public_key(key).expect("a key")).collect(), threshold).expect("a role")
}

fn repository(random: u128) -> RepositoryId {
    RepositoryId::new(NOW, random)
}

fn fixture() -> Fixture {
    let (root_keys, web_keys, any_key, online) = ([key(), key()], [key(), key(), key()], key(), key());
    let pattern = |text: &str| text.parse::<NamePattern>().expect("a pattern");
    let bundles = BTreeMap::from([
        (pattern("web-*"), role(&[&web_keys[0], &web_keys[1], &web_keys[2]], 2)),
        (pattern("db"), role(&[&any_key], 1)),
    ]);
    let coordinator = Some(role(&[&online], 1));
    let (head, assignment) = (coordinator.clone(), coordinator);
    let roles = Roles { root: role(&[&root_keys[0], &root_keys[1]], 2), releases: None, bundles, head, assignment };
    let root = Root { spec: SPEC, repository: repository(1), version: 1, issued: NOW, expires: LATER, roles };
    let envelope = sign(&root, &root.domain(), &[&root_keys[0], &root_keys[1]]).expect("signed");
    let trusted = Trusted::new(&envelope, RootPin::of(&envelope.payload)).expect("trusted");
    Fixture { root_keys, web_keys, any_key, online, root, trusted }
}

fn metadata(root: &Root) -> BundleMetadata {
    BundleMetadata {
        spec: SPEC,
        repository: root.repository,
        name: "web-shop".parse().expect("a name"),
        counter: 5,
        version: "1.4.0".to_owned(),
        manifest: ManifestRef { digest: Digest::of(b"manifest"), length: 8 },
        audience: "role=web".parse().expect("a selector"),
        capabilities: vec!["exec".to_owned()],
        triggers: vec![Trigger::Manual, Trigger::Schedule],
        parameters: None,
        expires: NOW + Millis::from_secs(60),
        published: NOW,
    }
}

impl Fixture {
    fn signed(&self, change: impl FnOnce(&mut BundleMetadata)) -> Envelope {
        let mut metadata = metadata(&self.root);
        change(&mut metadata);
        sign(&metadata, &metadata.domain(), &[&self.web_keys[0], &self.web_keys[1]]).expect("signed")
    }

    fn accept(&self, envelope: &Envelope, seen: Option<Seen>) -> Result<BundleMetadata, Refusal> {
        let labels: Labels = [("role".to_owned(), "web".to_owned())].into();
        // What arrives has crossed the wire.
        let envelope = Envelope::decode(&envelope.encode()).expect("decodes");
        self.trusted.accept_bundle(&envelope, NOW, seen, Subject { id: "1", name: "web-1", labels: &[&labels] })
    }

    #[track_caller]
    fn refuses(&self, envelope: &Envelope, expected: &str) {
        let refusal = self.accept(envelope, None).expect_err(expected);
        let shown = Chain(&refusal).to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}

fn edit(envelope: &Envelope, change: impl FnOnce(&mut Envelope)) -> Envelope {
    let mut envelope = envelope.clone();
    change(&mut envelope);
    envelope
}

fn replace_text(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    assert!(text.contains(from), "{text}");
    text.replace(from, to).into_bytes()
}

#[test]
fn what_publishers_signed_is_accepted() {
    let f = fixture();
    let envelope = f.signed(|_| {});
    assert_eq!(f.accept(&envelope, None).expect("accepted"), metadata(&f.root));
    let third = edit(&envelope, |e| add_signature(e, &metadata(&f.root).domain(), &f.web_keys[2]).expect("signed"));
    assert!(f.accept(&third, None).is_ok(), "more signatures than needed");
    let foreign = edit(&envelope, |e| add_signature(e, &metadata(&f.root).domain(), &f.any_key).expect("signed"));
    assert!(f.accept(&foreign, None).is_ok(), "a key of another role changes nothing");
}

#[test]
fn signatures_that_do_not_carry_a_bundle_are_refused() {
    let f = fixture();
    let good = f.signed(|_| {});
    let domain = metadata(&f.root).domain();
    let signed_by = |keys: &[&SecretKey]| sign(&metadata(&f.root), &domain, keys).expect("signed");

    f.refuses(&edit(&good, |e| e.signatures.clear()), "it carries no signature");
    f.refuses(&signed_by(&[&f.any_key, &f.root_keys[0]]), "0 of the 2 keys that must sign it");
    f.refuses(&signed_by(&[&f.web_keys[2]]), "1 of the 2 keys");
    f.refuses(&edit(&good, |e| e.signatures[1] = e.signatures[0].clone()), "1 of the 2 keys");
    f.refuses(&edit(&good, |e| e.payload = replace_text(&e.payload, "1.4.0", "1.4.1")), "does not match the content");
    f.refuses(
        &edit(&good, |e| e.signatures.iter_mut().for_each(|s| s.minisig = s.minisig.replace(":5\n", ":6\n"))),
        "does not match the content",
    );
    f.refuses(&edit(&good, |e| e.signatures[0].minisig = "hello".to_owned()), "not in minisign's format");
    // A stranger's signature in the name of a key that counts.
    let mut stolen = signed_by(&[&f.any_key, &f.web_keys[1]]);
    stolen.signatures[0].key = public_key(&f.web_keys[0]).expect("a key").id();
    f.refuses(&stolen, "does not match the content");
    // One key under two names counts once.
    let mut doubled = signed_by(&[&f.web_keys[0]]);
    doubled.signatures.push(Signature {
        key: public_key(&f.web_keys[1]).expect("a key").id(),
        minisig: doubled.signatures[0].minisig.clone(),
    });
    f.refuses(&doubled, "does not match the content");
}

#[test]
fn signatures_for_another_thing_are_refused() {
    let f = fixture();
    let keys = [&f.web_keys[0], &f.web_keys[1]];
    let own = metadata(&f.root).domain();
    let sign_as = |domain: &Domain| sign(&metadata(&f.root), domain, &keys).expect("signed");

    f.refuses(&sign_as(&Domain { version: 6, ..own.clone() }), "but says it is `sloth:bundle/web-shop:");
    f.refuses(&sign_as(&Domain { repository: repository(2), ..own.clone() }), "it belongs to repository");
    f.refuses(
        &sign_as(&Domain { subject: DomainSubject::Bundle("web-b".parse().expect("a name")), ..own }),
        "but says it is `sloth:bundle/web-shop:",
    );
    f.refuses(
        &sign_as(&Domain { subject: DomainSubject::Bundle("mail".parse().expect("a name")), ..own }),
        "names nobody who may publish bundle `mail`",
    );
    f.refuses(&sign_as(&Domain { subject: DomainSubject::Root, ..own }), "it is a root, where");
    let mut disguised = sign_as(&Domain { subject: DomainSubject::Assignment, ..own });
    disguised.kind = PayloadKind::Bundle;
    f.refuses(&disguised, "it is an assignment, where");
    // Two good signatures for two releases: neither release has its two.
    let mut mixed = sign_as(&own);
    mixed.signatures[1] = sign_as(&Domain { version: 6, ..own.clone() }).signatures[1].clone();
    f.refuses(&mixed, "signatures are for different things");
    // The domain says this repository, the payload another.
    let mut elsewhere = metadata(&f.root);
    elsewhere.repository = repository(2);
    f.refuses(&sign(&elsewhere, &own, &keys).expect("signed"), "but says it is");
}

#[test]
fn well_signed_bundles_that_do_not_fit_are_refused() {
    let f = fixture();
    f.refuses(&f.signed(|m| m.expires = NOW), "bundle `web-shop` expired at 2023-11-14T22:13:20Z");
    f.refuses(&f.signed(|m| m.audience = "role=db".parse().expect("a selector")), "hosts that match `role=db`");
    f.refuses(&f.signed(|m| m.spec = 2), "specification 2");

    let keys = [&f.web_keys[0], &f.web_keys[1]];
    let mut value = serde_json::to_value(metadata(&f.root)).expect("JSON");
    value["surprise"] = true.into();
    let odd = sign(&value, &metadata(&f.root).domain(), &keys).expect("signed");
    f.refuses(&odd, "unknown field `surprise`");
    let mut value = serde_json::to_value(metadata(&f.root)).expect("JSON");
    value["parameters"] = serde_json::json!({ "oneOf": [] });
    let odd = sign(&value, &metadata(&f.root).domain(), &keys).expect("signed");
    f.refuses(&odd, "`parameters`: the whole schema: `oneOf` is no keyword that is known");

    let expired = f.signed(|m| m.expires = NOW);
    assert!(f.trusted.verify_bundle(&expired).is_ok(), "work that was begun goes on");
}

#[test]
fn releases_never_go_back() {
    let f = fixture();
    let old = f.signed(|_| {});
    let seen = Seen::of(&old, &f.accept(&old, None).expect("accepted"));
    assert!(f.accept(&old, Some(seen)).is_ok(), "the same again");
    assert!(f.accept(&f.signed(|m| m.counter = 6), Some(seen)).is_ok());
    let lower = f.accept(&f.signed(|m| m.counter = 4), Some(seen)).expect_err("lower");
    assert!(matches!(lower, Refusal::Rollback { got: 4, seen: 5, .. }), "{lower}");
    let other = f.accept(&f.signed(|m| m.version = "x".to_owned()), Some(seen)).expect_err("other content");
    assert!(matches!(other, Refusal::Conflict { number: 5, .. }), "{other}");
}

#[test]
fn an_expired_root_starts_and_vouches_for_nothing_new() {
    let f = fixture();
    let root = Root { expires: NOW, ..f.root.clone() };
    let envelope = sign(&root, &root.domain(), &[&f.root_keys[0], &f.root_keys[1]]).expect("signed");
    let trusted = Trusted::new(&envelope, RootPin::of(&envelope.payload)).expect("starts");
    let f = Fixture { trusted, ..f };
    f.refuses(&f.signed(|_| {}), "the root expired at");
}

#[test]
fn roots_follow_one_another() {
    let f = fixture();
    let new_key = key();
    let both = [&f.root_keys[0], &f.root_keys[1], &new_key];
    let next = |version: u64, keys: &[&SecretKey]| {
        let mut root = Root { version, ..f.root.clone() };
        root.roles.root = role(&[&new_key], 1);
        sign(&root, &root.domain(), keys).expect("signed")
    };
    let second = next(2, &both);
    let trusted = f.trusted.accept_root(&second).expect("the next root");
    assert_eq!((trusted.root().version, trusted.pin()), (2, RootPin::of(&second.payload)));
    assert_eq!(trusted.accept_root(&second).expect("the same again"), trusted);
    assert!(trusted.accept_root(&next(3, &[&new_key])).is_ok(), "the new key vouches alone");

    for (envelope, expected) in [
        (next(2, &[&new_key]), "0 of the 2 keys"),
        (next(2, &[&f.root_keys[0], &f.root_keys[1]]), "0 of the 1 keys"),
        (next(3, &both), "root 3 cannot follow root 1 directly"),
        (next(1, &both), "accepted before with other content"),
        (next(0, &both), "stale or turned back"),
    ] {
        let refusal = f.trusted.accept_root(&envelope).expect_err(expected);
        assert!(Chain(&refusal).to_string().contains(expected), "{}", Chain(&refusal));
    }
}

#[test]
fn only_the_pinned_root_is_a_beginning() {
    let f = fixture();
    let envelope = sign(&f.root, &f.root.domain(), &[&f.root_keys[0], &f.root_keys[1]]).expect("signed");
    let pin = RootPin::of(&envelope.payload);
    assert_eq!(pin.to_string().parse(), Ok(pin));
    let alone = edit(&envelope, |e| e.signatures.truncate(1));
    assert!(Chain(&Trusted::new(&alone, pin).expect_err("one of two")).to_string().contains("1 of the 2 keys"));
    let other = Trusted::new(&envelope, RootPin::of(b"other")).expect_err("another pin");
    assert!(matches!(other, Refusal::Pin { .. }), "{other}");
    let bundle = Trusted::new(&f.signed(|_| {}), pin).expect_err("no root");
    assert!(matches!(bundle, Refusal::Kind { .. }), "{bundle}");
}

#[test]
fn an_assignment_has_values_that_publishers_signed() {
    let f = fixture();
    let schema = serde_json::json!({ "required": ["port"], "properties": { "port": { "maximum": 9000 } } });
    let release = BundleMetadata { parameters: Some(Schema::parse(schema).expect("a schema")), ..metadata(&f.root) };
    let envelope = sign(&release, &release.domain(), &[&f.web_keys[0], &f.web_keys[1]]).expect("signed");
    let release = f.accept(&envelope, None).expect("accepted");
    let fits = |values: serde_json::Value| {
        let assignment = Assignment {
            spec: SPEC,
            agent: AgentId::new(NOW, 1),
            run: RunId::new(NOW, 2),
            bundle: release.name.clone(),
            counter: release.counter,
            manifest: release.manifest.digest,
            workflow: None,
            values: values.as_object().cloned().unwrap_or_default(),
            not_before: NOW,
            deadline: LATER,
            nonce: 77,
        };
        assignment.fits(&release, NOW).map_err(|refusal| Chain(&refusal).to_string())
    };
    assert_eq!(fits(serde_json::json!({ "port": 80, "more": true })), Ok(()));
    let begins = "the values do not fit the parameters that bundle `web-shop` was signed with: ";
    assert_eq!(fits(serde_json::json!({})), Err(format!("{begins}`port` is missing")));
    assert_eq!(fits(serde_json::json!({ "port": 9001 })), Err(format!("{begins}`port` must be at most 9000")));
}

#[test]
fn assignments_are_for_one_agent_one_release_and_a_time() {
    let f = fixture();
    let agent = AgentId::new(NOW, 1);
    let release = metadata(&f.root);
    let assignment = Assignment {
        spec: SPEC,
        agent,
        run: RunId::new(NOW, 2),
        bundle: release.name.clone(),
        counter: release.counter,
        manifest: release.manifest.digest,
        workflow: None,
        values: serde_json::Map::new(),
        not_before: NOW,
        deadline: NOW + Millis::from_secs(1),
        nonce: 77,
    };
    let domain = assignment.domain(f.root.repository);
    let accept = |trusted: &Trusted, envelope: &Envelope, now: Millis, given: u64| {
        let assigned = trusted.assigned(envelope, agent, given);
        let fits = assigned.and_then(|assigned| assigned.fits(&release, now).map(|()| assigned));
        fits.map_err(|refusal| Chain(&refusal).to_string())
    };
    let signed = |assignment: &Assignment| sign(assignment, &domain, &[&f.online]).expect("written");
    let good = signed(&assignment);
    assert_eq!(accept(&f.trusted, &good, NOW, 77), Ok(assignment.clone()));

    let changed = |change: fn(&mut Assignment)| {
        let mut assignment = assignment.clone();
        change(&mut assignment);
        signed(&assignment)
    };
    let by = |keys: &[&SecretKey]| sign(&assignment, &domain, keys).expect("written");
    for (envelope, now, given, expected) in [
        (changed(|a| a.agent = AgentId::new(NOW, 9)), NOW, 77, "the assignment is for agent"),
        (changed(|a| a.counter = 4), NOW, 77, "names release 4 of bundle `web-shop`"),
        (changed(|a| a.manifest = Digest::of(b"other")), NOW, 77, "names release 5"),
        (changed(|a| a.nonce = 78), NOW, 78, "was signed as"),
        (good.clone(), NOW, 78, "was made for order 77, and came as order 78"),
        (good.clone(), Millis::from_secs(1), 77, "may not begin before"),
        (good.clone(), assignment.deadline, 77, "expired at"),
        (by(&[]), NOW, 77, "no signature"),
        (by(&[&f.any_key]), NOW, 77, "0 of the 1 keys"),
        (edit(&good, |e| e.payload.push(b' ')), NOW, 77, "does not match the content"),
    ] {
        let refusal = accept(&f.trusted, &envelope, now, given).expect_err(expected);
        assert!(refusal.contains(expected), "{refusal}");
    }

    // A root that names nobody who may assign lets nobody assign.
    let mut root = f.root.clone();
    root.roles.assignment = None;
    let envelope = sign(&root, &root.domain(), &[&f.root_keys[0], &f.root_keys[1]]).expect("signed");
    let nobody = Trusted::new(&envelope, RootPin::of(&envelope.payload)).expect("trusted");
    assert!(accept(&nobody, &good, NOW, 77).expect_err("no role").contains("trust rotate-online"));
}

impl Fixture {
    /// A head of the fixture's root that names the release of [`metadata`], with a change.
    fn head(&self, change: impl FnOnce(&mut Head)) -> Envelope {
        let tree = Tree::new([leaf(&metadata(&self.root), &self.signed(|_| {}))]);
        let payload = serde_json::to_vec(&self.root).expect("a root");
        let mut head = Head {
            spec: SPEC,
            repository: self.root.repository,
            version: 1000,
            previous: Some(HeadRef { version: 900, payload: Digest::of(b"before") }),
            root: RootRef::of(1, &payload),
            releases: tree.head(),
            issued: NOW,
            expires: NOW + Millis::from_secs(60),
        };
        change(&mut head);
        sign(&head, &head.domain(), &[&self.online]).expect("signed")
    }
}

#[test]
fn heads_follow_each_other() {
    let f = fixture();
    let good = f.head(|_| {});
    let before = f.trusted.accept_head(&good, None).expect("a head");
    assert_eq!(f.trusted.accept_head(&good, Some(&before)).expect("again"), before);
    let reference = before.reference();
    let after = |envelope: &Envelope| {
        let verdict = f.trusted.accept_head(envelope, Some(&before));
        verdict.map(drop).map_err(|refusal| Chain(&refusal).to_string())
    };
    assert_eq!(after(&f.head(|h| (h.version, h.previous) = (1001, Some(reference)))), Ok(()));
    // A coordinator whose store was set back does not know of the last ones.
    assert_eq!(after(&f.head(|h| h.version = 2000)), Ok(()));
    let foreign = HeadRef { version: 1000, payload: Digest::of(b"other") };
    let other_root = RootRef { version: 1, sha256: RootPin::of(b"other"), length: 5 };
    for (envelope, expected) in [
        (f.head(|h| h.version = 999), "head has number 999, but 1000 was accepted before"),
        (f.head(|h| h.issued = NOW + NOW), "number 1000 was accepted before with other content"),
        (f.head(|h| (h.version, h.previous) = (1001, Some(foreign))), "number 1000 was accepted before with other"),
        (f.head(|h| (h.version, h.root.version) = (1001, 2)), "names root 2, root 1 is trusted"),
        (f.head(|h| (h.version, h.root) = (1001, other_root)), "the pinned one is"),
        (f.head(|h| h.repository = repository(9)), "belongs to repository"),
        (f.head(|h| h.spec = 2), "specification 2"),
        (edit(&good, |e| e.signatures.clear()), "no signature"),
        (edit(&good, |e| e.payload.push(b' ')), "does not match the content"),
        (f.signed(|_| {}), "where a head was asked for"),
    ] {
        let refusal = after(&envelope).expect_err(expected);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

/// A chain of heads, each with its version and what it says.
fn chain(f: &Fixture, versions: &[u64]) -> Vec<(u64, Vec<u8>)> {
    let mut previous = None;
    let mut heads = Vec::new();
    for version in versions {
        let payload = f.head(|h| (h.version, h.previous) = (*version, previous)).payload;
        previous = Some(HeadRef { version: *version, payload: Digest::of(&payload) });
        heads.push((*version, payload));
    }
    heads
}

fn reference((version, payload): &(u64, Vec<u8>)) -> HeadRef {
    HeadRef { version: *version, payload: Digest::of(payload) }
}

/// How many heads hold together between these ends, or the first that does not.
fn walked(ends: HeadEnds, heads: &[(u64, Vec<u8>)]) -> Result<u64, (u64, &'static str)> {
    let mut walk = HeadWalk::after(ends.dropped);
    let taken = heads.iter().try_for_each(|(version, payload)| walk.take(*version, payload).map(drop));
    let walked = taken.and_then(|()| walk.end(ends.newest));
    walked.map(|()| walk.heads()).map_err(|broken| (broken.version, broken.what))
}

#[test]
fn a_head_that_was_changed_taken_out_or_put_in_is_named() {
    let f = fixture();
    let good = chain(&f, &[10, 20, 30, 40]);
    let all = HeadEnds { dropped: None, newest: Some(reference(&good[3])) };
    assert_eq!(walked(all, &good), Ok(4));
    assert_eq!(walked(HeadEnds::default(), &[]), Ok(0));
    // The oldest went, and what named them is known.
    let late = HeadEnds { dropped: Some(reference(&good[1])), ..all };
    assert_eq!(walked(late, &good[2..]), Ok(2));

    let other = |version: u64, previous: Option<HeadRef>| {
        let change = |h: &mut Head| (h.version, h.previous, h.issued) = (version, previous, LATER);
        (version, f.head(change).payload)
    };
    let changed = other(20, Some(reference(&good[0])));
    let first = other(30, None);
    let text = (20, b"{}".to_vec());
    let renamed = (25, good[1].1.clone());
    let foreign = HeadEnds { dropped: Some(reference(&changed)), ..all };
    let last = HeadEnds { newest: Some(reference(&other(40, None))), ..all };
    let sooner = HeadEnds { newest: Some(reference(&good[2])), ..all };
    let pick = |rows: &[&(u64, Vec<u8>)]| rows.iter().map(|row| (*row).clone()).collect::<Vec<_>>();
    for (ends, heads, at, what) in [
        (all, pick(&[&good[0], &text]), 20, "cannot be read"),
        (all, pick(&[&good[0], &renamed]), 25, "says that it is another one"),
        (all, pick(&[&good[0], &changed, &good[2], &good[3]]), 20, "names another digest"),
        (all, pick(&[&good[0], &good[2], &good[3]]), 20, "is missing: the head after it"),
        (all, pick(&[&good[0], &good[1], &first]), 30, "names none before it"),
        // Off the beginning, with nothing said of it; with another head said to be the one before; with none left.
        (all, pick(&[&good[2], &good[3]]), 20, "is missing: the head after it"),
        (foreign, pick(&[&good[2], &good[3]]), 20, "names another digest"),
        (late, pick(&[&good[3]]), 30, "is missing: the head after it"),
        (all, Vec::new(), 40, "taken off the end"),
        (all, pick(&[&good[0], &good[1]]), 40, "taken off the end"),
        (last, good.clone(), 40, "the end of the chain names another digest"),
        (sooner, good.clone(), 40, "said to end before it"),
        (HeadEnds::default(), good.clone(), 40, "said to end before it"),
    ] {
        let (version, said) = walked(ends, &heads).expect_err(what);
        assert!(version == at && said.contains(what), "head {version}: {said}, expected head {at}: {what}");
    }
}

#[test]
fn a_head_is_fresh_for_a_while_and_names_what_is_offered() {
    let f = fixture();
    let head = f.trusted.accept_head(&f.head(|_| {}), None).expect("a head");
    assert!(head.fresh(NOW + Millis::from_secs(59)).is_ok());
    assert!(matches!(head.fresh(NOW + Millis::from_secs(60)), Err(Refusal::Expired { .. })));
    // A clock that stands at 1970, or was set back a year, counts from when the head was issued.
    assert_eq!((head.time(Millis::ZERO), head.time(LATER)), (NOW, LATER));
    let (metadata, envelope) = (metadata(&f.root), f.signed(|_| {}));
    let place = Inclusion { index: 0, path: Vec::new() };
    assert!(head.offers(&metadata, &envelope, &place).is_ok());
    let other = f.signed(|m| m.counter = 6);
    let error = head.offers(&BundleMetadata { counter: 6, ..metadata.clone() }, &other, &place).expect_err("another");
    assert!(matches!(error, Refusal::NotOffered { counter: 6, .. }), "{error}");
    let elsewhere = Inclusion { index: 1, path: vec![Digest::of(b"neighbour")] };
    assert!(head.offers(&metadata, &envelope, &elsewhere).is_err());
}

/// Whatever byte of something signed is changed, nobody believes it.
#[test]
fn no_byte_of_what_is_signed_can_be_changed() {
    let f = fixture();
    let root = sign(&f.root, &f.root.domain(), &[&f.root_keys[0], &f.root_keys[1]]).expect("signed");
    let next = Root { version: 2, ..f.root.clone() };
    let next = sign(&next, &next.domain(), &[&f.root_keys[0], &f.root_keys[1]]).expect("signed");
    let pin = RootPin::of(&root.payload);
    type Judge<'a> = Box<dyn Fn(&Envelope) -> bool + 'a>;
    let cases: [(&str, Envelope, Judge<'_>); 4] = [
        ("root", root, Box::new(|e| Trusted::new(e, pin).is_ok())),
        ("next root", next, Box::new(|e| f.trusted.accept_root(e).is_ok())),
        ("bundle", f.signed(|_| {}), Box::new(|e| f.trusted.verify_bundle(e).is_ok())),
        ("head", f.head(|_| {}), Box::new(|e| f.trusted.accept_head(e, None).is_ok())),
    ];
    for (name, envelope, judge) in cases {
        assert!(judge(&envelope), "{name}: as it was signed");
        for place in 0..envelope.payload.len() {
            let changed = edit(&envelope, |e| e.payload[place] ^= 1 << (place % 8));
            assert!(!judge(&changed), "{name}: byte {place} was changed");
        }
    }
}

#[test]
fn legacy_signatures_are_refused() {
    // Made by minisign 0.6 over the bytes `test`, from minisign-verify's own tests.
    let key: PublicKey = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().expect("a key");
    let minisig = "untrusted comment: signature from minisign secret key\n\
        RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
        trusted comment: timestamp:1555779966\tfile:test\n\
        QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==";
    let signature = Signature { key: key.id(), minisig: minisig.to_owned() };
    let envelope = Envelope { kind: PayloadKind::Root, payload: b"test".to_vec(), signatures: vec![signature] };
    let domain = Domain { subject: DomainSubject::Root, repository: repository(1), version: 1 };
    let role = RoleKeys::new(vec![key], 1).expect("a role");
    let error = verify_threshold(&role, &envelope, &domain).expect_err("legacy");
    assert!(matches!(error, VerifyError::Legacy { .. }), "{error}");
}

#[test]
fn roles_that_cannot_be_met_are_refused() {
    let one = public_key(&key()).expect("a key");
    for (keys, threshold, expected) in [
        (vec![one.clone(), one.clone()], 1, "named twice"),
        (vec![one.clone()], 0, "threshold of 0"),
        (vec![one.clone()], 2, "threshold of 2"),
        (vec![], 0, "threshold of 0"),
    ] {
        let error = RoleKeys::new(keys, threshold).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let json = format!(r#"{{"keys":["{one}"],"threshold":2}}"#);
    assert!(serde_json::from_str::<RoleKeys>(&json).is_err());
}

#[test]
fn keys_are_kept_behind_passwords() {
    let password = "correct horse".to_owned().into();
    let new = generate(Some(&password)).expect("a key");
    let public: PublicKey = new.public.parse().expect("a key");
    assert_eq!(public_key(&open(&new.secret, Some(&password)).expect("opens")).expect("a key"), public);
    assert!(open(&new.secret, Some(&"wrong".to_owned().into())).is_err());
    assert!(open(&new.secret, None).is_err());
}

#[test]
fn files_of_the_stock_tool_are_read() {
    // `minisign -G -W` and `minisign -S -t …`, version 0.11.
    let public = "untrusted comment: minisign public key 7DC34943315DA1B0\n\
        RWSwoV0xQ0nDfawKhfcM9V3j77gSNu8e9f4gRqaOaYOcGx8Y8dUBypfs";
    let secret = "untrusted comment: minisign encrypted secret key\n\
        RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAsKFdMUNJw33YjgokE5ZiQszfyjz/nKTNB1ffx7wpICG1eDs6s8r6SawKhfcM9V3j77gSNu8e9f4gRqaOaYOcGx8Y8dUBypfsAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let minisig = "untrusted comment: signature from minisign secret key\n\
        RUSwoV0xQ0nDfeFwvXTyYU1LSFYFf9WY3crOe5V5gGqFzWBBCiGM4BKJxasOESJLk6DZFUsDz35kDI8i6t0cZ5zyfTMPjARY1Ac=\n\
        trusted comment: sloth:assignment:01JD5Z3V9QK7T2M4X8R6WBCY0N:7\n\
        /S2yCRGpe5hB9n3IBtGamE5qSOs7TO1Q591eUZNXZD7OlWUHYRu4+gEQe5zcaZKYUCfAoUffbYvZlfSmRXQABw==";
    let key: PublicKey = public.parse().expect("a key");
    let domain: Domain = "sloth:assignment:01JD5Z3V9QK7T2M4X8R6WBCY0N:7".parse().expect("a domain");
    let mut envelope = Envelope::unsigned(PayloadKind::Assignment, br#"{"spec":1}"#.to_vec());
    envelope.signatures.push(Signature { key: key.id(), minisig: minisig.to_owned() });
    let role = RoleKeys::new(vec![key.clone()], 1).expect("a role");
    verify_threshold(&role, &envelope, &domain).expect("verifies");

    let opened = open(&secret.to_owned().into(), None).expect("opens");
    assert_eq!(public_key(&opened).expect("a key"), key);
    add_signature(&mut envelope, &domain, &opened).expect("signs");
    verify_threshold(&role, &envelope, &domain).expect("verifies again");
}
