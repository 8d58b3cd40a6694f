//! The supervisor against programs of all kinds, with a crash at any step and a disk that fails when it likes.

#![allow(clippy::expect_used, clippy::panic, reason = "a model fails its test by panicking, with what it saw")]

use std::collections::BTreeMap;

use sloth_core::Millis;
use sloth_protocol::{
    random::Random,
    update::{
        Action, Event, Exit, Fault, FromDaemon, Marker, Moment, Output, Policy, Proof, Request, Slot, Supervisor, Tail,
        Verdict, Version,
    },
};

const POLICY: Policy = Policy {
    trial: Millis::from_u64(1000),
    soak: Millis::from_u64(200),
    starts_max: 3,
    losses_max: 3,
    finish: Millis::from_u64(100),
    stop: Millis::from_u64(50),
    restart: Millis::from_u64(10),
};
/// How many histories are tried, unless `SLOTH_UPDATES` says.
const HISTORIES: u64 = 10_000;
/// How many things happen in a history before all faults heal.
const STEPS: u32 = 120;
/// Longest that a host may take after that, until a version that works runs and is confirmed.
const HEAL_MS: u64 = 7_200_000;

/// What a version's program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Good,
    Stubborn,
    CrashesAtStart,
    EndsWellAtStart,
    RefusesSettings,
    Hangs,
    NeverConnects,
    ConnectsAndDies,
    LosesItsConnection,
    CannotRun,
}

const PROGRAMS: [Program; 10] = [
    Program::Good,
    Program::Stubborn,
    Program::CrashesAtStart,
    Program::EndsWellAtStart,
    Program::RefusesSettings,
    Program::Hangs,
    Program::NeverConnects,
    Program::ConnectsAndDies,
    Program::LosesItsConnection,
    Program::CannotRun,
];

impl Program {
    fn works(self) -> bool {
        matches!(self, Self::Good | Self::Stubborn)
    }

    /// What it does, and how long after its start.
    fn script(self) -> Vec<(u64, Event)> {
        let said = |at, word| (at, Event::Said(word));
        let ready = said(10, FromDaemon::Ready);
        let polled = said(20, FromDaemon::Polled);
        match self {
            Self::Good | Self::Stubborn => vec![ready, polled],
            Self::CrashesAtStart => vec![(5, Event::Exited(Exit::Signal(6)))],
            Self::EndsWellAtStart => vec![(5, Event::Exited(Exit::Code(0)))],
            Self::RefusesSettings => vec![(5, Event::Exited(Exit::Code(2)))],
            Self::Hangs | Self::CannotRun => Vec::new(),
            Self::NeverConnects => vec![ready],
            Self::ConnectsAndDies => vec![ready, polled, (150, Event::Exited(Exit::Code(1)))],
            Self::LosesItsConnection => (1..100)
                .flat_map(|n| [said(n * 100, FromDaemon::Polled), said(n * 100 + 60, FromDaemon::Lost)])
                .collect(),
        }
    }
}

/// Something wrong with the driver, which the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Says that the disk took what it did not.
    LiesAboutWrites,
    /// Acts on what waits for the disk before it is there.
    ForgetsWrites,
}

struct Host {
    random: Random,
    bug: Bug,
    now: u64,
    disk: Option<Marker>,
    disk_works: bool,
    /// The coordinator is out of reach.
    outage: bool,
    /// The system has no process to spare.
    exhausted: bool,
    packaged: Version,
    programs: BTreeMap<Version, Program>,
    supervisor: Option<Supervisor>,
    wake_at: Option<u64>,
    child: Option<Child>,
    /// Starts of versions on trial, by the version and the time when the trial was asked for.
    starts: BTreeMap<(Version, u64), u32>,
    stops: u32,
    faults: bool,
    /// What happened, where it is told: to write it down takes longer than to live it.
    told: Option<Vec<String>>,
}

struct Child {
    version: Version,
    born: u64,
    script: Vec<(u64, Event)>,
    /// Whether it would be connected, were there no outage.
    polls: bool,
}

/// The supervisor is gone, and its daemon with it.
struct Crash;

