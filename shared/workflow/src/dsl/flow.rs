//! `parallel`, `chain` and `when`: how several tasks follow each other, and several things at once inside a task.

use std::{cell::RefCell, rc::Rc, time::Instant};

use mlua::{AnyUserData, Function, Lua, MetaMethod, MultiValue, Table, UserData, UserDataMethods, Value};

use super::{
    SharedDefinitions, SharedTask,
    action::{Action, Condition},
    argument::{Arguments, described, text},
    draft::{Dependency, TaskDraft},
    refer,
    task::{TaskBuilder, run_now},
    workflow::WorkflowBuilder,
};
use crate::{
    modules::{self, Context},
    vm::Builtin,
};

/// Most things that run at once by one call of `parallel`.
const PARALLEL_MAX: usize = 1_000;

/// Tasks that belong together.
#[derive(Clone, Default)]
pub(super) struct TaskGroup {
    pub(super) tasks: Vec<SharedTask>,
    /// Those that wait for none of the others.
    pub(super) heads: Vec<SharedTask>,
    /// Those that none of the others wait for.
    pub(super) tails: Vec<SharedTask>,
}

/// How the members of a group follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    AtOnce,
    OneAfterTheOther,
}

impl TaskGroup {
    /// The group that `value` is, if it is one.
    pub(super) fn of(value: &Value) -> Option<Self> {
        value.as_userdata()?.borrow::<Self>().ok().map(|group| group.clone())
    }

    fn single(task: SharedTask) -> Self {
        Self { tasks: vec![Rc::clone(&task)], heads: vec![Rc::clone(&task)], tails: vec![task] }
    }

    fn joined(members: Vec<Self>, order: Order) -> Self {
        let mut group = Self::default();
        if order == Order::AtOnce {
            members.iter().flat_map(|member| &member.tasks).for_each(|task| task.borrow_mut().at_once = true);
        }
        for member in members {
            if order == Order::AtOnce || group.tasks.is_empty() {
                group.heads.extend(member.heads);
            } else {
                for head in &member.heads {
                    head.borrow_mut().depends_on.extend(group.tails.iter().cloned().map(Dependency::Task));
                }
            }
            group.tails = match order {
                Order::AtOnce => [group.tails, member.tails].concat(),
                Order::OneAfterTheOther => member.tails,
            };
            group.tasks.extend(member.tasks);
        }
        group
    }

    fn only_where(&self, condition: &Condition) {
        for task in &self.tasks {
            task.borrow_mut().run_if.push(condition.clone());
        }
    }
}

impl UserData for TaskGroup {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_function("build", |_, this: AnyUserData| Ok(this));
        methods.add_function("depends_on", |lua, (this, values): (AnyUserData, MultiValue)| {
            let arguments = Arguments::new(lua, "a group of tasks".to_owned(), "depends_on", values);
            for head in &this.borrow::<Self>()?.heads {
                head.borrow_mut().set("depends_on", &arguments)?;
            }
            Ok(this)
        });
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.tasks.len()));
    }
}

/// Adds `parallel`, `chain`, `when`, and what `workflow` has of them.
pub(super) fn install(
    lua: &Lua,
    definitions: &SharedDefinitions,
    context: &Rc<Context>,
    workflow: &Table,
) -> mlua::Result<()> {
    let globals = lua.globals();
    let (defining, running) = (Rc::clone(definitions), Rc::clone(context));
    let parallel = lua.create_async_function(move |lua, values: MultiValue| {
        let (defining, running) = (Rc::clone(&defining), Rc::clone(&running));
        async move {
            // A task cannot add to the plan; what it gives is done at once.
            if running.current.get().is_some_and(|scope| scope.task.is_some()) {
                return at_once(&lua, &defining, values).await;
            }
            let group =
                group(&defining, &Arguments::new(&lua, "parallel".to_owned(), "parallel", values), Order::AtOnce)?;
            Ok(MultiValue::from_iter([group]))
        }
    })?;
    let defining = Rc::clone(definitions);
    let chain = lua.create_function(move |lua, values| {
        let arguments = Arguments::new(lua, "chain".to_owned(), "chain", values);
        group(&defining, &arguments, Order::OneAfterTheOther)
    })?;
    let defining = Rc::clone(definitions);
    let when = lua
        .create_function(move |lua, values| when(&defining, &Arguments::new(lua, "when".to_owned(), "when", values)))?;
    for (name, function) in [("parallel", &parallel), ("sequence", &chain), ("conditional", &when)] {
        workflow.raw_set(name, function)?;
    }
    globals.raw_set("parallel", parallel)?;
    globals.raw_set("chain", chain)?;
    globals.raw_set("when", when)
}

