//! What Lua can call: one file a module.
//!
//! A module is a table that scripts cannot change. Each function says by its gate what it needs; arguments are
//! checked and named, unknown options are refused. A wrong call raises an error; what the host refuses comes back
//! as a value, in the form that the function's documentation says.

mod access;
mod account;
mod attributes;
mod call;
mod context;
mod cron;
mod crypto;
mod data;
mod diff;
mod event;
mod exec;
mod facts;
mod file_ops;
mod files;
mod foreseen;
mod fs;
mod git;
mod goroutine;
mod gotemplate;
mod http;
mod infra_test;
mod io;
mod log;
mod math;
mod metrics;
mod net;
mod options;
mod os;
mod paths;
mod perf;
mod pkg;
mod protect;
mod regex;
mod reliability;
mod report;
mod scope;
mod spoken;
mod stack;
mod star;
mod state;
mod stow;
mod strings;
mod sysctl;
mod systemd;
mod template;
mod time;
mod tool;
mod usage;
mod user;
mod validate;
mod watcher;
mod workdir;

use std::rc::Rc;

use mlua::{Function, Lua, LuaString, Table, Value};

pub(crate) use account::{at_home, beginning_of, ids_of_other};
pub use context::*;
pub(crate) use exec::stand_in as exec_result;
pub use scope::*;
pub(crate) use spoken::{Voice, speak, speak_again};

use crate::vm::{Builtin, pin_globals};

/// Where the machine keeps its modules, out of scripts' reach.
const REGISTRY: &str = "sloth.modules";

/// Makes the table of a module.
type Make = fn(&Lua, &Rc<Context>) -> mlua::Result<Table>;

const MODULES: &[(&str, Make)] = &[
    ("async", goroutine::async_module),
    ("bundle", fs::bundle_module),
    ("circuit", reliability::circuit_module),
    ("cron", cron::module),
    ("crypto", crypto::module),
    ("csv", data::csv_module),
    ("data", data::module),
    ("event", event::module),
    ("exec", exec::module),
    ("facts", facts::module),
    ("file", file_ops::file_module),
    ("file_ops", file_ops::module),
    ("fs", fs::module),
    ("git", git::module),
    ("goroutine", goroutine::module),
    ("http", http::module),
    ("infra_test", infra_test::module),
    ("io", io::module),
    ("json", data::json_module),
    ("log", log::module),
    ("math", math::module),
    ("metrics", metrics::module),
    ("net", net::module),
    ("network", net::network_module),
    ("perf", perf::module),
    ("pkg", pkg::module),
    ("reliability", reliability::module),
    ("stack", stack::module),
    ("state", state::module),
    ("stow", stow::module),
    ("strings", strings::module),
    ("sysctl", sysctl::module),
    ("systemd", systemd::module),
    ("template", template::module),
    ("time", time::module),
    ("toml", data::toml_module),
    ("user", user::module),
    ("validate", validate::module),
    ("watcher", watcher::module),
    ("workdir", workdir::module),
    ("xml", data::xml_module),
    ("yaml", data::yaml_module),
];

static SLEEP: Builtin = Builtin::new(
    r"
local seconds, known = ...
return function(span) known.goroutine.sleep(seconds(span) * 1000) end
",
);

/// Makes every module a global and known to `require`. A module is made when a script first names it: most files use a
/// few of them.
///
/// # Errors
///
/// When the machine has no memory left.
pub fn install(lua: &Lua, context: &Rc<Context>) -> mlua::Result<()> {
    pin_globals(lua)?;
    let known = lua.create_table()?;
    os::extend(lua, context)?;
    math::extend(lua, context)?;
    known.raw_set("os", lua.globals().get::<Table>("os")?)?;
    let making = Rc::clone(context);
    let make = lua.create_function(move |lua, (known, name): (Table, LuaString)| {
        let Some(make) = name.to_str().ok().and_then(|name| maker(&name)) else { return Ok(None) };
        let module = make(lua, &making)?;
        known.raw_set(name, &module)?;
        Ok(Some(module))
    })?;
    known.set_metatable(Some(lua.create_table_from([("__index", make)])?))?;
    lua.globals().set_metatable(Some(lua.create_table_from([("__index", &known)])?))?;
    pause(lua, &known)?;
    protect::install(lua)?;
    spoken::install(lua)?;
    lua.set_named_registry_value(REGISTRY, known)
}

