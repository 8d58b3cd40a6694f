//! The refusals that nothing which was signed and sent as usual comes to.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sloth_core::{Digest, Millis, RepositoryId, Secret};
use sloth_trust::{
    Domain, DomainSubject, Envelope, EnvelopeError, Inclusion, InvalidRole, MachineKey, MachineKeyError, PayloadKind,
    PublicKey, RoleKeys, Signature, Tree, VerifyError,
    envelope::SIGNATURES_MAX,
    tree::PATH_MAX,
    verify::{find_signer, verify_threshold},
};

fn key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn keys(count: u8) -> Vec<PublicKey> {
    (1..=count).map(|seed| key(seed).public().clone()).collect()
}

fn domain() -> Domain {
    Domain { subject: DomainSubject::Head, repository: RepositoryId::new(Millis::ZERO, 1), version: 7 }
}

#[test]
fn roles_have_bounds_and_supersede_each_other() {
    let too_many = u8::try_from(SIGNATURES_MAX + 1).expect("few");
    assert_eq!(RoleKeys::new(keys(too_many), 1), Err(InvalidRole::TooManyKeys { keys: SIGNATURES_MAX + 1 }));
    let all = keys(4);
    let role = |members: &[usize], threshold| {
        RoleKeys::new(members.iter().map(|at| all[*at].clone()).collect(), threshold).expect("a role")
    };
    for (before, now, supersedes) in [
        (role(&[0], 1), role(&[0], 1), false),
        (role(&[0], 1), role(&[1], 1), true),
        (role(&[0, 1], 1), role(&[1, 2], 1), false),
        (role(&[0, 1], 2), role(&[1, 2], 2), true),
        (role(&[0, 1, 2], 2), role(&[1, 2, 3], 2), false),
        // As many of the old keys are left as must sign, though each alone could before.
        (role(&[0, 1], 1), role(&[0, 1], 2), false),
    ] {
        assert_eq!(now.supersedes(&before), supersedes, "{before:?}, then {now:?}");
    }
    assert_eq!((role(&[0, 1], 1).keys().len(), role(&[0, 1], 2).threshold()), (2, 2));
}

#[test]
fn signatures_are_counted_for_what_they_are() {
    let (role, envelope) = (RoleKeys::new(keys(1), 1).expect("a role"), key(1).seal(b"{}".to_vec(), &domain()));
    assert!(verify_threshold(&role, &envelope, &domain()).is_ok());
    let unsigned = Envelope::unsigned(PayloadKind::Head, b"{}".to_vec());
    assert!(matches!(verify_threshold(&role, &unsigned, &domain()), Err(VerifyError::Unsigned)));
    let disguised = Envelope { kind: PayloadKind::Root, ..envelope.clone() };
    assert!(matches!(verify_threshold(&role, &disguised, &domain()), Err(VerifyError::Kind { .. })));
    let many = Envelope { signatures: vec![envelope.signatures[0].clone(); SIGNATURES_MAX + 1], ..envelope.clone() };
    assert_eq!(many.check_bounds(), Err(EnvelopeError::TooManySignatures { count: SIGNATURES_MAX + 1 }));

    // The algorithm in front of the signature is one that nobody knows.
    let minisig = &envelope.signatures[0].minisig;
    let line = minisig.lines().nth(1).expect("a signature");
    let mut bytes = STANDARD.decode(line).expect("base 64");
    bytes[..2].copy_from_slice(b"XX");
    let strange =
        Signature { minisig: minisig.replace(line, &STANDARD.encode(bytes)), ..envelope.signatures[0].clone() };
    let strange = Envelope { signatures: vec![strange], ..envelope };
    assert!(matches!(verify_threshold(&role, &strange, &domain()), Err(VerifyError::Malformed { .. })));
}

#[test]
fn the_signer_of_a_lone_signature_is_found() {
    let (all, signature) = (keys(3), key(2).sign(b"{}", &domain()));
    let found = |payload: &[u8], domain: &Domain| find_signer(&all, payload, &signature.minisig, domain);
    assert_eq!(found(b"{}", &domain()), Some(key(2).id()));
    assert_eq!(found(b"[]", &domain()), None);
    assert_eq!(found(b"{}", &Domain { version: 8, ..domain() }), None);
    assert_eq!(find_signer(&all, b"{}", "nothing", &domain()), None);
}

#[test]
fn keys_and_paths_of_another_shape_are_refused() {
    let file = MachineKey::file(&Secret::new([1; 32]), &key(1));
    let bytes = STANDARD.decode(file.expose().lines().last().expect("a line")).expect("base 64");
    for place in [0, 1, 4, 5] {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        let error = MachineKey::from_file(&Secret::new(STANDARD.encode(&bytes))).expect_err("another format");
        assert_eq!(error, MachineKeyError::Malformed, "byte {place}");
    }
    let tree = Tree::new([b"a", b"b"]);
    let long = Inclusion { index: 0, path: vec![Digest::of(b"b"); PATH_MAX + 1] };
    assert!(!long.shows(b"a", tree.head()));
    assert!(!Inclusion { index: 2, path: Vec::new() }.shows(b"a", tree.head()));
}
