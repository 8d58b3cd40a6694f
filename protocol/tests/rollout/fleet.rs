//! Rollouts over time: a fleet whose hosts do well, fail, break or go away, driven by a planner. What must hold is
//! checked by what truly became of the hosts, not by what the rollout believes of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    random::Random,
    rollout::{Contact, Cuts, Host, Plan, Presence, Progress, Situation, Spec, Standing, Verdict, plan},
    wire::{RolloutStatus, Share},
};

use super::{ALL, NOW, RHYTHM, host, read, share, spec, wave};

/// Something that decides.
pub(super) type Planner = fn(&Situation<'_>) -> Plan;

const STEP: Millis = Millis::from_secs(20);
const STEPS: u32 = 6_000;
/// Verdicts that may follow each other at one moment.
const VERDICTS_MAX: usize = 200;
const SOAK: Millis = Millis::from_secs(300);

/// A fleet in which each release does to each host what its fate is.
struct Fleet {
    now: Millis,
    spec: Spec,
    cuts: Cuts,
    progress: Progress,
    members: BTreeMap<AgentId, Member>,
    random: Random,
    halted: bool,
    assigned: usize,
}

struct Member {
    fate: Fate,
    standing: Standing,
    connected: bool,
    heard: Option<Millis>,
    /// What truly is: when the release reached it.
    changed: Option<Millis>,
    /// When it broke.
    broken: Option<Millis>,
    succeeded: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Fails,
    /// It falls silent at once.
    Dies,
    /// It succeeds and falls silent soon after.
    DiesLater,
    /// It is away when the rollout begins and comes back.
    Away,
}

/// What became of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub status: RolloutStatus,
    pub open: usize,
    pub changed: usize,
    pub first_wave: usize,
}

impl Fleet {
    fn new(seed: u64, hosts: u64, bad: u64) -> Self {
        let mut random = Random::new(seed);
        let waves = ["5%,20%,100%", "1%,10%,50%,100%", "2,10,100%", "100%"];
        let waves = waves[usize::try_from(random.below(4)).unwrap_or(0)];
        let mut spec = spec(waves.split(',').map(|text| wave(share(text), SOAK)).collect());
        spec.unproven_max = if random.below(2) == 0 { ALL } else { Share::Count(1 + small(random.below(9))) };
        spec.errors_per_wave = [Share::Count(0), Share::Count(2), share("10%")][pick(&mut random, 3)];
        spec.errors_in_all = [ALL, Share::Count(3)][pick(&mut random, 2)];
        let spec = read(&spec);
        let ids: Vec<AgentId> = (0..hosts).map(|number| host(seed.wrapping_add(number))).collect();
        let cuts = Cuts::settle(&spec, Cuts::salt("a", "b", seed), ids.iter().copied(), |_, _| false);
        let member = |id| (id, Member::new(fate(&mut random, bad)));
        let members = ids.into_iter().map(member).collect();
        let progress = Progress { status: RolloutStatus::Running, open: 0, approved: 0, passed: 0 };
        Self { now: NOW, spec, cuts, progress, members, random, halted: false, assigned: 0 }
    }

    fn hosts(&self) -> Vec<Host> {
        let host = |(id, member): (&AgentId, &Member)| Host {
            id: *id,
            wave: self.cuts.wave_of(&self.spec, *id, |_| false),
            place: self.cuts.place(*id),
            standing: member.standing,
            contact: Contact {
                presence: if member.connected { Presence::Connected } else { Presence::Gone },
                heard: if member.connected { Some(self.now) } else { member.heard },
                quiet_from: NOW,
                rhythm: RHYTHM,
            },
        };
        self.members.iter().map(host).collect()
    }

    /// Asks and obeys until there is nothing to do at this moment.
    fn settle(&mut self, planner: Planner) -> Result<(), String> {
        for _ in 0..VERDICTS_MAX {
            let hosts = self.hosts();
            let Plan { verdict, wake_at } =
                planner(&Situation { now: self.now, spec: &self.spec, progress: self.progress, hosts: &hosts });
            if wake_at.is_some_and(|at| at <= self.now) {
                return Err("it would be woken at once, without end".to_owned());
            }
            match verdict {
                Verdict::Wait(_) => return Ok(()),
                Verdict::Settle(changes) => {
                    for (id, standing) in changes {
                        self.members.get_mut(&id).expect("a member").standing = standing;
                    }
                }
                Verdict::Open { wave } => self.open(wave)?,
                Verdict::Assign(ids) => self.assign(&ids)?,
                Verdict::Halt(_) => {
                    self.halted = true;
                    self.progress.status = RolloutStatus::Halted;
                }
                Verdict::Complete => self.progress.status = RolloutStatus::Complete,
                Verdict::RollBack(_) => return Err("nobody asked to go back".to_owned()),
            }
        }
        Err("it never comes to an end".to_owned())
    }

    fn open(&mut self, wave: usize) -> Result<(), String> {
        if wave != self.progress.open {
            return Err(format!("wave {wave} follows {}", self.progress.open));
        }
        self.progress.open = wave + 1;
        let Some(before) = wave.checked_sub(1) else { return Ok(()) };
        let of_it: Vec<&Member> = self.of_wave(before).collect();
        let well =
            |member: &&&Member| member.broken.is_none() && member.succeeded.is_some_and(|at| at + SOAK <= self.now);
        if !of_it.is_empty() && of_it.iter().filter(well).count() == 0 {
            return Err(format!("wave {wave} begins, and nothing shows that the one before is well"));
        }
        let broken = of_it.iter().filter(|member| self.is_long_broken(member)).count();
        let allowed = self.spec.errors_per_wave.at_most(of_it.len());
        if allowed < broken {
            return Err(format!("wave {wave} begins after {broken} hosts broke, {allowed} may"));
        }
        Ok(())
    }

