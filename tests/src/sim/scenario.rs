//! What a seed means: the fleet, what its operators do, and what goes wrong when.

use sloth_core::{Labels, Millis, RunId};
use sloth_protocol::{
    agent::{Pacing, UpdateRules},
    random::Random,
    wire::{RolloutRequest, StartRun},
};

use super::{
    publisher::{START, publisher},
    rollouts,
};

/// Most hosts of a fleet.
const HOSTS_MAX: u64 = 8;
/// How long things go wrong: the usual case, and the one where hosts are away for days.
const SHORT_HORIZON: Millis = Millis::from_secs(40 * 60);
const LONG_HORIZON: Millis = Millis::from_secs(3 * 24 * 3600);
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: Millis = Millis::from_secs(365 * 86_400);
const IN_2040: Millis = Millis::from_secs(2_208_988_800);

/// A whole simulation, before it begins.
#[derive(Debug)]
pub(super) struct Scenario {
    pub hosts: Vec<HostPlan>,
    pub faults: Faults,
    /// When faults end, after [`START`].
    pub horizon: Millis,
    /// In the order of their times.
    pub actions: Vec<(Millis, Action)>,
    /// Longest that a commit of the coordinator takes.
    pub commit_max: u64,
    /// Longest that a message takes.
    pub delay_max: u64,
}

/// One host.
#[derive(Debug, Clone)]
pub(super) struct HostPlan {
    pub name: String,
    pub labels: Labels,
    pub pacing: Pacing,
    pub runs_max: usize,
    pub outbox: [usize; 2],
    /// Milliseconds by which its clock is ahead.
    pub ahead: u64,
    /// Which token it joins with.
    pub token: usize,
    /// What it says to updates.
    pub rules: UpdateRules,
}

/// What goes wrong by chance, each in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Messages and attempts to connect that are lost.
    pub loss: u64,
    /// Events of an agent that end in its crash.
    pub host_crash: u64,
    /// Events of the coordinator that end in its crash.
    pub center_crash: u64,
    /// Workers that die.
    pub worker_death: u64,
    /// Orders that a hostile coordinator forges.
    pub forgery: u64,
    /// Answers that still arrive when their connection is gone.
    pub late_answers: u64,
}

/// What happens at a time, whatever else does.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// An operator does something, and tries until it is answered.
    Operate(Operation),
    /// A host's power goes for this long.
    CrashHost(usize, u64),
    /// The coordinator's power goes for this long.
    CrashCenter(u64),
    /// Nothing passes between a host and the coordinator for this long.
    Partition(usize, u64),
    /// Commits of a host fail for this long.
    HostDiskFull(usize, u64),
    /// Commits of the coordinator fail for this long.
    CenterDiskFull(u64),
    /// A host's clock is set.
    SetClock(usize, HostClock),
    /// A host's disk is copied.
    Snapshot(usize),
    /// A host's disk becomes what it was when it was copied.
    RollBack(usize),
}

/// What a host's clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum HostClock {
    /// The time, or what its plan is ahead of it.
    #[default]
    Right,
    /// It began in 1970 when the simulation began.
    Epoch,
    /// A year ago.
    YearBehind,
    /// It is in 2040.
    In2040,
}

impl HostClock {
    /// What it says when it is `now`.
    pub(super) fn wall(self, now: Millis) -> Millis {
        match self {
            Self::Right => now,
            Self::Epoch => now - START,
            Self::YearBehind => now - YEAR,
            Self::In2040 => IN_2040 + now.since(START),
        }
    }
}

/// What operators do.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// Sets the trust root, by its place in the publisher's list.
    PutRoot(usize),
    /// Publishes a release, by its place in the publisher's list.
    Publish(usize),
    /// Makes a join token, by its number.
    CreateToken(usize),
    /// Starts a run.
    Start(StartRun),
    /// Cancels a run.
    Cancel(RunId),
    /// Withdraws a host's identity.
    Revoke(usize),
    /// Begins a rollout, or does something to one.
    Rollout(Box<RolloutRequest>),
    /// Publishes a release of the agent, by its place in the publisher's list.
    PublishAgent(usize),
    /// Orders a host to go to a release of the agent.
    Assign {
        /// Which host.
        host: usize,
        /// The release, by its place in the publisher's list.
        release: usize,
    },
    /// Looks at agents and bundles.
    Look,
}

