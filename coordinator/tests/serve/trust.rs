//! Roots that follow each other, by the commands that a person types.

use std::{path::Path, process::Command};

use sloth_cli::Outcome;
use sloth_core::{Millis, Secret};
use sloth_trust::{
    Envelope, Root, RootPin, Trusted,
    sign::{open, public_key},
};

use crate::harness::{Coordinator, cli};

/// Writes the `.pub` file of a key of the harness.
fn public(coordinator: &Coordinator, name: &str) -> String {
    let secret = Secret::new(std::fs::read_to_string(coordinator.key(name)).expect("a key"));
    let key = public_key(&open(&secret, None).expect("opens")).expect("a key");
    let text = format!("untrusted comment: {name}\n{}\n", key.as_str());
    coordinator.file(&format!("{name}.pub"), &text).display().to_string()
}

/// What an agent trusts that began with `first` and was given `later`.
fn walked(first: &[u8], later: &[Vec<u8>]) -> Trusted {
    let first = Envelope::decode(first).expect("an envelope");
    let trusted = Trusted::new(&first, RootPin::of(&first.payload)).expect("the first root");
    later.iter().fold(trusted, |trusted, bytes| {
        trusted.accept_root(&Envelope::decode(bytes).expect("an envelope")).expect("the next root")
    })
}

async fn done(coordinator: &Coordinator, arguments: &[&str]) {
    assert_eq!(coordinator.cli(arguments).await, Ok(Outcome::Done), "{arguments:?}");
}

async fn refused(coordinator: &Coordinator, arguments: &[&str], outcome: Outcome, expected: &str) {
    let told = coordinator.cli(arguments).await.expect_err(expected);
    assert!(told.starts_with(&format!("{outcome:?}: ")) && told.contains(expected), "{arguments:?}: {told}");
}

