//! Who gets through to whom, over real QUIC on loopback.

mod common;

use common::{DAY, YEAR, address, agent, agent_id, ask, authority, coordinator, endpoint, healthy, now};
use sloth_core::{Chain, Millis};
use sloth_transport::{
    Authority, ConnectError, Connector, Identity, KeyRequest, Lost, Peer, RENEW_GRACE, RequestError, fingerprint,
};

fn connector(authority: &Authority, identity: Identity) -> Connector {
    Connector::enrolled(authority.certificate().to_vec(), identity)
}

fn is_refused(error: &RequestError) -> bool {
    matches!(error.lost(), Some(Lost::CertificateRefused { .. }))
}

#[tokio::test]
async fn agents_and_operators_are_known_by_their_certificates() {
    let authority = authority(1);
    let addresses = [healthy(&authority)];
    let operator = authority.issue_operator("ann", now(), DAY).expect("a certificate");
    let host = agent(&authority, now(), DAY);
    let not_after = host.not_after();
    let ends = operator.not_after();
    for (identity, expected) in [
        (host, Peer::Agent { id: agent_id(), expired: false, not_after }),
        (operator, Peer::Operator { name: "ann".into(), not_after: ends }),
    ] {
        let link = connector(&authority, identity).connect(&addresses, now()).await.expect("connected");
        assert_eq!(link.authority, authority.certificate());
        let answer = ask(&link, "hello").await.expect("an answer");
        assert!(answer.starts_with(&format!("{expected:?}")) && answer.ends_with("hello"), "{answer}");
    }
}

