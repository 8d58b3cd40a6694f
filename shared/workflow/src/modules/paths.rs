//! The paths that scripts name. Every file that a script reads or changes is reached through [`readable`] and
//! [`writable`], and through nothing else.

use std::path::{Path, PathBuf};

use mlua::Value;

use super::{
    call::{Call, Gate},
    files,
};
use crate::capability::Capability;

/// The path of what a script reads. Outside the bundle it takes the capability.
///
/// # Errors
///
/// When `value` is no path, or the bundle may not read there.
pub(super) fn readable(call: &Call, argument: &str, value: &Value) -> mlua::Result<PathBuf> {
    let path = call.path(argument, value)?;
    if let Some(path) = files::found_beneath(&path, &call.context.bundle_dir) {
        return Ok(path);
    }
    call.pass(Gate::Needs(Capability::FsRead))?;
    Ok(path)
}

/// The path of what a script makes, changes or removes.
///
/// # Errors
///
/// When `value` is no path, or the bundle may not write there.
pub(super) fn writable(call: &Call, argument: &str, value: &Value) -> mlua::Result<PathBuf> {
    call.pass(Gate::Needs(Capability::FsWrite))?;
    call.path(argument, value)
}

/// The path of a file of the bundle, or why there is none.
///
/// # Errors
///
/// When `value` is no text.
pub(super) fn in_bundle(call: &Call, value: &Value) -> mlua::Result<Result<PathBuf, String>> {
    let text = call.optional_text("path", value)?.unwrap_or_default();
    Ok(files::beneath(&call.context.bundle_dir, Path::new(&text)))
}

/// A path as a script gets it.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
