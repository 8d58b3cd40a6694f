//! Whether what a script asks for is granted.

use std::path::Path;

use super::Context;
use crate::{
    Elsewhere,
    beneath::{Last, Place},
    capability::Capability,
};

impl Context {
    /// Checks that `function` may act on the host now and that the bundle has all of the capability for it.
    ///
    /// # Errors
    ///
    /// As [`Self::acting`], and when the capability is not granted, or within scopes only.
    pub fn allow(&self, capability: Capability, function: &str) -> mlua::Result<()> {
        self.allow_some(capability, function)?;
        if self.capabilities.allows(capability) {
            return Ok(());
        }
        Err(self.refusal(
            capability,
            format_args!(
                "`{function}` takes the whole capability `{capability}`, and this bundle has {} of it",
                self.granted(capability)
            ),
        ))
    }

    /// Checks that `function` may act on the host now and that the bundle has the capability for something. What it is
    /// for is checked by [`Self::allow_name`], [`Self::reach`], [`Self::may_read`] or [`Self::may_write`].
    ///
    /// # Errors
    ///
    /// As [`Self::acting`], and when nothing of the capability is granted.
    pub fn allow_some(&self, capability: Capability, function: &str) -> mlua::Result<()> {
        self.acting(function)?;
        if self.capabilities.allows_some(capability) {
            return Ok(());
        }
        let told = format_args!("`{function}`: capability `{capability}` is not granted to this bundle");
        Err(self.refusal(capability, told))
    }

    /// Checks that `function` may act on the host now, on the thing called `name`: a package, a service, a user.
    ///
    /// # Errors
    ///
    /// As [`Self::acting`], and when the capability is not granted for it.
    pub fn allow_name(&self, capability: Capability, name: &str, function: &str) -> mlua::Result<()> {
        self.allow_some(capability, function)?;
        if self.capabilities.allows_name(capability, name) {
            return Ok(());
        }
        Err(self.outside(capability, name, function))
    }

    /// Checks that `function` may speak to this port of this host now; `host` is a name or an address.
    ///
    /// # Errors
    ///
    /// As [`Self::acting`], and when the capability `net` is not granted for it.
    pub fn reach(&self, host: &str, port: u16, function: &str) -> mlua::Result<()> {
        self.allow_some(Capability::Net, function)?;
        if self.capabilities.allows_host(host, port) {
            return Ok(());
        }
        Err(self.outside(Capability::Net, &format!("{host}:{port}"), function))
    }

    /// The place of what `function` reads at `path`, which is absolute. The scratch directory of the run is open to
    /// every bundle that may read anything.
    ///
    /// # Errors
    ///
    /// As [`Self::acting`], and when the bundle may not read there.
    pub fn may_read(&self, path: &Path, last: Last, function: &str) -> mlua::Result<Place> {
        self.place(Capability::FsRead, path, last, function)
    }

    /// The place of what `function` makes, changes or removes at `path`, which is absolute. The scratch directory of
    /// the run is open to every bundle that may write anything.
    ///
    /// # Errors
    ///
    /// As [`Self::acting`], and when the bundle may not write there.
    pub fn may_write(&self, path: &Path, last: Last, function: &str) -> mlua::Result<Place> {
        self.place(Capability::FsWrite, path, last, function)
    }

    /// The place of what `function` uses at `path`, which is absolute, by `fs:read` or `fs:write`.
    ///
    /// # Errors
    ///
    /// As [`Self::may_read`].
    pub(super) fn place(&self, capability: Capability, path: &Path, last: Last, function: &str) -> mlua::Result<Place> {
        self.allow_some(capability, function)?;
        if self.capabilities.allows(capability) {
            return Ok(Place::unbound(path.to_owned()));
        }
        let roots = self.capabilities.paths(capability).chain([self.workdir.as_path()]);
        match Place::beneath(path, last, roots) {
            Ok(Some(place)) => Ok(place),
            Ok(None) => Err(self.outside(capability, &path.display().to_string(), function)),
            Err(error) => {
                Err(mlua::Error::runtime(format!("`{function}`: cannot look for `{}`: {error}", path.display())))
            }
        }
    }

    fn outside(&self, capability: Capability, what: &str, function: &str) -> mlua::Error {
        self.refusal(
            capability,
            format_args!(
                "`{function}`: capability `{capability}` is not granted for `{what}`: this bundle has {}",
                self.granted(capability)
            ),
        )
    }

    fn granted(&self, capability: Capability) -> String {
        self.capabilities.of(capability).map(|grant| format!("`{grant}`")).collect::<Vec<_>>().join(", ")
    }

    /// What to do about it depends on who grants: whoever runs a file here and now, or whoever signs a bundle.
    fn refusal(&self, capability: Capability, what: std::fmt::Arguments<'_>) -> mlua::Error {
        mlua::Error::runtime(match self.settings.elsewhere {
            Elsewhere::Here => format!("{what}: run the file with `--allow {capability}`"),
            Elsewhere::Refused => format!("{what}: add it to `capabilities` in bundle.toml and sign again"),
        })
    }
}
