//! Lua's `io`: whole files, and commands as files, through the same gates as `fs` and `exec`.

use std::{cell::Cell, fs::File, io::Write, path::PathBuf, rc::Rc};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, UserData, UserDataMethods, Value, Variadic};

use super::{
    Context,
    call::{Builder, Call, Gate, Site},
    exec, files,
    foreseen::{self, Made},
    fs,
    paths::{readable, writable},
};
use crate::{capability::Capability, host::Stream};

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let (opened, fed, read) = {
        let held = Rc::new(Cell::new(0));
        (Rc::clone(&held), Rc::clone(&held), held)
    };
    let table = Builder::new(lua, context, "io")?
        .function("open", Gate::Open, move |call, (path, mode): &(Value, Value)| open(call, &opened, path, mode))?
        .asynchronous("popen", Gate::Needs(Capability::Exec), move |call, (line, mode): (Value, Value)| {
            popen(call, Held::nothing(&fed), line, mode)
        })?
        .function("lines", Gate::Open, move |call, path: &Value| lines(call, &read, path))?
        .function("write", Gate::Open, |call, texts: &Variadic<Value>| print(call, Stream::Stdout, texts))?
        .function("read", Gate::Open, |_, _: &MultiValue| Ok(Value::Nil))?
        .value("stdout", stream(lua, context, "io.stdout", Stream::Stdout)?)?
        .value("stderr", stream(lua, context, "io.stderr", Stream::Stderr)?)?
        .finish();
    Ok(table)
}

/// An open file. What is written is in the file at once, as a script that never closes it expects; to replace a
/// file in one step there is `fs.write`.
struct Handle {
    site: Site,
    state: State,
}

enum State {
    Reading {
        bytes: Vec<u8>,
        position: usize,
        exit_code: Option<i32>,
        _held: Held,
    },
    Writing {
        path: PathBuf,
        file: File,
    },
    /// As [`Self::Writing`], in a run that only checks.
    Unwritten,
    Feeding {
        line: String,
        bytes: Vec<u8>,
        held: Held,
    },
    Closed,
}

/// What one open file holds. That is outside Lua's memory; all of them together are bounded as that is.
struct Held {
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Held {
    fn nothing(all: &Rc<Cell<usize>>) -> Self {
        Self { bytes: 0, all: Rc::clone(all) }
    }

    fn grow(&mut self, call: &Call, bytes: usize) -> mlua::Result<()> {
        let fits = |all: usize| all.saturating_add(bytes) <= call.context.limits.memory_bytes;
        if !fits(self.all.get()) {
            // The machine does not know what its garbage holds.
            call.lua.gc_collect()?;
            if !fits(self.all.get()) {
                return Err(call.error("the open files hold more than the memory of the run: close some"));
            }
        }
        self.bytes += bytes;
        self.all.set(self.all.get() + bytes);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

impl UserData for Handle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("read", |lua, this, formats: Variadic<Value>| this.read(lua, &formats));
        methods.add_method_mut("write", |lua, this, texts: Variadic<Value>| this.write(lua, &texts));
        methods.add_method_mut("flush", |_, _, ()| Ok(true));
        methods.add_method_mut("setvbuf", |_, _, _: MultiValue| Ok(true));
        methods.add_function("lines", |lua, handle: mlua::AnyUserData| {
            lua.create_function(move |lua, ()| handle.borrow_mut::<Self>()?.read(lua, &[]))
        });
        methods.add_async_method_mut("close", |lua, mut this, ()| async move { this.close(&lua).await });
    }
}

impl Handle {
    fn read(&mut self, lua: &Lua, formats: &[Value]) -> mlua::Result<MultiValue> {
        let call = self.site.call(lua);
        let State::Reading { bytes, position, .. } = &mut self.state else {
            return Err(call.error("the file is closed or open for writing"));
        };
        let line = [Value::String(lua.create_string("l")?)];
        let formats = if formats.is_empty() { &line } else { formats };
        let mut values = MultiValue::new();
        for format in formats {
            let rest = bytes.get(*position..).unwrap_or_default();
            let (value, taken) = take(&call, rest, format)?;
            *position += taken;
            let ended = value.is_nil();
            values.push_back(value);
            if ended {
                break;
            }
        }
        Ok(values)
    }

    /// `true`, or nothing and why.
    fn write(&mut self, lua: &Lua, texts: &[Value]) -> mlua::Result<Result<bool, String>> {
        let call = self.site.call(lua);
        for text in texts {
            let text = call.bytes("text", text)?;
            match &mut self.state {
                State::Writing { path, file } => {
                    if let Err(error) = file.write_all(&text) {
                        return Ok(Err(files::said("write", path)(error)));
                    }
                }
                State::Unwritten => {}
                State::Feeding { bytes, held, .. } => {
                    held.grow(&call, text.len())?;
                    bytes.extend_from_slice(&text);
                }
                State::Reading { .. } | State::Closed => {
                    return Err(call.error("the file is closed or open for reading"));
                }
            }
        }
        Ok(Ok(true))
    }

    async fn close(&mut self, lua: &Lua) -> mlua::Result<MultiValue> {
        let call = self.site.call(lua);
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(call.error("the file is closed already")),
            State::Reading { exit_code: None, .. } | State::Writing { .. } | State::Unwritten => {
                true.into_lua_multi(lua)
            }
            State::Reading { exit_code: Some(code), .. } => exit(lua, code),
            State::Feeding { line, bytes, held: _held } => match exec::shell(&call, line, Some(bytes)).await {
                Ok(completed) => exit(lua, completed.ending.exit_code()),
                Err(error) => (Value::Nil, error).into_lua_multi(lua),
            },
        }
    }
}

