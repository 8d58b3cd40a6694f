//! Runs the tree.

use serde_json::Value;

use super::{
    Bounds, TemplateError, format, functions,
    parse::{Kind, MAIN, Node, Operand, Pipeline, Templates},
};

/// How deep templates may call each other.
const CALLS_MAX: usize = 64;
/// Most levels of lists and tables in each other that a value has: whoever goes through it needs stack for each.
const LEVELS_MAX: usize = 128;

/// A value, or the name of what is not there.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Val {
    Missing(String),
    Json(Value),
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Exec<'a> {
    templates: &'a Templates,
    variables: Vec<(String, Val)>,
    output: String,
    bounds: Bounds,
    steps: u64,
    calls: usize,
    line: usize,
}

pub(super) fn run(templates: &Templates, data: Value, bounds: Bounds) -> Result<String, TemplateError> {
    let data = Val::Json(data);
    let mut exec = Exec {
        templates,
        variables: vec![(String::new(), data.clone())],
        output: String::new(),
        bounds,
        steps: 0,
        calls: 0,
        line: 1,
    };
    match templates.get(MAIN).map(|nodes| exec.body(nodes, &data)) {
        Some(Err(message)) => Err(TemplateError { line: exec.line, message }),
        Some(Ok(_)) | None => Ok(exec.output),
    }
}

impl Val {
    pub(super) fn json(self) -> Value {
        match self {
            Self::Missing(_) => Value::Null,
            Self::Json(value) => value,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Json(Value::Null) => false,
            Self::Json(Value::Bool(value)) => *value,
            Self::Json(Value::Number(number)) => number.as_f64() != Some(0.0),
            Self::Json(Value::String(text)) => !text.is_empty(),
            Self::Json(Value::Array(list)) => !list.is_empty(),
            Self::Json(Value::Object(table)) => !table.is_empty(),
        }
    }
}

impl Exec<'_> {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.bounds.steps < self.steps {
            return Err(format!("the template takes more than the {} steps it may", self.bounds.steps));
        }
        Ok(())
    }

    fn put(&mut self, text: &str) -> Result<(), String> {
        if self.bounds.output_bytes < self.output.len() + text.len() {
            return Err(format!("the result is larger than the {} bytes it may have", self.bounds.output_bytes));
        }
        self.output.push_str(text);
        Ok(())
    }

    /// Runs nodes; the variables that they make end with them.
    fn body(&mut self, nodes: &[Node], dot: &Val) -> Result<Flow, String> {
        let known = self.variables.len();
        for node in nodes {
            self.line = node.line;
            let flow = self.node(&node.kind, dot)?;
            if flow != Flow::Next {
                self.variables.truncate(known);
                return Ok(flow);
            }
        }
        self.variables.truncate(known);
        Ok(Flow::Next)
    }

    fn node(&mut self, kind: &Kind, dot: &Val) -> Result<Flow, String> {
        self.step()?;
        match kind {
            Kind::Text(text) => self.put(text)?,
            Kind::Output(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.put(&format::shown(&value)?)?;
                }
            }
            Kind::If { condition, body, otherwise } => {
                let known = self.variables.len();
                let holds = self.pipeline(condition, dot)?.is_true();
                let flow = self.body(if holds { body } else { otherwise }, dot)?;
                self.variables.truncate(known);
                return Ok(flow);
            }
            Kind::With { value, body, otherwise } => {
                let known = self.variables.len();
                let value = self.pipeline(value, dot)?;
                let flow = if value.is_true() { self.body(body, &value)? } else { self.body(otherwise, dot)? };
                self.variables.truncate(known);
                return Ok(flow);
            }
            Kind::Range { list, body, otherwise } => return self.range(list, body, otherwise, dot),
            Kind::Template { name, argument } => self.call(name, argument.as_ref(), dot)?,
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, list: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Val) -> Result<Flow, String> {
        let bare = Pipeline { variables: Vec::new(), ..list.clone() };
        let items = items(self.pipeline(&bare, dot)?)?;
        if items.is_empty() {
            return self.body(otherwise, dot);
        }
        let known = self.variables.len();
        for (key, value) in items {
            self.step()?;
            let value = Val::Json(value);
            match &list.variables[..] {
                [] => {}
                [one] => self.set(one, value.clone(), list.assigns)?,
                [first, second, ..] => {
                    self.set(first, Val::Json(key), list.assigns)?;
                    self.set(second, value.clone(), list.assigns)?;
                }
            }
            let flow = self.body(body, &value)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn call(&mut self, name: &str, argument: Option<&Pipeline>, dot: &Val) -> Result<(), String> {
        let given = match argument {
            Some(argument) => self.pipeline(argument, dot)?,
            None => Val::Json(Value::Null),
        };
        let templates = self.templates;
        let nodes = templates.get(name).ok_or_else(|| format!("there is no template `{name}`"))?;
        self.calls += 1;
        if CALLS_MAX < self.calls {
            return Err(format!("templates call each other more than {CALLS_MAX} deep"));
        }
        // A template sees its own `$` and nothing of its caller.
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), given.clone())]);
        let line = self.line;
        self.body(nodes, &given)?;
        (self.variables, self.line) = (outer, line);
        self.calls -= 1;
        Ok(())
    }

    fn set(&mut self, name: &str, value: Val, assigns: bool) -> Result<(), String> {
        if !assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let known = known.ok_or_else(|| format!("`${name}` is not declared: write `${name} := …` first"))?;
        known.1 = value;
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Val) -> Result<Val, String> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Val::Json(Value::Null));
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.assigns)?;
        }
        Ok(value)
    }

    /// What one command gives; `piped` is its last argument.
    fn command(&mut self, command: &[Operand], dot: &Val, piped: Option<Val>) -> Result<Val, String> {
        self.step()?;
        let Some((first, rest)) = command.split_first() else { return Ok(Val::Json(Value::Null)) };
        let Operand::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err("a value that is no function is given arguments".to_owned());
            }
            return self.operand(first, dot);
        };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            let value = self.operand(operand, dot)?;
            // The rest is not looked at once `and` or `or` know what they give.
            let decided = match name.as_str() {
                "and" => !value.is_true(),
                "or" => value.is_true(),
                _ => false,
            };
            if decided {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        self.called(name, arguments)
    }

    /// What a function gives. Whoever makes much of little pays for what is made.
    fn called(&mut self, name: &str, arguments: Vec<Val>) -> Result<Val, String> {
        let budget = self.bounds.output_bytes;
        let given = functions::call(name, arguments, budget).map_err(|reason| format!("`{name}`: {reason}"))?;
        if let Val::Json(value) = &given {
            self.pay_for(value)?;
            self.step()?;
        }
        Ok(given)
    }

    fn operand(&mut self, operand: &Operand, dot: &Val) -> Result<Val, String> {
        let value = self.value(operand, dot)?;
        if let Val::Json(value) = &value {
            self.pay_for(value)?;
        }
        self.step()?;
        Ok(value)
    }

    fn pay_for(&mut self, value: &Value) -> Result<(), String> {
        let weight = weight(value, LEVELS_MAX);
        let weight = weight.ok_or_else(|| format!("a value has more than the {LEVELS_MAX} levels it may have"))?;
        self.steps = self.steps.saturating_add(weight);
        Ok(())
    }

    fn value(&mut self, operand: &Operand, dot: &Val) -> Result<Val, String> {
        match operand {
            Operand::Function(name) => self.called(name, Vec::new()),
            Operand::Literal(value) => Ok(Val::Json(value.clone())),
            Operand::Dot(path) => field(dot, "", path),
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = known.ok_or_else(|| format!("`${name}` is not declared"))?;
                field(value, &format!("${name}"), path)
            }
            Operand::Group(pipeline, path) => {
                let value = self.pipeline(pipeline, dot)?;
                field(&value, "(…)", path)
            }
        }
    }
}

