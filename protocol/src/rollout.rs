//! Rollouts: who gets a release next, and why nobody does.
//!
//! A plan is a value: [`plan`] looks at how every host stands and gives one [`Verdict`], which the coordinator's
//! machine carries out without a choice of its own, notes on the disk, and then asks again. Nothing is remembered
//! here, so a rollout goes on after a restart as if nothing had been.
//!
//! - **Evidence moves a wave on, never time alone.** A host is proven when it has succeeded *and was heard of after
//!   its soak*. A wave is passed when nobody in reach is left to do or to watch in it, at least one member is proven,
//!   and the share that was asked for is.
//! - **Silence is failure.** An assigned host that is not heard of for several of its own rhythms counts as failed
//!   until it is heard of again. One that was not assigned is no failure: it waits, and is said.
//! - **A host's own rules win.** One that they keep from a release of the agent is held: it is neither changed nor failed,
//!   holds nobody up, is said, and is asked again later.
//! - **Who is out of reach does not hold others up.** It is assigned when it comes back, in its own wave, by the rules
//!   of that day; so is a host that joins the fleet later.

mod reason;
mod share;
mod spec;
mod verdict;
mod waves;
mod window;

pub use reason::{Halt, Reason};
pub use share::EVERYTHING;
pub use spec::{
    Members, NAME_CHARS_MAX, SILENT_AFTER_MAX, SILENT_AFTER_MIN, SOAK_MAX, Spec, SpecError, TIMEOUT_MAX, TIMEOUT_MIN,
    WAVES_MAX, WINDOWS_MAX, Wave,
};
pub use verdict::{Plan, Verdict, plan};
pub use waves::{Cuts, Place};
pub use window::{DAY_MINUTES, Window, WindowError};

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Millis};

use crate::wire::{RolloutStatus, WaveCounts};

/// The rhythm of a host of which it is not known.
pub const RHYTHM_UNKNOWN: Millis = Millis::from_secs(900);
/// The slowest rhythm that is believed: whoever is away for longer was away.
pub const RHYTHM_MAX: Millis = Millis::from_secs(24 * 3600);
/// A host that lost its connection gets this long to come back, whatever its rhythm.
pub const RETURN_SLACK: Millis = Millis::from_secs(30);
/// A host that was heard of within so many of its rhythms is in reach.
pub const REACH_RHYTHMS: u64 = 2;

/// A host that its own rules held back is asked again after this.
pub const HELD_RETRY: Millis = Millis::from_secs(6 * 3600);
/// Beside the time in which hosts begin an update, they get this long for its trial and to say what came of it.
pub const UPDATE_ENDS: Millis = Millis::from_secs(3600);

/// A rollout and its hosts at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The time.
    pub now: Millis,
    /// What was asked for.
    pub spec: &'a Spec,
    /// How it stands.
    pub progress: Progress,
    /// Everybody it is for, in whatever order.
    pub hosts: &'a [Host],
}

/// How far a rollout has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How it stands.
    pub status: RolloutStatus,
    /// How many waves have begun. It only grows.
    pub open: usize,
    /// How many waves operators have let begin.
    pub approved: usize,
    /// How many waves may be passed over without proof.
    pub passed: usize,
}

/// A host in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Who.
    pub id: AgentId,
    /// Its wave, from 0.
    pub wave: usize,
    /// Its place, by which it is chosen within its wave.
    pub place: Place,
    /// How it stands.
    pub standing: Standing,
    /// What is known of its coming and going.
    pub contact: Contact,
}

/// How a host stands in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It was not assigned.
    Waiting,
    /// It was assigned, and is not done.
    Assigned {
        /// When; later when it came back from silence.
        at: Millis,
    },
    /// It is done with success, and has yet to show that it is well.
    Succeeded {
        /// When.
        at: Millis,
    },
    /// It was heard of after its soak.
    Proven,
    /// It failed, or took too long.
    Failed,
    /// Its own rules are against it, so that it was not changed.
    Held {
        /// When it said so.
        at: Millis,
    },
    /// It was assigned and is not heard of.
    Silent {
        /// When it was given up.
        at: Millis,
        /// When it had succeeded, if it had.
        succeeded: Option<Millis>,
    },
    /// It was told to go back to the release before.
    Returning {
        /// When.
        at: Millis,
    },
    /// It is back at the release before.
    Returned,
    /// It failed to go back, or took too long.
    NotReturned,
}

