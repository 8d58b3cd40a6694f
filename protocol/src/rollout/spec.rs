//! What an operator asks for, checked and read.

use sloth_core::{Millis, Selector, excerpt, labels::LabelError};

use super::{
    UPDATE_ENDS,
    share::EVERYTHING,
    window::{Window, WindowError},
};
use crate::wire::{Approval, OnHalt, RolloutSpec, RolloutWhat, Share, WaveMembers, WaveSpec};

/// Most waves of a rollout.
pub const WAVES_MAX: usize = 32;
/// Most windows of a rollout.
pub const WINDOWS_MAX: usize = 16;
/// Most characters of a rollout's name.
pub const NAME_CHARS_MAX: usize = 128;
/// Longest that a host may be watched after its success.
pub const SOAK_MAX: Millis = Millis::from_secs(30 * 24 * 3600);
/// Shortest and longest time that a host may take.
pub const TIMEOUT_MIN: Millis = Millis::from_secs(10);
/// See [`TIMEOUT_MIN`].
pub const TIMEOUT_MAX: Millis = Millis::from_secs(30 * 24 * 3600);
/// Fewest and most rhythms of its own after which a host is silent.
pub const SILENT_AFTER_MIN: u32 = 2;
/// See [`SILENT_AFTER_MIN`].
pub const SILENT_AFTER_MAX: u32 = 1000;

/// A rollout's specification in which everything was read and makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Which hosts.
    pub selector: Selector,
    /// Invariant: at least one; shares rise and the last wave takes everything.
    pub waves: Vec<Wave>,
    /// See [`RolloutSpec::errors_per_wave`].
    pub errors_per_wave: Share,
    /// See [`RolloutSpec::errors_in_all`].
    pub errors_in_all: Share,
    /// See [`RolloutSpec::unproven_max`].
    pub unproven_max: Share,
    /// See [`RolloutSpec::proven_min`].
    pub proven_min: Share,
    /// See [`RolloutSpec::windows`].
    pub windows: Vec<Window>,
    /// See [`RolloutSpec::silent_after`].
    pub silent_after: u32,
    /// How long a host may take from its assignment: an update that was begun in time gets [`UPDATE_ENDS`] more.
    pub timeout: Millis,
    /// See [`RolloutSpec::on_halt`].
    pub on_halt: OnHalt,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// Who is in it.
    pub members: Members,
    /// See [`WaveSpec::soak`].
    pub soak: Millis,
    /// See [`WaveSpec::approval`].
    pub approval: Approval,
}

/// Who is in a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// See [`WaveMembers::UpTo`].
    UpTo(Share),
    /// See [`WaveMembers::Labelled`].
    Labelled(Selector),
}