impl Scenario {
    /// What `seed` means. One in eight goes without faults, one in ten over days.
    pub(super) fn draw(random: &mut Random) -> Self {
        let calm = random.below(8) == 0;
        let days = random.below(10) == 0;
        let small = random.below(4) == 0;
        let count = if days { 2 + random.below(2) } else { 2 + random.below(HOSTS_MAX - 1) };
        let hosts: Vec<_> = (0..count).map(|index| host(index, days, small, random)).collect();
        let horizon = if days { LONG_HORIZON } else { SHORT_HORIZON };
        let faults = if calm { Faults::default() } else { faults(days, random) };
        let mut actions = operations(&hosts, horizon, random);
        if !calm {
            mishaps(&mut actions, hosts.len(), horizon, days, random);
        }
        actions.sort_by_key(|(at, _)| *at);
        let (commit_max, delay_max) = (1 + random.below(20), 2 + random.below(300));
        Self { hosts, faults, horizon, actions, commit_max, delay_max }
    }
}

fn host(index: u64, days: bool, small: bool, random: &mut Random) -> HostPlan {
    let role = ["web", "db"][pick(random, 2)];
    let seconds = |random: &mut Random, from: u64, to: u64| Millis::from_secs(from + random.below(to - from));
    let pacing = match (days, random.below(3)) {
        (false, 0) => Pacing::Interval(seconds(random, 20, 300)),
        (false, _) => Pacing::Hold(seconds(random, 30, 300)),
        (true, 0) => Pacing::Interval(seconds(random, 600, 3600)),
        (true, _) => Pacing::Hold(Millis::from_secs(300)),
    };
    let index_of_token = if random.below(2) == 0 { 0 } else { 1 + usize::try_from(index).unwrap_or(0) };
    HostPlan {
        name: format!("host-{index}"),
        labels: [("role".to_owned(), role.to_owned())].into(),
        pacing,
        runs_max: 1 + pick(random, 3),
        outbox: if small { [6_000, 300] } else { [1 << 20, 1 << 19] },
        ahead: if random.below(3) == 0 { random.below(40_000) } else { 0 },
        token: index_of_token,
        rules: rules(random),
    }
}

/// One host in eight takes no updates, and one only at night, which never comes.
fn rules(random: &mut Random) -> UpdateRules {
    let why = |what: &str| Some(what.to_owned());
    match random.below(8) {
        0 => UpdateRules { held: why("updates are held"), ..UpdateRules::default() },
        1 => UpdateRules { waits: why("its window is closed"), ..UpdateRules::default() },
        _ => UpdateRules::default(),
    }
}

fn faults(days: bool, random: &mut Random) -> Faults {
    let mut rate = |max: u64| if random.below(2) == 0 { random.below(max) } else { 0 };
    let slow = if days { 5 } else { 1 };
    Faults {
        loss: rate(200),
        host_crash: rate(20) / slow,
        center_crash: rate(10) / slow,
        worker_death: rate(300),
        forgery: if rate(3) == 1 { 300 } else { 0 },
        late_answers: rate(1000),
    }
}

