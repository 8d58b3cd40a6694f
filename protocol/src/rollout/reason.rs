//! Why a rollout waits, and why it halts.

use std::fmt;

use serde::{Deserialize, Serialize};
use sloth_core::Millis;

/// Why a rollout waits. Waves are numbered from 0 here and from 1 in what people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// An operator paused it.
    Paused,
    /// Members of the newest wave are at work, or have yet to show that they are well.
    UnderWay {
        /// The wave.
        wave: usize,
        /// Assigned, and not done.
        under_way: usize,
        /// Done with success, and not proven.
        soaking: usize,
    },
    /// Hosts could be assigned, but as many are changed and unproven as may be.
    Full {
        /// How many may be.
        most: usize,
        /// How many hosts wait for it.
        waiting: usize,
    },
    /// Hosts could be assigned, but no window is open.
    Closed {
        /// When one opens.
        opens: Option<Millis>,
        /// How many hosts wait for it.
        waiting: usize,
    },
    /// Members of the newest wave are out of reach.
    Away {
        /// The wave.
        wave: usize,
        /// How many.
        hosts: usize,
    },
    /// Members of the newest wave are held back by rules of their own.
    Held {
        /// The wave.
        wave: usize,
        /// How many.
        hosts: usize,
    },
    /// Nothing shows that the wave is well.
    NoEvidence {
        /// The wave.
        wave: usize,
        /// How many hosts are in it.
        members: usize,
    },
    /// Too few members of the wave are proven.
    TooFew {
        /// The wave.
        wave: usize,
        /// How many are.
        proven: usize,
        /// How many must be.
        wanted: usize,
    },
    /// An operator must let the next wave begin.
    Approval {
        /// The wave that would begin.
        wave: usize,
    },
    /// Hosts are on their way back to the release before.
    Returning {
        /// How many.
        hosts: usize,
    },
    /// Hosts that would go back are out of reach.
    ReturningAway {
        /// How many.
        hosts: usize,
    },
    /// Hosts that would go back have not yet ended what they began.
    StillChanging {
        /// How many.
        hosts: usize,
    },
    /// The coordinator has as many runs under way as it takes.
    Busy,
}

/// Why a rollout halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Halt {
    /// More members of a wave failed or fell silent than may.
    WaveBudget {
        /// The wave, from 0.
        wave: u32,
        /// How many failed.
        failed: u32,
        /// How many fell silent.
        silent: u32,
        /// How many may.
        allowed: u32,
    },
    /// More hosts failed or fell silent than may in all.
    WholeBudget {
        /// How many failed.
        failed: u32,
        /// How many fell silent.
        silent: u32,
        /// How many may.
        allowed: u32,
    },
    /// Failed and silent hosts take all the room that changed and unproven ones have, so that nothing could follow.
    NoRoom {
        /// How many failed.
        failed: u32,
        /// How many fell silent.
        silent: u32,
        /// How many may be changed and unproven.
        most: u32,
    },
    /// The release cannot be assigned any more: why.
    Release(String),
}

impl Reason {
    /// One word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::UnderWay { .. } => "under_way",
            Self::Full { .. } => "full",
            Self::Closed { .. } => "closed",
            Self::Away { .. } => "away",
            Self::Held { .. } => "held",
            Self::NoEvidence { .. } => "no_evidence",
            Self::TooFew { .. } => "too_few",
            Self::Approval { .. } => "approval",
            Self::Returning { .. } => "returning",
            Self::ReturningAway { .. } => "returning_away",
            Self::StillChanging { .. } => "still_changing",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("paused by an operator: `rollout resume` lets it go on"),
            Self::UnderWay { wave, under_way, soaking: 0 } => {
                write!(f, "wave {}: {} at work", wave + 1, hosts(*under_way))
            }
            Self::UnderWay { wave, under_way: 0, soaking } => {
                write!(f, "wave {}: {} done, and watched until proven", wave + 1, hosts(*soaking))
            }
            Self::UnderWay { wave, under_way, soaking } => {
                let (at_work, watched) = (hosts(*under_way), hosts(*soaking));
                write!(f, "wave {}: {at_work} at work, {watched} done, and watched until proven", wave + 1)
            }
            Self::Full { most, waiting } => {
                let waiting = hosts(*waiting);
                write!(f, "{waiting} not assigned yet: at most {most} may be changed and unproven at a time")
            }
            Self::Closed { opens: Some(opens), waiting } => {
                write!(f, "{} not assigned yet: the next maintenance window opens at {opens}", hosts(*waiting))
            }
            Self::Closed { opens: None, waiting } => {
                write!(f, "{} not assigned yet: no maintenance window opens any more", hosts(*waiting))
            }
            Self::Away { wave, hosts: away } => {
                write!(f, "wave {}: {} out of reach, assigned when heard of again", wave + 1, hosts(*away))
            }
            Self::Held { wave, hosts: held } => {
                let held = hosts(*held);
                write!(
                    f,
                    "wave {}: {held} held back by rules of their own: `rollout show --hosts` says which",
                    wave + 1
                )
            }
            Self::NoEvidence { wave, members } => {
                let (wave, members) = (wave + 1, hosts(*members));
                write!(
                    f,
                    "wave {wave}: none of its {members} is proven, so nothing shows that the next may begin; `rollout approve --unproven` passes over it"
                )
            }
            Self::TooFew { wave, proven, wanted } => {
                write!(
                    f,
                    "wave {}: {proven} proven, {wanted} wanted; `rollout approve --unproven` passes over it",
                    wave + 1
                )
            }
            Self::Approval { wave } => {
                write!(f, "wave {} waits for an operator: `rollout approve` lets it begin", wave + 1)
            }
            Self::Returning { hosts: count } => {
                write!(f, "{} on the way back to the release before", hosts(*count))
            }
            Self::ReturningAway { hosts: count } => {
                write!(f, "{} out of reach, to go back when heard of again", hosts(*count))
            }
            Self::StillChanging { hosts: count } => {
                write!(f, "{} to go back when what was begun there has ended", hosts(*count))
            }
            Self::Busy => f.write_str("the coordinator has as many runs under way as it takes"),
        }
    }
}

impl Halt {
    /// One word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WaveBudget { .. } => "wave_budget",
            Self::WholeBudget { .. } => "whole_budget",
            Self::NoRoom { .. } => "no_room",
            Self::Release(_) => "release",
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaveBudget { wave, failed, silent, allowed } => {
                write!(f, "wave {}: {failed} failed and {silent} fell silent, {allowed} allowed in a wave", wave + 1)
            }
            Self::WholeBudget { failed, silent, allowed } => {
                write!(f, "{failed} failed and {silent} fell silent, {allowed} allowed in all")
            }
            Self::NoRoom { failed, silent, most } => write!(
                f,
                "{failed} failed and {silent} fell silent, which is all that may be changed and unproven at a time ({most})"
            ),
            Self::Release(why) => f.write_str(why),
        }
    }
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}
