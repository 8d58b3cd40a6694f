//! What test files call, as far as it is not Lua.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
};

use mlua::{Function, Lua, Table, Value};
use serde_json::{Map, Value as Json};

use super::{Recorder, TestInput, ValuesCheck};
use crate::{
    CancelSignal, LoadError, Resume, RunEnd, Selection, TaskEnd, TaskName, TaskStatus, dsl,
    engine::Engine,
    load::{Prepared, load},
    modules::{self, Context},
    plan::nearest,
    vm::{
        Builtin, SHOW,
        convert::{self, Foreign},
    },
};

static HARNESS: Builtin = Builtin::new(include_str!("harness.luau"));

/// What `run` takes beside the file.
const OPTIONS: [&str; 7] = ["values", "workflow", "only", "skip", "from", "to", "outputs"];
/// What `expect` offers.
const EXPECTATIONS: [&str; 13] = [
    "never",
    "equals",
    "is_true",
    "is_false",
    "is_nil",
    "is_a",
    "contains",
    "includes",
    "matches",
    "has_length",
    "is_above",
    "is_below",
    "raises",
];

/// What the functions of test files share.
pub(super) struct Bench {
    context: Rc<Context>,
    recorder: Rc<Recorder>,
    cancel: CancelSignal,
    /// The directory of the test file in the bundle.
    test_dir: PathBuf,
    values: ValuesCheck,
    runs: Cell<u64>,
}

/// The options of one `run`.
struct Options {
    values: Json,
    workflow: Option<String>,
    selection: Selection,
    outputs: Map<String, Json>,
}

impl Bench {
    pub(super) fn new(
        context: &Rc<Context>,
        recorder: &Rc<Recorder>,
        input: &TestInput,
        cancel: CancelSignal,
    ) -> Rc<Self> {
        let (context, recorder) = (Rc::clone(context), Rc::clone(recorder));
        let test_dir = input.file.parent().unwrap_or(Path::new("")).to_owned();
        Rc::new(Self { context, recorder, cancel, test_dir, values: input.values.clone(), runs: Cell::new(0) })
    }

    /// Adds the functions to the globals: the list of tests, and the function that performs one of them.
    pub(super) fn install(self: Rc<Self>, lua: &Lua) -> mlua::Result<(Table, Function)> {
        // Names are looked up when they are used, so that stubs count in what was loaded before.
        lua.globals().set_safeenv(false);
        let native = lua.create_table()?;
        native.raw_set("find", lua.create_function(|lua, name: String| modules::find(lua, &name))?)?;
        native.raw_set("replace", lua.create_function(replace)?)?;
        native.raw_set("hint", lua.create_function(|_, name: String| Ok(hint(&name)))?)?;
        native.raw_set("exec_result", lua.create_function(|lua, given: Value| modules::exec_result(lua, &given))?)?;
        native.raw_set(
            "diff",
            lua.create_function(|_, (old, new): (String, String)| Ok(modules::difference(&old, &new)))?,
        )?;
        let run = lua.create_async_function(move |lua, (path, options): (Value, Value)| {
            let bench = Rc::clone(&self);
            async move { bench.run(&lua, &path, &options).await }
        })?;
        native.raw_set("run", run)?;
        let show: Function = SHOW.function(lua)?.call(())?;
        HARNESS.function(lua)?.call((lua.globals(), native, show))
    }

    /// `run(file, options)`: the end of a run as a table. A file that cannot be loaded raises an error.
    async fn run(&self, lua: &Lua, path: &Value, options: &Value) -> mlua::Result<Table> {
        let path = path.as_string().map(mlua::LuaString::to_string_lossy);
        let path =
            path.ok_or_else(|| mlua::Error::runtime("run: the first argument is the path of a workflow file"))?;
        let options = Options::read(lua, options)?;
        let fits = (self.values.0)(&options.values);
        fits.map_err(|reason| mlua::Error::runtime(format!("run: the values do not fit: {reason}")))?;
        let first_line = self.recorder.lines.borrow().len();
        let end = Box::pin(self.engine_run(lua, Path::new(&path), options)).await;
        let end = end.map_err(|error| mlua::Error::runtime(sloth_core::Chain(&error).to_string()))?;
        let lines = self.recorder.lines.borrow();
        let texts = lines.iter().skip(first_line).map(|line| line.text.as_str());
        told(lua, &end, texts)
    }

