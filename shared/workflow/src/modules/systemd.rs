//! `systemd`: services and other units of the host, through `systemctl`.

mod ensure;
mod files;
mod query;
mod unit;
mod verbs;

use std::{rc::Rc, time::Duration};

use mlua::{Lua, MultiValue, Table};

use super::{
    Context,
    call::{Builder, Call, Gate},
    options::Options,
    tool::{Output, Tool},
};
use crate::capability::Capability;

use self::verbs::Verb;

/// What talks to systemd.
const SYSTEMCTL: &str = "systemctl";
/// How long a unit may take to start or to stop.
const JOB_TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of a unit's name, as systemd has it.
const NAME_BYTES_MAX: usize = 255;
/// What units' names end with.
const KINDS: [&str; 11] =
    ["service", "socket", "target", "timer", "mount", "automount", "path", "slice", "scope", "swap", "device"];

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let one = Gate::Within(Capability::Service);
    let all = Gate::Needs(Capability::Service);
    let mut builder = Builder::new(lua, context, "systemd")?;
    for verb in Verb::ALL {
        builder = builder.asynchronous(verb.name(), one, move |call, arguments| verbs::act(call, arguments, verb))?;
    }
    let table = builder
        .asynchronous("ensure", one, ensure::ensure)?
        .asynchronous("create_service", one, files::create_service)?
        .asynchronous("create_timer", one, files::create_timer)?
        .asynchronous("create_unit", one, files::create_unit)?
        .asynchronous("remove_service", one, files::remove)?
        .alias("remove_unit", "remove_service")?
        .asynchronous("daemon_reload", all, files::daemon_reload)?
        .asynchronous("is_active", one, query::is_active)?
        .asynchronous("is_enabled", one, query::is_enabled)?
        .asynchronous("status", one, query::status)?
        .asynchronous("show", one, query::show)?
        .asynchronous("logs", one, query::logs)?
        .asynchronous("list_services", all, query::list_services)?
        .finish();
    Ok(table)
}

/// The unit that the option `name` names, which may be granted.
fn unit_of(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    unit(call, &options.required("name")?, "service")
}

/// A unit's whole name; one without a kind is of the kind that is given.
fn unit(call: &Call, name: &str, kind: &str) -> mlua::Result<String> {
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, ':' | '-' | '_' | '.' | '\\' | '@');
    let has_kind = name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
    let whole = if has_kind { name.to_owned() } else { format!("{name}.{kind}") };
    if name.is_empty() || name.starts_with(['-', '.']) || NAME_BYTES_MAX < whole.len() || !name.chars().all(is_plain) {
        return Err(call.error(format_args!(
            "`{name}` cannot be the name of a unit: it takes letters, digits and `:-_.\\@`, and no `-` at its begin"
        )));
    }
    // Bundles name a service as people do; the whole name is as good.
    let short = whole.strip_suffix(".service").unwrap_or(&whole);
    if !call.context.capabilities.allows_name(Capability::Service, &whole) {
        call.permit(Capability::Service, short)?;
    }
    Ok(whole)
}

/// The unit of a function that takes nothing else, given alone or in a table.
fn only(call: &Call, arguments: &MultiValue) -> mlua::Result<String> {
    unit_of(call, &Options::named(call, arguments, &["name"], &[])?)
}

async fn systemctl<S: AsRef<str>>(call: &Call, arguments: impl IntoIterator<Item = S>) -> Result<Output, String> {
    let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
    Tool::new(call, SYSTEMCTL).args(arguments).timeout(JOB_TIMEOUT).run().await
}

/// Runs it for its effect.
async fn effect<S: AsRef<str>>(call: &Call, arguments: impl IntoIterator<Item = S>) -> Result<(), String> {
    let output = systemctl(call, arguments).await?;
    if output.success() { Ok(()) } else { Err(reason(&output)) }
}

/// Why it failed. Its first line says what; those after it say where to read more.
fn reason(output: &Output) -> String {
    let first = output.stderr.lines().map(str::trim).find(|line| !line.is_empty());
    first.map_or_else(
        || output.reason(),
        |line| format!("`{SYSTEMCTL}` ended with exit code {}: {line}", output.exit_code),
    )
}
