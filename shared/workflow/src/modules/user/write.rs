//! Making, changing and removing users.

use mlua::MultiValue;

use super::{
    Triple, missing,
    password::Fits,
    user_name,
    wanted::{OPTIONS, Wanted},
};
use crate::modules::{
    account::{self, Account, Password},
    call::Call,
    foreseen,
    options::Options,
    report::{Answer, Change, Report},
    tool::Tool,
};

/// Whether a password is to be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    On,
    Off,
}

pub(super) async fn create(call: Call, arguments: MultiValue) -> mlua::Result<Triple> {
    let options = Options::named(&call, &arguments, &OPTIONS[..1], &OPTIONS[1..])?;
    let (name, wanted) = (user_name(&call, &options)?, Wanted::read(&call, &options)?);
    let outcome = match account::named(&name) {
        Some(account) => adjust(&call, &account, &wanted).await,
        None => {
            foreseen::note_user(&call, &name);
            add(&call, &name, &wanted).await
        }
    };
    Ok(Triple(call.answer(outcome)))
}

pub(super) async fn modify(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &OPTIONS[..1], &OPTIONS[1..])?;
    let (name, wanted) = (user_name(&call, &options)?, Wanted::read(&call, &options)?);
    Ok(call.answer(change(&call, &name, &wanted).await))
}

/// Sets one thing, which comes second.
pub(super) async fn set(call: Call, arguments: MultiValue, what: &'static str) -> mlua::Result<Answer> {
    let also: &[&str] = if what == "gid" { &["name", "group"] } else { &["name"] };
    let options = Options::named(&call, &arguments, &["username", what], also)?;
    if options.value(what)?.is_nil() && options.value("group")?.is_nil() {
        return Err(call.error(format_args!("`{what}` is missing")));
    }
    let (name, wanted) = (user_name(&call, &options)?, Wanted::read(&call, &options)?);
    Ok(call.answer(change(&call, &name, &wanted).await))
}

pub(super) async fn set_home(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["username", "home", "move_home"], &["name"])?;
    options.required("home")?;
    let (name, wanted) = (user_name(&call, &options)?, Wanted::read(&call, &options)?);
    Ok(call.answer(change(&call, &name, &wanted).await))
}

pub(super) async fn set_password(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["username", "password"], &["name", "password_hash"])?;
    let (name, wanted) = (user_name(&call, &options)?, Wanted::read(&call, &options)?);
    if wanted.password.is_none() {
        return Err(call.error("`password` is missing"));
    }
    Ok(call.answer(change(&call, &name, &wanted).await))
}

pub(super) async fn delete(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["username", "remove_home"], &["name"])?;
    let name = user_name(&call, &options)?;
    let remove_home = options.flag("remove_home")?.unwrap_or(false);
    if account::named(&name).is_none() {
        return Ok(call.answer(Ok(Report::unchanged(format!("there is no user `{name}` (idempotent)")))));
    }
    let home = if remove_home { " with its home" } else { "" };
    let change = Change::new(format!("delete user `{name}`{home}"), format!("deleted user `{name}`{home}"));
    let arguments = if remove_home { vec!["-r", &name] } else { vec![&name[..]] };
    let outcome = change.apply_async(&call, tool(&call, "userdel", arguments)).await;
    Ok(call.answer(outcome))
}

/// Makes the user choose another password at the next login.
pub(super) async fn expire_password(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let name = user_name(&call, &Options::named(&call, &arguments, &["username"], &["name"])?)?;
    if account::named(&name).is_none() && !call.checking() {
        return Ok(call.answer(Err(missing(&name))));
    }
    if account::shadow(&name).is_some_and(|shadow| shadow.changed == Some(0)) {
        let message = format!("the password of `{name}` has expired already (idempotent)");
        return Ok(call.answer(Ok(Report::unchanged(message))));
    }
    let change = Change::new(format!("expire the password of `{name}`"), format!("expired the password of `{name}`"));
    let outcome = change.apply_async(&call, tool(&call, "chage", ["-d", "0", &name])).await;
    Ok(call.answer(outcome))
}

pub(super) async fn lock(call: Call, arguments: MultiValue, lock: Lock) -> mlua::Result<Answer> {
    let name = user_name(&call, &Options::named(&call, &arguments, &["username"], &["name"])?)?;
    let (would, did, option) = match lock {
        Lock::On => ("lock", "locked", "-L"),
        Lock::Off => ("unlock", "unlocked", "-U"),
    };
    let password = account::shadow(&name).map(|shadow| shadow.password);
    let outcome = match (password, lock) {
        (None, _) if account::named(&name).is_none() && !call.checking() => Err(missing(&name)),
        (Some(Password::Never { .. }), Lock::Off) => {
            Err(format!("`{name}` has no password that could be unlocked: set one with `user.set_password`"))
        }
        (Some(now), _) if now.is_locked() == (lock == Lock::On) => {
            Ok(Report::unchanged(format!("`{name}` is {did} already (idempotent)")))
        }
        (Some(_) | None, _) => {
            let change = Change::new(format!("{would} `{name}`"), format!("{did} `{name}`"));
            change.apply_async(&call, tool(&call, "usermod", [option, &name])).await
        }
    };
    Ok(call.answer(outcome))
}

/// Changes a user that must be there.
pub(super) async fn change(call: &Call, name: &str, wanted: &Wanted) -> Result<Report, String> {
    match account::named(name) {
        Some(account) => adjust(call, &account, wanted).await,
        // In a run that only checks, a task before this one may have made it.
        None if call.checking() => {
            Change::new(format!("change user `{name}`, which is not there yet"), String::new()).apply(call, || Ok(()))
        }
        None => Err(missing(name)),
    }
}

/// Runs one of the host's tools for its effect.
pub(super) async fn tool<S: AsRef<str>>(
    call: &Call,
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<(), String> {
    let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
    Tool::new(call, program).args(arguments).run().await?.ok().map(drop)
}

async fn add(call: &Call, name: &str, wanted: &Wanted) -> Result<Report, String> {
    let mut arguments = wanted.to_useradd(name);
    arguments.push(name.to_owned());
    let make = async {
        tool(call, "useradd", arguments).await?;
        match &wanted.password {
            Some(password) => password.set(call, name).await,
            None => Ok(()),
        }
    };
    Change::new(format!("create user `{name}`"), format!("created user `{name}`")).apply_async(call, make).await
}

async fn adjust(call: &Call, account: &Account, wanted: &Wanted) -> Result<Report, String> {
    let name = &account.name;
    let differences = wanted.differences(account);
    let mut told: Vec<_> = differences.iter().map(|difference| difference.told.clone()).collect();
    let mut password = wanted.password.as_ref();
    if let Some(secret) = password {
        match secret.fits(call, name).await {
            Fits::Yes => password = None,
            Fits::No => told.push("password".to_owned()),
            Fits::Unknown => told.push("password (this host does not tell whether it was another one)".to_owned()),
        }
    }
    if told.is_empty() {
        return Ok(Report::unchanged(format!("user `{name}` is as wanted already (idempotent)")));
    }
    let told = told.join(", ");
    let mut arguments: Vec<_> = differences.into_iter().flat_map(|difference| difference.arguments).collect();
    let make = async {
        if !arguments.is_empty() {
            arguments.push(name.clone());
            tool(call, "usermod", arguments).await?;
        }
        match password {
            Some(password) => password.set(call, name).await,
            None => Ok(()),
        }
    };
    Change::new(format!("change user `{name}`: {told}"), format!("changed user `{name}`: {told}"))
        .apply_async(call, make)
        .await
}
