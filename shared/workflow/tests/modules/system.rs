//! The modules that change the system: packages, services, users, jobs, settings of the kernel.
//!
//! As root they are tried on this host, with names that begin with `slothtest` and are gone afterwards; otherwise, and
//! where the host has no such tool, against a stand-in.

use super::*;

macro_rules! system_scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() {
            let _alone = alone();
            check(include_str!(concat!("../../lua/modules/", stringify!($name), ".luau")), Capabilities::all());
        })*
    };
}

system_scripts!(cron, sysctl, user);

/// Runs a script that only checks.
#[track_caller]
fn checked(script: &str) -> Vec<String> {
    let bench = Bench::new(Capabilities::all(), Phase::Check);
    let ended = bench.run(script);
    let lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text).collect();
    if let Err(error) = ended {
        panic!("{error}\nlog: {lines:#?}");
    }
    lines
}

/// Held by each test that changes this host, so that no two of them meet, in whatever process.
fn alone() -> std::fs::File {
    let lock = std::fs::File::create(std::env::temp_dir().join("slothtest.lock")).expect("a lock file");
    lock.lock().expect("a lock");
    lock
}

/// What the host has of the users, jobs and settings that the tests name.
fn snapshot() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let names = |dir: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>().join("\n")
    };
    let files = ["/etc/passwd", "/etc/group", "/etc/shadow"].map(read);
    let dirs = ["/etc/cron.d", "/etc/sysctl.d", "/home"].map(names);
    let all = [files, dirs].concat().join("\n");
    let mut lines: Vec<_> = all.lines().filter(|line| line.contains("slothtest") || line.contains("nobody")).collect();
    lines.sort_unstable();
    lines.join("\n") + &read("/proc/sys/vm/stat_interval")
}

#[test]
fn users_jobs_and_settings_are_only_told_in_a_run_that_checks() {
    let _alone = alone();
    let before = snapshot();
    let lines = checked(include_str!("../../lua/modules/system_check.luau"));
    assert_eq!(snapshot(), before);
    for expected in [
        "would create user `slothtestcheck`",
        "would create group `slothtestcheck`",
        "would change user `slothtestcheck`, which is not there yet",
        "would add job `backup` in /etc/cron.d/slothtestcheck",
        "would set `vm.stat_interval` to `77`, which is",
        "would keep `vm.stat_interval = 77` in `/etc/sysctl.d/99-slothtestcheck.conf`",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "`{expected}` in {lines:#?}");
    }
}

/// Where systemd is not the first process, a stand-in keeps the state of units. It reads their files where systemd does.
#[test]
fn systemd() {
    let _alone = alone();
    for (phase, script) in [
        (Phase::Run, include_str!("../../lua/modules/systemd.luau")),
        (Phase::Check, include_str!("../../lua/modules/systemd_check.luau")),
    ] {
        let bench = Bench::new(Capabilities::all(), phase);
        if !Path::new("/run/systemd/system").exists() {
            stand_in(&bench, "systemctl", include_str!("stand-ins/systemctl"));
        }
        holds(&bench, script);
    }
}

/// Services, users, jobs and settings can be granted one by one.
#[test]
fn names_are_granted_one_by_one() {
    let granted = ["service:slothtest*", "user:slothtesta", "cron:backup", "sysctl:vm.swappiness"];
    let bench = Bench::new(Capabilities::parse(granted).expect("grants"), Phase::Check);
    bench.run(include_str!("../../lua/modules/system_granted.luau")).expect("every check holds");
}

/// Runs a script, and shows what it logged when a check does not hold.
#[track_caller]
fn holds(bench: &Bench, script: &str) {
    if let Err(error) = bench.run(script) {
        let lines = bench.host.lines.take();
        panic!("{error}\nlog: {:#?}", lines.iter().map(|line| &line.text).collect::<Vec<_>>());
    }
}

/// Puts a program before those of the host.
fn stand_in(bench: &Bench, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = bench.dir.path().join("bin").join(name);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    sloth_core::fs::replace(&path, text.as_bytes(), sloth_core::fs::Access::Everyone).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}
