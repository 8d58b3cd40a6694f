//! What operators ask about rollouts.

use std::fmt;

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Millis, RolloutId};
use sloth_trust::{BundleName, Channel};

/// One question or order about rollouts. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutRequest {
    /// Begins a rollout. Answered by [`RolloutResponse::Rollout`].
    Create(RolloutSpec),
    /// Which hosts would fall into which wave? Answered by [`RolloutResponse::Plan`].
    Plan {
        /// Of which rollout.
        spec: RolloutSpec,
        /// The last row of the page before.
        after: Option<AgentId>,
    },
    /// Every rollout that is kept, newest first. Answered by [`RolloutResponse::Rollouts`].
    List,
    /// One rollout by its name. Answered by [`RolloutResponse::Rollout`].
    Show(String),
    /// The hosts of a rollout in order of their ids. Answered by [`RolloutResponse::Hosts`].
    Hosts {
        /// The rollout's name.
        name: String,
        /// The last row of the page before.
        after: Option<AgentId>,
    },
    /// Changes how a rollout stands. Answered by [`RolloutResponse::Rollout`].
    Act {
        /// The rollout's name.
        name: String,
        /// How.
        action: RolloutAction,
    },
}

/// One answer about rollouts. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutResponse {
    /// Who would fall into which wave.
    Plan(RolloutPlan),
    /// The rollouts.
    Rollouts(Vec<RolloutSummary>),
    /// One rollout.
    Rollout(Box<RolloutView>),
    /// Hosts of a rollout.
    Hosts(HostsPage),
}

/// What an operator may do to a rollout. Tags only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutAction {
    /// Let the next wave begin.
    Approve(Passing),
    /// Assign nothing until it is resumed.
    Pause,
    /// Go on after a pause or a halt.
    Resume(Resume),
    /// End it where it stands.
    Abort,
    /// Take the hosts that it changed back to the release before.
    RollBack,
}

/// What an approval says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Passing {
    /// The next wave may begin when this one is proven.
    Proven,
    /// The next wave may begin although nothing, or too little, proves this one.
    Unproven,
}

/// With what a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resume {
    /// With the same release: hosts that failed or fell silent are tried again.
    Same,
    /// With the newest release, from the first wave on.
    Newest,
}

/// What shall reach whom, and how carefully.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// What it is called; unique among the rollouts that are kept.
    pub name: String,
    /// What is rolled out.
    pub what: RolloutWhat,
    /// Which hosts.
    pub selector: String,
    /// In which steps.
    pub waves: Vec<WaveSpec>,
    /// How many members of a wave may fail or fall silent before the rollout halts.
    pub errors_per_wave: Share,
    /// How many of all hosts may.
    pub errors_in_all: Share,
    /// How many hosts may be changed and unproven at a time; at least one.
    pub unproven_max: Share,
    /// How large a part of a wave's members must be proven before the next wave; one host always.
    pub proven_min: Share,
    /// When hosts may be assigned; always when there is none.
    pub windows: Vec<WindowSpec>,
    /// A host that was assigned and is not heard of for so many of its own rhythms is silent.
    pub silent_after: u32,
    /// How long a host may take from its assignment; for a release of the agent, until it begins.
    pub timeout: Millis,
    /// What follows a halt.
    pub on_halt: OnHalt,
}

/// What is rolled out. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutWhat {
    /// A release of a bundle, which every host runs once.
    Bundle(RolloutBundle),
    /// A release of the agent, to which every host goes.
    Agent(RolloutAgent),
}

/// A release of a bundle and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutBundle {
    /// The bundle.
    pub name: String,
    /// Its release for people, which must be the newest; none for the newest.
    pub version: Option<String>,
    /// One workflow of the bundle, or all in their order.
    pub workflow: Option<String>,
    /// A JSON object.
    pub values: String,
}

/// A release of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutAgent {
    /// The release for people; of several the newest.
    pub version: String,
    /// The channel that it was published in; none for any.
    pub channel: Option<String>,
}

/// One step of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveSpec {
    /// Who is in it.
    pub members: WaveMembers,
    /// How long a host must be well after its success before it counts as proven.
    pub soak: Millis,
    /// Whether an operator must let it begin.
    pub approval: Approval,
}

/// Who is in a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaveMembers {
    /// So many of the hosts that no wave takes by label, those of earlier waves included.
    UpTo(Share),
    /// Every host that a selector matches.
    Labelled(String),
}

/// Whether an operator must let a wave begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// It begins by itself.
    NotNeeded,
    /// It waits for `rollout approve`.
    Needed,
}

/// What follows a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnHalt {
    /// Nothing: an operator decides.
    Stop,
    /// The hosts that were changed go back to the release before.
    RollBack,
}

