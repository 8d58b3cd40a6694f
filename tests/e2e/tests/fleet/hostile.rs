//! Hostile peers at the coordinator's port: they cost their own connection and nothing else.

use std::{net::UdpSocket, time::Duration};

use quinn::Connection;
use sloth_core::{Chain, Clock, Digest, Millis};
use sloth_e2e::{Bundle, Fleet, Random, resident_bytes};
use sloth_protocol::wire::{
    EnrollRequest, JoinToken, OperatorHello, OperatorRequest, OperatorResponse, PROTO_MAX, PROTO_MIN, RefusalCode,
    encode,
};
use sloth_transport::{Connector, Credential, Link, Priority, request};
use sloth_trust::{
    BundleMetadata, Envelope, ManifestRef, PayloadKind, Root, SPEC, Trigger,
    sign::{self, add_signature},
};

const DATAGRAMS: usize = 20_000;
const DATAGRAM_BYTES_MAX: u64 = 1400;
const PEERS: usize = 64;
/// What the coordinator may grow by under all of this.
const GROWTH_BYTES_MAX: u64 = 96 * 1024 * 1024;
/// How long the coordinator may leave a peer that misbehaves connected.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn garbage_does_not_keep_others_from_being_served() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("job", "task('a'):command('true')"));
    fleet.agents(&["web-1"], &[]);
    let before = resident_bytes(fleet.coordinator().pid());
    let target = fleet.site().listen();
    let flood = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut random = Random::from_environment(100);
        for number in 0..DATAGRAMS {
            let length = usize::try_from(random.below(DATAGRAM_BYTES_MAX)).expect("small");
            let mut bytes = vec![0; length + 8];
            random.fill(&mut bytes);
            // Every second one looks like the first packet of a connection of QUIC 1.
            if number % 2 == 0 {
                bytes[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
                bytes.resize(1200, 0x5a);
            }
            let _ = socket.send_to(&bytes, target);
        }
    });
    while !flood.is_finished() {
        fleet.coord(&["agents", "list"]).expect(0);
    }
    flood.join().expect("a flood");
    assert_serving(&mut fleet, before);
}

#[test]
fn strangers_who_speak_quic_cost_their_own_connection() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("job", "task('a'):command('true')"));
    fleet.agents(&["web-1"], &[]);
    let before = resident_bytes(fleet.coordinator().pid());
    let token: JoinToken = fleet.token(&[]).parse().expect("a token");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let (misbehaving, silent) = runtime.block_on(async {
        let frames = hostile_frames();
        let mut misbehaving = Vec::new();
        let mut silent = Vec::new();
        for number in 0..PEERS {
            let link = stranger(&token).await;
            match frames.get(number % (frames.len() + 1)) {
                Some(bytes) => {
                    let (mut sending, receiving) = link.connection.open_bi().await.expect("a stream");
                    sending.write_all(bytes).await.expect("sent");
                    misbehaving.push((link, sending, receiving));
                }
                None => silent.push(link),
            }
        }
        (misbehaving, silent)
    });
    // They are all still there, and so is the service.
    assert_serving(&mut fleet, before);
    runtime.block_on(async {
        for (link, _sending, _receiving) in &misbehaving {
            assert_closed(&link.connection).await;
        }
    });
    drop((misbehaving, silent));
    assert_serving(&mut fleet, before);
    let log = fleet.coordinator().stderr();
    assert!(log.contains("WARN") && log.contains("127.0.0.1"), "the log names nobody\n{log}");
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

#[test]
fn uploads_that_nobody_signed_are_refused() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("job", "task('a'):command('true')"));
    let credential = Credential::load(&fleet.coordinator_dir().join("admin.toml")).expect("a credential");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let secret = std::fs::read_to_string(fleet.key()).expect("a key");
    let key = sign::open(&secret.into(), None).expect("a key");
    let foreign = sign::generate(None).expect("a key");
    let foreign = sign::open(&foreign.secret, None).expect("a key");
    let before = resident_bytes(fleet.coordinator().pid());
    let listed = fleet.coord(&["bundles", "list", "-o", "json"]).json();
    let manifest = manifest_of(&fleet, &listed[0]);
    runtime.block_on(async {
        let link = Connector::operator(&credential).connect(&credential.addresses, Clock::new().now()).await;
        let link = link.unwrap_or_else(|error| panic!("{}", Chain(&error)));
        let hello = OperatorHello { proto_min: PROTO_MIN, proto_max: PROTO_MAX, version: "0.1.0".to_owned() };
        let OperatorResponse::Welcome { .. } = ask(&link, &OperatorRequest::Hello(hello)).await else {
            panic!("not welcome")
        };
        let OperatorResponse::Root(Some(root)) = ask(&link, &OperatorRequest::Root).await else { panic!("no root") };
        let root: Root =
            serde_json::from_slice(&Envelope::decode(&root).expect("an envelope").payload).expect("a root");
        for (case, envelope, part) in uploads(&root, manifest, &key, &foreign) {
            let answer = ask(&link, &OperatorRequest::Publish(envelope)).await;
            let OperatorResponse::Refused(refusal) = answer else { panic!("{case}: {answer:?}") };
            assert_ne!(refusal.code, RefusalCode::Internal, "{case}: {refusal:?}");
            assert!(refusal.reason.contains(part), "{case}: {refusal:?}");
        }
    });
    assert_eq!(fleet.coord(&["bundles", "list", "-o", "json"]).json(), listed);
    fleet.agents(&["web-1"], &[]);
    assert_serving(&mut fleet, before);
}