    async fn engine_run(&self, lua: &Lua, file: &Path, options: Options) -> Result<RunEnd, LoadError> {
        let number = self.runs.get() + 1;
        self.runs.set(number);
        let outer = &self.context;
        let workdir = outer.workdir.join(format!("run-{number}"));
        std::fs::create_dir_all(&workdir).map_err(|error| LoadError::Machine(mlua::Error::external(error)))?;
        let context = Rc::new(Context { workdir, values: options.values.clone(), ..Context::clone(outer) });
        let file = self.find(file);
        let resume = if options.outputs.is_empty() { Resume::default() } else { self.resume(&file, &options)? };
        let prepared = Prepared::within(lua, &context, &file, self.cancel.clone())?;
        let engine = Engine::new(prepared, Rc::clone(&context), self.cancel.clone());
        engine.run(options.workflow.as_deref(), &options.selection, &resume).await
    }

    /// The file from the test's directory, or else from the bundle's top.
    fn find(&self, file: &Path) -> PathBuf {
        let beside = self.test_dir.join(file);
        if self.context.bundle_dir.join(&beside).is_file() { beside } else { file.to_owned() }
    }

    /// The tasks whose outputs the test gives count as done.
    fn resume(&self, file: &Path, options: &Options) -> Result<Resume, LoadError> {
        let plans = load(&self.context.bundle_dir, file, &options.values, &self.context.limits)?;
        let now = self.context.host.now();
        let mut ended = Vec::new();
        for (name, outputs) in &options.outputs {
            let has = |plan: &&crate::Plan| plan.tasks().iter().any(|task| task.name == *name);
            let Some(plan) = plans.iter().find(has) else {
                let known: Vec<&str> =
                    plans.iter().flat_map(|plan| plan.tasks()).map(|task| task.name.as_str()).collect();
                let near = nearest(name, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return Err(LoadError::Script { message: format!("run: `outputs`: there is no task `{name}`{near}") });
            };
            ended.push(TaskEnd {
                task: TaskName { workflow: plan.name().to_owned(), task: name.clone() },
                status: TaskStatus::Succeeded,
                attempts: 1,
                message: String::new(),
                outputs: outputs.as_object().cloned().unwrap_or_default(),
                started: now,
                ended: now,
            });
        }
        Ok(Resume { ended, ..Resume::default() })
    }
}

impl Options {
    fn read(lua: &Lua, options: &Value) -> mlua::Result<Self> {
        let wrong = |message: String| mlua::Error::runtime(format!("run: {message}"));
        let given = if options.is_nil() {
            Map::new()
        } else {
            let table = options.as_table().ok_or_else(|| wrong("the options are a table".to_owned()))?;
            convert::to_object(lua, table, Foreign::Drop).map_err(|error| wrong(error.to_string()))?
        };
        if let Some(key) = given.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
            return Err(wrong(format!("no option `{key}`; it takes {}", OPTIONS.join(", "))));
        }
        let texts = |name: &str| match given.get(name) {
            None => Vec::new(),
            Some(Json::Array(list)) => list.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            Some(other) => other.as_str().map(str::to_owned).into_iter().collect(),
        };
        let outputs = given.get("outputs").and_then(Json::as_object).cloned().unwrap_or_default();
        let selection = Selection { only: texts("only"), skip: texts("skip"), from: texts("from"), to: texts("to") };
        let values = given.get("values").cloned().unwrap_or(Json::Null);
        Ok(Self { values, workflow: texts("workflow").pop(), selection, outputs })
    }
}

/// The end of a run as test files see it.
fn told<'a>(lua: &Lua, end: &RunEnd, lines: impl Iterator<Item = &'a str>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("success", end.outcome == crate::Outcome::Succeeded)?;
    table.raw_set("message", end.message.as_str())?;
    table.raw_set("outputs", convert::object_to_lua(lua, &end.outputs)?)?;
    table.raw_set("log", lines.collect::<Vec<_>>())?;
    let tasks = lua.create_table()?;
    for task in &end.tasks {
        let entry = lua.create_table()?;
        entry.raw_set("status", task.status.as_str())?;
        let good = matches!(task.status, TaskStatus::Succeeded | TaskStatus::Unchanged);
        entry.raw_set("success", good)?;
        entry.raw_set("changed", task.status == TaskStatus::Succeeded)?;
        entry.raw_set("message", task.message.as_str())?;
        entry.raw_set("attempts", task.attempts)?;
        entry.raw_set("outputs", convert::object_to_lua(lua, &task.outputs)?)?;
        tasks.raw_set(task.task.task.as_str(), entry)?;
    }
    table.raw_set("tasks", tasks)?;
    Ok(table)
}

fn replace(lua: &Lua, (name, table): (String, Table)) -> mlua::Result<()> {
    dsl::forget_shell(lua);
    modules::replace(lua, &name, &table)
}

/// What may have been meant by a name that is not there.
fn hint(name: &str) -> String {
    let functions = crate::describe::modules().flat_map(|module| &module.functions).map(|known| known.call.as_str());
    let known = EXPECTATIONS.into_iter().chain(modules::names()).chain(functions);
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
