//! The modules that change the system: packages, services, users, jobs, settings of the kernel.
//!
//! As root they are tried on this host, with names that begin with `slothtest` and are gone afterwards; otherwise, and
//! where the host has no such tool, against a stand-in.

use super::*;

/// apt takes seconds for each of its runs, and more on a busy machine.
const APT_TIMEOUT: Duration = Duration::from_secs(600);

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
    holds_within(SCRIPT_TIMEOUT, bench, script);
}

#[track_caller]
fn holds_within(limit: Duration, bench: &Bench, script: &str) {
    if let Err(error) = bench.run_within(limit, script) {
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

/// The real apt, with packages that are built here: it needs no network.
#[test]
fn packages_of_apt() {
    let _alone = alone();
    for (phase, script) in [
        (Phase::Run, include_str!("../../lua/modules/pkg.luau")),
        (Phase::Check, include_str!("../../lua/modules/pkg_check.luau")),
    ] {
        let mut bench = Bench::new(Capabilities::all(), phase);
        let workdir = bench.context.workdir.clone();
        bench.scope = Rc::new(Scope::new(ScopeId(1), None, workdir, Instant::now() + APT_TIMEOUT));
        holds_within(APT_TIMEOUT, &bench, script);
    }
}

/// Managers that this host does not have, as stand-ins that keep a list.
#[test]
fn packages_of_other_managers() {
    for (manager, lines) in [
        (
            "dnf",
            [
                "dnf -y -q install one two-1.0",
                "dnf -y -q remove one",
                "dnf -q check-update",
                "dnf -y -q install /",
                "dnf -y -q makecache --refresh",
            ],
        ),
        (
            "yum",
            [
                "yum -y -q install one two-1.0",
                "yum -y -q remove one",
                "yum -q check-update",
                "yum -y -q install /",
                "yum -y -q makecache",
            ],
        ),
        (
            "zypper",
            [
                "zypper --non-interactive --quiet install --auto-agree-with-licenses one two=1.0",
                "zypper --non-interactive --quiet remove one",
                "zypper --non-interactive --quiet list-updates",
                "zypper --non-interactive --quiet install --allow-unsigned-rpm /",
                "zypper --non-interactive --quiet refresh",
            ],
        ),
        (
            "pacman",
            [
                "pacman --noconfirm --noprogressbar -S --needed one two",
                "pacman --noconfirm --noprogressbar -R one",
                "pacman -Qu",
                "pacman --noconfirm --noprogressbar -U /",
                "pacman --noconfirm --noprogressbar -Sy",
            ],
        ),
        (
            "apk",
            [
                "apk --wait 300 --no-progress add one two=1.0",
                "apk --wait 300 --no-progress del one",
                "apk version -l <",
                "apk --wait 300 --no-progress add --allow-untrusted /",
                "apk --wait 300 --no-progress update",
            ],
        ),
    ] {
        let bench = Bench::searching(Capabilities::all(), Phase::Run, Limits::default(), "/nonexistent");
        for name in [manager, "rpm"] {
            stand_in(&bench, name, include_str!("stand-ins/packages"));
        }
        bench.lua.globals().set("manager", manager).expect("a global");
        holds(&bench, include_str!("../../lua/modules/pkg_others.luau"));
        let log = std::fs::read_to_string(bench.dir.path().join("bin/log")).expect("a log");
        for line in lines {
            assert!(log.lines().any(|told| told.starts_with(line)), "`{line}` in {log}");
        }
    }
}

#[test]
fn a_host_without_a_package_manager_says_so() {
    let bench = Bench::searching(Capabilities::all(), Phase::Run, Limits::default(), "/nonexistent");
    let script = "refused('pkg.install: this host has no package manager that is known: apt', pkg.install('vim'))
        refused('pkg.get_manager: this host has no package manager', pkg.get_manager())
        equal(pkg.is_installed('vim'), false)";
    holds(&bench, script);
}
