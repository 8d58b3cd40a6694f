//! The paths that scripts name. Every file that a script reads or changes is reached through [`readable`] and
//! [`writable`], and through nothing else.

use std::path::{Path, PathBuf};

use mlua::Value;

use super::{call::Call, files};
use crate::beneath::{Last, Place};

/// The place of what a script reads. Outside the bundle it takes the capability.
///
/// # Errors
///
/// When `value` is no path, or the bundle may not read there.
pub(super) fn readable(call: &Call, argument: &str, value: &Value) -> mlua::Result<Place> {
    readable_path(call, &call.path(argument, value)?)
}

/// As [`readable`], of a path that is known already and absolute.
///
/// # Errors
///
/// When the bundle may not read there.
pub(super) fn readable_path(call: &Call, path: &Path) -> mlua::Result<Place> {
    if let Some(path) = files::found_beneath(path, &call.context.bundle_dir) {
        return Ok(Place::unbound(path));
    }
    call.context.may_read(path, Last::Followed, &call.name)
}

/// As [`readable`], of a link itself.
pub(super) fn readable_link(call: &Call, argument: &str, value: &Value) -> mlua::Result<Place> {
    let path = call.path(argument, value)?;
    let outside = files::found_beneath(&path, &call.context.bundle_dir).is_none();
    if outside { call.context.may_read(&path, Last::Itself, &call.name) } else { Ok(Place::unbound(path)) }
}

/// The place of what the link at `path` leads to, if a script may read there.
pub(super) fn led(call: &Call, path: &Path) -> Option<Place> {
    readable_path(call, path).ok()
}

/// The place of what a script makes or changes. Where it is a link, that is what the link leads to.
///
/// # Errors
///
/// When `value` is no path, or the bundle may not write there.
pub(super) fn writable(call: &Call, argument: &str, value: &Value) -> mlua::Result<Place> {
    call.context.may_write(&call.path(argument, value)?, Last::Followed, &call.name)
}

/// As [`writable`], of a link itself: of what a script moves, removes or links.
pub(super) fn movable(call: &Call, argument: &str, value: &Value) -> mlua::Result<Place> {
    call.context.may_write(&call.path(argument, value)?, Last::Itself, &call.name)
}

/// The path of a file to copy or to fill in: a relative one that is not in the task's directory is looked for in the
/// bundle.
///
/// # Errors
///
/// As [`readable`].
pub(super) fn source(call: &Call, argument: &str, value: &Value) -> mlua::Result<Place> {
    let path = call.path(argument, value)?;
    if path.symlink_metadata().is_err()
        && let Ok(Ok(found)) = in_bundle(call, value)
    {
        return Ok(Place::unbound(found));
    }
    readable(call, argument, value)
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
