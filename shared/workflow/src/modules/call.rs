//! How a function of a module is called: its name for messages, its gate, and its arguments checked.

use std::{fmt::Display, path::PathBuf, pin::Pin, rc::Rc, time::Duration};

use mlua::{FromLuaMulti, Function, IntoLua, IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::{Context, at_home};
use crate::capability::Capability;

/// A module's table while it is filled.
pub(super) struct Builder<'a> {
    lua: &'a Lua,
    context: &'a Rc<Context>,
    module: &'static str,
    table: Table,
}

/// What a function knows of its call. It lives no longer than the call: what the machine keeps and what keeps the
/// machine would together never be freed.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) lua: Lua,
    pub(super) context: Rc<Context>,
    /// The function as a script writes it, such as `fs.read`.
    pub(super) name: Rc<str>,
}

/// What is known of a function before it is called; the machine may keep it.
#[derive(Clone)]
pub(super) struct Site {
    context: Rc<Context>,
    name: Rc<str>,
}

/// A function that answers at once, and one that may wait, whatever their arguments and answers are.
type Plain = dyn Fn(&Call, MultiValue) -> mlua::Result<MultiValue>;
type Waiting = dyn Fn(Call, MultiValue) -> mlua::Result<Answer>;
type Answer = Pin<Box<dyn Future<Output = mlua::Result<MultiValue>>>>;

/// The outcome of an action without a value: `true`, or `false` and why.
pub(super) struct Done(pub(super) Result<(), String>);

/// What may be done only by whoever asked a capability for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gate {
    /// Nothing: it only computes.
    Open,
    /// It waits or has an effect inside the run.
    Acting,
    /// The bundle must have the whole capability.
    Needs(Capability),
    /// The bundle must have something of the capability. The function itself checks, by [`Call::permit`],
    /// [`Call::reach`] or the functions of [`super::paths`], that it is granted for what it is called for.
    Within(Capability),
}

impl<'a> Builder<'a> {
    pub(super) fn new(lua: &'a Lua, context: &'a Rc<Context>, module: &'static str) -> mlua::Result<Self> {
        Ok(Self { lua, context, module, table: lua.create_table()? })
    }

    /// Adds a function that answers at once.
    pub(super) fn function<A, R>(
        self,
        name: &str,
        gate: Gate,
        function: impl Fn(&Call, &A) -> mlua::Result<R> + 'static,
    ) -> mlua::Result<Self>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
    {
        let plain = move |call: &Call, arguments| {
            function(call, &A::from_lua_multi(arguments, &call.lua)?)?.into_lua_multi(&call.lua)
        };
        self.plain(name, gate, Box::new(plain))
    }

    /// Adds a function that may wait; other coroutines run meanwhile.
    pub(super) fn asynchronous<A, R, F>(
        self,
        name: &str,
        gate: Gate,
        function: impl Fn(Call, A) -> F + 'static,
    ) -> mlua::Result<Self>
    where
        A: FromLuaMulti + 'static,
        R: IntoLuaMulti + 'static,
        F: Future<Output = mlua::Result<R>> + 'static,
    {
        let waiting = move |call: Call, arguments| {
            let lua = call.lua.clone();
            let answer = function(call, A::from_lua_multi(arguments, &lua)?);
            Ok(Box::pin(async move { answer.await?.into_lua_multi(&lua) }) as Answer)
        };
        self.waiting(name, gate, Box::new(waiting))
    }

    /// [`Builder::function`] for every type of arguments and answers: what the machine calls is compiled once and not for
    /// each of hundreds of functions, which makes the program a great deal smaller.
    fn plain(self, name: &str, gate: Gate, function: Box<Plain>) -> mlua::Result<Self> {
        let site = self.site(name);
        let function = self.lua.create_function(move |lua, arguments: MultiValue| {
            let call = site.call(lua);
            call.pass(gate)?;
            function(&call, arguments)
        })?;
        self.value(name, function)
    }

    /// The same for [`Builder::asynchronous`].
    fn waiting(self, name: &str, gate: Gate, function: Box<Waiting>) -> mlua::Result<Self> {
        let site = self.site(name);
        let function = self.lua.create_async_function(move |lua, arguments: MultiValue| {
            let call = site.call(&lua);
            let answer = call.pass(gate).and_then(|()| function(call, arguments));
            async move { answer?.await }
        })?;
        self.value(name, function)
    }

