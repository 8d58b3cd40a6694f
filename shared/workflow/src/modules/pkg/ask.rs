//! What can be asked about packages.

use mlua::{IntoLuaMulti, MultiValue};

use super::{ASK_TIMEOUT, manager::Manager, names, reason, state};
use crate::{
    modules::{call::Call, options::Options},
    process::find_program,
};

/// What can be asked about one package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Info,
    Dependencies,
}

/// Whether it is installed, and a sentence.
pub(super) async fn is_installed(call: Call, arguments: MultiValue) -> mlua::Result<(bool, String)> {
    let package = names::one(&call, &arguments)?;
    let found = match Manager::detect(&call) {
        Ok(manager) => state::installed(&call, manager, std::slice::from_ref(&package.name)).await,
        Err(reason) => Err(reason),
    };
    Ok(match found {
        Ok(found) if state::is_there(&found, &package) => (true, format!("package `{}` is installed", package.name)),
        Ok(_) => (false, format!("package `{}` is not installed", package.name)),
        Err(reason) => (false, call.refusal(reason)),
    })
}

/// The version that is installed, or nothing and why.
pub(super) async fn version(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let name = names::one(&call, &arguments)?.name;
    let found = match Manager::detect(&call) {
        Ok(manager) => state::installed(&call, manager, std::slice::from_ref(&name)).await,
        Err(reason) => Err(reason),
    };
    let version =
        found.and_then(|found| found.get(&name).cloned().ok_or_else(|| format!("package `{name}` is not installed")));
    call.said(version).into_lua_multi(&call.lua)
}

/// `true` and a line for each package: its name and its version.
pub(super) async fn list(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    Options::named(&call, &arguments, &[], &[])?;
    let found = match Manager::detect(&call) {
        Ok(manager) => state::installed(&call, manager, &[]).await,
        Err(reason) => Err(reason),
    };
    match found {
        Ok(found) => {
            let lines: Vec<_> = found.into_iter().map(|(name, version)| format!("{name} {version}")).collect();
            (true, lines).into_lua_multi(&call.lua)
        }
        Err(reason) => (false, call.refusal(reason)).into_lua_multi(&call.lua),
    }
}

pub(super) async fn search(call: Call, arguments: MultiValue) -> mlua::Result<(bool, String)> {
    let options = Options::named(&call, &arguments, &["query"], &[])?;
    let query = options.required("query")?;
    if query.starts_with('-') || query.contains(['\n', '\0']) {
        return Err(call.error("`query` takes one line that does not begin with `-`"));
    }
    ask(&call, |manager| manager.search(&query)).await
}

pub(super) async fn tell(call: Call, arguments: MultiValue, question: Question) -> mlua::Result<(bool, String)> {
    let name = names::one(&call, &arguments)?.name;
    ask(&call, |manager| match question {
        Question::Info => manager.info(&name),
        Question::Dependencies => manager.dependencies(&name),
    })
    .await
}

pub(super) fn get_manager(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    Options::named(call, arguments, &[], &[])?;
    call.said(Manager::detect(call).map(Manager::name)).into_lua_multi(&call.lua)
}

/// The path of a program, or nothing and why.
pub(super) fn which(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(call, arguments, &["executable"], &["name"])?;
    let name = match options.text("executable")? {
        Some(name) => name,
        None => options.text("name")?.ok_or_else(|| call.error("`executable` is missing"))?,
    };
    let context = &call.context;
    let found = find_program(name.as_ref(), Some(&context.search_path), &context.workdir);
    let path = found.map(|path| path.display().to_string());
    call.said(path.ok_or_else(|| format!("there is no program `{name}` on this host"))).into_lua_multi(&call.lua)
}

async fn ask(call: &Call, line: impl FnOnce(Manager) -> super::Line) -> mlua::Result<(bool, String)> {
    let told = match Manager::detect(call) {
        Ok(manager) => match line(manager).run(call, ASK_TIMEOUT).await {
            Ok(output) if output.success() => Ok(output.stdout),
            Ok(output) => Err(reason(&output)),
            Err(reason) => Err(reason),
        },
        Err(reason) => Err(reason),
    };
    Ok(match told {
        Ok(text) => (true, text),
        Err(reason) => (false, call.refusal(reason)),
    })
}
