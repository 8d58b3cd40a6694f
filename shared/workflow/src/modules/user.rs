//! `user`: the users and groups of the host.
//!
//! What is there is read from the host's files; it is changed by the host's own tools (`useradd`, `usermod`, …).

mod day;
mod group;
mod keys;
mod logins;
mod password;
mod read;
mod run;
mod wanted;
mod write;

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table};

use super::{
    Context, account,
    call::{Builder, Call, Gate},
    options::Options,
    report::Answer,
};
use crate::capability::Capability;

/// What names a user or a group is granted by that name.
const GATE: Gate = Gate::Within(Capability::User);
const WHOLE: Gate = Gate::Needs(Capability::User);

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let builder = Builder::new(lua, context, "user")?;
    let builder = writing(builder)?;
    let builder = reading(builder)?;
    Ok(groups(builder)?.finish())
}

fn writing(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    builder
        .asynchronous("create", GATE, write::create)?
        .asynchronous("modify", GATE, write::modify)?
        .asynchronous("delete", GATE, write::delete)?
        .asynchronous("set_password", GATE, write::set_password)?
        .asynchronous("set_shell", GATE, |call, arguments| write::set(call, arguments, "shell"))?
        .asynchronous("set_comment", GATE, |call, arguments| write::set(call, arguments, "comment"))?
        .asynchronous("set_expiry", GATE, |call, arguments| write::set(call, arguments, "expiry"))?
        .asynchronous("set_primary_group", GATE, |call, arguments| write::set(call, arguments, "gid"))?
        .asynchronous("set_home", GATE, write::set_home)?
        .asynchronous("expire_password", GATE, write::expire_password)?
        .asynchronous("lock", GATE, |call, arguments| write::lock(call, arguments, write::Lock::On))?
        .asynchronous("unlock", GATE, |call, arguments| write::lock(call, arguments, write::Lock::Off))?
        .function("add_authorized_key", GATE, |call, arguments| keys::change(call, arguments, keys::Wanted::Present))?
        .function("remove_authorized_key", GATE, |call, arguments| keys::change(call, arguments, keys::Wanted::Absent))?
        .asynchronous("run_as", Gate::Needs(Capability::Exec), run::run_as)
}

fn reading(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    builder
        .function("exists", GATE, read::exists)?
        .function("get_info", GATE, read::get_info)?
        .function("list", WHOLE, read::list)?
        .function("get_uid", GATE, |call, arguments| read::field(call, arguments, |account| account.uid))?
        .function("get_gid", GATE, |call, arguments| read::field(call, arguments, |account| account.gid))?
        .function("get_home", GATE, |call, arguments| read::field(call, arguments, |account| account.home.clone()))?
        .function("get_shell", GATE, |call, arguments| read::field(call, arguments, |account| account.shell.clone()))?
        .function("get_comment", GATE, |call, arguments| {
            read::field(call, arguments, |account| account.comment.clone())
        })?
        .function("get_groups", GATE, |call, arguments| read::field(call, arguments, account::groups_of))?
        .function("is_system_user", GATE, |call, arguments| read::field(call, arguments, account::is_system))?
        .function("is_locked", GATE, read::is_locked)?
        .function("get_current", WHOLE, |call, (): &()| read::current(call))?
        .function("is_root", WHOLE, |_, (): &()| Ok(rustix::process::geteuid().is_root()))?
        .function("authorized_keys", GATE, keys::list)?
        .function("get_last_login", GATE, logins::last)?
        .function("get_failed_logins", GATE, logins::failed)?
        .function("validate_username", Gate::Open, read::validate)
}

fn groups(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    builder
        .asynchronous("add_to_group", GATE, |call, arguments| group::join(call, arguments, ["username", "group"]))?
        .asynchronous("remove_from_group", GATE, |call, arguments| {
            group::leave(call, arguments, ["username", "group"])
        })?
        .asynchronous("group_add_member", GATE, |call, arguments| group::join(call, arguments, ["group", "username"]))?
        .asynchronous("group_remove_member", GATE, |call, arguments| {
            group::leave(call, arguments, ["group", "username"])
        })?
        .asynchronous("group_create", GATE, group::create)?
        .asynchronous("group_delete", GATE, group::delete)?
        .function("group_exists", GATE, group::exists)?
        .function("group_get_info", GATE, group::get_info)?
        .function("group_get_gid", GATE, group::get_gid)?
        .function("group_members", GATE, group::members)?
        .function("group_list", WHOLE, group::list)
}

/// An answer with the result once more: old files of `user.create` take it third.
struct Triple(Answer);

impl IntoLuaMulti for Triple {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        let is_done = self.0.0.is_ok();
        let mut values = self.0.into_lua_multi(lua)?;
        if let Some(result) = values.front().cloned().filter(|_| is_done) {
            values.push_back(result);
        }
        Ok(values)
    }
}

/// The name of a user that an option gives, under either of its names.
fn user_name(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    let name = match options.text("username")? {
        Some(name) => name,
        None => options.text("name")?.ok_or_else(|| call.error("`username` is missing"))?,
    };
    checked(call, name)
}

/// The name of a user or group that the bundle may touch, and that a tool of the host can be given: one that begins with
/// `-` would be an option of it.
fn checked(call: &Call, name: String) -> mlua::Result<String> {
    if account::is_name(&name) {
        call.permit(Capability::User, &name)?;
        return Ok(name);
    }
    Err(call.error(format_args!("`{name}` cannot be a name: {}", account::name_rule())))
}

fn missing(name: &str) -> String {
    format!("there is no user `{name}`")
}