/// A number of hosts, or a part of some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many hundredths of a percent: 10,000 is everything.
    Hundredths(u32),
}

/// When hosts may be assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// The days on which it opens: bit 0 is Monday, bit 6 Sunday.
    pub days: u8,
    /// The minute of the day at which it opens.
    pub from: u16,
    /// The minute of the day at which it closes; of the day after where it is not after `from`.
    pub until: u16,
    /// What the time zone is called.
    pub zone: String,
    /// Its rules as POSIX writes them in `TZ`, such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub rules: String,
}

/// Who would fall into which wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// The release for people that it would bring.
    pub version: String,
    /// How many hosts each wave would have, and how many of them are out of reach at this moment.
    pub waves: Vec<WaveView>,
    /// Some of the hosts.
    pub page: HostsPage,
}

/// Some hosts of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsPage {
    /// At most [`super::PAGE_ROWS_MAX`] rows.
    pub hosts: Vec<HostView>,
    /// Whether there are more.
    pub more: bool,
}

/// A host of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Who.
    pub agent: AgentId,
    /// Its name.
    pub name: String,
    /// Its wave, from 1.
    pub wave: u32,
    /// How it stands, as one word for programs.
    pub standing: String,
    /// Whether it is heard of as often as it usually is.
    pub in_reach: bool,
    /// The run that changes it, as text; empty where there is none.
    pub run: String,
    /// Why it stands so, where that is known; else empty.
    pub reason: String,
}

/// How a rollout stands. Tags only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RolloutStatus {
    /// It goes on by itself as its waves are proven.
    Running,
    /// An operator paused it.
    Paused,
    /// It stopped by itself: its view says why.
    Halted,
    /// It takes hosts back to the release before.
    RollingBack,
    /// It has taken back every host that could be reached.
    RolledBack,
    /// Every host in reach has the release; those that come back or join get it.
    Complete,
    /// An operator ended it.
    Aborted,
    /// A later rollout of the same thing has taken its place.
    Superseded,
}

/// What a rollout brings releases of. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutSubject {
    /// A bundle.
    Bundle(BundleName),
    /// The agent, in one channel.
    Agent(Channel),
}

/// A rollout in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Which one.
    pub id: RolloutId,
    /// What it is called.
    pub name: String,
    /// What it brings.
    pub subject: RolloutSubject,
    /// Its release for people.
    pub version: String,
    /// Its release for machines.
    pub counter: u64,
    /// Which hosts.
    pub selector: String,
    /// Who began it.
    pub operator: String,
    /// When.
    pub created: Millis,
    /// How it stands.
    pub status: RolloutStatus,
    /// Since when.
    pub since: Millis,
    /// How many waves it has.
    pub waves: u32,
    /// How many of them have begun.
    pub open: u32,
    /// How the hosts stand.
    pub hosts: WaveCounts,
}

/// How many hosts stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WaveCounts {
    /// All of them.
    pub members: u32,
    /// Not assigned, and in reach.
    pub waiting: u32,
    /// Not assigned, and out of reach.
    pub away: u32,
    /// Assigned, and not done.
    pub under_way: u32,
    /// Done with success, and not yet proven.
    pub soaking: u32,
    /// Proven.
    pub proven: u32,
    /// Failed.
    pub failed: u32,
    /// Assigned, and not heard of since for too long.
    pub silent: u32,
    /// On their way back to the release before.
    pub returning: u32,
    /// Back at the release before.
    pub returned: u32,
    /// Failed on their way back.
    pub not_returned: u32,
    /// Left as they are, by rules of their own.
    pub held: u32,
}

/// A wave as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveView {
    /// What it was asked to be.
    pub spec: WaveSpec,
    /// How its hosts stand.
    pub counts: WaveCounts,
}

/// Why a rollout waits, or halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// For programs: one word.
    pub code: String,
    /// For people: one sentence.
    pub text: String,
}

/// A rollout as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutView {
    /// The line of the listing.
    pub summary: RolloutSummary,
    /// Its waves.
    pub waves: Vec<WaveView>,
    /// Why it waits, or halted.
    pub reasons: Vec<ReasonView>,
    /// What it was asked to be.
    pub spec: RolloutSpec,
    /// How often it began anew with another release, from 1.
    pub attempt: u32,
}

impl fmt::Display for RolloutSubject {
    /// The name of the bundle, or `agent` and its channel where that is not the usual one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(name) => f.write_str(name.as_str()),
            Self::Agent(channel) if *channel == Channel::default() => f.write_str("agent"),
            Self::Agent(channel) => write!(f, "agent ({channel})"),
        }
    }
}