/// `chain(a, b, …)`, `chain({a, b, …})`; with a name before other things than names it is a workflow.
fn group(definitions: &SharedDefinitions, arguments: &Arguments<'_>, order: Order) -> mlua::Result<Value> {
    let names = arguments.values().all(|value| text(value).is_some());
    let name = arguments.value(0).as_string().filter(|_| !names).map(mlua::LuaString::to_string_lossy);
    let mut members = Vec::new();
    for value in arguments.values().skip(usize::from(name.is_some())) {
        add_members(definitions, arguments, value, &mut members)?;
    }
    if members.is_empty() {
        return Err(arguments.takes("tasks, names of tasks, or a list of them", &Value::Nil));
    }
    let group = TaskGroup::joined(members, order);
    let Some(name) = name else { return arguments.lua.create_userdata(group).map(Value::UserData) };
    let builder = WorkflowBuilder::begin(definitions, arguments, &name)?;
    builder.add(group.tasks);
    arguments.lua.create_userdata(builder).map(Value::UserData)
}

/// `when(condition, tasks, otherwise)`.
fn when(definitions: &SharedDefinitions, arguments: &Arguments<'_>) -> mlua::Result<TaskGroup> {
    let condition = Condition::read(&arguments.nth(0))?;
    let mut branches = Vec::new();
    for (at, condition) in [(1, condition.clone()), (2, condition.negated())] {
        let mut members = Vec::new();
        if at == 1 || !arguments.value(at).is_nil() {
            add_members(definitions, arguments, arguments.value(at), &mut members)?;
        }
        let branch = TaskGroup::joined(members, Order::AtOnce);
        branch.only_where(&condition);
        branches.push(branch);
    }
    Ok(TaskGroup::joined(branches, Order::AtOnce))
}

fn add_members(
    definitions: &SharedDefinitions,
    arguments: &Arguments<'_>,
    value: &Value,
    members: &mut Vec<TaskGroup>,
) -> mlua::Result<()> {
    if let Some(task) = TaskBuilder::of(value) {
        members.push(TaskGroup::single(task));
        return Ok(());
    }
    if let Some(group) = TaskGroup::of(value) {
        members.push(group);
        return Ok(());
    }
    if let Some(name) = text(value) {
        let task = refer::name(arguments.lua, &definitions.borrow(), name, arguments.method());
        members.push(TaskGroup::single(task));
        return Ok(());
    }
    let Value::Table(table) = value else {
        return Err(arguments.takes("tasks, names of tasks, or a list of them", value));
    };
    if !table.raw_get::<Value>("name")?.is_nil() {
        let mut draft = TaskDraft::new(String::new());
        draft.fill(table, arguments.lua)?;
        let task = Rc::new(RefCell::new(draft));
        definitions.borrow_mut().tasks.push(Rc::clone(&task));
        members.push(TaskGroup::single(task));
        return Ok(());
    }
    table.sequence_values::<Value>().try_for_each(|item| add_members(definitions, arguments, &item?, members))
}

/// `parallel` inside a task: the results by place and by name, and what went wrong if something did.
async fn at_once(lua: &Lua, definitions: &SharedDefinitions, values: MultiValue) -> mlua::Result<MultiValue> {
    let arguments = Arguments::new(lua, "parallel".to_owned(), "parallel", values);
    let mut errands = Vec::new();
    for value in arguments.values() {
        add_errands(definitions, &arguments, value, &mut errands)?;
    }
    if PARALLEL_MAX < errands.len() {
        return Err(arguments.error(format_args!("{PARALLEL_MAX} at a time is the most")));
    }
    let ended = all_of(lua, &errands).await?;
    let results = lua.create_table()?;
    let mut failed = Vec::new();
    for (at, errand) in errands.iter().enumerate() {
        let result = result(lua, &ended.raw_get(at + 1)?)?;
        if !result.raw_get::<bool>("success")? {
            let shown = errand.name.clone().unwrap_or_else(|| (at + 1).to_string());
            let reason: Option<String> = result.raw_get("error")?;
            failed.push(format!("`{shown}`: {}", reason.unwrap_or_default()));
        }
        results.raw_set(at + 1, &result)?;
        if let Some(name) = &errand.name {
            result.raw_set("name", name.as_str())?;
            results.raw_set(name.as_str(), result)?;
        }
    }
    let error =
        (!failed.is_empty()).then(|| format!("{} of {} failed: {}", failed.len(), errands.len(), failed.join("; ")));
    let error = error.map_or(Ok(Value::Nil), |error| lua.create_string(error).map(Value::String))?;
    Ok(MultiValue::from_iter([Value::Table(results), error]))
}

/// One thing that `parallel` does inside a task.
struct Errand {
    name: Option<String>,
    work: Work,
}

enum Work {
    Task(SharedTask),
    Action(Action),
}

