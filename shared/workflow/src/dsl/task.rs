//! `task("name")` and its methods.

use std::{cell::RefCell, rc::Rc};

use mlua::{AnyUserData, IntoLuaMulti, Lua, MetaMethod, MultiValue, Table, UserData, UserDataMethods, Value};

use super::{
    SharedDefinitions, SharedTask,
    argument::{Arguments, error},
    collect::{no_method, tolerate},
    draft::{Delegate, TaskDraft, methods},
    unknown::Unknown,
};
use crate::modules::{Context, Phase};

/// What surrounds the builders; an app datum of the machine.
pub(super) struct Surroundings(pub(super) Rc<Context>);

/// A task while it is written, as Lua holds it.
#[derive(Clone)]
pub(super) struct TaskBuilder(pub(super) SharedTask);

impl TaskBuilder {
    /// `task(name)`, `task(name, {…})`, `task(name, f)` and `task({name = …, …})`.
    pub(super) fn begin(definitions: &SharedDefinitions, arguments: &Arguments<'_>) -> mlua::Result<Self> {
        let (name, table) = match arguments.value(0) {
            Value::Table(table) if arguments.value(1).is_nil() => {
                (arguments.with(table.raw_get("name")?).name()?, Some(table.clone()))
            }
            _ => (arguments.name()?, said_beside(arguments)?),
        };
        let task = Rc::new(RefCell::new(TaskDraft::new(name)));
        let mut definitions = definitions.borrow_mut();
        let tasks_max = definitions.tasks_max;
        if tasks_max <= definitions.tasks.len() {
            return Err(arguments.error(format_args!("a file may have {tasks_max} tasks at most")));
        }
        definitions.tasks.push(Rc::clone(&task));
        drop(definitions);
        if let Some(table) = table {
            task.borrow_mut().fill(&table, arguments.lua)?;
        }
        Ok(Self(task))
    }

    /// One that stands for a task that could not be begun, where a file is only looked through.
    pub(super) fn apart() -> Self {
        Self(Rc::new(RefCell::new(TaskDraft { used: true, ..TaskDraft::default() })))
    }

    /// The task that `value` is, if it is one.
    pub(super) fn of(value: &Value) -> Option<SharedTask> {
        let data = value.as_userdata()?;
        data.borrow::<Self>().ok().map(|builder| Rc::clone(&builder.0))
    }
}

/// What stands after a task's name, as a table: a function alone is its `run`.
fn said_beside(arguments: &Arguments<'_>) -> mlua::Result<Option<Table>> {
    match arguments.value(1) {
        function if function.is_function() => arguments.lua.create_table_from([("run", function)]).map(Some),
        _ => arguments.optional_table(1),
    }
}

/// The builder whose method is called: it comes first where the call is written with a colon.
pub(super) fn owner(lua: &Lua, method: &str, first: Option<Value>) -> mlua::Result<AnyUserData> {
    match first {
        Some(Value::UserData(this)) => Ok(this),
        _ => Err(error(lua, format_args!("`.{method}(…)` is called with a dot: write `:{method}(…)`"))),
    }
}

impl UserData for TaskBuilder {
    fn add_methods<M: UserDataMethods<Self>>(added: &mut M) {
        added.add_async_function("run", run);
        for method in methods().iter().copied().filter(|method| *method != "run") {
            added.add_function(method, move |lua, mut values: MultiValue| {
                let this = owner(lua, method, values.pop_front())?;
                let task = Rc::clone(&this.borrow::<Self>()?.0);
                let owner = task.borrow().owner();
                let arguments = Arguments::new(lua, owner, method, values);
                let set = task.borrow_mut().set(method, &arguments);
                tolerate(lua, set).map(|_| this)
            });
        }
        added.add_meta_function(MetaMethod::Call, |lua, (this, table): (AnyUserData, Table)| {
            let task = Rc::clone(&this.borrow::<Self>()?.0);
            task.borrow_mut().fill(&table, lua)?;
            Ok(this)
        });
        added.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let (owner, name) = (this.0.borrow().owner(), shown(lua, &key));
            no_method(lua, &owner, &Unknown::of_task(&name))
        });
        added.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.0.borrow().owner()));
    }
}

/// `:run(f)` is `:command(f)`; `:run()` does what the task does, at once, and returns what its function returns.
async fn run(lua: Lua, (this, values): (AnyUserData, MultiValue)) -> mlua::Result<MultiValue> {
    let task = Rc::clone(&this.borrow::<TaskBuilder>()?.0);
    let owner = task.borrow().owner();
    let arguments = Arguments::new(&lua, owner, "run", values);
    if !arguments.value(0).is_nil() {
        task.borrow_mut().set("run", &arguments)?;
        return Ok(MultiValue::from_iter([Value::UserData(this)]));
    }
    task.borrow_mut().ran = true;
    // What a file does at its top level is not done while it is only read.
    if is_planning(&lua) {
        return (true, "", lua.create_table()?).into_lua_multi(&lua);
    }
    run_now(&lua, &task).await
}

fn is_planning(lua: &Lua) -> bool {
    lua.app_data_ref::<Surroundings>().is_some_and(|around| around.0.phase == Phase::Plan)
}

/// Does what a task does, at once and as part of whatever runs. Gives what its function returns.
pub(super) async fn run_now(lua: &Lua, task: &SharedTask) -> mlua::Result<MultiValue> {
    let Some(action) = task.borrow().action.clone() else {
        return Err(error(lua, format_args!("{}: it has no command to run", task.borrow().owner())));
    };
    if let Some(refusal) = refusal(lua, task) {
        return (false, refusal).into_lua_multi(lua);
    }
    let name = lua.create_string(&task.borrow().name)?;
    let params = lua.create_table_from(task.borrow().params.clone())?;
    params.raw_set("task_name", &name)?;
    let this = lua.create_table()?;
    this.raw_set("name", lua.create_function(move |_, _: MultiValue| Ok(name.clone()))?)?;
    action.function(lua)?.call_async((this, params, lua.create_table()?)).await
}

/// Why a task cannot be done here, where it is meant for another host.
fn refusal(lua: &Lua, task: &SharedTask) -> Option<String> {
    let task = task.borrow();
    let Some(Delegate::Names(names)) = &task.delegate_to else { return None };
    let around = lua.app_data_ref::<Surroundings>()?;
    names.iter().find_map(|name| super::delegate::refused(&around.0, name, task.fallback_here))
}

pub(super) fn shown(lua: &Lua, key: &Value) -> String {
    match lua.coerce_string(key.clone()) {
        Ok(Some(text)) => text.to_string_lossy(),
        Ok(None) | Err(_) => key.type_name().to_owned(),
    }
}
