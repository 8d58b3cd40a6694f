//! What this host says to an update, whoever asks for it.

use sloth_core::fs::{self, Access, FsError};
use sloth_protocol::update::Version;
use sloth_trust::Channel;

use super::settings::UpdateSettings;
use crate::paths::Paths;

/// Why a host does not take an update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// It takes none now.
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
    /// It takes others.
    #[error("this host takes releases of channel `{}`, and this one is of `{}`", wanted.as_str(), channel.as_str())]
    Channel {
        /// What it takes.
        wanted: Channel,
        /// What it was offered.
        channel: Channel,
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

/// Whether the host takes `version` of `channel` when its coordinator orders it.
///
/// # Errors
///
/// When its own rules are against it.
pub fn by_order(paths: &Paths, settings: &UpdateSettings, version: &Version, channel: &Channel) -> Result<(), Held> {
    if !settings.enabled {
        return Err(Held::Disabled);
    }
    by_hand(paths, settings, version)?;
    if settings.channel != *channel {
        return Err(Held::Channel { wanted: settings.channel.clone(), channel: channel.clone() });
    }
    Ok(())
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
        assert_eq!(by_order(&paths, &open, &two, &Channel::default()), Ok(()));
        assert!(matches!(
            by_order(&paths, &open, &two, &"edge".parse().expect("a channel")),
            Err(Held::Channel { .. })
        ));
        let disabled = UpdateSettings { enabled: false, ..open.clone() };
        assert_eq!(by_order(&paths, &disabled, &two, &Channel::default()), Err(Held::Disabled));
        assert_eq!(by_hand(&paths, &disabled, &two), Ok(()));
        let pinned = UpdateSettings { pin: Some(one.clone()), ..open.clone() };
        assert_eq!(by_hand(&paths, &pinned, &one), Ok(()));
        assert_eq!(by_order(&paths, &pinned, &two, &Channel::default()), Err(Held::Pinned { pin: one }));
        hold(&paths).expect("held");
        assert_eq!(by_hand(&paths, &open, &two), Err(Held::Hold));
        assert!(unhold(&paths).expect("let go") && !unhold(&paths).expect("let go"));
        assert_eq!(by_hand(&paths, &open, &two), Ok(()));
    }
}
