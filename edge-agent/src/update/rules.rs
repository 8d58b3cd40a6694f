//! What this host says to an update, whoever asks for it.

use sloth_core::{
    Millis,
    fs::{self, Access, FsError},
};
use sloth_protocol::update::Version;

use super::settings::UpdateSettings;
use crate::paths::Paths;

/// Why a host does not take an update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// Somebody on it holds updates.
    #[error("updates are held on this host: `sloth-agent update unhold` lets them go on")]
    Hold,
    /// It takes one version only.
    #[error("this host is pinned to version {pin} by `update.pin` in its agent.toml")]
    Pinned {
        /// Which.
        pin: Version,
    },
    /// It takes none by itself.
    #[error("this host takes no updates from its coordinator: `update.enabled` in its agent.toml is false")]
    Disabled,
    /// None of its maintenance windows is open.
    #[error("this host takes updates in its maintenance windows only{}", opening(*opens))]
    Closed {
        /// When the next one opens.
        opens: Option<Millis>,
    },
}

/// Whether the host takes `version` when a person on it asks for it.
///
/// # Errors
///
/// When it is held or pinned to another.
pub fn by_hand(paths: &Paths, settings: &UpdateSettings, version: &Version) -> Result<(), Held> {
    if is_held(paths) {
        return Err(Held::Hold);
    }
    match &settings.pin {
        Some(pin) if pin != version => Err(Held::Pinned { pin: pin.clone() }),
        Some(_) | None => Ok(()),
    }
}

/// Why the host takes no update at all that its coordinator orders, at `now` by its clock; none when it takes them.
/// Which versions and releases it takes is in `settings`.
#[must_use]
pub fn held(paths: &Paths, settings: &UpdateSettings, now: Millis) -> Option<Held> {
    if !settings.enabled {
        return Some(Held::Disabled);
    }
    if is_held(paths) {
        return Some(Held::Hold);
    }
    // Settings whose windows cannot be read are refused when they are loaded.
    let windows = settings.windows().unwrap_or_default();
    if windows.is_empty() || windows.iter().any(|window| window.is_open(now)) {
        return None;
    }
    Some(Held::Closed { opens: windows.iter().filter_map(|window| window.opens_after(now)).min() })
}

fn opening(opens: Option<Millis>) -> String {
    opens.map_or_else(String::new, |opens| format!(": the next one opens at {opens}"))
}

/// Whether updates are held.
#[must_use]
pub fn is_held(paths: &Paths) -> bool {
    // One that cannot be looked at may be there.
    paths.hold().try_exists().unwrap_or(true)
}

/// Holds updates.
///
/// # Errors
///
/// When the system refuses.
pub fn hold(paths: &Paths) -> Result<(), FsError> {
    fs::replace(&paths.hold(), b"updates are held while this file is here\n", Access::Everyone)
}

/// Lets updates go on. Says whether they were held.
///
/// # Errors
///
/// When the system refuses.
pub fn unhold(paths: &Paths) -> Result<bool, FsError> {
    let path = paths.hold();
    match std::fs::remove_file(&path) {
        Ok(()) => fs::sync_dir(paths.dir()).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FsError::of(fs::Action::Remove, &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_rules_win() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        let (one, two) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
        let open = UpdateSettings::default();
        let noon = Millis::from_secs(12 * 3600);
        assert_eq!((held(&paths, &open, noon), by_hand(&paths, &open, &two)), (None, Ok(())));
        let disabled = UpdateSettings { enabled: false, ..open.clone() };
        assert_eq!((held(&paths, &disabled, noon), by_hand(&paths, &disabled, &two)), (Some(Held::Disabled), Ok(())));
        let pinned = UpdateSettings { pin: Some(one.clone()), ..open.clone() };
        assert_eq!(by_hand(&paths, &pinned, &one), Ok(()));
        assert_eq!(by_hand(&paths, &pinned, &two), Err(Held::Pinned { pin: one }));
        let nightly = UpdateSettings { window: vec!["22:00-04:00 UTC".to_owned()], ..open.clone() };
        let refusal = held(&paths, &nightly, noon).expect("closed").to_string();
        assert!(refusal.ends_with("the next one opens at 1970-01-01T22:00:00Z"), "{refusal}");
        assert_eq!(held(&paths, &nightly, noon + noon), None);
        hold(&paths).expect("held");
        assert_eq!((held(&paths, &open, noon), by_hand(&paths, &open, &two)), (Some(Held::Hold), Err(Held::Hold)));
        assert!(unhold(&paths).expect("let go") && !unhold(&paths).expect("let go"));
        assert_eq!(held(&paths, &open, noon), None);
    }
}
