//! What a host's supervisor decides: which version of the agent runs, and what becomes of an update.
//!
//! ```text
//! current ──switch──▶ trial ──ready, connected, soaked──▶ confirmed: it is the current one
//!                       │
//!                       └── deadline, too many starts, connection lost too often ──▶ rolled back, marked bad
//! ```
//!
//! A version that is ready and does not connect is put off: the version before takes its place, and shows by connecting, or
//! not, whether the network is at fault.
//!
//! Invariant: the current version has worked before. A version on trial is started only after that start was counted on
//! the disk, so that no crash, of whatever and whenever, starts it more often than it may be; and nothing takes the
//! current version's place until it has proven itself. Everything else may be lost with the supervisor's memory: it is
//! then decided again.

mod deeds;
mod machine;
mod marker;
mod put_off;
mod tail;
mod words;

use std::{fmt, str::FromStr};

pub use machine::Supervisor;
pub use marker::{
    BAD_MAX, Bad, MARKER_BYTES_MAX, Marker, MarkerError, OUTCOMES_MAX, PutOff, Trial, UpdateOutcome, Verdict,
};
pub use semver::Version;
use serde::{Deserialize, Serialize};
use sloth_core::Millis;
pub use tail::{TAIL_BYTES_MAX, Tail};
pub use words::{FromDaemon, LINE_BYTES_MAX, Request, ToDaemon};

/// How often a version that was confirmed may end in a row, each time sooner than a soak, until the one before it runs
/// again.
pub const FAILURES_MAX: u32 = 5;
/// Longest wait before a daemon that ended is started again.
pub const RESTART_CAP: Millis = Millis::from_secs(60);
/// The wait before what could not be written is written again.
pub const WRITE_RETRY: Millis = Millis::from_secs(5);
/// How long a daemon that once said that it is alive may say nothing; it says so at least once a minute.
pub const SILENCE_MAX: Millis = Millis::from_secs(300);
/// How often a version that does not connect is on trial in all, until it is given up.
pub const ROUNDS_MAX: u32 = 5;
/// After how many of these trials the version before it must connect soon, until the new one is marked bad: an outage that
/// ends just then is seen once, and hardly twice.
pub const AGAINST_MAX: u32 = 2;
/// The wait before a version that the host's rules are against is put on trial again.
pub const RETRY_HELD: Millis = Millis::from_secs(60);
/// How long running work may at least take before a new package takes over, whatever the policy says: the work may be what
/// installs it.
pub const PACKAGE_FINISH_MIN: Millis = Millis::from_secs(3600);
/// Exit codes of a daemon that say that a person has to mend something: a setting, or the enrolment.
const OPERATORS_FAULTS: [i32; 2] = [2, 3];

/// Where a version's program is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Slot {
    /// What the package brought: the supervisor's own program.
    Packaged,
    /// In the agent's directory.
    Installed(Version),
}

/// A text that is no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither `packaged` nor a version like `1.2.3`")]
pub struct InvalidSlot {
    /// The start of what was given.
    pub text: String,
}

/// What counts as working, and how long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Within this of its first start, a version on trial must have begun its soak.
    pub trial: Millis,
    /// How long it must then stay as it is.
    pub soak: Millis,
    /// How often a version on trial may be started.
    pub starts_max: u32,
    /// How often a version on trial may lose its connection.
    pub losses_max: u32,
    /// How long running work may take before a switch; zero for work that is cut off and goes on afterwards.
    pub finish: Millis,
    /// How long a daemon that was asked to end may take.
    pub stop: Millis,
    /// The span from which the first wait before a start is drawn, after the second end in a row.
    pub restart: Millis,
}

/// What proves that a version on trial works, beside that it stays up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// That the coordinator answered its poll.
    Polled,
    /// That it is ready to work: for hosts that are known to be offline, and for packages.
    Ready,
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// How long the host was awake since something of no account. All that is waited for is told by it, so that a
    /// host that sleeps or has its clock set fails no trial by that.
    pub awake: Millis,
    /// By the host's clock, for people.
    pub wall: Millis,
}

