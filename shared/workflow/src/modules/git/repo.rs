//! Repositories by their files, without git.

use std::path::Path;

use mlua::MultiValue;

use super::{Alone, Answer, arguments, path_of};
use crate::modules::{
    call::Call,
    files::{self, Depth},
    report::{Change, Report},
};

/// Whether a repository is at `path` itself, with a working tree or without.
pub(super) fn is_there(path: &Path) -> bool {
    path.join(".git").exists() || ["HEAD", "objects", "refs"].iter().all(|part| path.join(part).exists())
}

/// A repository that is there.
pub(super) fn open(call: &Call, given: &MultiValue) -> Answer<mlua::Table> {
    let path = path_of(call, &arguments(call, given, &["path"], &["path"])?)?;
    if !is_there(&path) {
        return Ok(Err(format!("{}: `{}` is no git repository", call.name, path.display())));
    }
    let table = call.lua.create_table()?;
    table.raw_set("path", path.to_string_lossy().into_owned())?;
    table.raw_set("RepoPath", path.to_string_lossy().into_owned())?;
    Ok(Ok(table))
}

/// Removes what is at the path, whatever it is.
pub(super) fn ensure_clean(call: &Call, given: &MultiValue) -> mlua::Result<Alone> {
    let options = arguments(call, given, &["path"], &["path"])?;
    let Some(path) = options.path("path")? else { return Err(call.error("`path` is missing")) };
    let shown = path.display();
    let outcome = if path.symlink_metadata().is_err() {
        Ok(Report::unchanged(format!("there is nothing at `{shown}`")))
    } else {
        Change::new(format!("remove `{shown}`"), format!("removed `{shown}`"))
            .apply(call, || files::remove(&path, Depth::All))
    };
    Ok(Alone(outcome.map_err(|reason| call.refusal(reason))))
}