    /// Adds anything else.
    pub(super) fn value(self, name: &str, value: impl IntoLua) -> mlua::Result<Self> {
        self.table.raw_set(name, value)?;
        Ok(self)
    }

    /// Adds what is there by another name.
    pub(super) fn alias(self, name: &str, of: &str) -> mlua::Result<Self> {
        let function: Function = self.table.raw_get(of)?;
        self.value(name, function)
    }

    /// The table, which no script can change.
    pub(super) fn finish(self) -> Table {
        self.table.set_readonly(true);
        self.table
    }

    /// The table, to be given more.
    pub(super) fn unfinished(self) -> Table {
        self.table
    }

    fn site(&self, name: &str) -> Site {
        let name = if self.module.is_empty() { name.into() } else { format!("{}.{name}", self.module).into() };
        Site { context: Rc::clone(self.context), name }
    }
}

impl Site {
    pub(super) fn call(&self, lua: &Lua) -> Call {
        Call { lua: lua.clone(), context: Rc::clone(&self.context), name: Rc::clone(&self.name) }
    }
}

impl Call {
    pub(super) fn pass(&self, gate: Gate) -> mlua::Result<()> {
        match gate {
            Gate::Open => Ok(()),
            Gate::Acting => self.context.acting(&self.name),
            Gate::Needs(capability) => self.context.allow(capability, &self.name),
            Gate::Within(capability) => self.context.allow_some(capability, &self.name),
        }
    }

    /// Checks that the capability is granted for the thing called `name`: a package, a service, a user.
    pub(super) fn permit(&self, capability: Capability, name: &str) -> mlua::Result<()> {
        self.context.allow_name(capability, name, &self.name)
    }

    /// Checks that this port of this host may be spoken to; to be asked again for every redirect.
    pub(super) fn reach(&self, host: &str, port: u16) -> mlua::Result<()> {
        self.context.reach(host, port, &self.name)
    }

    /// What is left of the call when it is over.
    pub(super) fn site(&self) -> Site {
        Site { context: Rc::clone(&self.context), name: Rc::clone(&self.name) }
    }

    /// An error in the name of this function.
    pub(super) fn error(&self, message: impl Display) -> mlua::Error {
        mlua::Error::external(self.refusal(message))
    }

    /// What did not work, in the name of this function: for what comes back as a value.
    pub(super) fn refusal(&self, reason: impl Display) -> String {
        format!("{}: {reason}", self.name)
    }

    /// The same for an outcome.
    pub(super) fn said<T>(&self, outcome: Result<T, impl Display>) -> Result<T, String> {
        outcome.map_err(|reason| self.refusal(reason))
    }

    /// What was found, as `show` makes it for the script, or nothing and why.
    pub(super) fn shown<T, V: IntoLua>(
        &self,
        found: Result<T, impl Display>,
        show: impl FnOnce(&T) -> mlua::Result<V>,
    ) -> mlua::Result<MultiValue> {
        match self.said(found) {
            Ok(found) => show(&found)?.into_lua_multi(&self.lua),
            Err(reason) => (Value::Nil, reason).into_lua_multi(&self.lua),
        }
    }

    /// The error of an argument of the wrong type.
    pub(super) fn expected(&self, argument: &str, what: &str, got: &Value) -> mlua::Error {
        self.error(format_args!("`{argument}` takes {what}, got {}", describe(got)))
    }

    /// A text: a string, a number, or what turns itself into a text as a command's result does.
    pub(super) fn text(&self, argument: &str, value: &Value) -> mlua::Result<String> {
        let bytes = self.bytes(argument, value)?;
        String::from_utf8(bytes).map_err(|_| self.error(format_args!("`{argument}` is not valid UTF-8")))
    }

    /// As [`Self::text`], of any bytes.
    pub(super) fn bytes(&self, argument: &str, value: &Value) -> mlua::Result<Vec<u8>> {
        if let Value::String(text) = value {
            return Ok(text.as_bytes().to_vec());
        }
        let speaks = matches!(value, Value::Table(table) if has_text(table)?);
        if speaks || matches!(value, Value::Integer(_) | Value::Number(_)) {
            return tostring(&self.lua, value);
        }
        Err(self.expected(argument, "a string", value))
    }

