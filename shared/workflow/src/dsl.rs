//! The builders and table forms that workflow files are written in.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of Lua values are the machine's, and most are refused alike"
)]

mod action;
mod argument;
pub(crate) mod collect;
mod delegate;
mod draft;
mod entries;
mod export;
mod finish;
mod flow;
mod hook;
mod members;
mod notes;
mod order;
mod refer;
mod retry;
mod task;
mod unknown;
mod values;
mod workflow;

use std::{cell::RefCell, rc::Rc};

use mlua::{Lua, Table, Value};

pub(crate) use action::{Action, Condition, Test, forget_shell};
pub(crate) use draft::{Signature, Silence, TaskDraft};
pub(crate) use export::exported;
pub(crate) use finish::{Finished, Settled, finish, settle};
pub(crate) use hook::{Hook, TaskHook, WorkflowHook};
pub(crate) use notes::begin as begin_notes;
pub(crate) use unknown::{TASK_METHODS, WORKFLOW_METHODS};
pub(crate) use values::{are_absent, required as required_values};
pub(crate) use workflow::CleanWorkdir;

use crate::{Capability, modules::Context};
use argument::Arguments;
use collect::tolerate;
use refer::Reference;
use task::TaskBuilder;
use workflow::{WorkflowBuilder, WorkflowDraft};

/// Most bytes of a task's or workflow's name.
const NAME_BYTES_MAX: usize = 200;

/// A task that builders still may change.
pub(crate) type SharedTask = Rc<RefCell<TaskDraft>>;
type SharedWorkflow = Rc<RefCell<WorkflowDraft>>;

/// What a file has defined so far.
#[derive(Default)]
pub(crate) struct Definitions {
    /// Every task that was begun with `task(…)`, in order.
    tasks: Vec<SharedTask>,
    workflows: Vec<SharedWorkflow>,
    /// Names that stand for tasks.
    references: RefCell<Vec<Reference>>,
    /// The text of the file, where the order of keys is looked up that tables lose.
    text: String,
    tasks_max: usize,
}

impl Definitions {
    pub(crate) fn new(text: String, tasks_max: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { text, tasks_max, ..Self::default() }))
    }
}

type SharedDefinitions = Rc<RefCell<Definitions>>;

/// Adds what defines tasks and workflows to the globals.
pub(crate) fn install(lua: &Lua, definitions: &SharedDefinitions, context: &Rc<Context>) -> mlua::Result<()> {
    let globals = lua.globals();
    lua.set_app_data(task::Surroundings(Rc::clone(context)));
    let defining = Rc::clone(definitions);
    let task = lua.create_function(move |lua, values| {
        let arguments = Arguments::new(lua, "task".to_owned(), "name", values);
        Ok(tolerate(lua, TaskBuilder::begin(&defining, &arguments))?.unwrap_or_else(TaskBuilder::apart))
    })?;
    globals.raw_set("task", task)?;

    let defining = Rc::clone(definitions);
    let define = lua.create_function(move |lua, values| {
        let arguments = Arguments::new(lua, "workflow.define".to_owned(), "name", values);
        let defined = tolerate(lua, define(&defining, &arguments))?;
        Ok(defined.unwrap_or_else(|| WorkflowBuilder::apart(&defining)))
    })?;
    let workflow = lua.create_table()?;
    workflow.raw_set("define", &define)?;
    let defining = Rc::clone(definitions);
    let call = lua.create_function(move |lua, (_, values): (Table, _)| {
        let arguments = Arguments::new(lua, "workflow".to_owned(), "name", values);
        let defined = tolerate(lua, define_from(&defining, &arguments))?;
        Ok(defined.unwrap_or_else(|| WorkflowBuilder::apart(&defining)))
    })?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__call", call)?;
    workflow.set_metatable(Some(metatable))?;
    flow::install(lua, definitions, context, &workflow)?;
    workflow.set_readonly(true);
    globals.raw_set("workflow", workflow)?;
    globals.raw_set("group", &define)?;
    globals.raw_set("task_group", define)?;
    delegate::install(lua, context)?;
    export::install(lua)?;
    secrets(lua, context)
}

/// Adds `values` to the globals of a machine whose sandbox is closed: a file may add to them.
pub(crate) fn install_values(lua: &Lua, definitions: &SharedDefinitions, context: &Context) -> mlua::Result<()> {
    values::install(lua, context, &definitions.borrow().text)
}

/// The global `secrets`: texts by name, those that are granted.
fn secrets(lua: &Lua, context: &Context) -> mlua::Result<()> {
    let secrets = lua.create_table()?;
    let granted = |name: &str| context.capabilities.allows_name(Capability::Secrets, name);
    for (name, secret) in context.settings.secrets.iter().filter(|(name, _)| granted(name)) {
        secrets.raw_set(name.as_str(), secret.expose().as_str())?;
    }
    secrets.set_readonly(true);
    lua.globals().raw_set("secrets", secrets)
}

/// `workflow.define("name")` and `workflow.define("name", {…})`.
fn define(definitions: &SharedDefinitions, arguments: &Arguments<'_>) -> mlua::Result<WorkflowBuilder> {
    let name = arguments.name()?;
    let builder = WorkflowBuilder::begin(definitions, arguments, &name)?;
    if let Some(table) = arguments.optional_table(1)? {
        tolerate(arguments.lua, builder.fill(arguments.lua, &table))?;
    }
    Ok(builder)
}

/// `workflow("name")`, `workflow("name", {…})` and `workflow{name = …, …}`.
fn define_from(definitions: &SharedDefinitions, arguments: &Arguments<'_>) -> mlua::Result<WorkflowBuilder> {
    let Value::Table(table) = arguments.value(0) else { return define(definitions, arguments) };
    let name = Arguments::one(arguments.lua, "workflow".to_owned(), "name", table.raw_get::<Value>("name")?).name()?;
    let builder = WorkflowBuilder::begin(definitions, arguments, &name)?;
    builder.fill(arguments.lua, table)?;
    Ok(builder)
}