impl Host {
    fn new(seed: u64, bug: Bug, told: Option<Vec<String>>) -> Self {
        let mut random = Random::new(seed);
        let mut programs = BTreeMap::from([(Version::new(1, 0, 0), Program::Good)]);
        for minor in 1..8 {
            let pick = usize::try_from(random.below(PROGRAMS.len() as u64)).expect("small");
            programs.insert(Version::new(1, minor, 0), PROGRAMS[pick]);
        }
        Self {
            random,
            bug,
            now: 1_000_000,
            disk: None,
            disk_works: true,
            outage: false,
            exhausted: false,
            packaged: Version::new(1, 0, 0),
            programs,
            supervisor: None,
            wake_at: None,
            child: None,
            starts: BTreeMap::new(),
            stops: 0,
            faults: true,
            told,
        }
    }

    fn moment(&self) -> Moment {
        Moment { awake: Millis::from_u64(self.now), wall: Millis::from_u64(self.now) }
    }

    fn marker(&self) -> Option<Marker> {
        self.disk.clone()
    }

    fn version(&self, slot: &Slot) -> Version {
        slot.version(&self.packaged)
    }

    fn program(&self, slot: &Slot) -> Program {
        self.programs[&self.version(slot)]
    }

    fn tell_of(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(line());
        }
    }

    /// Whether the supervisor dies just now.
    fn survive(&mut self) -> Result<(), Crash> {
        if self.faults && self.random.below(60) == 0 {
            self.tell_of(|| "crash".to_owned());
            return Err(Crash);
        }
        Ok(())
    }

    fn boot(&mut self) {
        let seed = self.random.next_u64();
        let marker = self.marker();
        self.supervisor =
            Some(Supervisor::restore(POLICY, &self.packaged, marker, Tail::default(), self.moment(), seed));
        self.tell(Event::Wake);
    }

    fn tell(&mut self, event: Event) {
        if self.carry(event).is_err() {
            (self.supervisor, self.child, self.wake_at) = (None, None, None);
        }
    }

    fn carry(&mut self, event: Event) -> Result<(), Crash> {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.moment();
            let Some(supervisor) = self.supervisor.as_mut() else { return Ok(()) };
            let line = self.told.is_some().then(|| format!("{}: {event:?}", self.now));
            let Output { write, actions, wake_at } = supervisor.handle(now, event);
            self.tell_of(|| line.unwrap_or_default());
            self.wake_at = wake_at.map(Millis::as_u64);
            self.survive()?;
            let mut after = None;
            if let Some(marker) = write {
                after = Some(self.write(&marker));
                self.survive()?;
            }
            for action in actions {
                if let Some(event) = self.act(action) {
                    events.push_back(event);
                }
                self.survive()?;
            }
            after.into_iter().for_each(|event| events.push_front(event));
        }
        Ok(())
    }

    fn write(&mut self, marker: &Marker) -> Event {
        let fails = !self.disk_works || (self.faults && self.random.below(20) == 0);
        match (fails, self.bug) {
            (true, Bug::LiesAboutWrites) => return Event::Written,
            (true, Bug::None | Bug::ForgetsWrites) => return Event::NotWritten { why: "no space left".to_owned() },
            (false, Bug::ForgetsWrites) if self.random.below(4) == 0 => return Event::Written,
            (false, _) => {}
        }
        let before = self.disk.take();
        self.disk = Some(marker.clone());
        let last = |marker: &Marker| marker.outcomes.last().map_or(0, |outcome| outcome.number);
        assert!(before.as_ref().map_or(0, last) <= last(marker), "numbers of outcomes fall");
        assert!(self.programs[&marker.version(&marker.current)].works(), "what does not work is the current version");
        for outcome in marker.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Confirmed) {
            assert!(self.programs[&outcome.to].works(), "{} is said to work", outcome.to);
        }
        Event::Written
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start(slot) => return self.start(&slot),
            Action::End | Action::Terminate => {
                let child = self.child.as_ref().expect("nobody is told to end who is not there");
                if self.programs[&child.version] != Program::Stubborn {
                    self.child = None;
                    return Some(Event::Exited(Exit::Code(0)));
                }
            }
            Action::Kill => {
                self.child = None;
                return Some(Event::Exited(Exit::Signal(9)));
            }
            Action::Quit(_) => {
                assert!(self.child.is_none(), "it goes and leaves its daemon behind");
                self.supervisor = None;
            }
            Action::Replace => {
                assert!(self.child.is_none(), "it becomes another and leaves its daemon behind");
                if self.random.below(4) == 0 {
                    return Some(Event::NotReplaced { why: "text file busy".to_owned() });
                }
                self.supervisor = None;
            }
            Action::Retry(version) => {
                assert!(!self.outage, "{version} is to be tried again, and the coordinator is out of reach");
                let held = self.faults && self.random.below(4) == 0;
                return Some(Event::Retry(if held { Err("updates are held".to_owned()) } else { Ok(()) }));
            }
            Action::Ready | Action::Answer(_) | Action::Keep(_) | Action::Note(_) => {}
        }
        None
    }

    fn start(&mut self, slot: &Slot) -> Option<Event> {
        assert!(self.child.is_none(), "two daemons at a time");
        let version = self.version(slot);
        let marker = self.supervisor.as_ref().expect("somebody starts it").marker();
        if let Some(bad) = marker.bad(&version) {
            panic!("{version} is started, which is marked bad: {}", bad.reason);
        }
        let trial = marker.trial.clone().filter(|trial| trial.to == *slot);
        if self.exhausted {
            return Some(Event::NotStarted { why: "no process to spare".to_owned(), fault: Fault::System });
        }
        if let Some(trial) = trial {
            let starts = self.starts.entry((version.clone(), trial.since.as_u64())).or_default();
            *starts += 1;
            assert!(*starts <= POLICY.starts_max + self.stops, "{version} was started {starts} times on trial");
        } else {
            assert!(self.program(slot).works(), "{version} runs without a trial, and does not work");
        }
        if self.program(slot) == Program::CannotRun {
            return Some(Event::NotStarted { why: "exec format error".to_owned(), fault: Fault::Program });
        }
        self.child = Some(Child { version, born: self.now, script: self.program(slot).script(), polls: false });
        None
    }

    /// Goes on to whatever happens next by itself, at most to `limit`.
    fn go_on(&mut self, limit: u64) -> bool {
        if self.supervisor.is_none() {
            self.boot();
            return true;
        }
        let step = self.child.as_ref().and_then(|child| child.script.first().map(|(at, _)| child.born + at));
        let Some(next) = step.into_iter().chain(self.wake_at).min().filter(|next| *next <= limit) else { return false };
        self.now = self.now.max(next);
        if step == Some(next) {
            let child = self.child.as_mut().expect("it has a next step");
            let (_, event) = child.script.remove(0);
            if matches!(event, Event::Said(FromDaemon::Polled | FromDaemon::Lost)) {
                child.polls = event == Event::Said(FromDaemon::Polled);
            } else if matches!(event, Event::Exited(_)) {
                self.child = None;
            }
            let is_unheard = matches!(event, Event::Said(FromDaemon::Polled | FromDaemon::Lost)) && self.outage;
            if !is_unheard {
                self.tell(event);
            }
        } else {
            self.tell(Event::Wake);
        }
        true
    }

    /// Cuts the connections of all daemons, or lets them come back.
    fn set_outage(&mut self, outage: bool) {
        if std::mem::replace(&mut self.outage, outage) == outage {
            return;
        }
        self.tell_of(|| format!("outage: {outage}"));
        if self.child.as_ref().is_some_and(|child| child.polls) {
            self.tell(Event::Said(if outage { FromDaemon::Lost } else { FromDaemon::Polled }));
        }
    }

    fn interfere(&mut self) {
        match self.random.below(27) {
            0 => self.disk_works = !self.disk_works,
            1 if self.child.take().is_some() => self.tell(Event::Exited(Exit::Signal(9))),
            2 => {
                self.stops += 1;
                self.tell(Event::Stop);
            }
            3 => self.ask(Request::RollBack),
            4 => {
                let version = Version::new(1, self.random.below(8), 0);
                self.ask(Request::Forget(version));
            }
            5 if self.supervisor.is_none() => {
                let works = |(version, program): (&Version, &Program)| program.works().then(|| version.clone());
                let good: Vec<Version> = self.programs.iter().filter_map(works).collect();
                let pick = usize::try_from(self.random.below(good.len() as u64)).expect("small");
                self.packaged = good[pick].clone();
                let line = format!("package {}", self.packaged);
                self.tell_of(|| line);
            }
            6..12 => {
                let version = Version::new(1, self.random.below(8), 0);
                self.now += 1;
                self.ask(Request::Switch { version, proof: Proof::Polled });
            }
            12..14 => self.now += self.random.below(400),
            14 | 15 => self.set_outage(!self.outage),
            16 => {
                self.stops += 1;
                self.ask(Request::Package);
            }
            17 => self.exhausted = !self.exhausted,
            _ => {}
        }
    }

    fn ask(&mut self, request: Request) {
        self.tell(Event::Asked { request, allowed: Ok(()) });
    }

    fn live(&mut self) {
        for _ in 0..STEPS {
            self.interfere();
            self.go_on(u64::MAX);
        }
        (self.faults, self.disk_works, self.exhausted) = (false, true, false);
        self.set_outage(false);
        let end = self.now + HEAL_MS;
        let mut steps = 0;
        while self.go_on(end) {
            steps += 1;
            assert!(steps < 10_000, "it never comes to rest");
        }
        let marker = self.marker().expect("there is a marker");
        assert_eq!((&marker.trial, &marker.put_off), (&None, &None), "still on trial");
        assert_eq!(self.supervisor.as_ref().map(Supervisor::marker), Some(&marker), "the disk has what is in memory");
        let child = self.child.as_ref().expect("a daemon runs");
        assert_eq!(child.version, marker.version(&marker.current));
        assert!(self.programs[&child.version].works(), "{} runs, and does not work", child.version);
    }
}