#[tokio::test]
async fn a_host_enrols_with_the_fingerprint_alone() {
    let authority = authority(1);
    let addresses = [healthy(&authority)];
    let link = Connector::enrolling(authority.fingerprint()).connect(&addresses, now()).await.expect("connected");
    assert!(ask(&link, "csr").await.expect("an answer").starts_with("Nobody"));
    assert_eq!(fingerprint(&link.authority), authority.fingerprint());

    let enrolled = Connector::enrolled(link.authority, agent(&authority, now(), DAY));
    let link = enrolled.connect(&addresses, now()).await.expect("connected");
    assert!(ask(&link, "hello").await.expect("an answer").starts_with("Agent"));
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (ours, other) = (authority(1), authority(2));
    let host = agent(&ours, now(), DAY);
    let ended = other.issue_server(now() - YEAR, DAY).expect("a certificate");
    let valid = other.issue_server(now(), DAY).expect("a certificate");
    // Agents of our own authority are no coordinators, and neither is one that sends our authority along.
    let posing = agent(&ours, now(), DAY);
    for addresses in [
        [coordinator(&other, &valid)],
        [coordinator(&other, &ended)],
        [coordinator(&ours, &posing)],
        [coordinator(&ours, &valid)],
    ] {
        let error = Connector::enrolling(ours.fingerprint()).connect(&addresses, now()).await.expect_err("a stranger");
        assert!(matches!(error, ConnectError::WrongToken { .. }), "{}", Chain(&error));
        assert!(error.to_string().contains("is not the coordinator this token is for"), "{error}");
        let error = connector(&ours, host.clone()).connect(&addresses, now()).await.expect_err("a stranger");
        assert!(matches!(error, ConnectError::Stranger { .. }), "{}", Chain(&error));
    }
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_good_is_refused() {
    let (ours, other) = (authority(1), authority(2));
    let server = ours.issue_server(now() - YEAR, YEAR + YEAR).expect("a certificate");
    let addresses = [coordinator(&ours, &server)];
    let ended = now() - DAY;
    // The visitor's clock stands where its own certificate counts, so that it is the coordinator who judges.
    for (identity, visitor) in [
        (agent(&other, now(), DAY), now()),
        (agent(&other, ended - DAY, DAY), ended),
        (agent(&ours, now() - RENEW_GRACE - DAY, DAY - Millis::from_secs(60)), now() - RENEW_GRACE),
        (ours.issue_operator("ann", now() + DAY, DAY).expect("a certificate"), now()),
        (ours.issue_operator("ann", ended - DAY, DAY).expect("a certificate"), ended),
        (ours.issue_server(now(), DAY).expect("a certificate"), now()),
    ] {
        let subject = identity.subject();
        let link = connector(&ours, identity).connect(&addresses, visitor).await.expect("connected");
        let error = ask(&link, "hello").await.expect_err("refused");
        assert!(is_refused(&error), "{subject:?}: {}", Chain(&error));
    }
}

#[tokio::test]
async fn an_agent_whose_certificate_has_ended_is_let_through_and_marked() {
    let authority = authority(1);
    let addresses = [healthy(&authority)];
    // The last one is of a coordinator whose clock was ahead.
    for issued in [now() - Millis::from_secs(60) - DAY, now() - RENEW_GRACE, now() + YEAR] {
        let identity = agent(&authority, issued, DAY);
        let link = connector(&authority, identity).connect(&addresses, now()).await.expect("connected");
        let answer = ask(&link, "renew").await.expect("an answer");
        assert!(answer.contains("expired: true"), "{answer}");
    }
}

#[tokio::test]
async fn who_shows_a_certificate_that_is_too_old_is_told_before_it_connects() {
    let authority = authority(1);
    let agent = agent(&authority, now() - RENEW_GRACE - DAY - DAY, DAY);
    let operator = authority.issue_operator("ann", now() - DAY - DAY, DAY).expect("a certificate");
    for identity in [agent, operator] {
        let error = connector(&authority, identity).connect(&[], now()).await.expect_err("too old");
        assert!(matches!(error, ConnectError::Expired { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named_with_its_reading() {
    let authority = authority(1);
    let host = agent(&authority, now(), YEAR + YEAR);
    let issue = |at| authority.issue_server(at, DAY).expect("a certificate");
    // The host's clock is wrong, or the coordinator's was when it made its certificate; each both ways.
    for (issued, visitor) in [
        (now(), now() - YEAR),
        (now(), now() + YEAR),
        (now() - YEAR, now()),
        (now() + YEAR, now()),
        (now(), Millis::ZERO),
    ] {
        let server = issue(issued);
        let addresses = [coordinator(&authority, &server)];
        let expected = format!(
            "this host's clock says {visitor}; the certificate of the coordinator at `{}` counts from {} to {}",
            addresses[0],
            server.not_before(),
            server.not_after()
        );
        for connector in [Connector::enrolling(authority.fingerprint()), connector(&authority, host.clone())] {
            let error = connector.connect(&addresses, visitor).await.expect_err("out of time").to_string();
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}

#[tokio::test]
async fn small_differences_of_clocks_do_not_matter() {
    let authority = authority(1);
    let addresses = [healthy(&authority)];
    let slow = now() - Millis::from_secs(4 * 60);
    let link = Connector::enrolling(authority.fingerprint()).connect(&addresses, slow).await;
    assert!(link.is_ok());
}

#[tokio::test]
async fn a_renewed_server_certificate_takes_over_and_connections_stay() {
    let authority = authority(1);
    let first = authority.issue_server(now() - YEAR, DAY).expect("a certificate");
    let endpoint = endpoint(&authority, &first);
    let addresses = [address(&endpoint)];
    common::serve(endpoint.clone(), sloth_transport::Limits::default());
    let connector = Connector::enrolling(authority.fingerprint());
    let old = connector.connect(&addresses, now() - YEAR).await.expect("connected");
    assert!(connector.connect(&addresses, now()).await.is_err());

    let second = authority.issue_server(now(), DAY).expect("a certificate");
    let config = sloth_transport::server(&authority, &second, sloth_transport::Limits::default()).expect("usable");
    endpoint.set_server_config(Some(config));
    let new = connector.connect(&addresses, now()).await.expect("connected");
    for link in [&old, &new] {
        assert!(ask(link, "hello").await.is_ok());
    }
}

#[test]
fn a_request_decides_about_nothing_but_the_key() {
    let authority = authority(1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["coordinator.sloth.internal".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key).expect("a request");
    let issued = authority.issue_agent(csr.der(), agent_id(), now(), DAY).expect("a certificate");
    let (_, certificate) = x509_parser::parse_x509_certificate(&issued.der).expect("readable");
    let usage = certificate.extended_key_usage().expect("readable").expect("there").value;
    assert!(!certificate.is_ca() && usage.client_auth && !usage.server_auth && usage.other.is_empty());
    let names = certificate.subject_alternative_name().expect("readable").expect("there").value;
    assert_eq!(names.general_names.len(), 1);
    assert_eq!(certificate.subject().to_string(), format!("CN=sloth://agent/{}", agent_id()));
    assert_eq!(issued.not_after.since(issued.not_before).as_u64() / 1000, (DAY.as_u64() + 300_000) / 1000);
}

#[test]
fn a_request_that_is_damaged_or_of_another_kind_is_refused() {
    let authority = authority(1);
    let key = KeyRequest::generate().expect("a key");
    let good = key.csr().to_vec();
    let issue = |csr: &[u8]| authority.issue_agent(csr, agent_id(), now(), DAY);
    assert!(issue(&good).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        // A few bytes are framing that the signature does not cover; the key is never among them.
        if let Ok(issued) = issue(&bad) {
            assert!(key.clone().certified(issued.der).is_ok(), "byte {at}");
        }
        assert!(issue(&good[..at]).is_err(), "cut at {at}");
    }
    assert!(issue(&vec![0x30; 5000]).expect_err("too long").to_string().contains("4096 bytes"));
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let csr = rcgen::CertificateParams::default().serialize_request(&other).expect("a request");
    assert!(issue(csr.der()).expect_err("another kind").to_string().contains("P-256"));
}