/// The global `sleep`: seconds, or a span like `500ms`.
fn pause(lua: &Lua, known: &Table) -> mlua::Result<()> {
    let seconds = lua.create_function(|_, span: Value| {
        let text = span.as_string().and_then(|text| humantime::parse_duration(&text.to_string_lossy()).ok());
        let wrong = || mlua::Error::runtime("sleep: `span` takes seconds, or a span like `500ms`");
        text.map(|span| span.as_secs_f64()).or_else(|| call::number_of(&span)).ok_or_else(wrong)
    })?;
    let sleep: Function = SLEEP.function(lua)?.call((seconds, known))?;
    lua.globals().raw_set("sleep", sleep)
}

/// Modules of Sloth Runner that are none here.
const FOREIGN: [&str; 29] = [
    "ai",
    "aws",
    "azure",
    "db",
    "digitalocean",
    "docker",
    "firewall",
    "frp",
    "gcp",
    "gitops",
    "helm",
    "incus",
    "kubernetes",
    "lvm",
    "nfs",
    "nixos",
    "observability",
    "podman",
    "pulumi",
    "python",
    "raid",
    "salt",
    "secrets_manager",
    "security",
    "sloth",
    "smb",
    "ssh",
    "terraform",
    "vault",
];

/// Modules of Sloth Runner and of its examples that are none here, and what does their work.
const REPLACED: [(&str, &str); 9] = [
    ("database", "run its client with `exec.run`"),
    ("monitor", "use `metrics`"),
    ("monitoring", "use `metrics`"),
    ("notification", "send a message with `http.post`"),
    ("notifications", "send a message with `http.post`"),
    ("notify", "send a message with `http.post`"),
    ("queue", "use `goroutine.channel` within a run, and `state.list_push` beyond it"),
    ("scheduler", "let cron or a systemd timer start `sloth-agent run FILE`"),
    ("system", "ask `facts` and `metrics`, and run commands with `exec.run`"),
];

/// What does the work of a module that files written for Sloth Runner know and that is none here.
pub(crate) fn instead_of(name: &str) -> Option<&'static str> {
    let replaced = REPLACED.iter().find(|(known, _)| *known == name).map(|(_, instead)| *instead);
    replaced.or_else(|| FOREIGN.contains(&name).then_some("run its program with `exec.run`"))
}

/// The names of the modules, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODULES.iter().map(|(name, _)| *name).chain(["os"])
}

fn maker(name: &str) -> Option<Make> {
    MODULES.iter().find(|(known, _)| *known == name).map(|(_, make)| *make)
}

/// The module that `require` and the globals know as `name`, if there is one.
///
/// # Errors
///
/// When the machine has no memory left.
pub fn find(lua: &Lua, name: &str) -> mlua::Result<Option<Table>> {
    lua.named_registry_value::<Table>(REGISTRY)?.get(name)
}

/// Ends what modules run beside the tasks of a machine. When it resolves, nothing of it runs any more.
pub(crate) async fn end(lua: &Lua) {
    watcher::end(lua).await;
}

/// Puts a table in the place of a module, for whoever looks for it from here on.
pub(crate) fn replace(lua: &Lua, name: &str, table: &Table) -> mlua::Result<()> {
    lua.named_registry_value::<Table>(REGISTRY)?.raw_set(name, table)?;
    let globals = lua.globals();
    // Those that Luau itself has are found without the modules' table.
    if lua.globals().raw_get::<Value>(name)?.is_nil() { Ok(()) } else { globals.raw_set(name, table) }
}

/// The lines around which two texts differ.
pub(crate) fn difference(old: &str, new: &str) -> String {
    let lines = |text: &str| format!("{}\n", text.trim_end_matches('\n')).into_bytes();
    let whole = diff::unified("", &lines(old), &lines(new));
    // They are no files.
    let head = if whole.starts_with("--- ") { 2 } else { 0 };
    whole.lines().skip(head).collect::<Vec<_>>().join("\n")
}