    pub(super) fn optional_text(&self, argument: &str, value: &Value) -> mlua::Result<Option<String>> {
        if value.is_nil() {
            return Ok(None);
        }
        self.text(argument, value).map(Some)
    }

    pub(super) fn number(&self, argument: &str, value: &Value) -> mlua::Result<f64> {
        match self.lua.coerce_number(value.clone())? {
            Some(number) if number.is_finite() => Ok(number),
            Some(_) | None => Err(self.expected(argument, "a number", value)),
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(&self, argument: &str, value: &Value, min: u64, max: u64) -> mlua::Result<u64> {
        let number = self.number(argument, value)?;
        // The bounds are far below the point where a float cannot hold each integer.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        if number.fract() == 0.0 && min as f64 <= number && number <= max as f64 {
            return Ok(number as u64);
        }
        Err(self.error(format_args!("`{argument}` takes a whole number from {min} to {max}, got {number}")))
    }

    /// A span: a text like `30s`, or a number of seconds.
    pub(super) fn duration(&self, argument: &str, value: &Value) -> mlua::Result<Duration> {
        let wrong = || self.expected(argument, "a duration like `30s`", value);
        if let Value::String(text) = value {
            return humantime::parse_duration(&text.to_string_lossy()).map_err(|_| wrong());
        }
        let seconds = number_of(value).ok_or_else(wrong)?;
        Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
    }

    pub(super) fn table(&self, argument: &str, value: &Value) -> mlua::Result<Table> {
        value.as_table().cloned().ok_or_else(|| self.expected(argument, "a table", value))
    }

    /// The path that a script means: a relative one begins at the task's directory, and `~` is the home of the task's user.
    pub(super) fn path(&self, argument: &str, value: &Value) -> mlua::Result<PathBuf> {
        let text = self.text(argument, value)?;
        if text.is_empty() || text.contains('\0') {
            return Err(
                self.error(format_args!("`{argument}` takes a path, got an empty text or one with a zero byte"))
            );
        }
        let user = self.context.current.get().and_then(|scope| scope.user.clone());
        Ok(at_home(&text, user.as_deref()).unwrap_or_else(|| self.workdir().join(text)))
    }

    /// Where commands run and relative paths begin.
    pub(super) fn workdir(&self) -> PathBuf {
        self.context.current.get().map_or_else(|| self.context.workdir.clone(), |scope| scope.workdir.clone())
    }
}

impl IntoLuaMulti for Done {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        match self.0 {
            Ok(()) => true.into_lua_multi(lua),
            Err(reason) => (false, reason).into_lua_multi(lua),
        }
    }
}

/// What a value is, with its text where that is short: for messages.
pub(super) fn describe(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    if let Value::String(text) = value {
        return format!("`{}`", text.to_string_lossy().chars().take(SHOWN_CHARS_MAX).collect::<String>());
    }
    if value.is_nil() {
        return "nothing".to_owned();
    }
    let shown = || value.to_string().unwrap_or_default();
    match number_of(value) {
        Some(_) => format!("the number {}", shown()),
        None if value.is_boolean() => format!("the boolean {}", shown()),
        None => format!("a {}", value.type_name()),
    }
}

/// The text of any value, as Lua's `tostring` gives it.
pub(super) fn tostring(lua: &Lua, value: &Value) -> mlua::Result<Vec<u8>> {
    if let Value::String(text) = value {
        return Ok(text.as_bytes().to_vec());
    }
    let tostring: Function = lua.globals().get("tostring")?;
    let text: mlua::LuaString = tostring.call(value)?;
    Ok(text.as_bytes().to_vec())
}

/// The number that a value is; a text is none.
pub(super) fn number_of(value: &Value) -> Option<f64> {
    // Luau has floats only; what they are kept as here is an accident of their fraction.
    #[expect(clippy::cast_precision_loss)]
    value.as_number().or_else(|| value.as_integer().map(|number| number as f64))
}

fn has_text(table: &Table) -> mlua::Result<bool> {
    table.metatable().map_or(Ok(false), |metatable| metatable.contains_key("__tostring"))
}
