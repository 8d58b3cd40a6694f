//! What is kept in files: authority, identities, credentials.

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{DAY, agent, agent_id, authority, now};
use sloth_core::{Chain, Secret, fs};
use sloth_transport::{Authority, Credential, Identity, IdentityError, KeyRequest, Subject};

#[test]
fn an_authority_survives_its_files_and_signs_as_before() {
    let first = authority(1);
    let second = Authority::from_pem(&first.certificate_pem(), &first.key_pem()).expect("readable");
    assert_eq!((first.certificate(), first.fingerprint()), (second.certificate(), second.fingerprint()));
    let key = KeyRequest::generate().expect("a key");
    let issue = |authority: &Authority| authority.issue_agent(key.csr(), agent_id(), now(), DAY).expect("issued");
    let read = |der: &[u8]| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).expect("readable");
        (certificate.issuer().to_string(), certificate.verify_signature(Some(&key_of(first.certificate()))).is_ok())
    };
    assert_eq!(read(&issue(&first).der), read(&issue(&second).der));
    assert!(read(&issue(&second).der).1);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (first, second) = (authority(1), authority(2));
    let leaf = agent(&first, now(), DAY);
    let leaf_pem = leaf.to_pem();
    let no_key = Secret::new(String::new());
    for (certificate, key, expected) in [
        (first.certificate_pem(), second.key_pem(), "the certificate is for another private key"),
        (String::new(), first.key_pem(), "there is no `CERTIFICATE` section"),
        (first.certificate_pem(), no_key, "there is no `PRIVATE KEY` section"),
        (leaf_pem.expose().clone(), leaf_pem.clone(), "not one of an authority"),
    ] {
        let error = Authority::from_pem(&certificate, &key).expect_err("refused");
        assert!(Chain(&error).to_string().contains(expected), "{}", Chain(&error));
    }
    let other = KeyRequest::generate().expect("a key");
    let error = other.certified(leaf.certificate().to_vec()).expect_err("another key");
    assert!(matches!(error, IdentityError::Mismatch), "{error}");
}

#[test]
fn identities_and_keys_survive_their_files() {
    let authority = authority(1);
    let key = KeyRequest::generate().expect("a key");
    let issued = authority.issue_agent(key.csr(), agent_id(), now(), DAY).expect("issued");
    let stored = KeyRequest::from_pem(&key.to_pem()).expect("readable");
    let identity = stored.certified(issued.der).expect("the same key");
    let read = Identity::from_pem(&identity.to_pem()).expect("readable");
    assert_eq!(read.certificate(), identity.certificate());
    assert_eq!((read.not_before(), read.not_after()), (issued.not_before, issued.not_after));
    assert_eq!(read.subject(), Ok(Subject::Agent(agent_id())));
    assert!(format!("{read:?}").contains("key: [secret]"));
}

#[test]
fn a_credential_is_one_file_for_its_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ann.toml");
    let authority = authority(1);
    let identity = authority.issue_operator("ann", now(), DAY).expect("issued");
    let addresses = vec!["coord.example.org:7461".to_owned()];
    let written = Credential { addresses, authority: authority.certificate().to_vec(), identity };
    written.store(&path).expect("stored");
    assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let read = Credential::load(&path).expect("readable");
    assert_eq!((&read.addresses, &read.authority), (&written.addresses, &written.authority));
    assert_eq!(read.identity.certificate(), written.identity.certificate());

    let text = String::from_utf8(fs::read_capped(&path, 100_000).expect("there")).expect("text");
    for (from, to, expected) in [
        ("[\"coord.example.org:7461\"]", "[]", "needs 1 to 8 `addresses`"),
        ("authority = ", "authorities = ", "unknown field `authorities`"),
        ("BEGIN PRIVATE KEY", "BEGIN KEY", "no usable `certificate` and `key`: this is not an identity: there is no"),
        ("BEGIN CERTIFICATE", "BEGIN NOTHING", "no usable `authority`"),
    ] {
        let changed = text.replacen(from, to, 1);
        fs::replace(&path, changed.as_bytes(), fs::Access::Owner).expect("stored");
        let error = Credential::load(&path).expect_err("refused");
        assert!(Chain(&error).to_string().contains(expected), "{}", Chain(&error));
        assert!(Chain(&error).to_string().contains("ann.toml"), "{}", Chain(&error));
    }
}

#[test]
fn names_of_operators_are_checked() {
    let authority = authority(1);
    for name in ["", "a/b", "a b", "ann\n", &"a".repeat(64)] {
        assert!(authority.issue_operator(name, now(), DAY).is_err(), "{name:?}");
    }
    let identity = authority.issue_operator("ann-1.b_c", now(), DAY).expect("issued");
    assert_eq!(identity.subject(), Ok(Subject::Operator("ann-1.b_c".into())));
}

fn key_of(certificate: &[u8]) -> x509_parser::x509::SubjectPublicKeyInfo<'_> {
    x509_parser::parse_x509_certificate(certificate)
        .map(|(_, certificate)| certificate.tbs_certificate.subject_pki)
        .ok()
        .unwrap_or_else(|| unreachable!("an authority's certificate"))
}
