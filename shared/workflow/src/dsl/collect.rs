//! Errors of builders: raised at once in a run, and kept to be told together where a file is only looked through.

use mlua::{Function, Lua, MultiValue};

use super::{argument::error, notes, unknown::Unknown};
use crate::LoadError;

/// Most errors that are kept of one file.
const FAULTS_MAX: usize = 100;

/// The errors that were kept; an app datum of a machine that keeps them.
#[derive(Default)]
struct Faults(Vec<LoadError>);

/// Keeps errors from now on.
pub(crate) fn keep(lua: &Lua) {
    lua.set_app_data(Faults::default());
}

/// What was kept.
pub(crate) fn taken(lua: &Lua) -> Vec<LoadError> {
    lua.remove_app_data::<Faults>().map_or_else(Vec::new, |faults| faults.0)
}

/// `None` where an error was kept.
pub(super) fn tolerate<T>(lua: &Lua, result: mlua::Result<T>) -> mlua::Result<Option<T>> {
    let error = match result {
        Ok(value) => return Ok(Some(value)),
        Err(error) => error,
    };
    let Some(mut faults) = lua.app_data_mut::<Faults>() else { return Err(error) };
    if FAULTS_MAX <= faults.0.len() {
        return Err(error);
    }
    faults.0.push(LoadError::lua(&error));
    Ok(None)
}

/// A method that does not exist: an error where it is known what was meant; else, and where that was kept, a method that
/// changes nothing.
pub(super) fn no_method(lua: &Lua, owner: &str, unknown: &Unknown<'_>) -> mlua::Result<Function> {
    if unknown.is_meant() {
        tolerate(lua, Err::<(), _>(error(lua, format_args!("{owner}: {}", unknown.error()))))?;
    } else {
        notes::ignored(lua, owner, unknown);
    }
    lua.create_function(|_, values: MultiValue| Ok(values.front().cloned()))
}