fn operations(hosts: &[HostPlan], horizon: Millis, random: &mut Random) -> Vec<(Millis, Action)> {
    let mut operations = vec![(START, Operation::PutRoot(0)), (START, Operation::Publish(0))];
    for root in 1..1 + pick(random, publisher().roots.len()) {
        let at = START + Millis::from_u64(random.below(horizon.as_u64()));
        operations.push((at, Operation::PutRoot(root)));
    }
    let mut tokens: Vec<usize> = hosts.iter().map(|host| host.token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    operations.extend(tokens.into_iter().map(|token| (START + Millis::from_secs(1), Operation::CreateToken(token))));
    for release in 1..publisher().releases.len() {
        // Releases are made in the order of their counters, though not always published in it.
        let late = random.below(horizon.as_u64() / 2) * u64::from(random.below(2) == 0);
        operations.push((START + Millis::from_secs(2) + Millis::from_u64(late), Operation::Publish(release)));
    }
    for number in 0..4 + random.below(20) {
        let at = START + Millis::from_secs(5) + Millis::from_u64(random.below(horizon.as_u64()));
        let start = start_run(number, at, random);
        if random.below(5) == 0 {
            let after = at + Millis::from_u64(random.below(10 * MINUTE));
            operations.push((after, Operation::Cancel(start.run)));
        }
        operations.push((at, Operation::Start(start)));
    }
    if random.below(4) == 0 {
        let at = START + Millis::from_u64(random.below(horizon.as_u64()));
        operations.push((at, Operation::Revoke(pick(random, hosts.len()))));
    }
    operations.push((START + Millis::from_u64(random.below(horizon.as_u64())), Operation::Look));
    roll_out(&mut operations, horizon, random);
    update(&mut operations, hosts.len(), horizon, random);
    operations.into_iter().map(|(at, operation)| (at, Action::Operate(operation))).collect()
}

/// Releases of the agent, and in one of two orders to go to them: also of those that are not published yet.
fn update(operations: &mut Vec<(Millis, Operation)>, hosts: usize, horizon: Millis, random: &mut Random) {
    let releases = publisher().agent_releases.len();
    let mut at = START + Millis::from_secs(2);
    for release in 0..releases {
        operations.push((at, Operation::PublishAgent(release)));
        at = at + Millis::from_u64(random.below(horizon.as_u64() / 4));
    }
    if random.below(2) == 0 {
        return;
    }
    for _ in 0..4 + random.below(8) {
        let at = START + Millis::from_secs(30) + Millis::from_u64(random.below(horizon.as_u64()));
        operations.push((at, Operation::Assign { host: pick(random, hosts), release: pick(random, releases) }));
    }
}

/// Rollouts, in half of the simulations.
fn roll_out(operations: &mut Vec<(Millis, Operation)>, horizon: Millis, random: &mut Random) {
    for number in 0..random.below(5).saturating_sub(1) {
        let at = START + Millis::from_secs(5) + Millis::from_u64(random.below(horizon.as_u64()));
        operations.push((at, Operation::Rollout(Box::new(rollouts::create(number, random)))));
        for _ in 0..random.below(5) {
            let after = at + Millis::from_u64(random.below(20 * MINUTE));
            operations.push((after, Operation::Rollout(Box::new(rollouts::act(number, random)))));
        }
    }
}

fn start_run(number: u64, at: Millis, random: &mut Random) -> StartRun {
    let ttl = [30_000, 10 * MINUTE, 2 * HOUR, 4 * DAY][pick(random, 4)];
    StartRun {
        run: RunId::new(at, u128::from(number)),
        bundle: ["app", "app", "web", "short"][pick(random, 4)].to_owned(),
        version: None,
        workflow: None,
        selector: ["*", "role=web", "role!=web", "site=hall", "name=host-1"][pick(random, 5)].to_owned(),
        values: r#"{"colour":"green"}"#.to_owned(),
        ttl: Millis::from_u64(ttl),
    }
}

fn mishaps(actions: &mut Vec<(Millis, Action)>, hosts: usize, horizon: Millis, days: bool, random: &mut Random) {
    let mut add = |at: Millis, action| actions.push((at, action));
    let longest = if days { DAY } else { 10 * MINUTE };
    let when = |random: &mut Random| START + Millis::from_u64(random.below(horizon.as_u64()));
    for _ in 0..random.below(8) {
        let (at, host, span) = (when(random), pick(random, hosts), 1 + random.below(longest));
        let action = match random.below(6) {
            0 => Action::CrashHost(host, span),
            1 => Action::CrashCenter(span.min(10 * MINUTE)),
            2 | 3 => Action::Partition(host, span),
            4 => Action::HostDiskFull(host, span.min(2 * MINUTE)),
            _ => Action::CenterDiskFull(span.min(MINUTE)),
        };
        add(at, action);
    }
    for _ in 0..random.below(3) {
        let (host, at) = (pick(random, hosts), when(random));
        let clock = [HostClock::Epoch, HostClock::YearBehind, HostClock::In2040][pick(random, 3)];
        add(at, Action::SetClock(host, clock));
        add(at + Millis::from_u64(random.below(longest)), Action::SetClock(host, HostClock::Right));
    }
    if random.below(5) == 0 {
        let (host, at) = (pick(random, hosts), when(random));
        add(at, Action::Snapshot(host));
        add(at + Millis::from_u64(random.below(20 * MINUTE)), Action::RollBack(host));
    }
}

fn pick(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(u64::try_from(bound).unwrap_or(u64::MAX))).unwrap_or(0)
}