    fn assign(&mut self, ids: &[AgentId]) -> Result<(), String> {
        if self.halted {
            return Err("assigned after a halt".to_owned());
        }
        for id in ids {
            if self.progress.open <= self.cuts.wave_of(&self.spec, *id, |_| false) {
                return Err("assigned before its wave began".to_owned());
            }
            let (connected, now) = (self.members[id].connected, self.now);
            let member = self.members.get_mut(id).expect("a member");
            if member.changed.is_some() || !connected {
                return Err("assigned twice, or while it was away".to_owned());
            }
            (member.standing, member.changed) = (Standing::Assigned { at: now }, Some(now));
        }
        self.assigned += ids.len();
        let unproven = self.members.values().filter(|member| self.is_unproven(member)).count();
        let most = self.spec.unproven_of(self.members.len());
        if most < unproven {
            return Err(format!("{unproven} hosts are changed and unproven, {most} may be"));
        }
        Ok(())
    }

    /// By what truly became of it.
    fn is_unproven(&self, member: &Member) -> bool {
        let well = member.broken.is_none() && member.succeeded.is_some_and(|at| at + SOAK <= self.now);
        member.changed.is_some() && !well
    }

    /// Whether a host is broken for so long that everybody must have noticed.
    fn is_long_broken(&self, member: &Member) -> bool {
        const NOTICED: Millis = Millis::from_secs(600);
        member.broken.is_some_and(|at| at + NOTICED <= self.now)
    }

    fn of_wave(&self, wave: usize) -> impl Iterator<Item = &Member> {
        let of_it = move |id: &AgentId| self.cuts.wave_of(&self.spec, *id, |_| false) == wave;
        self.members.iter().filter(move |(id, _)| of_it(id)).map(|(_, member)| member)
    }

    /// Time passes, and releases do what they do.
    fn step(&mut self) {
        self.now = self.now + STEP;
        let now = self.now;
        for member in self.members.values_mut() {
            member.live(now, &mut self.random);
        }
    }
}

impl Member {
    fn new(fate: Fate) -> Self {
        let connected = fate != Fate::Away;
        let heard = connected.then_some(NOW);
        Self { fate, standing: Standing::Waiting, connected, heard, changed: None, broken: None, succeeded: None }
    }

    fn live(&mut self, now: Millis, random: &mut Random) {
        if !self.connected && self.fate == Fate::Away && random.below(40) == 0 {
            self.connected = true;
        }
        if self.connected {
            self.heard = Some(now);
        }
        let Some(at) = self.changed else { return };
        let done = self.succeeded.is_some() || self.broken.is_some();
        match self.fate {
            Fate::Well | Fate::Away if !done && random.below(3) == 0 => self.succeed(now),
            Fate::Fails if !done && random.below(3) == 0 => {
                (self.broken, self.standing) = (Some(now), Standing::Failed);
            }
            Fate::Dies if !done => self.die(now),
            Fate::DiesLater if self.succeeded.is_none() => self.succeed(now),
            Fate::DiesLater if self.broken.is_none() && at + SOAK < now + Millis::from_secs(100) => self.die(now),
            Fate::Well | Fate::Away | Fate::Fails | Fate::Dies | Fate::DiesLater => {}
        }
    }

    fn succeed(&mut self, now: Millis) {
        (self.succeeded, self.standing) = (Some(now), Standing::Succeeded { at: now });
    }

    fn die(&mut self, now: Millis) {
        (self.connected, self.broken) = (false, Some(now));
    }
}

fn fate(random: &mut Random, bad_in_a_thousand: u64) -> Fate {
    if random.below(1000) < bad_in_a_thousand {
        return [Fate::Fails, Fate::Dies, Fate::DiesLater][pick(random, 3)];
    }
    if random.below(10) == 0 { Fate::Away } else { Fate::Well }
}

fn pick(random: &mut Random, bound: u64) -> usize {
    usize::try_from(random.below(bound)).unwrap_or(0)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Rolls a release out that is bad for so many hosts of a thousand.
pub(super) fn roll_out(seed: u64, hosts: u64, bad: u64, planner: Planner) -> Result<Outcome, String> {
    let mut fleet = Fleet::new(seed, hosts, bad);
    for _ in 0..STEPS {
        fleet.settle(planner)?;
        let over = fleet.progress.status != RolloutStatus::Running;
        let away = fleet.members.values().any(|member| member.fate == Fate::Away && member.changed.is_none());
        if fleet.halted || (over && !away) {
            break;
        }
        fleet.step();
    }
    Ok(Outcome {
        status: fleet.progress.status,
        open: fleet.progress.open,
        changed: fleet.assigned,
        first_wave: fleet.of_wave(0).count(),
    })
}

#[test]
fn a_good_release_reaches_everybody() {
    for seed in 0..60 {
        let outcome = roll_out(seed, 60, 0, plan).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((outcome.status, outcome.changed), (RolloutStatus::Complete, 60), "seed {seed}");
    }
}

#[test]
fn a_bad_release_stays_in_the_first_wave() {
    for seed in 0..60 {
        let outcome = roll_out(seed, 200, 1000, plan).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((outcome.status, outcome.open), (RolloutStatus::Halted, 1), "seed {seed}");
        assert!(outcome.changed <= outcome.first_wave, "seed {seed}: {outcome:?}");
    }
}

proptest! {
    #[test]
    fn whatever_a_release_does_the_rules_hold(seed in any::<u64>(), hosts in 1_u64..80, bad in 0_u64..400) {
        roll_out(seed, hosts, bad, plan).map_err(TestCaseError::fail)?;
    }
}
