//! `exec`: commands of the host.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt, rc::Rc};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use sloth_core::error::Chain;

use super::{
    Context, account,
    call::{Builder, Call, Gate},
    foreseen,
    options::Options,
    spoken::{Voice, speak},
};
use crate::{
    Level, Stream,
    capability::Capability,
    process::{Command, Completed, Ending, Program, User},
    vm::Builtin,
};

/// Exit code that stands for a command that could not be started, as shells give it.
const EXIT_NOT_STARTED: i32 = 127;
const OPTIONS: [&str; 7] = ["workdir", "env", "timeout", "stdin", "shell", "quiet", "check"];

/// `exec(…)` is `exec.run(…)`: drops the table that a call of a table puts before its arguments.
static CALL_RUN: Builtin = Builtin::new("local run = ... return function(_, ...) return run(...) end");

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Needs(Capability::Exec);
    let table = Builder::new(lua, context, "exec")?
        .asynchronous("run", gate, run)?
        .asynchronous("sh", gate, sh)?
        .asynchronous("command", gate, command)?
        .unfinished();
    let callable = lua.create_table()?;
    let run: mlua::Function = CALL_RUN.function(lua)?.call(table.raw_get::<mlua::Function>("run")?)?;
    callable.raw_set("__call", run)?;
    callable.set_readonly(true);
    table.set_metatable(Some(callable))?;
    table.set_readonly(true);
    Ok(table)
}

/// Runs a shell line without options; what `os.execute` and `io.popen` are made of.
pub(super) async fn shell(call: &Call, line: String, stdin: Option<Vec<u8>>) -> Result<Completed, String> {
    let program = Program::Shell(line);
    if call.checking() {
        return Ok(told(call, &program));
    }
    let settings = Settings::new(call).map_err(|error| error.to_string())?;
    perform(call, program, Settings { stdin, ..settings }).await
}

/// As [`shell`], with nothing that it prints logged.
pub(super) async fn quiet_shell(call: &Call, line: String) -> Result<Completed, String> {
    let settings = Settings::new(call).map_err(|error| error.to_string())?;
    perform(call, Program::Shell(line), Settings { log: Log::Nothing, ..settings }).await
}

/// Runs a shell line as the user of that name, in its home unless `workdir` is given.
pub(super) async fn shell_as(
    call: &Call,
    user: &str,
    line: String,
    workdir: Option<std::path::PathBuf>,
    timeout: Option<std::time::Duration>,
) -> Result<Completed, String> {
    let mut env = script_environment(call);
    let identity = identity(call, user, &mut env).map_err(|error| error.to_string())?;
    let home = std::path::PathBuf::from(env.get("HOME").map_or("/", String::as_str));
    let workdir = workdir.unwrap_or_else(|| if home.is_dir() { home } else { "/".into() });
    perform(
        call,
        Program::Shell(line),
        Settings { workdir, env, timeout, stdin: None, user: identity, log: Log::Lines },
    )
    .await
}

/// The environment that commands of the running task get.
pub(super) fn environment(call: &Call) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), call.context.search_path.clone())]);
    env.insert("HOME".to_owned(), std::env::var("HOME").unwrap_or_else(|_| "/".to_owned()));
    if let Some(scope) = call.context.current.get() {
        if let Some(task) = &scope.task {
            env.insert("SLOTH_TASK".to_owned(), task.task.clone());
        }
        env.extend(scope.env.clone());
    }
    mark(&mut env, call);
    env
}

/// The same for commands of the file's own, which get what it said with `os.setenv` as well.
pub(super) fn script_environment(call: &Call) -> BTreeMap<String, String> {
    let mut env = environment(call);
    env.extend(call.context.settings.environment.borrow().clone());
    mark(&mut env, call);
    env
}

/// Marks a command as the run's. What a crash leaves behind is found by it, so no script may unset it.
fn mark(env: &mut BTreeMap<String, String>, call: &Call) {
    env.insert("SLOTH_RUN_ID".to_owned(), call.context.run_id.clone());
}

struct Settings {
    workdir: std::path::PathBuf,
    env: BTreeMap<String, String>,
    timeout: Option<std::time::Duration>,
    stdin: Option<Vec<u8>>,
    user: Option<User>,
    log: Log,
}

/// Whether what a command prints is logged as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Lines,
    Nothing,
}

impl Settings {
    fn new(call: &Call) -> mlua::Result<Self> {
        let mut env = script_environment(call);
        let user = user(call, &mut env)?;
        Ok(Self { workdir: call.workdir(), env, timeout: None, stdin: None, user, log: Log::Lines })
    }

    fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Self> {
        let mut settings = Self::new(call)?;
        let added = options.texts("env")?;
        if let Some(name) = added.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(call.error(format_args!("`{name}` cannot be the name of an environment variable")));
        }
        settings.env.extend(added);
        mark(&mut settings.env, call);
        settings.workdir = options.path("workdir")?.unwrap_or(settings.workdir);
        settings.timeout = options.duration("timeout")?;
        settings.stdin = options.bytes("stdin")?;
        if options.flag("quiet")?.unwrap_or(false) {
            settings.log = Log::Nothing;
        }
        Ok(settings)
    }
}

/// `result, error, failed`: the error is set only when the command could not be brought to its own end.
async fn run(call: Call, (command, options): (Value, Value)) -> mlua::Result<(Table, Option<String>, bool)> {
    let options = Options::new(&call, &options, &OPTIONS)?;
    let program = program(&call, &command, options.flag("shell")?)?;
    let settings = Settings::read(&call, &options)?;
    if let Some(completed) = passed_over(&call, &program, &options)? {
        let result = to_result(&call.lua, Ok(completed))?;
        result.raw_set("skipped", true)?;
        return Ok((result, None, false));
    }
    let limit = settings.timeout;
    let outcome = perform(&call, program, settings).await;
    let error = match &outcome {
        Ok(Completed { ending: Ending::TimedOut, .. }) => {
            let limit = humantime::format_duration(limit.unwrap_or_default());
            Some(format!("{}: the command was ended after its timeout of {limit}", call.name))
        }
        Ok(_) => None,
        Err(error) => Some(error.clone()),
    };
    let result = to_result(&call.lua, outcome)?;
    let failed = !result.raw_get::<bool>("success")?;
    Ok((result, error, failed))
}

/// The same as [`run`]; or a program and its arguments one by one, which no shell sees. The oldest files call it so, and take
/// its output, what it said on standard error, and an error if it failed.
async fn command(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let mut values = values.into_iter();
    let (command, second) = (values.next().unwrap_or(Value::Nil), values.next().unwrap_or(Value::Nil));
    if !matches!(second, Value::String(_) | Value::Integer(_) | Value::Number(_)) {
        let lua = call.lua.clone();
        return run(call, (command, second)).await?.into_lua_multi(&lua);
    }
    let lua = call.lua.clone();
    let words = lua.create_sequence_from([command, second].into_iter().chain(values))?;
    let (result, error, failed) = run(call, (Value::Table(words), Value::Nil)).await?;
    let stderr: Value = result.raw_get("stderr")?;
    let told = || result.raw_get::<i32>("exit_code").map(|code| format!("the command exited with status {code}"));
    let error = if failed { Some(error.map_or_else(told, Ok)?) } else { None };
    (result, stderr, error).into_lua_multi(&lua)
}

async fn sh(call: Call, (command, options): (Value, Value)) -> mlua::Result<MultiValue> {
    let options = Options::new(&call, &options, &OPTIONS)?;
    let program = program(&call, &command, options.flag("shell")?)?;
    let settings = Settings::read(&call, &options)?;
    if passed_over(&call, &program, &options)?.is_some() {
        return (true, "").into_lua_multi(&call.lua);
    }
    match perform(&call, program, settings).await {
        Ok(completed) => {
            let success = completed.ending == Ending::Exited(0);
            let output = [completed.stdout, completed.stderr].concat();
            (success, call.lua.create_string(output)?).into_lua_multi(&call.lua)
        }
        Err(error) => (false, error).into_lua_multi(&call.lua),
    }
}

/// What stands for a command in a run that only checks: nobody knows what it would change, so it is not run unless the
/// script says that it changes nothing.
fn passed_over(call: &Call, program: &Program, options: &Options<'_>) -> mlua::Result<Option<Completed>> {
    if !call.checking() || options.flag("check")?.unwrap_or(false) {
        return Ok(None);
    }
    Ok(Some(told(call, program)))
}

/// Says what would be run, and answers as if it had succeeded and printed nothing.
fn told(call: &Call, program: &Program) -> Completed {
    let line = match program {
        Program::Shell(line) => line.clone(),
        Program::Direct { program, arguments } => {
            let words = std::iter::once(program).chain(arguments).map(|word| word.to_string_lossy());
            words.collect::<Vec<_>>().join(" ")
        }
    };
    let told = format!("would run: {line}");
    call.context.would_change(&told);
    foreseen::left_out_unknown(call);
    call.context.log(Stream::Log(Level::Info), &told);
    Completed { ending: Ending::Exited(0), stdout: Vec::new(), stderr: Vec::new(), truncated: false }
}

