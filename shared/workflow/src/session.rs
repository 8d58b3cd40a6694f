//! A machine that is talked to line by line.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Function, MultiValue};

use crate::{
    AgentInfo, CancelSignal, Capabilities, Host, Limits, LoadError,
    dsl::{self, Definitions},
    modules::{self, Context, Phase, Scope},
    source::Sources,
    vm::{Fault, Machine, SHOW, hint},
};

/// What the lines are called in messages.
const NAME: &str = "repl";
/// What the compiler says at the end of a text that goes on.
const UNFINISHED: &str = "<eof>";

/// What a session begins with.
#[derive(Debug, Clone, Default)]
pub struct SessionInput {
    /// The directory that `require`, `import` and `bundle` read.
    pub bundle_dir: PathBuf,
    /// What the Lua may touch.
    pub capabilities: Capabilities,
    /// The bounds.
    pub limits: Limits,
    /// What scripts see as `values`; null = nil.
    pub values: serde_json::Value,
    /// An identifier of the session.
    pub run_id: String,
    /// An existing directory: where commands run and relative paths begin.
    pub workdir: PathBuf,
    /// The host.
    pub agent: AgentInfo,
    /// Only says what would be changed.
    pub check: bool,
}

/// What came of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The values that it gave, as people write them.
    Values(Vec<String>),
    /// It goes on: there must be more of it.
    Unfinished,
    /// It is no Lua, or raised an error.
    Failed(String),
}

/// A machine that is talked to line by line. Its variables stay, also those that a text begins with `local`.
pub struct Session {
    machine: Machine,
    context: Rc<Context>,
    show: Function,
}

impl Session {
    /// A session with all modules.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or the machine cannot be made.
    pub fn new(input: SessionInput, host: Rc<dyn Host>) -> Result<Self, LoadError> {
        let phase = if input.check { Phase::Check } else { Phase::Run };
        let context = Rc::new(Context {
            capabilities: Rc::new(input.capabilities),
            limits: Rc::new(input.limits),
            bundle_dir: input.bundle_dir,
            workdir: input.workdir,
            run_id: input.run_id,
            values: input.values,
            agent: input.agent,
            ..Context::new(host, phase)
        });
        let sources = Sources::open(&context.bundle_dir, Path::new(NAME), context.limits.script_bytes)?;
        let definitions = Definitions::new(String::new(), context.limits.tasks_max);
        let machine =
            Machine::new(&context, sources, CancelSignal::never(), |lua| dsl::install(lua, &definitions, &context));
        let machine = machine.map_err(LoadError::Machine)?;
        dsl::install_values(&machine.lua, &definitions, &context).map_err(LoadError::Machine)?;
        // Globals are what the lines of a session have in common.
        machine.lua.globals().set_safeenv(false);
        let show = SHOW.function(&machine.lua).and_then(|make| make.call(())).map_err(LoadError::Machine)?;
        Ok(Self { machine, context, show })
    }

    /// Runs a text: an expression, whose values it gives, or statements. Dropping the future ends what it began, but
    /// [`Self::stop`] must be awaited then.
    ///
    /// It needs a [`tokio::task::LocalSet`].
    pub async fn run(&self, text: &str) -> Reply {
        let function = match self.compile(text) {
            Ok(function) => function,
            Err(reply) => return reply,
        };
        let deadline = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
        let scope =
            Rc::new(Scope::new(self.context.current.next_scope(), None, self.context.workdir.clone(), deadline));
        let _ends = Ends(Rc::clone(&scope));
        let called = self.context.current.enter(Rc::clone(&scope), function.call_async::<MultiValue>(())).await;
        self.context.processes.kill(scope.id).await;
        match called.and_then(|values| self.shown(&scope, values)) {
            Ok(values) => Reply::Values(values),
            Err(error) => {
                let mut fault = Fault::of(&self.machine.lua, &error);
                let values_given = !dsl::are_absent(&self.context.values);
                let text_of = |file: &str| (file == NAME).then(|| text.to_owned());
                hint::explain(&self.machine.lua, &mut fault, values_given, text_of);
                Reply::Failed(fault.text())
            }
        }
    }

    /// Ends the commands that are left of a text whose future was dropped.
    pub async fn stop(&self) {
        modules::end(&self.machine.lua).await;
        self.context.processes.kill_all().await;
    }

    fn compile(&self, text: &str) -> Result<Function, Reply> {
        let load = |text: &str| self.machine.lua.load(text).set_name(format!("={NAME}")).into_function();
        if let Ok(function) = load(&format!("return {text}")) {
            return Ok(function);
        }
        // A local variable would end with its line.
        if let Some(kept) = kept(text)
            && let Ok(function) = load(&kept)
        {
            return Ok(function);
        }
        load(text).map_err(|error| {
            let message = Fault::from(&error).message;
            if message.contains(UNFINISHED) { Reply::Unfinished } else { Reply::Failed(message) }
        })
    }

    fn shown(&self, scope: &Rc<Scope>, values: MultiValue) -> mlua::Result<Vec<String>> {
        self.context.current.with(scope, || values.into_iter().map(|value| self.show.call::<String>(value)).collect())
    }
}

/// A text that begins with `local`, as one that sets globals.
fn kept(text: &str) -> Option<String> {
    let rest = text.trim_start().strip_prefix("local")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let names = rest.split(['=', '\n', ';']).next().unwrap_or_default();
    if rest.starts_with("function") || rest.len() != names.len() && rest[names.len()..].starts_with('=') {
        return Some(rest.to_owned());
    }
    Some(format!("{names} = nil{}", &rest[names.len()..]))
}

/// Ends the goroutines of a text with it.
struct Ends(Rc<Scope>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.stop();
    }
}
