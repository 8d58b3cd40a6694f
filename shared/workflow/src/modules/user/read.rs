//! What is known of users.

use mlua::{IntoLua, MultiValue, Table};

use super::{missing, user_name};
use crate::modules::{
    account::{self, Account},
    call::Call,
    options::Options,
    spoken::{Voice, speak},
};

pub(super) fn exists(call: &Call, arguments: &MultiValue) -> mlua::Result<(bool, String)> {
    let name = user_name(call, &Options::named(call, arguments, &["username"], &["name"])?)?;
    Ok(match account::named(&name) {
        Some(_) => (true, format!("user `{name}` exists")),
        None => (false, missing(&name)),
    })
}

pub(super) fn get_info(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    call.shown(find(call, arguments)?, |account| table(call, account))
}

/// One thing of a user, or nothing and why.
pub(super) fn field<T: IntoLua>(
    call: &Call,
    arguments: &MultiValue,
    get: impl Fn(&Account) -> T,
) -> mlua::Result<MultiValue> {
    call.shown(find(call, arguments)?, |account| get(account).into_lua(&call.lua))
}

/// Every user; only those of the system with `true`, only people with `false`.
pub(super) fn list(call: &Call, arguments: &MultiValue) -> mlua::Result<Table> {
    let system = Options::named(call, arguments, &["system"], &[])?.flag("system")?;
    let wanted = |account: &Account| system.is_none_or(|system| account::is_system(account) == system);
    let accounts: Vec<_> = account::all().into_iter().filter(wanted).collect();
    let list = call.lua.create_table_with_capacity(accounts.len(), 0)?;
    for account in accounts {
        list.raw_push(table(call, &account)?)?;
    }
    Ok(list)
}

pub(super) fn is_locked(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    let account = find(call, arguments)?;
    let locked = account.and_then(|account| {
        let shadow = account::shadow(&account.name);
        shadow.map(|shadow| shadow.password.is_locked()).ok_or_else(|| "only root may read /etc/shadow".to_owned())
    });
    call.shown(locked, |locked| locked.into_lua(&call.lua))
}

pub(super) fn current(call: &Call) -> mlua::Result<MultiValue> {
    let uid = rustix::process::geteuid().as_raw();
    let own = account::find(|account| account.uid == uid).ok_or_else(|| format!("user {uid} has no name"));
    call.shown(own, |account| table(call, account))
}

pub(super) fn validate(call: &Call, arguments: &MultiValue) -> mlua::Result<(bool, String)> {
    let options = Options::named(call, arguments, &["username"], &["name"])?;
    let name = match options.text("username")? {
        Some(name) => name,
        None => options.text("name")?.unwrap_or_default(),
    };
    Ok(if account::is_name(&name) {
        (true, format!("`{name}` is a valid name"))
    } else {
        (false, format!("`{name}` is not a valid name: {}", account::name_rule()))
    })
}

/// The user that the first argument names.
pub(super) fn find(call: &Call, arguments: &MultiValue) -> mlua::Result<Result<Account, String>> {
    let name = user_name(call, &Options::named(call, arguments, &["username"], &["name"])?)?;
    Ok(account::named(&name).ok_or_else(|| missing(&name)))
}

/// A user as a table that speaks as its name.
fn table(call: &Call, account: &Account) -> mlua::Result<Table> {
    let table = call.lua.create_table()?;
    table.raw_set("username", account.name.as_str())?;
    table.raw_set("uid", account.uid)?;
    table.raw_set("gid", account.gid)?;
    table.raw_set("name", account.comment.split(',').next().unwrap_or_default())?;
    table.raw_set("comment", account.comment.as_str())?;
    table.raw_set("home", account.home.as_str())?;
    table.raw_set("shell", account.shell.as_str())?;
    table.raw_set("system", account::is_system(account))?;
    speak(&call.lua, &table, Voice::Username)?;
    Ok(table)
}
