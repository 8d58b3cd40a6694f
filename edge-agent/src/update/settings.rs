//! `[update]` of `agent.toml`: what this host says to updates. Every key may be left out.

use std::path::Path;

use serde::Deserialize;
use sloth_cli::window::{self, WindowRefused};
use sloth_core::{
    Chain, Millis,
    config::{self, Span},
};
use sloth_protocol::{
    rollout::Window,
    update::{Policy, Version},
};
use sloth_trust::Channel;

use crate::config::{SettingsError, within};

/// Shortest of all times here.
const SPAN_MIN: Span = Span::new(Millis::from_u64(1));
/// Longest time in which a version must have connected, and longest soak.
const TRIAL_MAX: Span = Span::from_secs(7 * 24 * 3600);
/// Longest that running work may hold an update up.
const FINISH_MAX: Span = Span::from_secs(24 * 3600);
/// Longest that a daemon may take to end.
const STOP_MAX: Span = Span::from_secs(3600);
/// Longest first wait before a daemon is started again.
const RESTART_MAX: Span = Span::from_secs(60);
/// Most windows.
const WINDOWS_MAX: usize = 16;
/// Most starts of a version on trial, and most losses of its connection.
const TRIES_MAX: u32 = 100;

/// What a host says to updates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateSettings {
    /// Whether it takes updates that the coordinator orders.
    pub enabled: bool,
    /// Whose releases it takes.
    pub channel: Channel,
    /// The only version that it takes.
    pub pin: Option<Version>,
    /// When it takes updates that the coordinator orders, like `Mon-Fri 22:00-04:00 Europe/Berlin`; always when there is
    /// none.
    pub window: Vec<String>,
    /// What becomes of running work.
    pub running: Running,
    /// How long running work may take to finish; what is left then is cut off and goes on after the switch.
    pub finish: Span,
    /// How long a new version has to be ready and connected.
    pub trial: Span,
    /// How long it must then stay so.
    pub soak: Span,
    /// How often a new version may be started until it has proven itself.
    pub starts: u32,
    /// How often it may lose its connection meanwhile.
    pub losses: u32,
    /// How long a daemon that was asked to end may take.
    pub stop: Span,
    /// A daemon that ended is started again at once. When it ends again soon, the wait is drawn from this span, which
    /// doubles each time.
    pub restart: Span,
}

/// What becomes of work that runs when an update comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Running {
    /// It is waited for.
    Finish,
    /// It is cut off, and goes on afterwards.
    Resume,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            channel: Channel::default(),
            pin: None,
            window: Vec::new(),
            running: Running::Finish,
            finish: Span::from_secs(3600),
            trial: Span::from_secs(15 * 60),
            soak: Span::from_secs(5 * 60),
            starts: 3,
            losses: 3,
            stop: Span::from_secs(30),
            restart: Span::from_secs(1),
        }
    }
}

/// All that a supervisor reads of `agent.toml`: the rest is the daemon's business, and may be of a later release.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OnlyUpdate {
    update: UpdateSettings,
}

impl UpdateSettings {
    /// What the file at `path` says; the defaults, and why, when it cannot be used: a supervisor always starts.
    #[must_use]
    pub fn load(path: &Path) -> (Self, Option<String>) {
        let loaded = match config::load::<OnlyUpdate>(path) {
            Ok(settings) => settings.update.check().map(|()| settings.update),
            Err(config::ConfigError::Read { source }) if source.is_not_found() => Ok(Self::default()),
            Err(source) => Err(SettingsError::from(source)),
        };
        match loaded {
            Ok(settings) => (settings, None),
            Err(error) => (Self::default(), Some(Chain(&error).to_string())),
        }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// Names what does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        within("update.finish", self.finish, SPAN_MIN, FINISH_MAX)?;
        within("update.trial", self.trial, SPAN_MIN, TRIAL_MAX)?;
        within("update.soak", self.soak, SPAN_MIN, TRIAL_MAX)?;
        within("update.stop", self.stop, SPAN_MIN, STOP_MAX)?;
        within("update.restart", self.restart, SPAN_MIN, RESTART_MAX)?;
        within("update.starts", self.starts, 1, TRIES_MAX)?;
        within("update.losses", self.losses, 0, TRIES_MAX)?;
        within("update.window", self.window.len(), 0, WINDOWS_MAX)?;
        self.windows()?;
        Ok(())
    }

    /// When it takes updates that the coordinator orders.
    ///
    /// # Errors
    ///
    /// When a window cannot be read.
    pub fn windows(&self) -> Result<Vec<Window>, SettingsError> {
        let read = |text: &String| Window::new(&window::parse(text)?).map_err(WindowRefused::from);
        self.window.iter().map(read).collect::<Result<_, _>>().map_err(|source| SettingsError::Window { source })
    }

    /// As the machine is told.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            trial: self.trial.millis(),
            soak: self.soak.millis(),
            starts_max: self.starts,
            losses_max: self.losses,
            finish: match self.running {
                Running::Finish => self.finish.millis(),
                Running::Resume => Millis::ZERO,
            },
            stop: self.stop.millis(),
            restart: self.restart.millis(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::fs::{Access, replace};

    use super::*;

    fn load(text: &str) -> (UpdateSettings, Option<String>) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent.toml");
        replace(&path, text.as_bytes(), Access::Owner).expect("written");
        UpdateSettings::load(&path)
    }

    #[test]
    fn a_supervisor_reads_its_own_part_and_starts_whatever_it_says() {
        assert_eq!(load("runs_max = 'many'\nof_a_later_release = 1"), (UpdateSettings::default(), None));
        assert_eq!(UpdateSettings::load(Path::new("/nonexistent")), (UpdateSettings::default(), None));
        let (settings, problem) = load("[update]\npin = '1.2.3'\nrunning = 'resume'\nsoak = '10s'");
        assert_eq!((settings.pin.clone(), problem), (Some(Version::new(1, 2, 3)), None));
        assert_eq!((settings.policy().finish, settings.policy().soak), (Millis::ZERO, Millis::from_secs(10)));
        for (text, expected) in [
            ("[update]\nsoak = '0s'", "`update.soak` in the agent's settings is 0s: it takes 1ms to 7days"),
            ("[update]\nstarts = 0", "`update.starts` in the agent's settings is 0: it takes 1 to 100"),
            ("[update]\npin = '1'", "unexpected end of input"),
            ("[update]\nchannel = 'a b'", "`a b`"),
            ("[update]\nwindow = ['at night']", "`at night` is not a window"),
            ("[update]\nsoack = '1s'", "unknown field `soack`"),
            ("[", "line 1"),
        ] {
            let (settings, problem) = load(text);
            assert_eq!(settings, UpdateSettings::default());
            assert!(problem.as_ref().is_some_and(|problem| problem.contains(expected)), "{text}: {problem:?}");
        }
    }
}
