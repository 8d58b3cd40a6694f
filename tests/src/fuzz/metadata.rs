//! What stands in signed payloads. The harness signs whatever it is given, so that the readers behind the
//! signatures are reached: a key that may sign one thing must not get another one through.

use serde::de::{DeserializeOwned, IgnoredAny};
use sloth_core::{Labels, labels::Subject};
use sloth_trust::{
    Assignment, BundleMetadata, Domain, DomainSubject, Envelope, Head, Refusal, Root, RootPin, Schema, Seen, Trusted,
    sign::{add_signature, public_key},
};

use super::{
    Seed, Verdict,
    keys::{NOW, REPOSITORY, agent, assignment, head, metadata},
    told,
};

/// Signs the payload after the first byte of `bytes`, which says as what, and has it judged.
///
/// # Panics
///
/// When something is accepted that contradicts its signature or the trusted root.
pub fn run(bytes: &[u8]) -> Verdict {
    let Some((kind, payload)) = bytes.split_first() else { return Verdict::Refused };
    // Signing is slow, and what is not JSON is refused as that whoever signed it.
    if serde_json::from_slice::<IgnoredAny>(payload).is_err() {
        return Verdict::Refused;
    }
    match kind % 5 {
        0 => judge_first_root(payload),
        1 => judge_next_root(payload),
        2 => judge_bundle(payload),
        3 => judge_assignment(payload),
        _ => judge_head(payload),
    }
}

fn judge_first_root(payload: &[u8]) -> Verdict {
    let Some(envelope) = signed(payload, &says::<Root>(payload, Root::domain, || REPOSITORY.root.domain())) else {
        return Verdict::Refused;
    };
    let judged = Trusted::new(&envelope, RootPin::of(payload));
    if let Ok(trusted) = tell(&judged) {
        check_root(trusted.root());
    }
    Verdict::from(&judged)
}

fn judge_next_root(payload: &[u8]) -> Verdict {
    let first = &REPOSITORY.trusted;
    let Some(envelope) = signed(payload, &says::<Root>(payload, Root::domain, || first.root().domain())) else {
        return Verdict::Refused;
    };
    let judged = first.accept_root(&envelope);
    if let Ok(trusted) = tell(&judged) {
        check_root(trusted.root());
        assert_eq!(trusted.root().repository, first.root().repository);
        let (have, got) = (first.root().version, trusted.root().version);
        assert!(got == have + 1 || (got == have && trusted == first), "root {got} after root {have}");
    }
    Verdict::from(&judged)
}

fn judge_bundle(payload: &[u8]) -> Verdict {
    let default = || metadata(&REPOSITORY.root, "web-shop").domain();
    let domain = says::<BundleMetadata>(payload, BundleMetadata::domain, default);
    let Some(envelope) = signed(payload, &domain) else { return Verdict::Refused };
    let trusted = &REPOSITORY.trusted;
    let labels: Labels = [("role".to_owned(), "web".to_owned())].into();
    let subject = Subject { id: "1", name: "web-1", labels: &[&labels] };

    let judged = trusted.accept_bundle(&envelope, NOW, None, subject);
    let Ok(accepted) = tell(&judged) else { return Verdict::Refused };
    assert_eq!(accepted.domain(), domain);
    assert!(accepted.name.as_str().starts_with("web-"), "the key may not sign `{}`", accepted.name);
    assert!(NOW < accepted.expires && accepted.audience.matches(subject));
    let verified = trusted.verify_bundle(&envelope).expect("what may begin may go on");
    assert_eq!(&verified, accepted);
    if let Some(schema) = &accepted.parameters {
        assert_eq!(Schema::parse(schema.source().clone()).as_ref(), Ok(schema));
        // Whatever it takes and refuses, it says so.
        let _ = schema.check(&assignment().values).map_err(|misfits| misfits.to_string());
        let _ = (schema.check_defaults(), schema.parameters());
    }

    let seen = Seen::of(&envelope, accepted);
    assert!(trusted.accept_bundle(&envelope, NOW, Some(seen), subject).is_ok(), "the same one again");
    if let Some(counter) = seen.counter.checked_add(1) {
        let newer = Some(Seen { counter, ..seen });
        let again = trusted.accept_bundle(&envelope, NOW, newer, subject);
        assert!(matches!(again, Err(Refusal::Rollback { .. })), "{again:?}");
    }
    Verdict::Accepted
}

fn judge_head(payload: &[u8]) -> Verdict {
    let root = &REPOSITORY.root;
    let domain = says::<Head>(payload, Head::domain, || head(root).domain());
    let Some(envelope) = signed(payload, &domain) else { return Verdict::Refused };
    let trusted = &REPOSITORY.trusted;
    let judged = trusted.accept_head(&envelope, None);
    if let Ok(accepted) = tell(&judged) {
        let said = accepted.head();
        assert_eq!((said.domain(), said.root.version, said.root.sha256), (domain, root.version, trusted.pin()));
        assert!(trusted.accept_head(&envelope, Some(accepted)).is_ok(), "the same one again");
        assert_eq!(accepted.fresh(NOW).is_ok(), NOW < said.expires);
    }
    Verdict::from(&judged)
}