async fn perform(call: &Call, program: Program, settings: Settings) -> Result<Completed, String> {
    let context = &call.context;
    if !settings.workdir.is_dir() {
        return Err(format!("{}: there is no directory `{}` to run in", call.name, settings.workdir.display()));
    }
    let command = Command {
        program,
        workdir: settings.workdir,
        env: settings.env,
        stdin: settings.stdin,
        timeout: settings.timeout,
        user: settings.user,
        capture_bytes_max: context.limits.capture_bytes,
        line_bytes_max: context.limits.log_line_bytes,
    };
    let scope = context.current.get().map(|scope| scope.id);
    let sink = |stream, line: String| {
        if settings.log == Log::Lines {
            context.log(stream, &line);
        }
    };
    let processes = Rc::clone(&context.processes);
    let run = processes.run(scope, command, &sink).await;
    run.map_err(|error| format!("{}: {}", call.name, Chain(&error)))
}

/// What to run: a line for the shell, or a list of a program and its arguments that no shell sees.
fn program(call: &Call, command: &Value, shell: Option<bool>) -> mlua::Result<Program> {
    // A table that turns itself into a text is a text.
    let Some(list) = command.as_table().filter(|table| !table.has_metatable()) else {
        if shell == Some(false) {
            return Err(call.expected(
                "command",
                "a list of a program and its arguments with `shell = false`",
                command,
            ));
        }
        return Ok(Program::Shell(call.text("command", command)?));
    };
    if shell == Some(true) {
        return Err(call.expected("command", "a text with `shell = true`", command));
    }
    let mut words = Vec::with_capacity(list.raw_len());
    for (index, word) in list.sequence_values::<Value>().enumerate() {
        words.push(OsString::from_vec(call.bytes(&format!("command[{}]", index + 1), &word?)?));
    }
    if words.is_empty() {
        return Err(call.error("`command` is an empty list: begin it with the program"));
    }
    let program = words.remove(0);
    Ok(Program::Direct { program, arguments: words })
}

/// Who is to run it, when that is not the user of this process; the environment is made to agree.
pub(super) fn user(call: &Call, env: &mut BTreeMap<String, String>) -> mlua::Result<Option<User>> {
    match call.context.current.get().and_then(|scope| scope.user.clone()) {
        Some(name) => identity(call, &name, env),
        None => Ok(None),
    }
}

fn identity(call: &Call, name: &str, env: &mut BTreeMap<String, String>) -> mlua::Result<Option<User>> {
    let Some(account) = account::find(|account| account.name == name) else {
        return Err(call.error(format_args!("there is no user `{name}` in /etc/passwd")));
    };
    let own = rustix::process::geteuid();
    env.insert("HOME".to_owned(), account.home);
    env.insert("USER".to_owned(), name.to_owned());
    env.insert("LOGNAME".to_owned(), name.to_owned());
    if own.as_raw() == account.uid {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(call.error(format_args!("only root can run commands as another user, here `{name}`")));
    }
    Ok(Some(User { uid: account.uid, gid: account.gid }))
}

/// What `exec.run` gives for a command that was never run: a text that it printed, or a table with some of a result's
/// fields.
pub(crate) fn stand_in(lua: &Lua, given: &Value) -> mlua::Result<(Table, Value, bool)> {
    let fields = given.as_table();
    let text = |name: &str| match fields {
        Some(fields) => fields.raw_get::<Option<mlua::LuaString>>(name),
        None => Ok(given.as_string().filter(|_| name == "stdout").cloned()),
    };
    let bytes = |name: &str| Ok::<_, mlua::Error>(text(name)?.map_or_else(Vec::new, |text| text.as_bytes().to_vec()));
    let success = fields.map_or(Ok(None), |fields| fields.raw_get::<Option<bool>>("success"))?;
    let exit_code = fields.map_or(Ok(None), |fields| fields.raw_get::<Option<i32>>("exit_code"))?;
    let exit_code = exit_code.unwrap_or_else(|| i32::from(success == Some(false)));
    let completed = Completed {
        ending: Ending::Exited(exit_code),
        stdout: bytes("stdout")?,
        stderr: bytes("stderr")?,
        truncated: false,
    };
    Ok((to_result(lua, Ok(completed))?, Value::Nil, exit_code != 0))
}

fn to_result(lua: &Lua, outcome: Result<Completed, String>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let (stdout, stderr, exit_code) = match &outcome {
        Ok(completed) => (&completed.stdout[..], &completed.stderr[..], completed.ending.exit_code()),
        Err(error) => (&b""[..], error.as_bytes(), EXIT_NOT_STARTED),
    };
    table.raw_set("stdout", lua.create_string(stdout)?)?;
    table.raw_set("stderr", lua.create_string(stderr)?)?;
    table.raw_set("output", lua.create_string([stdout, stderr].concat())?)?;
    table.raw_set("exit_code", exit_code)?;
    table.raw_set("success", exit_code == 0)?;
    table.raw_set("timed_out", matches!(&outcome, Ok(completed) if completed.ending == Ending::TimedOut))?;
    table.raw_set("truncated", outcome.is_ok_and(|completed| completed.truncated))?;
    speak(lua, &table, Voice::Stdout)?;
    Ok(table)
}
