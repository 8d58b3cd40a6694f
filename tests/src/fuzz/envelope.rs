//! Signed things as they arrive: nothing is believed that the repository's keys did not sign.

use sloth_core::{Labels, labels::Subject};
use sloth_trust::{Domain, Envelope, RootPin};

use super::{
    Seed, Verdict,
    keys::{NOW, REPOSITORY, agent, assignment, metadata},
    told,
};

/// Reads `bytes` as an envelope. It is accepted when somebody believes it.
///
/// # Panics
///
/// When an envelope that was read is over a bound or is written otherwise, or something is believed that nobody
/// signed.
pub fn run(bytes: &[u8]) -> Verdict {
    let envelope = match Envelope::decode(bytes) {
        Ok(envelope) => envelope,
        Err(error) => {
            told(&error);
            return Verdict::Refused;
        }
    };
    assert_eq!(envelope.check_bounds(), Ok(()));
    let again = envelope.encode();
    assert!(again.len() <= bytes.len(), "the canonical form is the shortest");
    assert_eq!(Envelope::decode(&again).as_ref(), Ok(&envelope));

    match envelope.claimed_domain() {
        Ok(domain) => assert_eq!(domain.to_string().parse::<Domain>(), Ok(domain)),
        Err(error) => drop(told(&error)),
    }
    if !believed(&envelope) {
        return Verdict::Refused;
    }
    let signed = REPOSITORY.signed.iter().any(|e| (e.kind, &e.payload) == (envelope.kind, &envelope.payload));
    assert!(signed, "believed, but nobody signed it");
    Verdict::Accepted
}

/// Whether anything that judges envelopes takes this one.
fn believed(envelope: &Envelope) -> bool {
    let trusted = &REPOSITORY.trusted;
    let labels: Labels = [("role".to_owned(), "web".to_owned())].into();
    let subject = Subject { id: "1", name: "web-1", labels: &[&labels] };
    let web = metadata(&REPOSITORY.root, "web-shop");
    let verdicts = [
        sloth_trust::Trusted::new(envelope, trusted.pin()).map(drop),
        sloth_trust::Trusted::new(envelope, RootPin::of(&envelope.payload)).map(drop),
        trusted.accept_root(envelope).map(drop),
        trusted.verify_bundle(envelope).map(drop),
        trusted.accept_bundle(envelope, NOW, None, subject).map(drop),
        trusted.verify_assignment(envelope).map(drop),
        trusted.assigned(envelope, agent(), assignment().nonce).and_then(|work| work.fits(&web, NOW)),
        trusted.verify_head(envelope).map(drop),
        trusted.accept_head(envelope, None).map(drop),
    ];
    for refusal in verdicts.iter().filter_map(|verdict| verdict.as_ref().err()) {
        told(refusal);
    }
    verdicts.iter().any(Result::is_ok)
}

pub(super) fn seeds() -> Vec<Seed> {
    let names = ["root", "next-root", "web-bundle", "db-bundle", "assignment"];
    let mut seeds: Vec<Seed> =
        names.into_iter().zip(&REPOSITORY.signed).map(|(name, e)| Seed::accepted(name, e.encode())).collect();

    let mut crossed = REPOSITORY.signed[2].clone();
    crossed.signatures.clone_from(&REPOSITORY.signed[3].signatures);
    seeds.push(Seed::refused("other-signature", crossed.encode()));
    let mut mixed = REPOSITORY.signed[2].clone();
    mixed.signatures.extend(REPOSITORY.signed[1].signatures.clone());
    seeds.push(Seed::refused("mixed-signatures", mixed.encode()));
    let mut changed = REPOSITORY.signed[4].clone();
    changed.payload.push(b' ');
    seeds.push(Seed::refused("changed-payload", changed.encode()));
    seeds
}
