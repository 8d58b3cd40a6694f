//! Nothing bricks: random updates to versions of all kinds, with kills, damaged markers and bad disks in between.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use sloth_e2e::{Process, Random, Room, Share};
use sloth_protocol::update::{Marker, UpdateOutcome, Verdict, Version};

use crate::host::{DISK, Host, current, replace_whole};

/// How many updates are tried, unless `SLOTH_UPDATES` says.
const UPDATES: u64 = 60;
/// How many hosts are updated at a time: they mostly wait.
const HOSTS: u64 = 6;
/// Longest wait before something goes wrong: a little more than a good update takes.
const FAULT_SPAN: Duration = Duration::from_millis(300);
/// Most faults of one update.
const FAULTS_MAX: u64 = 3;
/// Lets nothing be written any more. Whatever is being written just then is waited for.
const LOCK_DISK: &str = "mount --bind /mnt/agent /mnt/agent; i=0; \
                         until mount -o remount,bind,ro /mnt/agent 2>/dev/null || [ $i -ge 500 ]; do i=$((i + 1)); done";
/// What a version does that works, and cannot show it for a while.
const AWAY: &str = "works, and its coordinator is away";
/// For how long: longer than it has to connect.
const AWAY_SPAN: Duration = Duration::from_millis(1300);
/// The version that is tried.
const NEW: Version = Version::new(1, 2, 0);

/// What a version does, what a supervisor says of it when nothing else goes wrong, and what its log must show.
const BEHAVIOURS: [(&str, &str); 14] = [
    ("works", "it was connected for 200ms"),
    ("works", "it was connected for 200ms"),
    (AWAY, "it was connected for 200ms"),
    ("works and ignores what it is told", "it was connected for 200ms"),
    ("crashes", "it was started 3 times, and the last time it was ended by signal 6"),
    ("ends well", "it was started 3 times, and the last time it ended with code 0"),
    ("refuses its settings", "it was started 3 times, and the last time it ended with code 2"),
    ("hangs", "within 1s"),
    ("never connects", "it did not connect within 1s, 2 times, and each time version 1.1.0 then did"),
    ("connects and dies", "it was started 3 times, and the last time it ended with code 1"),
    ("loses its connection", "it lost its connection 4 times"),
    ("eats memory", "it was started 3 times, and the last time it was ended by signal 6"),
    ("is for another host", "its program cannot be used: the system cannot run it"),
    ("is torn", "is not what was staged"),
];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillDaemon,
    KillSupervisor,
    KillBoth,
    /// The power is cut, and the disk has lost the marker's content.
    TearMarker,
    /// And that of the one before.
    TearMarkers,
    /// The package is replaced by another one.
    Package,
    FillDisk,
    LockDisk,
    FreeDisk,
    /// The coordinator goes away, or comes back.
    Outage,
}

const FAULTS: [Fault; 10] = [
    Fault::KillDaemon,
    Fault::KillSupervisor,
    Fault::KillBoth,
    Fault::KillSupervisor,
    Fault::TearMarker,
    Fault::TearMarkers,
    Fault::Package,
    Fault::KillDaemon,
    Fault::KillBoth,
    Fault::Outage,
];
const DISK_FAULTS: [Fault; 4] = [Fault::FillDisk, Fault::LockDisk, Fault::FreeDisk, Fault::KillBoth];

/// How long a version has to connect, and must then stay connected: short where that is what ends the update, and else so
/// long that it does not on a machine that is busy with other things.
fn times(behaviour: &str) -> (&'static str, &'static str) {
    match behaviour {
        "hangs" | "never connects" | AWAY => ("1s", "200ms"),
        behaviour if works(behaviour) => ("20s", "200ms"),
        _ => ("20s", "3s"),
    }
}

fn works(behaviour: &str) -> bool {
    behaviour.starts_with("works")
}

