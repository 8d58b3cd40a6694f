//! The Lua machine of one run: sandboxed, bounded in memory and time.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of Lua values are the machine's, and most are refused alike"
)]

mod builtin;
pub(crate) mod convert;
mod fault;
pub(crate) mod hint;
mod interrupt;

use std::{cell::RefCell, rc::Rc};

use mlua::{Function, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, Value, chunk::ChunkMode};

pub(crate) use builtin::{Builtin, pin_globals};
pub(crate) use fault::{Fault, FaultKind, location};

use crate::{
    Level, Stream,
    cancel::CancelSignal,
    limits::{MATCH_STEPS_MAX, MOVED_ELEMENTS_MAX, SORTED_NUMBERS_MAX},
    modules::{self, Context},
    source::{Source, SourceError, Sources},
};

/// What files call the global with the run's values when they ask for it as for a module.
const VALUES: &str = "values";
/// How many idle coroutines are kept for the next tasks.
const COROUTINES_KEPT: usize = 128;

/// The characters that mean something in a pattern.
const SPECIAL: &[u8] = b"^$*+?.([%-";

/// What the machine raises when it has no memory left.
const OUT_OF_MEMORY: &str = "not enough memory";

/// What the machine lacks of the old dialect, in Lua.
static SHIM: Builtin = Builtin::new(include_str!("vm/shim.luau"));
/// Gives a function that writes any value as people write it in Lua.
pub(crate) static SHOW: Builtin = Builtin::new(include_str!("vm/show.luau"));

/// A machine, ready to load workflow files.
///
/// After it ran out of memory it must be dropped: Luau does not get back under its limit.
pub(crate) struct Machine {
    pub(crate) lua: Lua,
}

impl Machine {
    /// A machine with the modules of `context`, the files of `sources`, and what `extend` adds to its globals.
    pub(crate) fn new(
        context: &Rc<Context>,
        sources: Sources,
        cancel: CancelSignal,
        extend: impl FnOnce(&Lua) -> mlua::Result<()>,
    ) -> mlua::Result<Self> {
        let options = LuaOptions::new().catch_rust_panics(true).thread_pool_size(COROUTINES_KEPT);
        let lua = Lua::new_with(StdLib::ALL_SAFE, options)?;
        // Until the script comes there is no garbage worth looking for.
        lua.gc_stop();
        let interrupt = interrupt::install(&lua, Rc::clone(&context.current), cancel);
        let loader = Rc::new(Loader { sources, names: RefCell::default() });
        let native = lua.create_table()?;
        native.raw_set("pcall", lua.globals().get::<Function>("pcall")?)?;
        modules::install(&lua, context)?;
        install_shim(&lua, context, native, interrupt, &loader)?;
        extend(&lua)?;
        lua.sandbox(true)?;
        // The sandbox gives the script a table of its own for its globals; `_G` must be that one.
        let globals = lua.globals();
        globals.raw_set("_G", &globals)?;
        lua.set_memory_limit(context.limits.memory_bytes)?;
        lua.gc_restart();
        Ok(Self { lua })
    }

    /// The function that runs `source`.
    pub(crate) fn compile(&self, source: &Source) -> mlua::Result<Function> {
        compile(&self.lua, source)
    }
}

fn compile(lua: &Lua, source: &Source) -> mlua::Result<Function> {
    lua.load(&source.text).set_name(format!("={}", source.name)).set_mode(ChunkMode::Text).into_function()
}

/// Finds what scripts `import` and `require`.
struct Loader {
    sources: Sources,
    /// The paths of modules by the names they were required by.
    names: RefCell<std::collections::BTreeMap<String, String>>,
}

impl Loader {
    fn import(&self, lua: &Lua, path: &str) -> mlua::Result<Function> {
        let source = self.sources.import(path).map_err(mlua::Error::external)?;
        compile(lua, &source)
    }