fn add_errands(
    definitions: &SharedDefinitions,
    arguments: &Arguments<'_>,
    value: &Value,
    errands: &mut Vec<Errand>,
) -> mlua::Result<()> {
    if let Some(task) = TaskBuilder::of(value) {
        let name = Some(task.borrow().name.clone());
        errands.push(Errand { name, work: Work::Task(task) });
        return Ok(());
    }
    match value {
        Value::Function(_) => {
            let work = Work::Action(Action::read(&arguments.with(value.clone()))?);
            errands.push(Errand { name: None, work });
            Ok(())
        }
        Value::Table(table) => {
            let own = |key: &str| table.raw_get::<Value>(key);
            let command = [own("command")?, own("run")?, own("shell")?].into_iter().find(|command| !command.is_nil());
            match command {
                Some(command) => {
                    let work = Work::Action(Action::read(&arguments.with(command))?);
                    errands.push(Errand { name: text(&own("name")?), work });
                    Ok(())
                }
                // A task of the file, by its name.
                None if table.raw_len() == 0 && text(&own("name")?).is_some() => {
                    add_errands(definitions, arguments, &own("name")?, errands)
                }
                None if table.raw_len() == 0 => Err(arguments.error("an entry has no `command`")),
                None => table
                    .sequence_values::<Value>()
                    .try_for_each(|item| add_errands(definitions, arguments, &item?, errands)),
            }
        }
        Value::String(name) => {
            let name = name.to_string_lossy();
            let task = refer::find(&definitions.borrow(), &name).map_err(|told| arguments.error(told))?;
            errands.push(Errand { name: Some(name), work: Work::Task(task) });
            Ok(())
        }
        other => Err(arguments.error(format_args!(
            "inside a task it takes functions, tasks, names of tasks, or tables with `name` and `command`, got {}",
            described(other)
        ))),
    }
}

/// Goroutines see to it that whoever waits is known; each gives what `pcall` does, as a table.
static ALL: Builtin = Builtin::new(
    r#"
local map, functions, now = ...
return map(functions, function(f)
    local began = now()
    local ended = table.pack(pcall(f))
    ended.took = now() - began
    return ended
end)
"#,
);

/// What became of each.
async fn all_of(lua: &Lua, errands: &[Errand]) -> mlua::Result<Table> {
    let functions = lua.create_table_with_capacity(errands.len(), 0)?;
    for errand in errands {
        functions.raw_push(match &errand.work {
            Work::Action(action) => action.function(lua)?,
            Work::Task(task) => {
                let task = Rc::clone(task);
                lua.create_async_function(move |lua, ()| {
                    let task = Rc::clone(&task);
                    async move { run_now(&lua, &task).await }
                })?
            }
        })?;
    }
    let goroutine =
        modules::find(lua, "goroutine")?.ok_or_else(|| mlua::Error::runtime("there is no module `goroutine`"))?;
    let map: Function = goroutine.raw_get("map")?;
    let began = Instant::now();
    let now = lua.create_function(move |_, ()| Ok(began.elapsed().as_secs_f64()))?;
    ALL.function(lua)?.call_async((map, functions, now)).await
}

fn result(lua: &Lua, ended: &Table) -> mlua::Result<Table> {
    let value = |at: usize| ended.raw_get::<Value>(at);
    let failure = match value(1)? {
        Value::Boolean(true) => refused(&value(2)?, &value(3)?),
        _ => Some(value(2)?.to_string()?),
    };
    let result = lua.create_table()?;
    result.raw_set("success", failure.is_none())?;
    result.raw_set("status", if failure.is_none() { "Success" } else { "Failed" })?;
    result.raw_set("duration", format!("{:.2}s", ended.raw_get::<f64>("took")?))?;
    result.raw_set("value", value(2)?)?;
    result.raw_set("message", value(3)?.as_string().cloned())?;
    result.raw_set("outputs", value(4)?.as_table().cloned())?;
    result.raw_set("error", failure)?;
    Ok(result)
}

/// Why a function's values mean that it failed: `false`, `nil` and a reason, or a table whose `success` is `false`.
fn refused(first: &Value, second: &Value) -> Option<String> {
    let reason = || text(second).filter(|reason| !reason.is_empty());
    match first {
        Value::Boolean(false) => Some(reason().unwrap_or_else(|| "it returned `false`".to_owned())),
        Value::Nil => reason(),
        Value::Table(table) => match table.raw_get("success") {
            Ok(Value::Boolean(false)) => {
                let told =
                    ["error", "message", "stderr"].iter().find_map(|key| text(&table.raw_get::<Value>(*key).ok()?));
                Some(
                    told.map(|told| told.trim_end().to_owned())
                        .filter(|told| !told.is_empty())
                        .unwrap_or_else(|| "it did not succeed".to_owned()),
                )
            }
            _ => None,
        },
        _ => None,
    }
}
