//! The command line, in this process.

use sloth_cli::Outcome;
use sloth_core::{Millis, Secret};
use sloth_protocol::wire::{OperatorRequest, OperatorResponse};
use sloth_trust::{
    BundleMetadata, Envelope, ManifestRef, RootPin, SPEC, Trigger, Trusted,
    sign::{open, sign},
};

use crate::harness::{Coordinator, cli, now, operate};

/// Asserts how a command ends and what it says.
fn check(result: Result<Outcome, String>, outcome: Outcome, expected: &str) {
    match result {
        Ok(done) => assert_eq!((done, expected), (outcome, "")),
        Err(text) => {
            assert!(
                text.starts_with(&format!("{outcome:?}: ")) && text.contains(expected),
                "{outcome:?} {expected}: {text}"
            );
            assert!(!text.contains("panicked"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_bundle_is_told_before_anything_is_sent() {
    let coordinator = Coordinator::start().await;
    let key = coordinator.key("publisher");
    for (workflow, expected) in [
        ("task('a'):command(function() return true end", "main.sloth:1:"),
        ("task('a'):command('x'):depends_on('b')", "depends on `b`"),
        ("task('a'):command('x'):depends_on('a')", "wait for each other"),
        ("-- nothing", "defines no workflow and no task"),
    ] {
        let bundle = coordinator.bundle("1", workflow);
        check(coordinator.cli(&["publish", &bundle, "--key", &key]).await, Outcome::Usage, expected);
    }
    let bundle = coordinator.bundle("1", "task('a'):command('true')");
    coordinator.file("web/bundle.toml", "name = 'web'\nversion = '1'\ncapabilities = ['nett']");
    check(
        coordinator.cli(&["publish", &bundle, "--key", &key]).await,
        Outcome::Usage,
        "no capability `nett`: did you mean `net`?",
    );
    let nowhere = coordinator.cli(&["publish", "/nonexistent", "--key", &key]).await;
    check(nowhere, Outcome::Usage, "/nonexistent/bundle.toml");
    let bundle = coordinator.bundle("1", "task('a'):command('true')");
    let no_key = coordinator.cli(&["publish", &bundle, "--key", "/nonexistent.key"]).await;
    check(no_key, Outcome::Usage, "/nonexistent.key");
    let not_a_key = coordinator.file("not.key", "hello").display().to_string();
    let not_a_key = coordinator.cli(&["publish", &bundle, "--key", &not_a_key]).await;
    check(not_a_key, Outcome::Usage, "cannot open the secret key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_published_once_and_again_when_it_changes() {
    let coordinator = Coordinator::published().await;
    let key = coordinator.key("publisher");
    let bundle = coordinator.bundle("1", "task('hello'):command(function() print('hello') return true end)");
    check(coordinator.cli(&["publish", &bundle, "--key", &key, "--dry-run"]).await, Outcome::Done, "");
    let mut before = 0;
    for (arguments, new) in [
        (&[][..], true),
        (&["--expires", "1d"], false),
        (&["--audience", "role=db"], true),
        (&["--release", "2"], true),
    ] {
        let arguments = [&["publish", &bundle, "--key", &key], arguments].concat();
        check(coordinator.cli(&arguments).await, Outcome::Done, "");
        let link = coordinator.operator().await;
        let answer = operate(&link, OperatorRequest::Bundles).await;
        let OperatorResponse::Bundles(bundles) = answer else { panic!("{answer:?}") };
        assert_eq!(before < bundles[0].counter, new, "{arguments:?}");
        before = bundles[0].counter;
        assert!(now().as_u64() / 1000 < before + 60, "a number is the time, whatever the coordinator has forgotten");
    }
    // What may start its runs is signed, too.
    coordinator.file("web/bundle.toml", "name = 'web'\nversion = '2'\naudience = 'role=web'\ntriggers = ['rollout']\n");
    check(coordinator.cli(&["publish", &bundle, "--key", &key]).await, Outcome::Done, "");
    let link = coordinator.operator().await;
    let OperatorResponse::Bundles(bundles) = operate(&link, OperatorRequest::Bundles).await else { panic!() };
    assert!(before < bundles[0].counter, "{bundles:?}");
    assert_eq!(bundles[0].triggers, [Trigger::Rollout]);
    let other = coordinator.key("other");
    let stranger = coordinator.cli(&["publish", &bundle, "--key", &other]).await;
    check(stranger, Outcome::Refused, "0 of these keys may sign `web` and 1 must");
    check(coordinator.cli(&["bundles", "show", "web"]).await, Outcome::Done, "");
    check(coordinator.cli(&["bundles", "list", "-o", "json"]).await, Outcome::Done, "");
    check(coordinator.cli(&["bundles", "show", "none"]).await, Outcome::Refused, "there is no bundle `none`");
}

/// What was published under the key of one bundle says nothing of the blobs of others.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_with_a_wrong_length_costs_nobody_a_blob() {
    let coordinator = Coordinator::published().await;
    let link = coordinator.operator().await;
    let OperatorResponse::Bundles(bundles) = operate(&link, OperatorRequest::Bundles).await else { panic!() };
    let OperatorResponse::Root(Some(root)) = operate(&link, OperatorRequest::Root).await else { panic!() };
    let root = Envelope::decode(&root).expect("an envelope");
    let trusted = Trusted::new(&root, RootPin::of(&root.payload)).expect("a root");
    let manifest = bundles[0].manifest;
    let key = std::fs::read_to_string(coordinator.key("publisher")).expect("a key");
    let key = open(&Secret::new(key), None).expect("opened");
    for length in [1, 1 << 20] {
        let metadata = BundleMetadata {
            spec: SPEC,
            repository: trusted.root().repository,
            name: "other".parse().expect("a name"),
            counter: now().as_u64(),
            version: "1".to_owned(),
            manifest: ManifestRef { digest: manifest, length },
            audience: "*".parse().expect("a selector"),
            capabilities: Vec::new(),
            triggers: Vec::new(),
            parameters: None,
            expires: now() + Millis::from_secs(3600),
            published: now(),
        };
        let signed = sign(&metadata, &metadata.domain(), &[&key]).expect("signed").encode();
        let answer = operate(&link, OperatorRequest::Publish(signed)).await;
        let OperatorResponse::Refused(refusal) = answer else { panic!("{answer:?}") };
        assert!(refusal.reason.contains("is not the one that was signed"), "{refusal}");
    }
    let ask = OperatorRequest::MissingBlobs(vec![manifest]);
    assert_eq!(operate(&link, ask).await, OperatorResponse::Missing(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_again_brings_back_what_the_coordinator_lost() {
    let coordinator = Coordinator::published().await;
    let link = coordinator.operator().await;
    let OperatorResponse::Bundles(bundles) = operate(&link, OperatorRequest::Bundles).await else { panic!() };
    let blobs = coordinator.paths().blobs().join("blobs");
    let mut digests = vec![bundles[0].manifest];
    for dir in std::fs::read_dir(&blobs).expect("listed") {
        for blob in std::fs::read_dir(dir.expect("listed").path()).expect("listed") {
            let path = blob.expect("listed").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            digests.push(name.parse().expect("a digest"));
            // Damaged, or gone: both are lost.
            if digests.len().is_multiple_of(2) {
                std::fs::remove_file(&path).expect("removed");
            } else {
                sloth_core::fs::replace(&path, b"damaged", sloth_core::fs::Access::Owner).expect("damaged");
            }
        }
    }
    let ask = OperatorRequest::MissingBlobs(digests);
    let OperatorResponse::Missing(missing) = operate(&link, ask.clone()).await else { panic!() };
    assert!(1 < missing.len(), "{missing:?}");
    coordinator.publish("1").await;
    assert_eq!(operate(&link, ask).await, OperatorResponse::Missing(Vec::new()));
    let OperatorResponse::Bundles(after) = operate(&link, OperatorRequest::Bundles).await else { panic!() };
    assert_eq!(after[0].counter, bundles[0].counter);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_end_as_the_interface_says() {
    let coordinator = Coordinator::published().await;
    let id = coordinator.agent("web-1").await.id.to_string();
    let values = coordinator.file("values.yaml", "- a").display().to_string();
    for (arguments, outcome, expected) in [
        (&["agents", "list"][..], Outcome::Done, ""),
        (&["agents", "list", "--on", "role=web", "-o", "json"], Outcome::Done, ""),
        (&["agents", "show", "web-1"], Outcome::Done, ""),
        (&["agents", "show", "none"], Outcome::Refused, "there is no agent `none`"),
        (&["agents", "revoke", "none"], Outcome::Refused, "there is no agent `none`"),
        (&["runs", "list"], Outcome::Done, ""),
        (&["runs", "show", "latest"], Outcome::Refused, "there is no run yet"),
        (
            &["runs", "cancel", "01JD5Z3V9QK7T2M4X8R6WBCY0N"],
            Outcome::Refused,
            "there is no run `01JD5Z3V9QK7T2M4X8R6WBCY0N`",
        ),
        (&["run", "web", "--on", "role=none"], Outcome::Refused, "no agent matches `role=none`"),
        (&["run", "web", "--on", "role=none", "--allow-empty", "--follow"], Outcome::Done, ""),
        (&["run", "none", "--on", "*"], Outcome::Refused, "there is no bundle `none`"),
        (&["run", "web", "--on", "*", "--values", &values], Outcome::Usage, "holds a list"),
        (&["run", "web", "--on", "*", "--set", "x"], Outcome::Usage, "`x` sets nothing"),
        (&["run", "web", "--on", "*"], Outcome::Done, ""),
        (&["runs", "show", "latest"], Outcome::Done, ""),
        (&["runs", "show", "latest", "-o", "json"], Outcome::Done, ""),
        (&["runs", "logs", "latest"], Outcome::Done, ""),
        (&["runs", "logs", "latest", "--agent", "none"], Outcome::Refused, "there is no agent `none`"),
        (&["runs", "cancel", "latest"], Outcome::Done, ""),
        (&["token", "create", "--label", "a=b"], Outcome::Done, ""),
        (&["token", "list"], Outcome::Done, ""),
        (&["tokens", "list", "-o", "json"], Outcome::Done, ""),
        (&["token", "revoke", "01JD5Z3V9QK7T2M4X8R6WBCY0N"], Outcome::Refused, "there is no join token"),
        (&["audit", "list"], Outcome::Done, ""),
        (&["audit", "list", "--run", "latest", "--agent", "web-1", "-o", "json"], Outcome::Done, ""),
        (&["audit", "list", "--agent", "none"], Outcome::Refused, "there is no agent `none`"),
        (&["audit", "verify"], Outcome::Done, ""),
        (&["audit", "verify", "--export", "/nonexistent"], Outcome::Usage, "cannot read `/nonexistent/chain.json`"),
        (&["audit", "export", "/proc/x"], Outcome::Usage, "cannot create `/proc/x`"),
        (&["agents", "forget", "web-1"], Outcome::Refused, "agent `web-1` is in use"),
        (&["agents", "revoke", "web-1"], Outcome::Done, ""),
        (&["agents", "forget", "web-1"], Outcome::Refused, "there is no agent `web-1`"),
        (&["agents", "forget", &id], Outcome::Done, ""),
        (&["agents", "show", &id], Outcome::Refused, "there is no agent"),
    ] {
        check(coordinator.cli(arguments).await, outcome, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_and_credentials_that_cannot_be_used_are_told() {
    let coordinator = Coordinator::start().await;
    let dir = coordinator.paths().dir().display().to_string();
    let admin = coordinator.paths().admin().display().to_string();
    check(cli(&["init", "--dir", &dir]).await, Outcome::Refused, "there is a coordinator in");
    check(cli(&["serve", "--dir", &dir]).await, Outcome::Refused, "another coordinator serves from");
    check(cli(&["serve", "--dir", "/nonexistent"]).await, Outcome::Usage, "make one with `sloth-coord init");
    check(cli(&["init", "--dir", "/proc/x"]).await, Outcome::Refused, "cannot create `/proc/x`");
    let wrong = cli(&["init", "--dir", "/tmp/sloth-none", "--address", "nowhere"]).await;
    check(wrong, Outcome::Usage, "`nowhere` is not an address");
    let missing = cli(&["agents", "list", "--credential", "/nonexistent.toml"]).await;
    check(missing, Outcome::Usage, "there is no operator's credential in `/nonexistent.toml`");
    let damaged = coordinator.file("damaged.toml", "addresses = []").display().to_string();
    check(cli(&["agents", "list", "--credential", &damaged]).await, Outcome::Usage, "cannot read the credential");
    let key = coordinator.file("k.key", "x").display().to_string();
    let out = key.trim_end_matches(".key");
    check(cli(&["keys", "generate", "--no-passphrase", "--out", out]).await, Outcome::Refused, "never overwritten");
    check(cli(&["keys", "show", &key]).await, Outcome::Usage, "is not a public key");

    let text = std::fs::read_to_string(&admin).expect("a credential");
    let elsewhere = text.replace("127.0.0.1", "none.invalid");
    let elsewhere = coordinator.file("elsewhere.toml", &elsewhere).display().to_string();
    let unknown = cli(&["agents", "list", "--credential", &elsewhere]).await;
    check(unknown, Outcome::Unreachable, "cannot find the address of `none.invalid:");
}