    /// The path of the module and its function, so that one file required by two names is run once.
    fn module(&self, lua: &Lua, name: &str, loaded: &Table) -> mlua::Result<(String, Option<Function>)> {
        if let Some(path) = self.names.borrow().get(name)
            && loaded.contains_key(path.as_str())?
        {
            return Ok((path.clone(), None));
        }
        let source = match self.sources.module(name) {
            // The global, for files that ask for it as for a module.
            Err(SourceError::NotFound { .. }) if name == VALUES => {
                return Ok((VALUES.to_owned(), Some(lua.create_function(crate::dsl::required_values)?)));
            }
            source => source.map_err(mlua::Error::external)?,
        };
        self.names.borrow_mut().insert(name.to_owned(), source.name.clone());
        let function = if loaded.contains_key(source.name.as_str())? { None } else { Some(compile(lua, &source)?) };
        Ok((source.name, function))
    }
}

fn install_shim(
    lua: &Lua,
    context: &Rc<Context>,
    native: Table,
    interrupt: Rc<interrupt::Interrupt>,
    loader: &Rc<Loader>,
) -> mlua::Result<()> {
    native.raw_set("raised", fault::raised(lua)?)?;
    native.raw_set("out_of_memory", OUT_OF_MEMORY)?;
    let end = lua.create_function(|_, ()| Err::<(), _>(mlua::Error::MemoryError(OUT_OF_MEMORY.to_owned())))?;
    native.raw_set("end_of_memory", end)?;
    native.raw_set("pending", Lua::poll_pending())?;
    let preempted = lua.create_function(move |_, thread: mlua::Thread| Ok(interrupt.was_preempted(&thread)))?;
    native.raw_set("preempted", preempted)?;
    native.raw_set("limits", work_limits(lua, context)?)?;
    native.raw_set("find", lua.create_function(|_, (text, what, from)| Ok(find_plain(&text, &what, from).unzip()))?)?;
    let is_plain = |_: &Lua, pattern: LuaString| Ok(!pattern.as_bytes().iter().any(|byte| SPECIAL.contains(byte)));
    native.raw_set("is_plain", lua.create_function(is_plain)?)?;
    let printing = Rc::clone(context);
    native.raw_set("print", lua.create_function(move |lua, values| print(lua, &printing, values))?)?;
    let importing = Rc::clone(loader);
    native.raw_set("import", lua.create_function(move |lua, path: String| importing.import(lua, &path))?)?;
    let requiring = Rc::clone(loader);
    let module =
        lua.create_function(move |lua, (name, loaded): (String, Table)| requiring.module(lua, &name, &loaded))?;
    native.raw_set("module", module)?;
    native.raw_set("native", lua.create_function(|lua, name: String| modules::find(lua, &name))?)?;
    SHIM.function(lua)?.call::<()>((lua.globals(), native))
}

fn work_limits(lua: &Lua, context: &Context) -> mlua::Result<Table> {
    let limits = lua.create_table()?;
    limits.raw_set("steps", MATCH_STEPS_MAX)?;
    limits.raw_set("sorted", SORTED_NUMBERS_MAX)?;
    limits.raw_set("moved", MOVED_ELEMENTS_MAX)?;
    limits.raw_set("script_bytes", context.limits.script_bytes)?;
    Ok(limits)
}

/// Where `what` begins and ends in `text`, from the place `from` on, as `string.find` counts them.
fn find_plain(text: &LuaString, what: &LuaString, from: Option<i64>) -> Option<(usize, usize)> {
    let (text, what) = (text.as_bytes(), what.as_bytes());
    let from = match from.unwrap_or(1) {
        from if from < 0 => text.len().saturating_sub(usize::try_from(from.unsigned_abs()).ok()?),
        from => usize::try_from(from).ok()?.saturating_sub(1),
    };
    let at = from + memchr::memmem::find(text.get(from..)?, &what)?;
    Some((at + 1, at + what.len()))
}

fn print(lua: &Lua, context: &Context, values: MultiValue) -> mlua::Result<()> {
    let tostring: Function = lua.globals().get("tostring")?;
    let mut text = String::new();
    for (at, value) in values.into_iter().enumerate() {
        if 0 < at {
            text.push('\t');
        }
        let shown: LuaString = match value {
            Value::String(shown) => shown,
            value => tostring.call(value)?,
        };
        text.push_str(&shown.to_string_lossy());
    }
    context.log(Stream::Log(Level::Info), &text);
    Ok(())
}