async fn newest_root(coordinator: &Coordinator) -> Root {
    let link = coordinator.operator().await;
    let answer = crate::harness::operate(&link, sloth_protocol::wire::OperatorRequest::Root).await;
    let sloth_protocol::wire::OperatorResponse::Root(Some(bytes)) = answer else { panic!("{answer:?}") };
    serde_json::from_slice(&Envelope::decode(&bytes).expect("an envelope").payload).expect("a root")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_publisher_renews_adds_and_removes_keys_with_one_command_each() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let key = coordinator.key("publisher");
    let second = public(&coordinator, "second");
    done(&coordinator, &["trust", "status"]).await;
    done(&coordinator, &["trust", "renew", "--key", &key]).await;
    done(&coordinator, &["trust", "add-key", "bundles/*", &second, "--key", &key]).await;
    done(&coordinator, &["trust", "add-key", "bundles/shop-*", &second, "--key", &key]).await;
    let root = newest_root(&coordinator).await;
    assert_eq!((root.version, root.roles.bundles.len()), (4, 2));
    // An agent that was three roots behind gets them all, in order, with its next poll.
    let work = agent.poll(0, Millis::ZERO).await;
    assert_eq!(work.roots.len(), 3);
    refused(
        &coordinator,
        &["trust", "remove-key", "root", &second, "--key", &key],
        Outcome::Usage,
        "is not one of `root`",
    )
    .await;
    refused(
        &coordinator,
        &["trust", "set-threshold", "root", "2", "--key", &key],
        Outcome::Usage,
        "does not fit 1 keys",
    )
    .await;
    let other = coordinator.key("third");
    let out = coordinator.file("out/x", "").parent().expect("a directory").display().to_string();
    done(&coordinator, &["trust", "renew", "--key", &other, "--out", &out]).await;
    assert_eq!(newest_root(&coordinator).await.version, 4, "a stranger's signature is not enough");
    let written = format!("{out}/root-5.json");
    refused(&coordinator, &["trust", "publish", &written], Outcome::Refused, "carries no signature").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_signed_on_machines_that_never_meet() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let (first, second) = (coordinator.key("publisher"), coordinator.key("second"));
    let dir = coordinator.file("ceremony/x", "").parent().expect("a directory").display().to_string();
    done(&coordinator, &["trust", "export", "--out", &dir]).await;
    let exported = format!("{dir}/root-1.json");
    // Without a network: the second key joins the first, and both must sign from then on.
    let (public_second, offline) = (public(&coordinator, "second"), ["--root", &exported, "--out", &dir]);
    let offline = |rest: &[&'static str]| [rest, &offline.map(|part| part.to_owned().leak() as &str)].concat();
    let add: Vec<&str> = [offline(&["trust", "add-key", "root"]), vec![&public_second]].concat();
    done(&coordinator, &add).await;
    let next = format!("{dir}/root-2.json");
    refused(&coordinator, &["trust", "publish", &next], Outcome::Refused, "carries no signature").await;
    assert_eq!(cli(&["trust", "sign", &next, "--key", &first]).await, Ok(Outcome::Done));
    done(&coordinator, &["trust", "publish", &next]).await;
    done(&coordinator, &["trust", "set-threshold", "root", "2", "--key", &first, "--out", &dir]).await;
    let third = format!("{dir}/root-3.json");
    refused(&coordinator, &["trust", "publish", &third], Outcome::Refused, "1 of the 2 keys").await;
    assert_eq!(cli(&["trust", "sign", &third, "--key", &second]).await, Ok(Outcome::Done));
    done(&coordinator, &["trust", "publish", &third]).await;
    let root = newest_root(&coordinator).await;
    assert_eq!((root.version, root.roles.root.threshold()), (3, 2));
    let work = agent.poll(0, Millis::ZERO).await;
    let envelope = {
        let payload = std::fs::read(&exported).expect("a root");
        let id = newest_root(&coordinator).await.roles.root.keys()[0].id();
        let minisig = std::fs::read_to_string(format!("{exported}.{}.minisig", id.short())).expect("a signature");
        Envelope {
            kind: sloth_trust::PayloadKind::Root,
            payload,
            signatures: vec![sloth_trust::Signature { key: id, minisig }],
        }
    };
    assert_eq!(walked(&envelope.encode(), &work.roots).root().version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_program_signs_roots_and_verifies_them() {
    if !["/usr/bin/minisign", "/usr/local/bin/minisign"].iter().any(|path| Path::new(path).is_file()) {
        // Debian's package of that name brings it; our own signatures are compared with its format elsewhere.
        return;
    }
    let coordinator = Coordinator::published().await;
    let key = coordinator.key("publisher");
    let dir = coordinator.file("stock/x", "").parent().expect("a directory").display().to_string();
    let (secret, public) = (format!("{dir}/stock.key"), format!("{dir}/stock.pub"));
    let minisign = |arguments: &[&str]| {
        let ran = Command::new("minisign").args(arguments).output().expect("minisign runs");
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    minisign(&["-G", "-W", "-s", &secret, "-p", &public]);
    done(&coordinator, &["trust", "add-key", "root", &public, "--key", &key]).await;
    done(&coordinator, &["trust", "renew", "--out", &dir]).await;
    let next = format!("{dir}/root-3.json");
    let comment = newest_root(&coordinator).await.domain().to_string().replace(":2", ":3");
    let signature = format!("{next}.stock.minisig");
    minisign(&["-S", "-s", &secret, "-m", &next, "-x", &signature, "-t", "something else"]);
    refused(&coordinator, &["trust", "publish", &next], Outcome::Refused, "carries no signature").await;
    minisign(&["-S", "-s", &secret, "-m", &next, "-x", &signature, "-t", &comment]);
    done(&coordinator, &["trust", "publish", &next]).await;
    done(&coordinator, &["trust", "export", "--out", &dir]).await;
    let exported = std::fs::read_dir(&dir).expect("a directory").flatten().map(|entry| entry.path());
    let exported =
        exported.filter(|path| path.to_string_lossy().contains("root-3.json.") && !path.ends_with("stock.minisig"));
    let exported = exported.map(|path| path.display().to_string()).next().expect("an exported signature");
    minisign(&["-V", "-p", &public, "-m", &next, "-x", &exported]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leaked_key_signed_counts_no_more_once_it_is_removed() {
    let coordinator = Coordinator::published().await;
    let (leaked, successor) = (coordinator.key("publisher"), coordinator.key("successor"));
    let public_successor = public(&coordinator, "successor");
    let leaked_public = public(&coordinator, "publisher");
    done(&coordinator, &["trust", "add-key", "bundles/*", &public_successor, "--key", &leaked]).await;
    done(&coordinator, &["trust", "remove-key", "bundles/*", &leaked_public, "--key", &leaked]).await;
    refused(&coordinator, &["bundles", "show", "web"], Outcome::Refused, "there is no bundle `web`").await;
    let bundle = coordinator.bundle("2", "task('hello'):command(function() return true end)");
    refused(&coordinator, &["publish", &bundle, "--key", &leaked], Outcome::Refused, "0 of these keys may sign").await;
    done(&coordinator, &["publish", &bundle, "--key", &successor]).await;
}