/// The field of a field of `value`, which is called `of`.
fn field(value: &Val, of: &str, path: &[String]) -> Result<Val, String> {
    let mut at = match value {
        Val::Json(value) => value,
        Val::Missing(name) => {
            let fields: String = path.iter().map(|name| format!(".{name}")).collect();
            return Ok(Val::Missing(format!("{name}{fields}")));
        }
    };
    let whole = || format!("{of}.{}", path.join("."));
    for name in path {
        at = match at {
            Value::Object(table) => match table.get(name) {
                Some(value) => value,
                None => return Ok(Val::Missing(whole())),
            },
            Value::Null => return Ok(Val::Missing(whole())),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(format!("`{}`: {} has no field `{name}`", whole(), format::kind(at)));
            }
        };
    }
    Ok(Val::Json(at.clone()))
}

/// How many steps it takes to copy a value; `None` when it has more than `levels` levels.
fn weight(value: &Value, levels: usize) -> Option<u64> {
    const STEP_BYTES: usize = 16;
    let below = |value| weight(value, levels.checked_sub(1)?);
    let within = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => (text.len() / STEP_BYTES) as u64,
        Value::Array(list) => list.iter().map(below).sum::<Option<u64>>()?,
        Value::Object(table) => table.values().map(below).sum::<Option<u64>>()?,
    };
    Some(within + 1)
}

/// What a range goes over: a list, a table in the order of its keys, or the numbers below one.
fn items(value: Val) -> Result<Vec<(Value, Value)>, String> {
    const NUMBERS_MAX: u64 = 1_000_000;
    Ok(match value.json() {
        Value::Null => Vec::new(),
        Value::Array(list) => list.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect(),
        Value::Object(table) => {
            let mut items: Vec<(Value, Value)> =
                table.into_iter().map(|(key, value)| (Value::String(key), value)).collect();
            items.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()));
            items
        }
        Value::Number(number) if number.as_u64().is_some_and(|count| count <= NUMBERS_MAX) => {
            (0..number.as_u64().unwrap_or_default()).map(|at| (Value::from(at), Value::from(at))).collect()
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            return Err(format!("cannot range over {}", format::kind(&other)));
        }
    })
}
