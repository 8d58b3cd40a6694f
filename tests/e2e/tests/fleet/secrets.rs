//! Keys and passphrases: where they come from, and who else can read them.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use sloth_e2e::{Bundle, Fleet, Ran};

use crate::bad_input::{REFUSED, USAGE, put};

/// A command that reads passphrases, a line each, from the descriptor 3.
fn with_passphrases(fleet: &Fleet, lines: &Path, arguments: &[&str]) -> Ran {
    let command = fleet.operator(arguments);
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec 3< \"$0\" && exec \"$@\""]).arg(lines).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("SLOTH_KEY_PASSPHRASE_FD", "3");
    Ran::of(shell)
}

#[test]
fn passphrases_come_from_a_descriptor() {
    let fleet = Fleet::start();
    let path = |name: &str| fleet.dir().join(name);
    let text = |name: &str| path(name).display().to_string();
    for (name, passphrase) in [("one", "open sesame"), ("two", "klaatu barada")] {
        put(&path("line"), &format!("{passphrase}\n"));
        with_passphrases(&fleet, &path("line"), &["keys", "generate", "--out", &text(name)]).expect(0);
    }
    let bundle = Bundle::new("good", "task('a'):command('true')").write(fleet.dir()).display().to_string();
    let publish = ["publish", &bundle, "--key", &text("one.key"), "--key", &text("two.key")];
    put(&path("lines"), "open sesame\nklaatu barada\n");
    with_passphrases(&fleet, &path("lines"), &publish).expect(0);
    put(&path("lines"), "klaatu barada\nopen sesame\n");
    with_passphrases(&fleet, &path("lines"), &publish).refuses(USAGE, &["one.key", "passphrase is wrong"]);
    put(&path("lines"), "");
    with_passphrases(&fleet, &path("lines"), &publish).refuses(USAGE, &["one.key", "SLOTH_KEY_PASSPHRASE_FD"]);
}

#[test]
fn what_others_can_read_is_no_secret() {
    let mut fleet = Fleet::start();
    let bundle = Bundle::new("good", "task('a'):command('true')");
    fleet.publish(&bundle);
    let (dir, key) = (bundle.write(fleet.dir()).display().to_string(), fleet.key());
    let shown = key.display().to_string();
    let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    open(&key, 0o640);
    fleet.coord(&["publish", &dir, "--key", &shown]).refuses(USAGE, &[&shown, "640", "chmod 600"]);
    open(&key, 0o600);
    fleet.coord(&["publish", &dir, "--key", &shown]).expect(0);

    fleet.kill_coordinator();
    let home = fleet.coordinator_dir();
    let serve = ["serve", "--dir", &home.display().to_string()];
    for secret in ["authority.key", "online/online-1.key"] {
        open(&home.join(secret), 0o644);
        fleet.coord(&serve).refuses(REFUSED, &[secret, "644", "chmod 600"]);
        open(&home.join(secret), 0o600);
    }
    fleet.start_coordinator();
}

#[test]
fn an_agent_with_another_hosts_key_for_receipts_says_so_and_loses_none() {
    let mut fleet = Fleet::start();
    for name in ["web-1", "web-2"] {
        fleet.enrol(name, &[]);
    }
    let [own, other] = ["web-1", "web-2"].map(|name| fleet.agent(name).dir.join("receipt.key"));
    let kept = std::fs::read_to_string(&own).expect("a key");
    put(&own, &std::fs::read_to_string(&other).expect("a key"));
    std::fs::set_permissions(&own, Permissions::from_mode(0o600)).expect("set");
    let dir = fleet.agent("web-1").dir.display().to_string();
    let shown = own.display().to_string();
    let ran = Ran::of(fleet.agent_command("web-1", &["daemon", "--dir", &dir]));
    ran.refuses(REFUSED, &[&shown, "this agent enrolled with", "Bring back a copy", "agents revoke"]);
    put(&own, &kept);
    std::fs::set_permissions(&own, Permissions::from_mode(0o600)).expect("set");
    fleet.start_agent("web-1");
    fleet.wait_connected(&["web-1"]);
}