/// Why a specification was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The name.
    #[error(
        "`{name}` cannot be a rollout's name: it takes 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_`, `.` and `/`"
    )]
    Name {
        /// The start of what was given.
        name: String,
    },
    /// A selector.
    #[error(transparent)]
    Selector(#[from] LabelError),
    /// How many waves there are.
    #[error("a rollout has 1 to {WAVES_MAX} waves, not {waves}")]
    Waves {
        /// How many.
        waves: usize,
    },
    /// A wave that is no larger than the one before.
    #[error("the wave `{share}` takes no more than the one before it: shares and counts rise, each over those before")]
    Falling {
        /// The wave.
        share: Share,
    },
    /// A part of more than everything.
    #[error("`{share}` is more than everything: a percentage is at most 100%")]
    Part {
        /// The share.
        share: Share,
    },
    /// Not everybody is in a wave.
    #[error("the last wave must take everybody that the selector matches: end the waves with `100%`")]
    Open,
    /// A soak that is too long.
    #[error("a wave soaks for 30 days at most")]
    Soak,
    /// Nobody could be changed.
    #[error("at least one host must be allowed to be unproven at a time")]
    Unproven,
    /// How long a host may take.
    #[error("a host is given between 10 seconds and 30 days")]
    Timeout,
    /// When a host is silent.
    #[error("a host is silent after {SILENT_AFTER_MIN} to {SILENT_AFTER_MAX} of its own rhythms")]
    SilentAfter,
    /// How many windows there are.
    #[error("a rollout has {WINDOWS_MAX} windows at most")]
    Windows,
    /// A window.
    #[error(transparent)]
    Window(#[from] WindowError),
}

impl Spec {
    /// Reads a specification.
    ///
    /// # Errors
    ///
    /// The first thing in it that makes no sense.
    pub fn new(spec: &RolloutSpec) -> Result<Self, SpecError> {
        check_name(&spec.name)?;
        if spec.waves.is_empty() || WAVES_MAX < spec.waves.len() {
            return Err(SpecError::Waves { waves: spec.waves.len() });
        }
        for share in [spec.errors_per_wave, spec.errors_in_all, spec.unproven_max, spec.proven_min] {
            check_share(share)?;
        }
        if matches!(spec.unproven_max, Share::Count(0) | Share::Hundredths(0)) {
            return Err(SpecError::Unproven);
        }
        if spec.timeout < TIMEOUT_MIN || TIMEOUT_MAX < spec.timeout {
            return Err(SpecError::Timeout);
        }
        if spec.silent_after < SILENT_AFTER_MIN || SILENT_AFTER_MAX < spec.silent_after {
            return Err(SpecError::SilentAfter);
        }
        if WINDOWS_MAX < spec.windows.len() {
            return Err(SpecError::Windows);
        }
        let waves = spec.waves.iter().map(Wave::new).collect::<Result<Vec<_>, _>>()?;
        check_order(&waves)?;
        Ok(Self {
            selector: spec.selector.parse()?,
            waves,
            errors_per_wave: spec.errors_per_wave,
            errors_in_all: spec.errors_in_all,
            unproven_max: spec.unproven_max,
            proven_min: spec.proven_min,
            windows: spec.windows.iter().map(Window::new).collect::<Result<_, _>>()?,
            silent_after: spec.silent_after,
            timeout: match spec.what {
                RolloutWhat::Bundle(_) => spec.timeout,
                RolloutWhat::Agent(_) => spec.timeout + UPDATE_ENDS,
            },
            on_halt: spec.on_halt,
        })
    }

    /// How many of `hosts` may be changed and unproven at a time.
    #[must_use]
    pub fn unproven_of(&self, hosts: usize) -> usize {
        self.unproven_max.at_most(hosts).max(1)
    }
}

impl Wave {
    fn new(spec: &WaveSpec) -> Result<Self, SpecError> {
        if SOAK_MAX < spec.soak {
            return Err(SpecError::Soak);
        }
        let members = match &spec.members {
            WaveMembers::UpTo(share) => {
                check_share(*share)?;
                Members::UpTo(*share)
            }
            WaveMembers::Labelled(selector) => Members::Labelled(selector.parse()?),
        };
        Ok(Self { members, soak: spec.soak, approval: spec.approval })
    }

    const fn share(&self) -> Option<Share> {
        match &self.members {
            Members::UpTo(share) => Some(*share),
            Members::Labelled(_) => None,
        }
    }
}

fn check_name(name: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if name.is_empty() || NAME_CHARS_MAX < name.len() || !name.chars().all(fits) {
        return Err(SpecError::Name { name: excerpt(name) });
    }
    Ok(())
}

fn check_share(share: Share) -> Result<(), SpecError> {
    match share {
        Share::Hundredths(part) if EVERYTHING < part => Err(SpecError::Part { share }),
        Share::Hundredths(_) | Share::Count(_) => Ok(()),
    }
}

/// Shares of one kind rise. Of a count and a percentage nobody can say beforehand which one is larger.
fn check_order(waves: &[Wave]) -> Result<(), SpecError> {
    let (mut count, mut part) = (0, 0);
    for share in waves.iter().filter_map(Wave::share) {
        let (before, this) = match share {
            Share::Count(this) => (&mut count, this),
            Share::Hundredths(this) => (&mut part, this),
        };
        if this <= *before {
            return Err(SpecError::Falling { share });
        }
        *before = this;
    }
    let last = waves.last().and_then(Wave::share);
    if last.is_some_and(Share::is_everything) { Ok(()) } else { Err(SpecError::Open) }
}
