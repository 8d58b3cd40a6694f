//! What networks do: silence, garbage, forged crowds, changed addresses.

mod common;

use std::{
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use common::{DAY, address, agent, ask, authority, endpoint, healthy, loopback, now, serve};
use quinn::crypto::rustls::QuicServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sloth_core::Chain;
use sloth_transport::{Authority, ConnectError, Connector, Limits, Lost, listen, server};

fn enrolling(authority: &Authority) -> Connector {
    Connector::enrolling(authority.fingerprint())
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_within_the_time_limit() {
    let silent = UdpSocket::bind(loopback()).expect("a free port");
    let addresses = [silent.local_addr().expect("bound").to_string()];
    let began = tokio::time::Instant::now();
    let error = enrolling(&authority(1)).connect(&addresses, now()).await.expect_err("silence");
    assert!(error.to_string().starts_with(&format!("nobody answers at `{}`", addresses[0])), "{error}");
    assert!(began.elapsed() <= sloth_transport::settings::CONNECT_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn addresses_are_tried_in_order_and_the_error_that_tells_most_is_told() {
    let (ours, other) = (authority(1), authority(2));
    let (good, stranger) = (healthy(&ours), healthy(&other));
    let unnamed = "no-port".to_owned();
    let link = enrolling(&ours)
        .connect(&[unnamed.clone(), stranger.clone(), good.clone()], now())
        .await
        .expect("the last is good");
    assert_eq!(link.address, good);
    for (addresses, expected) in [
        (vec![], "no address"),
        (vec![unnamed.clone()], "cannot find the address of `no-port`"),
        (vec![stranger.clone(), unnamed.clone()], "is not the coordinator this token is for"),
        (vec![unnamed, stranger], "is not the coordinator this token is for"),
    ] {
        let error = enrolling(&ours).connect(&addresses, now()).await.expect_err("none is good");
        assert!(error.to_string().contains(expected), "{addresses:?}: {}", Chain(&error));
    }
}

#[tokio::test]
async fn a_name_is_resolved() {
    let authority = authority(1);
    let address = healthy(&authority).replace("127.0.0.1", "localhost");
    let link = enrolling(&authority).connect(&[address], now()).await.expect("connected");
    assert!(ask(&link, "hello").await.is_ok());
}

#[tokio::test]
async fn a_server_of_another_protocol_is_told() {
    let authority = authority(1);
    let key = rcgen::generate_simple_self_signed(vec!["coordinator.sloth.internal".to_owned()]).expect("a key");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .expect("usable");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicServerConfig::try_from(tls).expect("usable");
    let web = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback()).expect("a port");
    let error = enrolling(&authority).connect(&[serve(web, Limits::default())], now()).await.expect_err("the web");
    assert!(matches!(error, ConnectError::NotSloth { .. }), "{}", Chain(&error));
}

#[tokio::test]
async fn a_crowd_proves_its_addresses_or_is_refused() {
    let authority = authority(1);
    let identity = authority.issue_server(now(), DAY).expect("a certificate");
    let asked = Limits { handshakes_validate_from: 0, ..Limits::default() };
    let link = enrolling(&authority)
        .connect(&[serve(endpoint(&authority, &identity), asked)], now())
        .await
        .expect("who proves its address is let through");
    assert!(ask(&link, "hello").await.is_ok());
    let full = Limits { handshakes_max: 0, ..Limits::default() };
    let error = enrolling(&authority)
        .connect(&[serve(endpoint(&authority, &identity), full)], now())
        .await
        .expect_err("refused");
    assert!(matches!(error, ConnectError::Busy { .. }), "{}", Chain(&error));
}

#[tokio::test]
async fn garbage_does_no_harm() {
    let authority = authority(1);
    let good = healthy(&authority);
    let noise = UdpSocket::bind(loopback()).expect("a port");
    let mut random = sloth_protocol::random::Random::new(7);
    for length in (0..1452).step_by(11) {
        let mut bytes: Vec<_> = (0..length).map(|_| random.next_u64().to_le_bytes()[0]).collect();
        noise.send_to(&bytes, &good).expect("sent");
        // The same as a first packet of QUIC version 1, and of a version that nobody knows.
        for head in [[0xc3, 0, 0, 0, 1, 8], [0xc3, 0xfa, 0xce, 0xb0, 0x0c, 8]] {
            if let Some(start) = bytes.get_mut(..head.len()) {
                start.copy_from_slice(&head);
                noise.send_to(&bytes, &good).expect("sent");
            }
        }
    }
    let link = enrolling(&authority).connect(&[good], now()).await.expect("connected");
    assert!(ask(&link, "hello").await.is_ok());
}

#[tokio::test]
async fn a_changed_address_keeps_the_connection() {
    let authority = authority(1);
    let addresses = [healthy(&authority)];
    let connector = Connector::enrolled(authority.certificate().to_vec(), agent(&authority, now(), DAY));
    let link = connector.connect(&addresses, now()).await.expect("connected");
    let before = link.endpoint.local_addr().expect("bound").port();
    let said = ask(&link, "one").await.expect("an answer");
    assert!(said.ends_with(&format!(" {before} one")), "{said}");

    let socket = UdpSocket::bind(loopback()).expect("a port");
    let after = socket.local_addr().expect("bound").port();
    link.endpoint.rebind(socket).expect("rebound");
    let said = ask(&link, "two").await.expect("an answer");
    assert!(before != after && said.ends_with(&format!(" {after} two")), "{said}");
}

#[test]
fn peers_of_a_killed_coordinator_learn_it_from_the_next() {
    const NOTICE_LIMIT: Duration = Duration::from_secs(5);
    let authority = authority(1);
    let identity = authority.issue_server(now(), DAY).expect("a certificate");
    let listen_again =
        |at| listen(at, server(&authority, &identity, Limits::default()).expect("usable"), &authority.continuity());
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");

    let first = runtime();
    let at = first.block_on(async {
        let endpoint = listen_again(loopback()).expect("a free port");
        let at = endpoint.local_addr().expect("bound");
        serve(endpoint, Limits::default());
        at
    });
    let visitor = runtime();
    let connector = Connector::enrolled(authority.certificate().to_vec(), agent(&authority, now(), DAY));
    let link = visitor.block_on(async {
        let link = connector.connect(&[at.to_string()], now()).await.expect("connected");
        ask(&link, "one").await.expect("an answer");
        link
    });
    // As with `kill -9`: nobody says goodbye.
    first.shutdown_background();

    let second = runtime();
    second.block_on(async {
        let again = async {
            loop {
                match listen_again(at) {
                    Ok(endpoint) => return endpoint,
                    Err(_still_taken) => tokio::task::yield_now().await,
                }
            }
        };
        let endpoint = tokio::time::timeout(NOTICE_LIMIT, again).await.expect("the port again");
        serve(endpoint, Limits::default());
    });
    let error = visitor.block_on(async {
        let asked = tokio::time::timeout(NOTICE_LIMIT, ask(&link, "two"));
        asked.await.expect("noticed at once").expect_err("nobody who knows us")
    });
    assert!(matches!(error.lost(), Some(Lost::Reset)), "{}", Chain(&error));
}

#[tokio::test]
async fn all_ipv6_interfaces_take_ipv4_too() {
    let authority = authority(1);
    let identity = authority.issue_server(now(), DAY).expect("a certificate");
    let config = server(&authority, &identity, Limits::default()).expect("usable");
    // A host without IPv6 has nothing to show here.
    let Ok(endpoint) = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), config, &authority.continuity()) else {
        return;
    };
    let port = endpoint.local_addr().expect("bound").port();
    serve(endpoint, Limits::default());
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let link = enrolling(&authority).connect(&[address], now()).await.expect("connected");
        assert!(ask(&link, "hello").await.is_ok());
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let authority = authority(1);
    let identity = authority.issue_server(now(), DAY).expect("a certificate");
    let first = endpoint(&authority, &identity);
    let taken = first.local_addr().expect("bound");
    let config = server(&authority, &identity, Limits::default()).expect("usable");
    let error = listen(taken, config, &authority.continuity()).expect_err("taken").to_string();
    assert!(error.contains(&address(&first)) && error.contains("the port is taken"), "{error}");
}