#[test]
fn no_update_leaves_a_host_without_an_agent_that_works() {
    let number = |name: &str, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (count, seed) = (number("SLOTH_UPDATES", UPDATES), number("SLOTH_SEED", 1));
    let dir = tempfile::Builder::new().prefix("sloth-updates-").tempdir().expect("a directory");
    let (next, confirmed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..HOSTS {
            scope.spawn(|| {
                loop {
                    let update = next.fetch_add(1, Ordering::Relaxed);
                    if count <= update {
                        break;
                    }
                    let trial = Trial::new(seed, update, dir.path());
                    confirmed.fetch_add(u64::from(trial.run()), Ordering::Relaxed);
                }
            });
        }
    });
    let confirmed = confirmed.into_inner();
    println!("{count} updates from seed {seed}: {confirmed} confirmed, the others rolled back or never begun");
}

struct Trial {
    update: u64,
    random: Random,
    host: Host,
    behaviour: &'static str,
    expected: &'static str,
    faults: Vec<Fault>,
    outage: bool,
    done: Vec<String>,
}

impl Trial {
    fn new(seed: u64, update: u64, dir: &Path) -> Self {
        let mut random = Random::from_seed(seed, update);
        let (behaviour, expected) = BEHAVIOURS[pick(&mut random, BEHAVIOURS.len())];
        let on_own_disk = random.below(5) == 0;
        let pool: Vec<Fault> =
            FAULTS.into_iter().chain(DISK_FAULTS.into_iter().filter(|_| on_own_disk).cycle().take(8)).collect();
        // Some updates are left in peace.
        let count = random.below(FAULTS_MAX + 2).saturating_sub(1);
        let faults = (0..count).map(|_| pool[pick(&mut random, pool.len())]).collect();
        let place = dir.join(update.to_string());
        let (dir, seen, room) = if on_own_disk {
            let room = Room::new(Share::Mounts);
            room.run(&format!("mount -t tmpfs -o size=32m,mode=0755 tmpfs {DISK}"));
            let seen = room.outside(Path::new(DISK)).join("agent");
            (PathBuf::from(DISK).join("agent"), seen, Some(Arc::new(room)))
        } else {
            (place.clone(), place.clone(), None)
        };
        let host = Host::new(dir, seen, room, &place.with_extension("log"));
        let (trial, soak) = times(behaviour);
        host.set(trial, soak);
        Self { update, random, host, behaviour, expected, faults, outage: false, done: Vec::new() }
    }