/// Lives a history; says what broke, and with `told` all that led to it.
fn history(seed: u64, bug: Bug, told: Option<Vec<String>>) -> Result<(), String> {
    let mut host = Host::new(seed, bug, told);
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host.live()));
    lived.map_err(|panic| {
        let what =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref().map(|s: &&str| (*s).to_owned()));
        let told = host.told.unwrap_or_default().join("\n");
        format!("seed {seed}: {}\n{told}\n{:?}", what.unwrap_or_default(), host.programs)
    })
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_happens_a_version_that_works_runs_in_the_end() {
    let seed = from_environment("SLOTH_SEED", 1);
    let count = from_environment("SLOTH_UPDATES", HISTORIES);
    for seed in seed..seed + count {
        if history(seed, Bug::None, None).is_err() {
            panic!("{}", history(seed, Bug::None, Some(Vec::new())).expect_err("it fails again"));
        }
    }
    println!("{count} histories from seed {seed}");
}

/// A host without other faults on which 1.1.0, which is `program`, is tried, and an outage of the coordinator of `length`
/// begins `after` that.
fn outage(seed: u64, program: Program, after: u64, length: u64) -> Marker {
    let mut host = Host::new(seed, Bug::None, None);
    host.faults = false;
    let new = Version::new(1, 1, 0);
    host.programs.insert(new.clone(), program);
    let settle = |host: &mut Host, until: u64| {
        while host.go_on(until) {}
        host.now = until;
    };
    settle(&mut host, 1_001_000);
    host.ask(Request::Switch { version: new, proof: Proof::Polled });
    settle(&mut host, 1_001_000 + after);
    host.set_outage(true);
    settle(&mut host, 1_001_000 + after + length);
    host.set_outage(false);
    settle(&mut host, 1_001_000 + after + length + HEAL_MS);
    let marker = host.marker().expect("a marker");
    assert_eq!((&marker.trial, &marker.put_off), (&None, &None), "seed {seed}: {program:?}");
    marker
}

