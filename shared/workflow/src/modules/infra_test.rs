//! `infra_test`: whether a host is as it should be. What is not so is raised as an error.

mod files;
mod packages;
mod results;

use std::{rc::Rc, time::Duration};

use mlua::{Function, Lua, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    exec, regex,
    tool::Tool,
    usage::{self, Protocol},
};
use crate::{
    Level, Stream,
    capability::Capability,
    process::{Completed, Ending},
    vm::Builtin,
};

/// How long a connection may take when it is not said.
const CONNECT: Duration = Duration::from_secs(5);
/// How many packets are sent when it is not said, and at most.
const PINGS: u64 = 4;
const PINGS_MAX: u64 = 100;
/// How long each may take.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Most processes that a test may ask for.
const PROCESSES_MAX: u64 = 1_000_000;

/// What the arguments of tests are called where they are given as one table; `target` is the last of all.
const ARGUMENTS: [(&[&str], &[&str]); 13] = [
    (&["file_exists", "is_directory", "is_file"], &["path"]),
    (&["file_contains"], &["path", "pattern"]),
    (&["file_mode"], &["path", "mode"]),
    (&["file_owner"], &["path", "owner"]),
    (&["file_group"], &["path", "group"]),
    (&["file_size"], &["path", "bytes"]),
    (&["port_is_listening", "port_is_tcp", "port_is_udp"], &["port"]),
    (&["service_is_running", "service_is_enabled", "package_is_installed"], &["name"]),
    (&["package_version"], &["name", "version"]),
    (&["process_is_running"], &["pattern"]),
    (&["process_count"], &["pattern", "count"]),
    (&["command_succeeds", "command_fails", "command_stderr_is_empty"], &["command"]),
    (&["ping"], &["host", "count"]),
];

