//! Updates of this host's agent: the supervisor, what it keeps, and what is staged for it.
//!
//! What is decided is in `sloth_protocol::update`. Versions are in `versions/` of the agent's directory; the package's
//! own program is never changed, and is what runs when nothing else can.

pub(crate) mod child;
pub mod control;
pub mod elf;
pub mod log;
mod marker_file;
pub(crate) mod memory;
mod notify;
pub mod rules;
pub mod settings;
pub mod stage;
pub mod supervised;
pub mod supervisor;
mod versions;

use std::fmt;

use serde::{Deserialize, Serialize};
pub use sloth_protocol::update::UpdateOutcome;
use sloth_protocol::update::{Marker, Request, Slot, Version};

use crate::paths::Paths;

/// How updates of a host stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// The package's version when the supervisor last looked.
    pub packaged: Version,
    /// The version that runs when none is on trial.
    pub current: Version,
    /// The version before it.
    pub previous: Option<Version>,
    /// The version on trial.
    pub trial: Option<Version>,
    /// How often that was started.
    pub starts: u32,
    /// The version that could not connect, and is tried again.
    #[serde(default)]
    pub put_off: Option<PutOffVersion>,
    /// Versions that are not tried again, and why.
    pub bad: Vec<BadVersion>,
    /// What became of the last update.
    pub last: Option<UpdateOutcome>,
    /// Whether updates are held.
    pub held: bool,
}

/// A version that could not connect, and is tried again once the version before it is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOffVersion {
    /// Which.
    pub version: Version,
    /// What it did not do.
    pub reason: String,
    /// How often it was on trial.
    pub rounds: u32,
}

/// A version that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadVersion {
    /// Which.
    pub version: Version,
    /// Why.
    pub reason: String,
}

impl fmt::Display for PutOffVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, rounds, .. } = self;
        write!(f, "{reason}, and is tried again once the version before is connected; trials so far: {rounds}")
    }
}

/// What became of an update and was not acknowledged yet, the oldest first. Nothing is changed: it is given again until
/// [`acknowledge`] was called with its number.
#[must_use]
pub fn outcome(paths: &Paths) -> Option<UpdateOutcome> {
    marker_file::look(paths)?.outcome().cloned()
}

/// Tells the supervisor that the outcomes up to `number` are stored elsewhere. Blocks.
///
/// # Errors
///
/// When there is no supervisor.
pub fn acknowledge(paths: &Paths, number: u64) -> Result<(), control::ControlError> {
    control::ask(&paths.supervisor_socket(), &Request::Acknowledge(number)).map(drop)
}

/// How updates stand; none on a host that never had a supervisor.
#[must_use]
pub fn status(paths: &Paths) -> Option<UpdateStatus> {
    let marker = marker_file::look(paths)?;
    let version = |slot: &Slot| marker.version(slot);
    let Marker { current, previous, trial, put_off, bad, outcomes, .. } = &marker;
    let put_off = put_off.as_ref().map(|put_off| PutOffVersion {
        version: version(&put_off.to),
        reason: put_off.reason.clone(),
        rounds: put_off.rounds,
    });
    Some(UpdateStatus {
        packaged: marker.packaged.clone(),
        current: version(current),
        previous: previous.as_ref().map(version),
        trial: trial.as_ref().map(|trial| version(&trial.to)),
        starts: trial.as_ref().map_or(0, |trial| trial.starts),
        put_off,
        bad: bad.iter().map(|bad| BadVersion { version: bad.version.clone(), reason: bad.reason.clone() }).collect(),
        last: outcomes.last().cloned(),
        held: rules::is_held(paths),
    })
}