/// Whenever an outage begins, and however long it takes: what works is confirmed in the end and never marked bad, and
/// what cannot connect is.
#[test]
fn an_outage_is_no_evidence_against_a_version() {
    let new = Version::new(1, 1, 0);
    let mut random = Random::new(from_environment("SLOTH_SEED", 1));
    let mut put_off = 0;
    for seed in 0..3000 {
        let (after, length) = (random.below(300), random.below(20_000));
        let marker = outage(seed, Program::Good, after, length);
        let told = format!("an outage of {length} ms, {after} ms after the switch: {marker:?}");
        assert_eq!(marker.bad(&new), None, "{told}");
        assert_eq!(marker.version(&marker.current), new, "{told}");
        let [outcome] = marker.outcomes.as_slice() else { panic!("{told}") };
        assert_eq!(outcome.verdict, Verdict::Confirmed, "{told}");
        put_off += u32::from(Millis::from_u64(1_003_000) < outcome.at);

        let marker = outage(seed, Program::NeverConnects, after, length);
        let [outcome] = marker.outcomes.as_slice() else { panic!("{told}: {marker:?}") };
        assert_eq!((outcome.verdict, &outcome.to), (Verdict::RolledBack, &new));
        assert!(outcome.reason.starts_with("it did not connect within 1s, "), "{outcome:?}");
        assert!(outcome.reason.ends_with(" times, and each time version 1.0.0 then did"), "{outcome:?}");
        assert!(marker.bad(&new).is_some());
    }
    assert!(1000 < put_off, "hardly any was put off: {put_off}");
}