fn open(call: &Call, held: &Rc<Cell<usize>>, path: &Value, mode: &Value) -> mlua::Result<Result<Handle, String>> {
    let mode = call.optional_text("mode", mode)?.unwrap_or_else(|| "r".to_owned());
    let state = match mode.trim_end_matches('b') {
        "r" => match foreseen::read(call, &readable(call, "path", path)?) {
            Ok(bytes) => Ok(reading(call, Held::nothing(held), bytes, None)?),
            Err(error) => Err(error),
        },
        "w" | "a" => {
            let path = writable(call, "path", path)?;
            if call.checking() {
                foreseen::note(call, &path, Made::File(None));
                fs::act(call, || Some(fs::Told::new(format!("write `{}`", path.display()))), || Ok(()))
                    .map(|()| State::Unwritten)
            } else {
                let opened = if mode.starts_with('a') { files::open_to_append(&path) } else { files::open_anew(&path) };
                opened.map(|file| State::Writing { path: path.into(), file })
            }
        }
        _ => return Err(call.error(format_args!("`mode` takes `r`, `w` or `a`, got `{mode}`"))),
    };
    Ok(state.map(|state| Handle { site: call.site(), state }))
}

async fn popen(call: Call, held: Held, line: Value, mode: Value) -> mlua::Result<Result<Handle, String>> {
    let line = call.text("command", &line)?;
    let mode = call.optional_text("mode", &mode)?.unwrap_or_else(|| "r".to_owned());
    let state = match mode.as_str() {
        "r" => match exec::shell(&call, line, None).await {
            Ok(completed) => Ok(reading(&call, held, completed.stdout, Some(completed.ending.exit_code()))?),
            Err(error) => Err(error),
        },
        "w" => Ok(State::Feeding { line, bytes: Vec::new(), held }),
        _ => return Err(call.error(format_args!("`mode` takes `r` or `w`, got `{mode}`"))),
    };
    Ok(state.map(|state| Handle { site: call.site(), state }))
}

/// An iterator over the lines of a file; unlike [`open`] it raises when there is none, as Lua's does.
fn lines(call: &Call, held: &Rc<Cell<usize>>, path: &Value) -> mlua::Result<mlua::Function> {
    let bytes = foreseen::read(call, &readable(call, "path", path)?).map_err(|error| call.error(error))?;
    let mut handle = Handle { site: call.site(), state: reading(call, Held::nothing(held), bytes, None)? };
    call.lua.create_function_mut(move |lua, ()| handle.read(lua, &[]))
}

fn reading(call: &Call, mut held: Held, bytes: Vec<u8>, exit_code: Option<i32>) -> mlua::Result<State> {
    held.grow(call, bytes.len())?;
    Ok(State::Reading { bytes, position: 0, exit_code, _held: held })
}

/// What `format` takes of the front of `rest`, and how many bytes that was.
fn take(call: &Call, rest: &[u8], format: &Value) -> mlua::Result<(Value, usize)> {
    let text = |bytes: &[u8]| call.lua.create_string(bytes).map(Value::String);
    if let Value::Integer(_) | Value::Number(_) = format {
        let wanted = call.integer("format", format, 0, files::READ_BYTES_MAX)?;
        let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(rest.len());
        let ended = rest.is_empty() && 0 < wanted;
        return Ok((if ended { Value::Nil } else { text(&rest[..count])? }, count));
    }
    let format = call.text("format", format)?;
    let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    match format.trim_start_matches('*').chars().next() {
        Some('a') => Ok((text(rest)?, rest.len())),
        Some('l' | 'L' | 'n') if rest.is_empty() => Ok((Value::Nil, 0)),
        Some('L') => Ok((text(line)?, line.len())),
        Some('l') => Ok((text(line.strip_suffix(b"\n").unwrap_or(line))?, line.len())),
        Some('n') => Ok(number(rest)),
        _ => Err(call.error(format_args!("`format` takes `*a`, `*l`, `*L`, `*n` or a count, got `{format}`"))),
    }
}

/// The number at the front, after white space.
fn number(rest: &[u8]) -> (Value, usize) {
    let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let digits = rest[blank..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    let text = std::str::from_utf8(&rest[blank..blank + digits]).unwrap_or_default();
    match text.parse::<f64>() {
        Ok(number) => (Value::Number(number), blank + digits),
        Err(_) => (Value::Nil, blank),
    }
}

/// What closing a command gives: whether it worked, and its exit code.
fn exit(lua: &Lua, code: i32) -> mlua::Result<MultiValue> {
    ((code == 0).then_some(true), "exit", code).into_lua_multi(lua)
}

fn stream(lua: &Lua, context: &Rc<Context>, name: &'static str, stream: Stream) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, name)?
        .function("write", Gate::Open, move |call, texts: &Variadic<Value>| {
            let own = texts.first().is_some_and(Value::is_table);
            print(call, stream, &texts[usize::from(own)..])
        })?
        .function("flush", Gate::Open, |_, _: &MultiValue| Ok(true))?
        .finish();
    Ok(table)
}

fn print(call: &Call, stream: Stream, texts: &[Value]) -> mlua::Result<bool> {
    let mut line = Vec::new();
    for text in texts {
        line.extend(call.bytes("text", text)?);
    }
    let line = String::from_utf8_lossy(&line);
    call.context.log(stream, line.strip_suffix('\n').unwrap_or(&line));
    Ok(true)
}
