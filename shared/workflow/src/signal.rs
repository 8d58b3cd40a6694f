//! What a run tells its host besides its lines and its tasks' ends: events and measurements.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sloth_core::Millis;

use crate::TaskName;

/// Something that happened, as a script or one of its watchers tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of event it is, in words with dots between them, such as `file.changed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was told.
    pub at: Millis,
    /// What else is known of it.
    pub data: Value,
    /// The host that tells it; empty when it has no name.
    pub agent: String,
    /// The run that tells it.
    pub run: String,
    /// The task that tells it; `None` outside tasks.
    pub task: Option<TaskName>,
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What is measured.
    pub name: String,
    /// How its values belong together.
    pub kind: SampleKind,
    /// A gauge's value, a counter's new count, one observation of a histogram, or the milliseconds of a timer.
    pub value: f64,
    /// Tells measurements of one name apart.
    pub tags: BTreeMap<String, String>,
    /// When it was measured.
    pub at: Millis,
    /// The task that measured it; `None` outside tasks.
    pub task: Option<TaskName>,
}

/// How the values of a measurement belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleKind {
    /// The last one counts.
    Gauge,
    /// Each is the count so far.
    Counter,
    /// Each is an observation.
    Histogram,
    /// Each is how long something took, in milliseconds.
    Timer,
}

impl SampleKind {
    /// The kind in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Timer => "timer",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} {}", self.kind, self.data)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metric {}={} kind={}", self.name, self.value, self.kind.as_str())?;
        self.tags.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}