/// Whoever uses up the processes of a host says nothing about a version by that.
#[test]
fn a_system_without_a_process_to_spare_is_no_evidence_against_a_version() {
    let new = Version::new(1, 1, 0);
    for seed in 0..200 {
        let mut host = Host::new(seed, Bug::None, None);
        host.faults = false;
        host.programs.insert(new.clone(), Program::Good);
        host.boot();
        let settle = |host: &mut Host, span: u64| {
            let until = host.now + span;
            while host.go_on(until) {}
            host.now = until;
        };
        settle(&mut host, 1000);
        // On trial, for longer than a trial takes.
        host.exhausted = true;
        host.ask(Request::Switch { version: new.clone(), proof: Proof::Polled });
        settle(&mut host, 1_000_000);
        host.exhausted = false;
        settle(&mut host, HEAL_MS);
        // And after it was confirmed.
        host.exhausted = true;
        host.child = None;
        host.tell(Event::Exited(Exit::Signal(9)));
        settle(&mut host, 1_000_000);
        host.exhausted = false;
        settle(&mut host, HEAL_MS);
        let marker = host.marker().expect("a marker");
        assert_eq!(marker.version(&marker.current), new, "seed {seed}: {marker:?}");
        assert_eq!((marker.bad(&new), &marker.trial), (None, &None), "seed {seed}: {marker:?}");
        assert!(host.child.as_ref().is_some_and(|child| child.version == new), "seed {seed}: it runs");
    }
}

/// One that is never there when the old one is, but not soon either, is given up and may be tried again.
#[test]
fn what_never_connects_on_a_bad_network_is_given_up_and_not_marked() {
    let mut host = Host::new(1, Bug::None, None);
    host.faults = false;
    let new = Version::new(1, 1, 0);
    host.programs.insert(new.clone(), Program::NeverConnects);
    host.boot();
    host.ask(Request::Switch { version: new.clone(), proof: Proof::Polled });
    let is_new = |host: &Host| host.child.as_ref().is_some_and(|child| child.version == new);
    for _ in 0..200 {
        // The old one is connected late each time.
        host.set_outage(is_new(&host));
        let until = host.now + if host.outage { 1200 } else { 300_000 };
        while host.go_on(until) && is_new(&host) == host.outage {}
        if host.outage && !is_new(&host) {
            host.now += 2 * POLICY.trial.as_u64();
        }
    }
    let marker = host.marker().expect("a marker");
    let [outcome] = marker.outcomes.as_slice() else { panic!("{marker:?}") };
    let reason = "it did not connect within 1s, 5 times, and the network may be at fault";
    assert_eq!((outcome.verdict, outcome.reason.as_str()), (Verdict::RolledBack, reason));
    assert_eq!((marker.bad(&new), &marker.put_off), (None, &None));
}

#[test]
fn drivers_that_are_wrong_are_found() {
    for bug in [Bug::LiesAboutWrites, Bug::ForgetsWrites] {
        let found = (1..3000).find(|seed| history(*seed, bug, None).is_err());
        assert!(found.is_some(), "{bug:?} is not found");
    }
}