    /// Lives through it; whether the new version is the current one in the end.
    fn run(mut self) -> bool {
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.live()));
        lived.unwrap_or_else(|panic| {
            let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            let Self { update, behaviour, faults, done, .. } = &self;
            let (log, marker) = (self.host.log(), self.host.marker());
            panic!("update {update} to a version that {behaviour}, with {faults:?}: {why}\n{done:?}\n{marker:?}\n{log}")
        })
    }

    fn live(&mut self) -> bool {
        self.host.stage(&NEW, self.behaviour);
        self.host.start();
        let before = self.host.settle();
        assert_eq!(before.version(&before.current), current());
        // What was staged and not asked for is removed when the supervisor starts.
        self.host.stage(&NEW, self.behaviour);
        self.host.set_outage(self.behaviour == AWAY);
        let answer = self.host.ask(&format!("switch {NEW}"));
        let begun = answer.starts_with("yes");
        if self.behaviour == AWAY {
            thread::sleep(AWAY_SPAN);
            self.host.set_outage(false);
        }
        self.done.push(answer);
        for fault in self.faults.clone() {
            thread::sleep(self.random.span(FAULT_SPAN));
            self.befall(fault);
        }
        self.heal();
        let marker = self.host.settle();
        self.judge(&marker, begun);
        let is_new = marker.version(&marker.current) == NEW;
        self.host.stop();
        is_new
    }

    fn befall(&mut self, fault: Fault) {
        self.done.push(format!("{fault:?}"));
        match fault {
            Fault::KillDaemon => self.host.daemons().into_iter().for_each(kill),
            Fault::KillSupervisor => {
                self.host.supervisor().kill();
                self.host.start();
            }
            Fault::KillBoth => {
                self.kill_both();
                self.host.start();
            }
            Fault::TearMarker => self.tear(&["update.marker"]),
            Fault::TearMarkers => self.tear(&["update.marker", "update.before"]),
            Fault::Package => {
                self.kill_both();
                // Below, between and above what runs and what is tried.
                let version = [Version::new(0, 9, 0), Version::new(1, 1, 5), Version::new(1, 3, 0)];
                self.host.install(version[pick(&mut self.random, 3)].clone());
                self.host.start();
            }
            Fault::FillDisk => self.in_room("cat /dev/zero > /mnt/filler 2>/dev/null; test -e /mnt/filler"),
            Fault::LockDisk => {
                self.in_room(LOCK_DISK);
            }
            Fault::FreeDisk => self.free_disk(),
            Fault::Outage => {
                self.outage = !self.outage;
                self.host.set_outage(self.outage);
            }
        }
    }

    fn kill_both(&mut self) {
        let daemons = self.host.daemons();
        self.host.supervisor().kill();
        daemons.into_iter().for_each(kill);
    }

    fn tear(&mut self, files: &[&str]) {
        self.kill_both();
        for file in files {
            let path = self.host.seen.join(file);
            let Ok(bytes) = fs::read(&path) else { continue };
            let torn = match self.random.below(3) {
                0 => bytes[..bytes.len() / 2].to_vec(),
                1 => vec![0; bytes.len()],
                _ => {
                    let mut bytes = bytes;
                    let at = pick(&mut self.random, bytes.len());
                    bytes[at] ^= 0x20;
                    bytes
                }
            };
            if self.is_writable() {
                replace_whole(&path, &torn);
            }
        }
        self.host.start();
    }

    fn is_writable(&self) -> bool {
        let probe = self.host.seen.join("probe");
        let written = fs::File::create(&probe).and_then(|mut file| std::io::Write::write_all(&mut file, &[1; 4096]));
        let _ = fs::remove_file(&probe);
        written.is_ok()
    }

    fn in_room(&self, line: &str) {
        if let Some(room) = &self.host.room {
            room.shell(line);
        }
    }

    fn free_disk(&self) {
        self.in_room("while mountpoint -q /mnt/agent; do umount -l /mnt/agent; done; rm -f /mnt/filler");
    }

    /// Whatever is wrong with the host is mended, as a service manager and a person would.
    fn heal(&mut self) {
        self.free_disk();
        self.host.set_outage(false);
        if self.host.supervisor().ended().is_some() {
            self.host.start();
        }
    }

    fn judge(&self, marker: &Marker, begun: bool) {
        let current = marker.version(&marker.current);
        assert!(current != NEW || works(self.behaviour), "what runs does not work");
        let of_new: Vec<&UpdateOutcome> = marker.outcomes.iter().filter(|outcome| outcome.to == NEW).collect();
        for outcome in &of_new {
            assert!(outcome.verdict == Verdict::RolledBack || works(self.behaviour), "a lie: {outcome:?}");
        }
        if current == NEW {
            assert!(
                of_new.iter().any(|outcome| outcome.verdict == Verdict::Confirmed),
                "confirmed, and nothing says so"
            );
        }
        let last = of_new.last();
        if let Some(UpdateOutcome { verdict: Verdict::RolledBack, .. }) = last {
            assert!(current != NEW, "rolled back, and it runs");
        }
        if self.faults.is_empty() && self.behaviour == "is torn" {
            assert!(!begun && self.done.concat().contains(self.expected) && of_new.is_empty(), "{:?}", self.done);
        } else if self.faults.is_empty() {
            assert!(begun, "{:?}", self.done);
            let last = last.expect("a report");
            assert!(last.reason.contains(self.expected), "{last:?}");
            assert_eq!(last.verdict == Verdict::Confirmed, works(self.behaviour));
            assert_eq!(marker.bad(&NEW).is_some(), !works(self.behaviour));
            let was_started = !self.behaviour.starts_with("is ");
            let shows = last.log_tail.contains(&format!("and it {}", self.behaviour));
            assert_eq!(shows, was_started && !works(self.behaviour), "{last:?}");
        }
    }
}

fn pick(random: &mut Random, len: usize) -> usize {
    usize::try_from(random.below(u64::try_from(len).expect("few"))).expect("few")
}

fn kill(pid: u32) {
    Process::kill_one(pid);
}