/// Lets a function take one table instead of its arguments.
static BY_NAME: Builtin = Builtin::new(
    r#"
local type, error, unpack, concat = type, error, unpack, table.concat
return function(name, arguments, test)
    arguments[#arguments + 1] = "target"
    local known = {}
    for place, argument in arguments do known[argument] = place end
    return function(first, ...)
        if type(first) ~= "table" then return test(first, ...) end
        local values = {}
        for key, value in first do
            if not known[key] then
                error(name .. ": no option `" .. tostring(key) .. "`; it takes `" .. concat(arguments, "`, `") .. "`", 2)
            end
            values[known[key]] = value
        end
        return test(unpack(values, 1, #arguments))
    end
end
"#,
);

/// What was found: nothing wrong, or what.
type Verdict = Result<(), String>;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let builder = Builder::new(lua, context, "infra_test")?;
    let builder = commands(network(system(files::add(builder)?)?)?)?;
    let tests = builder
        .asynchronous("package_is_installed", Gate::Needs(Capability::Facts), packages::is_installed)?
        .asynchronous("package_version", Gate::Needs(Capability::Facts), packages::version)?
        .asynchronous("check", Gate::Acting, results::check)?
        .function("report", Gate::Open, results::report)?
        .unfinished();
    let by_name: Function = BY_NAME.function(lua)?.call(())?;
    let mut builder = Builder::new(lua, context, "infra_test")?;
    for pair in tests.pairs::<String, Value>() {
        let (name, test) = pair?;
        let arguments = ARGUMENTS.iter().find(|(tests, _)| tests.contains(&name.as_str()));
        let test = match arguments {
            Some((_, arguments)) => by_name.call((format!("infra_test.{name}"), arguments.to_vec(), test))?,
            None => test,
        };
        builder = builder.value(&name, test)?;
    }
    Ok(builder.finish())
}

/// What runs: services and processes.
fn system(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let facts = Gate::Needs(Capability::Facts);
    builder
        .asynchronous("service_is_running", facts, |call, (name, target): (Value, Value)| async move {
            let (name, target) = (call.text("name", &name)?, target_of(&call, &target)?);
            let state = service(&call, "is-active", &name).await;
            let wrong = |state| format!("service '{name}' is not running on target '{target}': it is {state}");
            settle(&call, state.and_then(|state| if state == "active" { Ok(()) } else { Err(wrong(state)) }))
        })?
        .asynchronous("service_is_enabled", facts, |call, (name, target): (Value, Value)| async move {
            let (name, target) = (call.text("name", &name)?, target_of(&call, &target)?);
            let state = service(&call, "is-enabled", &name).await;
            let wrong = |state| format!("service '{name}' is not enabled on target '{target}': it is {state}");
            let is_enabled = |state: &str| matches!(state, "enabled" | "enabled-runtime");
            settle(&call, state.and_then(|state| if is_enabled(&state) { Ok(()) } else { Err(wrong(state)) }))
        })?
        .asynchronous("process_is_running", facts, |call, (pattern, target): (Value, Value)| async move {
            let (pattern, target) = (call.text("pattern", &pattern)?, target_of(&call, &target)?);
            let found = processes(&pattern).await;
            let wrong = || format!("no process matching '{pattern}' found on target '{target}'");
            settle(&call, found.and_then(|found| if 0 < found { Ok(()) } else { Err(wrong()) }))
        })?
        .asynchronous("process_count", facts, |call, (pattern, count, target): (Value, Value, Value)| async move {
            let (pattern, target) = (call.text("pattern", &pattern)?, target_of(&call, &target)?);
            let count = call.integer("count", &count, 0, PROCESSES_MAX)?;
            let found = processes(&pattern).await;
            let wrong = |found| {
                format!("found {found} processes matching '{pattern}' but expected {count} on target '{target}'")
            };
            settle(&call, found.and_then(|found| if found == count { Ok(()) } else { Err(wrong(found)) }))
        })
}

fn network(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let ports: [(&str, &str, &'static [Protocol]); 3] = [
        ("port_is_listening", "", &[Protocol::Tcp, Protocol::Udp]),
        ("port_is_tcp", " on TCP", &[Protocol::Tcp]),
        ("port_is_udp", " on UDP", &[Protocol::Udp]),
    ];
    let mut builder = builder;
    for (name, how, protocols) in ports {
        let gate = Gate::Needs(Capability::Facts);
        builder = builder.function(name, gate, move |call, (port, target): &(Value, Value)| {
            let (port, target) = (port_of(call, port)?, target_of(call, target)?);
            let mut open = false;
            for protocol in protocols {
                open |= usage::ports(*protocol).map_err(|reason| call.error(reason))?.contains(&port);
            }
            let wrong = || format!("port {port} is not listening{how} on target '{target}'");
            settle(call, if open { Ok(()) } else { Err(wrong()) })
        })?;
    }
    builder.asynchronous("can_connect", Gate::Within(Capability::Net), can_connect)?.asynchronous(
        "ping",
        Gate::Within(Capability::Net),
        ping,
    )
}

async fn can_connect(call: Call, (host, port, timeout): (Value, Value, Value)) -> mlua::Result<bool> {
    let (host, port) = (call.text("host", &host)?, port_of(&call, &port)?);
    // A bare number is one of milliseconds, unlike elsewhere.
    let timeout = match (&timeout, super::call::number_of(&timeout)) {
        (Value::Nil, _) => CONNECT,
        (_, Some(ms)) => Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default(),
        (text, None) => call.duration("timeout", text)?,
    };
    call.reach(&host, port)?;
    let connected = tokio::time::timeout(timeout, tokio::net::TcpStream::connect((host.as_str(), port))).await;
    let within = timeout.as_millis();
    let wrong = |reason: String| format!("failed to connect to {host}:{port} within {within}ms{reason}");
    settle(
        &call,
        match connected {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(wrong(format!(": {error}"))),
            Err(_) => Err(wrong(String::new())),
        },
    )
}

async fn ping(call: Call, (host, count, target): (Value, Value, Value)) -> mlua::Result<bool> {
    let (host, target) = (call.text("host", &host)?, target_of(&call, &target)?);
    let count = if count.is_nil() { PINGS } else { call.integer("count", &count, 1, PINGS_MAX)? };
    // Packets of this kind know no ports; a bundle that may reach one only may not send them.
    call.reach(&host, 0)?;
    let (packets, timeout) = (count.to_string(), PING_TIMEOUT.as_secs().to_string());
    let arguments = ["-c", &packets, "-W", &timeout, "--", &host];
    let longest = PING_TIMEOUT * u32::try_from(count).unwrap_or(u32::MAX) + PING_TIMEOUT;
    let sent = Tool::new(&call, "ping").args(arguments).timeout(longest).run().await;
    let wrong = |reason| format!("failed to ping {host} with {count} packets on target '{target}': {reason}");
    settle(&call, sent.and_then(super::tool::Output::ok).map(drop).map_err(wrong))
}

/// What commands do. They are lines for the shell.
fn commands(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let gate = Gate::Needs(Capability::Exec);
    builder
        .asynchronous("command_succeeds", gate, |call, (line, target): (Value, Value)| async move {
            let target = target_of(&call, &target)?;
            judged(&call, &line, |line, ran| {
                let wrong = || format!("command '{line}' failed on target '{target}': {}", ended(ran));
                if ran.ending == Ending::Exited(0) { Ok(()) } else { Err(wrong()) }
            })
            .await
        })?
        .asynchronous("command_fails", gate, |call, (line, target): (Value, Value)| async move {
            let target = target_of(&call, &target)?;
            judged(&call, &line, |line, ran| {
                let wrong = || format!("command '{line}' succeeded but was expected to fail on target '{target}'");
                if ran.ending == Ending::Exited(0) { Err(wrong()) } else { Ok(()) }
            })
            .await
        })?
        .asynchronous(
            "command_stdout_contains",
            gate,
            |call, (line, pattern, target): (Value, Value, Value)| async move {
                let (pattern, target) = (call.text("pattern", &pattern)?, target_of(&call, &target)?);
                judged(&call, &line, |line, ran| {
                    succeeded(line, ran)?;
                    if holds(&pattern, &both(ran)) {
                        return Ok(());
                    }
                    Err(format!("output of '{line}' does not contain pattern '{pattern}' on target '{target}'"))
                })
                .await
            },
        )?
        .asynchronous("command_stderr_is_empty", gate, |call, (line, target): (Value, Value)| async move {
            let target = target_of(&call, &target)?;
            judged(&call, &line, |line, ran| {
                let stderr = String::from_utf8_lossy(&ran.stderr);
                let wrong =
                    || format!("command '{line}' produced stderr output on target '{target}': {}", stderr.trim());
                if stderr.trim().is_empty() { Ok(()) } else { Err(wrong()) }
            })
            .await
        })?
        .asynchronous("command_output_equals", gate, |call, (line, text, target): (Value, Value, Value)| async move {
            let (text, target) = (call.text("text", &text)?, target_of(&call, &target)?);
            judged(&call, &line, |line, ran| {
                succeeded(line, ran)?;
                let (got, text) = (both(ran), text.trim());
                let wrong =
                    || format!("output of '{line}' is '{}' but expected '{text}' on target '{target}'", got.trim());
                if got.trim() == text { Ok(()) } else { Err(wrong()) }
            })
            .await
        })
}

/// Runs a command and judges what it did. A run that only checks does not run it: nobody knows what it would change.
async fn judged(call: &Call, line: &Value, judge: impl FnOnce(&str, &Completed) -> Verdict) -> mlua::Result<bool> {
    let line = call.text("command", line)?;
    if call.checking() {
        call.context.log(Stream::Log(Level::Info), &format!("would run: {line}"));
        return Ok(true);
    }
    let ran = exec::quiet_shell(call, line.clone()).await.map_err(mlua::Error::runtime)?;
    settle(call, judge(&line, &ran))
}

fn succeeded(line: &str, ran: &Completed) -> Verdict {
    if ran.ending == Ending::Exited(0) { Ok(()) } else { Err(format!("command '{line}' failed: {}", ended(ran))) }
}

/// How a command ended, with the last that it said.
fn ended(ran: &Completed) -> String {
    let output = both(ran);
    let said = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    format!("exit code {}{said}", ran.ending.exit_code())
}

fn both(ran: &Completed) -> String {
    String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr].concat()).into_owned()
}

/// Whether a text matches a regular expression; what is none is looked for as it is.
fn holds(pattern: &str, text: &str) -> bool {
    regex::compile(pattern).map_or_else(|_| text.contains(pattern), |regex| regex.is_match(text))
}

async fn processes(pattern: &str) -> Result<u64, String> {
    let list = tokio::task::spawn_blocking(usage::processes).await.map_err(|error| error.to_string())??;
    Ok(list.iter().filter(|process| holds(pattern, &process.command)).count() as u64)
}

/// What systemd says of a service, in one word.
async fn service(call: &Call, question: &str, name: &str) -> Result<String, String> {
    let output = Tool::new(call, "systemctl").args([question, "--", name]).run().await?;
    match output.stdout.trim() {
        // It says of a service that is not there only that it cannot find it.
        "" => Err(output.reason()),
        state => Ok(state.to_owned()),
    }
}

fn port_of(call: &Call, port: &Value) -> mlua::Result<u16> {
    let port = call.integer("port", port, 1, u64::from(u16::MAX))?;
    u16::try_from(port).map_err(|error| call.error(error))
}

/// The host that is looked at, which is always this one.
fn target_of(call: &Call, target: &Value) -> mlua::Result<String> {
    let target = call.optional_text("target", target)?.unwrap_or_default();
    match target.as_str() {
        "" | "local" => Ok("local".to_owned()),
        "localhost" => Ok(target),
        name if name == call.context.agent.name => Ok(target),
        name => Err(call.error(format_args!(
            "only this host can be looked at from here, not `{name}`: give the task `delegate_to(\"{name}\")`"
        ))),
    }
}

/// `true`, or the error with the function's own name before it. A run that only checks raises none: what is not so yet
/// may be what the run would make so.
fn settle(call: &Call, verdict: Verdict) -> mlua::Result<bool> {
    let Err(wrong) = verdict else { return Ok(true) };
    let name = call.name.rsplit('.').next().unwrap_or_default();
    if call.checking() {
        call.context.log(Stream::Log(Level::Info), &format!("not so yet: {name}: {wrong}"));
        return Ok(true);
    }
    Err(mlua::Error::runtime(format!("{name}: {wrong}")))
}