/// What is known of a host's coming and going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Whether it is connected.
    pub presence: Presence,
    /// When it was last heard of, if that is known; now when it is connected.
    pub heard: Option<Millis>,
    /// From when on its silence counts: not before the coordinator itself began to listen.
    pub quiet_from: Millis,
    /// How long it usually is between two signs of life.
    pub rhythm: Millis,
}

/// Whether a host is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Connected,
    /// It is not: it comes by itself.
    Gone,
}

impl Contact {
    /// Whether a host would hear of an assignment about as soon as it usually hears of anything.
    #[must_use]
    pub fn in_reach(&self, now: Millis) -> bool {
        let within = times(self.rhythm, REACH_RHYTHMS) + RETURN_SLACK;
        self.presence == Presence::Connected || self.heard.is_some_and(|heard| now.since(heard) <= within)
    }

    /// When a host that was last expected at `from` is silent, if it is not heard of before; never while connected.
    #[must_use]
    pub fn silent_at(&self, from: Millis, silent_after: u32) -> Option<Millis> {
        let last = from.max(self.quiet_from).max(self.heard.unwrap_or(Millis::ZERO));
        let patience = times(self.rhythm, u64::from(silent_after)) + RETURN_SLACK;
        (self.presence == Presence::Gone).then(|| last + patience)
    }
}

impl Standing {
    /// Whether a host may have been changed by the rollout.
    #[must_use]
    pub const fn is_changed(self) -> bool {
        match self {
            Self::Waiting | Self::Held { .. } => false,
            Self::Assigned { .. }
            | Self::Succeeded { .. }
            | Self::Proven
            | Self::Failed
            | Self::Silent { .. }
            | Self::Returning { .. }
            | Self::Returned
            | Self::NotReturned => true,
        }
    }

    /// Whether a host counts as changed and unproven.
    #[must_use]
    pub const fn is_unproven(self) -> bool {
        match self {
            Self::Assigned { .. } | Self::Succeeded { .. } | Self::Failed | Self::Silent { .. } => true,
            Self::Waiting
            | Self::Held { .. }
            | Self::Proven
            | Self::Returning { .. }
            | Self::Returned
            | Self::NotReturned => false,
        }
    }

    /// One word for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Assigned { .. } => "under_way",
            Self::Succeeded { .. } => "soaking",
            Self::Proven => "proven",
            Self::Failed => "failed",
            Self::Held { .. } => "held",
            Self::Silent { .. } => "silent",
            Self::Returning { .. } => "returning",
            Self::Returned => "returned",
            Self::NotReturned => "not_returned",
        }
    }
}

/// How the hosts of each wave stand.
#[must_use]
pub fn picture(now: Millis, waves: usize, hosts: &[Host]) -> Vec<WaveCounts> {
    let mut counts = vec![WaveCounts::default(); waves];
    for host in hosts {
        let Some(wave) = counts.get_mut(host.wave) else { continue };
        wave.members += 1;
        let count = match host.standing {
            Standing::Waiting if host.contact.in_reach(now) => &mut wave.waiting,
            Standing::Waiting => &mut wave.away,
            Standing::Assigned { .. } => &mut wave.under_way,
            Standing::Succeeded { .. } => &mut wave.soaking,
            Standing::Proven => &mut wave.proven,
            Standing::Failed => &mut wave.failed,
            Standing::Held { .. } => &mut wave.held,
            Standing::Silent { .. } => &mut wave.silent,
            Standing::Returning { .. } => &mut wave.returning,
            Standing::Returned => &mut wave.returned,
            Standing::NotReturned => &mut wave.not_returned,
        };
        *count += 1;
    }
    counts
}

/// What is learnt of a host's rhythm from one more pause between two of its polls. A pause that is far longer than
/// those before is an absence, and counts as a slower rhythm only when it comes again and again.
#[must_use]
pub fn learned(rhythm: Option<Millis>, pause: Millis) -> Millis {
    let learned = match rhythm {
        None => pause,
        Some(rhythm) if pause <= rhythm => pause.max(rhythm - Millis::from_u64(rhythm.as_u64() / 8)),
        Some(rhythm) => pause.min(rhythm + Millis::from_u64(rhythm.as_u64() / 2 + 1)),
    };
    learned.min(RHYTHM_MAX)
}

const fn times(span: Millis, count: u64) -> Millis {
    Millis::from_u64(span.as_u64().saturating_mul(count))
}