/// What happens to a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has come to [`Output::wake_at`].
    Wake,
    /// What [`Output::write`] held is on the disk.
    Written,
    /// It is not, and the disk has what it had.
    NotWritten {
        /// Why.
        why: String,
    },
    /// What [`Action::Start`] asked for cannot be done.
    NotStarted {
        /// Why.
        why: String,
        /// Whether the program is at fault: it is missing, or is not what was staged.
        fault: Fault,
    },
    /// The daemon said something.
    Said(FromDaemon),
    /// The daemon printed a line.
    Printed(String),
    /// The daemon has ended.
    Exited(Exit),
    /// The answer to [`Action::Retry`]: what the host's own rules say to it.
    Retry(Result<(), String>),
    /// What [`Action::Replace`] asked for cannot be done.
    NotReplaced {
        /// Why.
        why: String,
    },
    /// Somebody on this host asks for something; answer with [`Action::Answer`].
    Asked {
        /// For what.
        request: Request,
        /// What the host's own rules say to it, and whether the version is staged: else why not.
        allowed: Result<(), String>,
    },
    /// The supervisor is asked to end.
    Stop,
}

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The program's file.
    Program,
    /// The system, which may do it another time.
    System,
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What the driver does, in this order, after it has tried [`Output::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the daemon of this slot; answer with [`Event::NotStarted`] when it cannot be done.
    Start(Slot),
    /// Tell the daemon to end when its work is done.
    End,
    /// Send SIGTERM to the daemon.
    Terminate,
    /// Send SIGKILL to the daemon.
    Kill,
    /// Tell whoever started the supervisor that the agent works.
    Ready,
    /// Say whether this version, which could not connect, may be put on trial again; answer with [`Event::Retry`].
    Retry(Version),
    /// Become the package's supervisor, as the package is now; answer with [`Event::NotReplaced`] when it cannot be done.
    Replace,
    /// Answer to [`Event::Asked`].
    Answer(Result<String, String>),
    /// Remove the files of all versions but these, and the logs of all but these and the bad ones.
    Keep(Vec<Version>),
    /// Tell the log.
    Note(Note),
    /// End with this code.
    Quit(i32),
}

/// What is worth a line in the supervisor's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A daemon is started.
    Started {
        /// Which.
        slot: Slot,
        /// Whether it is on trial, and for the how manieth time it is started then.
        trial: Option<u32>,
    },
    /// A daemon has ended by itself, or cannot be started.
    Ended {
        /// Which.
        slot: Slot,
        /// How.
        how: String,
        /// When it is started again.
        again_in: Millis,
    },
    /// A daemon does not do what it must, and is ended.
    Hung {
        /// Which.
        slot: Slot,
        /// What it does not do.
        why: String,
    },
    /// An update begins.
    Switching {
        /// To what.
        to: Slot,
    },
    /// A version on trial did not connect, and is tried again.
    PutOff {
        /// Which.
        to: Slot,
        /// What it did not do.
        reason: String,
    },
    /// The package is not taken.
    NotReplaced {
        /// Why.
        why: String,
    },
    /// An update is over.
    Decided {
        /// How.
        verdict: Verdict,
        /// Of which version.
        to: Version,
        /// Why.
        reason: String,
    },
    /// The marker cannot be written.
    NotWritten {
        /// Why.
        why: String,
    },
}

/// What a machine answers to an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To be written before any action; answer with [`Event::Written`] or [`Event::NotWritten`] once the actions are
    /// done. These are to be done whether it was written or not.
    pub write: Option<Marker>,
    /// To be done.
    pub actions: Vec<Action>,
    /// When to send [`Event::Wake`], by [`Moment::awake`], whatever was said before.
    pub wake_at: Option<Millis>,
}

impl Slot {
    /// Its version, where `packaged` is that of the package.
    #[must_use]
    pub fn version(&self, packaged: &Version) -> Version {
        match self {
            Self::Packaged => packaged.clone(),
            Self::Installed(version) => version.clone(),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packaged => f.write_str("packaged"),
            Self::Installed(version) => fmt::Display::fmt(version, f),
        }
    }
}

impl FromStr for Slot {
    type Err = InvalidSlot;

    fn from_str(text: &str) -> Result<Self, InvalidSlot> {
        if text == "packaged" {
            return Ok(Self::Packaged);
        }
        text.parse().map(Self::Installed).map_err(|_| InvalidSlot { text: sloth_core::excerpt(text) })
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

impl TryFrom<String> for Slot {
    type Error = InvalidSlot;

    fn try_from(text: String) -> Result<Self, InvalidSlot> {
        text.parse()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it ended with code {code}"),
            Self::Signal(signal) => write!(f, "it was ended by signal {signal}"),
        }
    }
}
