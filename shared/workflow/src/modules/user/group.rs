//! Groups, and who is in them.

use mlua::{IntoLua, MultiValue, Table};

use super::{
    checked, missing, user_name,
    wanted::Wanted,
    write::{change, tool},
};
use crate::modules::{
    account::{self, Group},
    call::Call,
    foreseen,
    options::Options,
    report::{Answer, Change, Report},
    spoken::{Voice, speak},
};

pub(super) async fn create(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["name"], &["group", "gid", "system"])?;
    let name = group_name(&call, &options)?;
    let gid = options.integer("gid", 0, u64::from(u32::MAX) - 1)?.map(|gid| gid.to_string());
    let system = options.flag("system")?.unwrap_or(false);
    let outcome = match (account::group(&name), gid) {
        (Some(group), Some(gid)) if group.gid.to_string() != gid => {
            let told = format!("group `{name}`: gid `{}` to `{gid}`", group.gid);
            let change = Change::new(format!("change {told}"), format!("changed {told}"));
            change.apply_async(&call, tool(&call, "groupmod", ["-g", &gid, &name])).await
        }
        (Some(_), _) => Ok(Report::unchanged(format!("group `{name}` is there already (idempotent)"))),
        (None, gid) => {
            let mut arguments: Vec<_> = gid.into_iter().flat_map(|gid| ["-g".to_owned(), gid]).collect();
            arguments.extend(system.then(|| "-r".to_owned()));
            arguments.push(name.clone());
            foreseen::note_group(&call, &name);
            let change = Change::new(format!("create group `{name}`"), format!("created group `{name}`"));
            change.apply_async(&call, tool(&call, "groupadd", arguments)).await
        }
    };
    Ok(call.answer(outcome))
}

pub(super) async fn delete(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let name = group_name(&call, &Options::named(&call, &arguments, &["name"], &["group"])?)?;
    if account::group(&name).is_none() {
        return Ok(call.answer(Ok(Report::unchanged(format!("there is no group `{name}` (idempotent)")))));
    }
    let change = Change::new(format!("delete group `{name}`"), format!("deleted group `{name}`"));
    Ok(call.answer(change.apply_async(&call, tool(&call, "groupdel", [&name])).await))
}

pub(super) async fn join(call: Call, arguments: MultiValue, order: [&'static str; 2]) -> mlua::Result<Answer> {
    let (user, group) = member(&call, &arguments, order)?;
    let outcome = match account::group(&group) {
        None if !call.checking() => Err(no_group(&group)),
        Some(_) | None => {
            let wanted = Wanted { groups: Some(vec![group]), ..Wanted::default() };
            change(&call, &user, &wanted).await
        }
    };
    Ok(call.answer(outcome))
}

pub(super) async fn leave(call: Call, arguments: MultiValue, order: [&'static str; 2]) -> mlua::Result<Answer> {
    let (user, group) = member(&call, &arguments, order)?;
    let outcome = match (account::named(&user), account::group(&group)) {
        (None, _) if !call.checking() => Err(missing(&user)),
        (_, None) if !call.checking() => Err(no_group(&group)),
        (Some(user), Some(group)) if user.gid == group.gid => {
            let (user, group) = (user.name, group.name);
            Err(format!("`{group}` is the first group of `{user}`: give it another with `user.set_primary_group`"))
        }
        (Some(_), Some(known)) if !known.members.contains(&user) => {
            Ok(Report::unchanged(format!("`{user}` is not in group `{group}` (idempotent)")))
        }
        (_, _) => {
            let change = Change::new(
                format!("remove `{user}` from group `{group}`"),
                format!("removed `{user}` from group `{group}`"),
            );
            change.apply_async(&call, tool(&call, "gpasswd", ["-d", &user, &group])).await
        }
    };
    Ok(call.answer(outcome))
}

pub(super) fn exists(call: &Call, arguments: &MultiValue) -> mlua::Result<(bool, String)> {
    let name = group_name(call, &Options::named(call, arguments, &["name"], &["group"])?)?;
    Ok(match account::group(&name) {
        Some(_) => (true, format!("group `{name}` exists")),
        None => (false, no_group(&name)),
    })
}

pub(super) fn get_info(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    call.shown(find(call, arguments)?, |group| table(call, group))
}

pub(super) fn get_gid(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    call.shown(find(call, arguments)?, |group| group.gid.into_lua(&call.lua))
}

/// The names of its members, also of those whose first group it is.
pub(super) fn members(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    call.shown(find(call, arguments)?, |group| everyone(group).into_lua(&call.lua))
}

pub(super) fn list(call: &Call, (): &()) -> mlua::Result<Table> {
    let list = call.lua.create_table()?;
    for group in account::groups() {
        list.raw_push(table(call, &group)?)?;
    }
    Ok(list)
}

fn find(call: &Call, arguments: &MultiValue) -> mlua::Result<Result<Group, String>> {
    let name = group_name(call, &Options::named(call, arguments, &["name"], &["group"])?)?;
    Ok(account::group(&name).ok_or_else(|| no_group(&name)))
}

fn everyone(group: &Group) -> Vec<String> {
    let mut members = group.members.clone();
    let first = account::all().into_iter().filter(|account| account.gid == group.gid);
    members.extend(first.map(|account| account.name));
    members.sort();
    members.dedup();
    members
}

/// A group as a table that speaks as its name.
fn table(call: &Call, group: &Group) -> mlua::Result<Table> {
    let table = call.lua.create_table()?;
    table.raw_set("name", group.name.as_str())?;
    table.raw_set("gid", group.gid)?;
    table.raw_set("members", group.members.clone())?;
    speak(&call.lua, &table, Voice::Name)?;
    Ok(table)
}

fn group_name(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    let name = match options.text("name")? {
        Some(name) => name,
        None => options.text("group")?.ok_or_else(|| call.error("`name` is missing"))?,
    };
    checked(call, name)
}

/// A user and a group.
fn member(call: &Call, arguments: &MultiValue, order: [&str; 2]) -> mlua::Result<(String, String)> {
    let options = Options::named(call, arguments, &order, &["name"])?;
    let user = user_name(call, &options)?;
    Ok((user, checked(call, options.required("group")?)?))
}

fn no_group(name: &str) -> String {
    format!("there is no group `{name}`")
}