fn judge_assignment(payload: &[u8]) -> Verdict {
    let repository = REPOSITORY.root.repository;
    let domain = says::<Assignment>(payload, |work| work.domain(repository), || assignment().domain(repository));
    let Some(envelope) = signed(payload, &domain) else { return Verdict::Refused };
    let web = metadata(&REPOSITORY.root, "web-shop");
    let judged = REPOSITORY.trusted.assigned(&envelope, agent(), assignment().nonce);
    let judged = judged.and_then(|work| work.fits(&web, NOW).map(|()| work));
    if let Ok(work) = tell(&judged) {
        assert_eq!((work.domain(repository), work.agent), (domain, agent()));
        assert_eq!((&work.bundle, work.counter, work.manifest), (&web.name, web.counter, web.manifest.digest));
        assert!(work.not_before <= NOW && NOW < work.deadline);
    }
    Verdict::from(&judged)
}

/// A root that one key was enough for asks for one key, and that one is in it.
fn check_root(root: &Root) {
    let signer = public_key(&REPOSITORY.main_key).expect("a key").id();
    assert_eq!(root.roles.root.threshold(), 1);
    assert!(root.roles.root.key(signer).is_some(), "its own signer is not in it");
}

/// What the payload says it is, or else what it may be signed as.
fn says<T: DeserializeOwned>(
    payload: &[u8],
    domain: impl FnOnce(&T) -> Domain,
    default: impl FnOnce() -> Domain,
) -> Domain {
    serde_json::from_slice::<T>(payload).map_or_else(|_| default(), |value| domain(&value))
}

/// The payload, signed, as it comes off the wire; none when it is over a bound.
fn signed(payload: &[u8], domain: &Domain) -> Option<Envelope> {
    let mut envelope = Envelope::unsigned(domain.subject.kind(), payload.to_vec());
    add_signature(&mut envelope, domain, &REPOSITORY.main_key).ok()?;
    let arrived = Envelope::decode(&envelope.encode()).expect("whatever was signed can be read");
    assert_eq!(arrived, envelope);
    Some(arrived)
}

fn tell<T>(judged: &Result<T, Refusal>) -> Result<&T, ()> {
    judged.as_ref().map_err(|refusal| drop(told(refusal)))
}

pub(super) fn seeds() -> Vec<Seed> {
    let root = &REPOSITORY.root;
    let web = metadata(root, "web-shop");
    let input = |kind: u8, json: String| [&[kind], json.as_bytes()].concat();
    let json = |value: Result<String, serde_json::Error>| value.expect("JSON");
    let root_text = json(serde_json::to_string(root));
    let web_text = json(serde_json::to_string(&web));
    let work_text = json(serde_json::to_string(&assignment()));
    let head_text = json(serde_json::to_string(&head(root)));
    let next = root_text.replace("\"version\":1", "\"version\":2");
    let restricted =
        |schema: &str| web_text.replacen("\"expires\"", &format!("\"parameters\":{schema},\"expires\""), 1);
    let schema = r#"{"properties":{"replicas":{"type":"integer","maximum":9},"a":{"items":{"pattern":"^[a-z]+$"}}}}"#;
    let gap = root_text.replace("\"version\":1", "\"version\":9");
    assert!(matches!(web.domain().subject, DomainSubject::Bundle(_)), "bundles are signed as such");
    vec![
        Seed::accepted("first-root", input(0, root_text.clone())),
        Seed::accepted("same-root", input(1, root_text.clone())),
        Seed::accepted("next-root", input(1, next)),
        Seed::refused("far-root", input(1, gap)),
        Seed::refused("two-of-one", input(0, root_text.replace("\"threshold\":1", "\"threshold\":2"))),
        Seed::accepted("bundle", input(2, web_text.clone())),
        Seed::accepted("parameters", input(2, restricted(schema))),
        Seed::refused("unknown-keyword", input(2, restricted(r#"{"oneOf":[]}"#))),
        Seed::refused("other-bundle", input(2, web_text.replace("web-shop", "db"))),
        Seed::refused("other-audience", input(2, web_text.replace("!old", "old"))),
        Seed::refused("later-format", input(2, web_text.replace("\"spec\":1", "\"spec\":2"))),
        Seed::accepted("assignment", input(3, work_text.clone())),
        Seed::refused("other-release", input(3, work_text.replace("\"counter\":5", "\"counter\":6"))),
        Seed::accepted("head", input(4, head_text.clone())),
        Seed::refused("head-of-another-root", input(4, head_text.replace("\"length\"", "\"length\":1,\"x\""))),
        Seed::refused("unknown-field", input(3, work_text.replacen('{', "{\"x\":1,", 1))),
    ]
}
