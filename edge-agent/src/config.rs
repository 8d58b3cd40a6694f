//! `agent.toml`: how an agent behaves. Every key may be left out.

use std::path::Path;

use serde::Deserialize;
use sloth_cli::window::WindowRefused;
use sloth_core::{
    Labels, Millis,
    config::{self, ConfigError, Span},
    labels::{LABELS_MAX, LabelError, check_label},
};
use sloth_protocol::{
    agent::{JOBS_MAX, Pacing},
    wire::HOLD_MAX,
};

use crate::update::settings::UpdateSettings;

/// Shortest wait between two visits of an agent that leaves after each.
pub const INTERVAL_MIN: Millis = Millis::from_secs(10);
/// Longest.
pub const INTERVAL_MAX: Millis = Millis::from_secs(7 * 24 * 3600);
/// Shortest time that a poll is held.
pub const HOLD_MIN: Millis = Millis::from_secs(1);
/// Least room of a lane of the outbox.
pub const OUTBOX_BYTES_MIN: usize = 256 * 1024;
/// Most room of a lane of the outbox: all of it is read at the start.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Least room for bundles.
pub const BUNDLE_CACHE_BYTES_MIN: u64 = 1024 * 1024;
/// Least that a task may print.
pub const LOG_BYTES_PER_TASK_MIN: u64 = 1024;

/// The settings of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What this host says it is; above what was said at its enrolment.
    pub labels: Labels,
    /// Most runs at a time.
    pub runs_max: usize,
    /// How it keeps in touch.
    pub pacing: PacingMode,
    /// How long a poll is held.
    pub hold: Span,
    /// How long an agent that leaves stays away.
    pub interval: Span,
    /// Most bytes of results that wait for the coordinator.
    pub outbox_results_bytes: usize,
    /// Most bytes of output that wait for the coordinator.
    pub outbox_logs_bytes: usize,
    /// Most bytes of output that one task of a run may report.
    pub log_bytes_per_task: u64,
    /// Most bytes of chunks that are kept, and as many of unpacked bundles.
    pub bundle_cache_bytes: u64,
    /// What it says to updates.
    pub update: UpdateSettings,
}

/// How an agent keeps in touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PacingMode {
    /// The connection stays.
    Hold,
    /// The agent comes, asks and leaves.
    Interval,
}

/// Settings that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot use the agent's settings")]
    Config {
        /// Why; it names the file.
        #[from]
        source: ConfigError,
    },
    /// A label that cannot be one.
    #[error("a label in the agent's settings is refused")]
    Label {
        /// Which and why.
        #[from]
        source: LabelError,
    },
    /// Too many labels.
    #[error("the agent's settings have {count} labels: {LABELS_MAX} are the most")]
    Labels {
        /// How many there are.
        count: usize,
    },
    /// A window that cannot be one.
    #[error("a window of `update.window` in the agent's settings is refused")]
    Window {
        /// Which and why.
        source: WindowRefused,
    },
    /// A number outside what is possible.
    #[error("`{key}` in the agent's settings is {value}: it takes {min} to {max}")]
    Range {
        /// Which.
        key: &'static str,
        /// What it is.
        value: String,
        /// The least.
        min: String,
        /// The most.
        max: String,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            labels: Labels::new(),
            runs_max: 4,
            pacing: PacingMode::Hold,
            hold: Span::from_secs(60),
            interval: Span::from_secs(15 * 60),
            outbox_results_bytes: 16 * 1024 * 1024,
            outbox_logs_bytes: 64 * 1024 * 1024,
            log_bytes_per_task: 1024 * 1024,
            bundle_cache_bytes: 1024 * 1024 * 1024,
            update: UpdateSettings::default(),
        }
    }
}

impl Settings {
    /// The settings in the file at `path`, or the defaults when there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or a setting makes no sense.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        match config::load::<Self>(path) {
            Ok(settings) => settings.check(),
            Err(ConfigError::Read { source }) if source.is_not_found() => Ok(Self::default()),
            Err(source) => Err(source.into()),
        }
    }

    /// As the machine is told.
    #[must_use]
    pub const fn pacing(&self) -> Pacing {
        match self.pacing {
            PacingMode::Hold => Pacing::Hold(self.hold.millis()),
            PacingMode::Interval => Pacing::Interval(self.interval.millis()),
        }
    }

    fn check(self) -> Result<Self, SettingsError> {
        for (name, value) in &self.labels {
            check_label(name, value)?;
        }
        if LABELS_MAX < self.labels.len() {
            return Err(SettingsError::Labels { count: self.labels.len() });
        }
        within("runs_max", self.runs_max, 1, JOBS_MAX)?;
        within("hold", self.hold, Span::new(HOLD_MIN), Span::new(HOLD_MAX))?;
        within("interval", self.interval, Span::new(INTERVAL_MIN), Span::new(INTERVAL_MAX))?;
        within("outbox_results_bytes", self.outbox_results_bytes, OUTBOX_BYTES_MIN, OUTBOX_BYTES_MAX)?;
        within("outbox_logs_bytes", self.outbox_logs_bytes, OUTBOX_BYTES_MIN, OUTBOX_BYTES_MAX)?;
        within("log_bytes_per_task", self.log_bytes_per_task, LOG_BYTES_PER_TASK_MIN, u64::MAX)?;
        within("bundle_cache_bytes", self.bundle_cache_bytes, BUNDLE_CACHE_BYTES_MIN, u64::MAX)?;
        self.update.check()?;
        Ok(self)
    }
}

/// Whether a setting is neither below `min` nor above `max`.
pub(crate) fn within<T: Copy + PartialOrd + ToString>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), SettingsError> {
    if min <= value && value <= max {
        return Ok(());
    }
    Err(SettingsError::Range { key, value: value.to_string(), min: min.to_string(), max: max.to_string() })
}

#[cfg(test)]
mod tests {
    use sloth_core::{
        Chain,
        fs::{Access, replace},
    };

    use super::*;

    fn load(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent.toml");
        replace(&path, text.as_bytes(), Access::Owner).expect("written");
        Settings::load(&path).map_err(|error| Chain(&error).to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        assert_eq!(load(""), Ok(Settings::default()));
        assert_eq!(Settings::load(Path::new("/nonexistent/agent.toml")).expect("defaults"), Settings::default());
        let settings = load("pacing = 'interval'\ninterval = '5m'\n[labels]\nrole = 'web'").expect("valid");
        assert_eq!(settings.pacing(), Pacing::Interval(Millis::from_secs(300)));
        assert_eq!(settings.labels.get("role").map(String::as_str), Some("web"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, expected) in [
            ("run_max = 3", "line 1: unknown field `run_max`"),
            ("runs_max = 0", "`runs_max` in the agent's settings is 0: it takes 1 to 64"),
            ("hold = '1h'", "`hold` in the agent's settings is 1h: it takes 1s to 5m"),
            ("interval = '1s'", "`interval` in the agent's settings is 1s: it takes 10s to 7days"),
            ("pacing = 'never'", "line 1: unknown variant `never`"),
            ("outbox_logs_bytes = 10", "`outbox_logs_bytes`"),
            ("[labels]\n\"a b\" = 'c'", "`a b` cannot be a label's name"),
            ("[labels]\nname = 'c'", "a label cannot be named `name`"),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