/// The manifest of a listed release, whose length stands in no listing.
fn manifest_of(fleet: &Fleet, listed: &serde_json::Value) -> ManifestRef {
    const LENGTH_MAX: usize = 1024 * 1024;
    let digest = listed["manifest"].as_str().and_then(|text| text.parse().ok()).expect("a digest");
    let blobs =
        sloth_bundle::ChunkStore::open(&fleet.coordinator_dir().join("blobs")).expect("the coordinator's blobs");
    let bytes = blobs.read_capped(digest, LENGTH_MAX).expect("a manifest");
    ManifestRef { digest, length: u64::try_from(bytes.len()).expect("small") }
}

/// Envelopes that must not be taken, and what the refusal speaks of. `manifest` is the one of the only release of `job`.
fn uploads(
    root: &Root,
    manifest: ManifestRef,
    key: &sign::SecretKey,
    foreign: &sign::SecretKey,
) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    const HOUR: Millis = Millis::from_secs(3600);
    let now = Clock::new().now();
    let metadata = BundleMetadata {
        spec: SPEC,
        repository: root.repository,
        name: "job".parse().expect("a name"),
        counter: now.as_u64(),
        version: "1.0.0".to_owned(),
        manifest,
        audience: "*".parse().expect("a selector"),
        capabilities: Vec::new(),
        triggers: vec![Trigger::Manual],
        parameters: None,
        expires: now + HOUR,
        published: now,
    };
    let signed = |metadata: BundleMetadata, key| sign::sign(&metadata, &metadata.domain(), &[key]).expect("signed");
    let good = signed(metadata.clone(), key);
    let mut tampered = good.clone();
    let at = tampered.payload.len() - 2;
    tampered.payload[at] ^= 1;
    let other = BundleMetadata { name: "other".parse().expect("a name"), ..metadata.clone() };
    let mut borrowed = Envelope::unsigned(PayloadKind::Bundle, good.payload.clone());
    add_signature(&mut borrowed, &other.domain(), key).expect("signed");
    let nothing = ManifestRef { digest: Digest::of(b"nothing"), length: 7 };
    let expired = BundleMetadata { expires: now - HOUR, ..metadata.clone() };
    let repeated = BundleMetadata { counter: 1, ..metadata.clone() };
    let absent = BundleMetadata { manifest: nothing, ..metadata.clone() };
    vec![
        ("garbage", vec![0xff; 4096], "envelope"),
        ("nothing", Vec::new(), "envelope"),
        ("unsigned", Envelope::unsigned(PayloadKind::Bundle, good.payload).encode(), "signature"),
        ("tampered", tampered.encode(), "sign"),
        ("signed by somebody else", signed(metadata, foreign).encode(), "sign"),
        ("signed for something else", borrowed.encode(), "it was signed as `sloth:bundle/other:"),
        ("expired", signed(expired, key).encode(), "expired"),
        ("another release under a number that was given", signed(repeated, key).encode(), "bundle `job`"),
        ("of another bundle's manifest", signed(other, key).encode(), "its manifest of `job`"),
        ("without its manifest", signed(absent, key).encode(), "the manifest is not there"),
    ]
}

async fn ask(link: &Link, message: &OperatorRequest) -> OperatorResponse {
    let answer = request(&link.connection, message, Priority::Control).await;
    answer.map(|(response, _rest)| response).unwrap_or_else(|error| panic!("{}", Chain(&error)))
}

/// A connection without a certificate.
async fn stranger(token: &JoinToken) -> Link {
    let link = Connector::enrolling(token.authority).connect(&token.addresses, Clock::new().now()).await;
    link.unwrap_or_else(|error| panic!("{}", Chain(&error)))
}

/// What a stranger may send that is no request to enrol.
fn hostile_frames() -> Vec<Vec<u8>> {
    let long = vec![0xff; 4];
    let over = [&65_536_u32.to_be_bytes()[..], &[7; 64]].concat();
    let half = [&1000_u32.to_be_bytes()[..], &[0; 10]].concat();
    let garbage = [&16_u32.to_be_bytes()[..], &[0xee; 16]].concat();
    let operators = encode(&OperatorRequest::Bundles).expect("a frame");
    let beginning = vec![0, 0];
    assert!(sloth_protocol::wire::decode::<EnrollRequest>(&garbage[4..]).is_err());
    vec![long, over, half, garbage, operators, beginning]
}

async fn assert_closed(connection: &Connection) {
    let closed = tokio::time::timeout(CLOSE_LIMIT, connection.closed()).await;
    assert!(closed.is_ok(), "a peer that misbehaves is still connected after {CLOSE_LIMIT:?}");
}

/// That everybody else is served: operators, hosts that enrol, agents.
fn assert_serving(fleet: &mut Fleet, before: u64) {
    assert!(fleet.coordinator().ended().is_none());
    let name = format!("new-{}", fleet.connected().len());
    fleet.agents(&[&name], &[]);
    let run = fleet.run("job", "*", &[]);
    let view = fleet.wait_ended(&run);
    assert!(view.jobs.iter().all(|job| job.state == "succeeded"), "{view:?}");
    let after = resident_bytes(fleet.coordinator().pid());
    assert!(after < before + GROWTH_BYTES_MAX, "memory grew from {before} to {after} bytes");
}
