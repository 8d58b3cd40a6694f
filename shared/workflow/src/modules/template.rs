//! `template`: Jinja templates, where a variable that is missing is an error.

mod guard;
#[cfg(test)]
mod tests;

use std::{error::Error as _, io, path::PathBuf, rc::Rc, thread};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use mlua::{Lua, Table, Value};
use serde_json::{Map, Value as Json};

use super::{
    Context,
    call::{Builder, Call, Gate},
    files, gotemplate,
    options::Options,
    paths,
};
use crate::vm::convert::{Foreign, to_object};

/// Steps that one rendering may take.
const FUEL: u64 = 5_000_000;
/// Most bytes that one rendering gives.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a template is called that has no file.
const UNNAMED: &str = "template";

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "template")?
        .function("render", Gate::Open, |call, (text, variables, options): &(Value, Value, Value)| {
            render(call, UNNAMED, &call.text("text", text)?, variables, options)
        })?
        .function("render_file", Gate::Open, |call, (path, variables, options): &(Value, Value, Value)| {
            let name = call.text("path", path)?;
            let file = paths::in_bundle(call, path)?.and_then(|path| files::read(&path));
            let text =
                file.and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("`{name}` is not valid UTF-8")));
            render(call, &name, &text.map_err(|error| call.error(error))?, variables, options)
        })?
        .alias("file", "render_file")?
        .finish();
    Ok(table)
}

/// The language of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Jinja,
    Go,
}

impl Engine {
    pub(super) fn parse(call: &Call, name: &str) -> mlua::Result<Self> {
        match name {
            "jinja" => Ok(Self::Jinja),
            "go" => Ok(Self::Go),
            other => Err(call.error(format_args!("`engine` takes `jinja` or `go`, got `{other}`"))),
        }
    }
}

/// Fills `text`, in the language that it is written in unless `engine` says it.
pub(super) fn fill(
    context: &Context,
    engine: Option<Engine>,
    name: &str,
    text: &str,
    variables: Map<String, Json>,
) -> Result<String, String> {
    let written = if gotemplate::looks_like_go(text) { Engine::Go } else { Engine::Jinja };
    match engine.unwrap_or(written) {
        Engine::Jinja => jinja(context, name, text, variables),
        Engine::Go => {
            let bounds = gotemplate::Bounds { steps: FUEL, output_bytes: OUTPUT_BYTES_MAX };
            gotemplate::render(text, variables, bounds).map_err(|error| format!("`{name}` {error}"))
        }
    }
}

/// The table of variables that a script gives.
pub(super) fn variables(call: &Call, argument: &str, value: &Value) -> mlua::Result<Map<String, Json>> {
    match value.as_table() {
        Some(table) => to_object(&call.lua, table, Foreign::Drop).map_err(|error| call.error(error)),
        None if value.is_nil() => Ok(Map::new()),
        None => Err(call.expected(argument, "a table", value)),
    }
}

fn render(call: &Call, name: &str, text: &str, values: &Value, options: &Value) -> mlua::Result<String> {
    let values = variables(call, "variables", values)?;
    let engine = Options::new(call, options, &["engine"])?.text("engine")?;
    // Plain templates are Jinja's: what looks like Go's may be meant so.
    let engine = engine.map_or(Ok(Engine::Jinja), |name| Engine::parse(call, &name))?;
    fill(&call.context, Some(engine), name, text, values).map_err(|error| call.error(error))
}

fn jinja(context: &Context, name: &str, text: &str, variables: Map<String, Json>) -> Result<String, String> {
    rendered_beside(context.bundle_dir.clone(), name, text, variables)
}

/// On a thread of its own, whose stack is large enough for whatever the guard lets through.
fn rendered_beside(bundle: PathBuf, name: &str, text: &str, variables: Map<String, Json>) -> Result<String, String> {
    thread::scope(|scope| {
        let rendering = move || rendered(bundle, name, text, variables);
        let thread = thread::Builder::new().stack_size(guard::STACK_BYTES).spawn_scoped(scope, rendering);
        let thread = thread.map_err(|error| format!("`{name}`: cannot start a thread: {error}"))?;
        thread.join().unwrap_or_else(|_| Err(format!("`{name}`: the template engine failed")))
    })
}

fn rendered(bundle: PathBuf, name: &str, text: &str, variables: Map<String, Json>) -> Result<String, String> {
    let environment = environment(bundle);
    let text = guard::checked(text, syntax()).map_err(|error| format!("`{name}` {}", detail(&error)))?;
    let mut output = Bounded(Vec::new());
    let rendered = environment
        .template_from_named_str(name, &text)
        .and_then(|template| template.render_captured_to(Serde(variables), &mut output).map(drop));
    rendered.map_err(|error| explain(&error, &text))?;
    String::from_utf8(output.0).map_err(|error| error.to_string())
}

fn syntax() -> SyntaxConfig {
    // Only delimiters can be wrong, and these are the usual ones.
    SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()
}

/// Templates may include the bundle's other files.
fn environment(bundle: PathBuf) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(syntax());
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(guard::RECURSION_MAX);
    environment.set_debug(true);
    guard::install(&mut environment);
    environment.set_loader(move |name| {
        let Ok(path) = files::beneath(&bundle, name.as_ref()) else { return Ok(None) };
        let text = files::read(&path).map(String::from_utf8);
        match text {
            Ok(Ok(text)) => {
                let checked = guard::checked(&text, syntax());
                let checked = checked.map_err(|error| invalid(format!("`{name}` {}", detail(&error))))?;
                Ok(Some(checked.into_owned()))
            }
            Ok(Err(_)) => Err(invalid(format!("`{name}` is not valid UTF-8"))),
            Err(error) => Err(invalid(error)),
        }
    });
    environment
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn detail(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// One sentence: where, what, and what to do.
fn explain(error: &Error, text: &str) -> String {
    // An error in an included template is the cause of one that only says so.
    if let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<Error>()) {
        return explain(cause, text);
    }
    let name = error.name().unwrap_or(UNNAMED);
    let line = error.line().unwrap_or(1);
    let at = format!("`{name}` line {line}");
    let source = error.template_source().unwrap_or(text);
    let expression = error.range().and_then(|range| source.get(rooted(source, range))).map(str::trim);
    match (error.kind(), expression) {
        (ErrorKind::UndefinedError, Some(expression)) => {
            format!(
                "{at}: `{expression}` is not defined: pass it in the variables, or write `{{{{ {expression} | default('') }}}}`"
            )
        }
        (ErrorKind::OutOfFuel, _) => format!("{at}: the template takes more than the {FUEL} steps it may"),
        (ErrorKind::WriteFailure, _) => format!("the result is larger than the {OUTPUT_BYTES_MAX} bytes it may have"),
        (kind, _) => match error.detail() {
            Some(detail) => format!("{at}: {kind}: {detail}"),
            None => format!("{at}: {kind}"),
        },
    }
}

/// The range of a name with what it is a part of: the engine tells of `a.b.c` only what follows the last part that is
/// known.
fn rooted(source: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '\'' | '"');
    let begin = |end: usize| {
        let before = source.get(..end).unwrap_or_default();
        before.char_indices().rev().take_while(|(_, c)| part(*c)).last().map_or(end, |(at, _)| at)
    };
    let (mut start, mut end) = (begin(range.start), range.end);
    // Of `a.b | upper` it tells the filter.
    while let Some(operand) = source.get(..start).and_then(|before| before.trim_end().strip_suffix('|')) {
        end = operand.trim_end().len();
        start = begin(end);
    }
    start..end
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if OUTPUT_BYTES_MAX < self.0.len() + bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
