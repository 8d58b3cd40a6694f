//! The functions of templates: Go's own, and those of sprig that files use.

use std::{cmp::Ordering, collections::BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value};

use super::{
    exec::Val,
    format::{integer, kind, missing, printf, shown, text},
    lists,
};
use crate::{limits::TEXT_VALUES_MAX, modules::data};

/// Every function, in the order of the alphabet.
const KNOWN: [&str; 82] = [
    "add",
    "and",
    "append",
    "atoi",
    "b64dec",
    "b64enc",
    "ceil",
    "coalesce",
    "compact",
    "concat",
    "contains",
    "default",
    "dict",
    "div",
    "empty",
    "eq",
    "fail",
    "first",
    "float64",
    "floor",
    "fromJson",
    "ge",
    "get",
    "gt",
    "has",
    "hasKey",
    "hasPrefix",
    "hasSuffix",
    "html",
    "indent",
    "index",
    "initial",
    "int",
    "int64",
    "join",
    "keys",
    "last",
    "le",
    "len",
    "list",
    "lower",
    "lt",
    "max",
    "min",
    "mod",
    "mul",
    "ne",
    "nindent",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "quote",
    "repeat",
    "replace",
    "required",
    "rest",
    "reverse",
    "round",
    "slice",
    "sortAlpha",
    "split",
    "splitList",
    "squote",
    "sub",
    "substr",
    "ternary",
    "title",
    "toJson",
    "toPrettyJson",
    "toString",
    "trim",
    "trimAll",
    "trimPrefix",
    "trimSuffix",
    "trunc",
    "uniq",
    "until",
    "untilStep",
    "upper",
    "values",
];

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.binary_search(&name).is_ok()
}

/// The arguments of one call.
pub(super) struct Arguments {
    values: Vec<Val>,
    /// Most bytes of a text that a function may make.
    pub(super) bytes_max: usize,
}

impl Arguments {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn any(&self, at: usize) -> Result<&Val, String> {
        self.values.get(at).ok_or_else(|| format!("takes at least {}, got {}", counted(at + 1), self.values.len()))
    }

    /// A value that must be there.
    pub(super) fn json(&self, at: usize) -> Result<&Value, String> {
        match self.any(at)? {
            Val::Json(value) => Ok(value),
            Val::Missing(name) => Err(missing(name)),
        }
    }

    /// A text, or anything else as one.
    pub(super) fn text(&self, at: usize) -> Result<String, String> {
        shown(self.any(at)?)
    }

    pub(super) fn number(&self, at: usize) -> Result<f64, String> {
        let value = self.json(at)?;
        let parsed = value.as_str().and_then(|text| text.trim().parse().ok());
        value.as_f64().or(parsed).ok_or_else(|| format!("takes a number, got {}", kind(value)))
    }

    /// A whole number of things, bounded.
    pub(super) fn count(&self, at: usize) -> Result<usize, String> {
        const COUNT_MAX: f64 = 1_000_000.0;
        let number = self.number(at)?;
        if (0.0..=COUNT_MAX).contains(&number) {
            return usize::try_from(integer(number)).map_err(|error| error.to_string());
        }
        Err(format!("takes a number from 0 to {COUNT_MAX}, got {number}"))
    }

    pub(super) fn list(&self, at: usize) -> Result<&[Value], String> {
        let value = self.json(at)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| format!("takes a list, got {}", kind(value)))
    }

    pub(super) fn table(&self, at: usize) -> Result<&Map<String, Value>, String> {
        let value = self.json(at)?;
        value.as_object().ok_or_else(|| format!("takes a table, got {}", kind(value)))
    }

    pub(super) fn values(&self) -> &[Val] {
        &self.values
    }

    /// The parts of a text, which are not too many.
    pub(super) fn parts<'t>(&self, whole: &'t str, separator: &str) -> Result<Vec<&'t str>, String> {
        let parts: Vec<&str> = whole.split(separator).take(TEXT_VALUES_MAX + 1).collect();
        if TEXT_VALUES_MAX < parts.len() {
            return Err(format!("the text has more than {TEXT_VALUES_MAX} parts"));
        }
        Ok(parts)
    }

    fn bounded(&self, bytes: usize) -> Result<(), String> {
        if self.bytes_max < bytes {
            return Err(format!("the result is larger than the {} bytes it may have", self.bytes_max));
        }
        Ok(())
    }
}

/// Calls a function that [`is_known`].
pub(super) fn call(name: &str, values: Vec<Val>, bytes_max: usize) -> Result<Val, String> {
    let arguments = Arguments { values, bytes_max };
    if let Some(value) = logic(name, &arguments)? {
        return Ok(value);
    }
    for group in [texts, numbers, lists::call] {
        if let Some(value) = group(name, &arguments)? {
            return Ok(Val::Json(value));
        }
    }
    Err("there is no such function".to_owned())
}

/// Functions that take what is not there.
fn logic(name: &str, arguments: &Arguments) -> Result<Option<Val>, String> {
    let last = || arguments.values.last().cloned().ok_or("takes at least 1 argument, got 0");
    let yes = |value: bool| Some(Val::Json(Value::Bool(value)));
    Ok(match name {
        // They were looked at one by one before this: all but the last are true of `and`, false of `or`.
        "and" | "or" => Some(last()?),
        "not" | "empty" => yes(!arguments.any(0)?.is_true()),
        "default" => {
            let (fallback, value) = (arguments.any(0)?, arguments.values.get(1));
            Some(value.filter(|value| value.is_true()).unwrap_or(fallback).clone())
        }
        "coalesce" => {
            let found = arguments.values.iter().find(|value| value.is_true());
            Some(found.cloned().unwrap_or(Val::Json(Value::Null)))
        }
        "ternary" => Some(arguments.any(if arguments.any(2)?.is_true() { 0 } else { 1 })?.clone()),
        "required" => match arguments.any(1)? {
            Val::Json(value) if !value.is_null() && value != "" => Some(Val::Json(value.clone())),
            Val::Json(_) | Val::Missing(_) => return Err(arguments.text(0)?),
        },
        "fail" => return Err(arguments.text(0)?),
        "eq" => {
            let first = arguments.any(0)?.clone().json();
            arguments.any(1)?;
            yes(arguments.values[1..].iter().any(|value| same(&first, &value.clone().json())))
        }
        "ne" => yes(!same(&arguments.any(0)?.clone().json(), &arguments.any(1)?.clone().json())),
        "lt" => yes(compare(arguments)? == Ordering::Less),
        "le" => yes(compare(arguments)? != Ordering::Greater),
        "gt" => yes(compare(arguments)? == Ordering::Greater),
        "ge" => yes(compare(arguments)? != Ordering::Less),
        _ => None,
    })
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        // 1 and 1.0 are one number.
        (Some(one), Some(other)) => one.total_cmp(&other) == Ordering::Equal,
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => one == other,
    }
}

fn compare(arguments: &Arguments) -> Result<Ordering, String> {
    let (one, other) = (arguments.json(0)?, arguments.json(1)?);
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => Ok(arguments.number(0)?.total_cmp(&arguments.number(1)?)),
        (Value::String(one), Value::String(other)) => Ok(one.cmp(other)),
        (one, other) => Err(format!("cannot compare {} with {}", kind(one), kind(other))),
    }
}

fn texts(name: &str, arguments: &Arguments) -> Result<Option<Value>, String> {
    let of = |at: usize| arguments.text(at);
    Ok(Some(match name {
        "print" => Value::from(printed(arguments)?),
        "println" => {
            let all: Result<Vec<String>, String> = arguments.values.iter().map(shown).collect();
            Value::from(format!("{}\n", all?.join(" ")))
        }
        "printf" => Value::from(printf(&of(0)?, &arguments.values[1..])?),
        "upper" => Value::from(of(0)?.to_uppercase()),
        "lower" => Value::from(of(0)?.to_lowercase()),
        "title" => Value::from(title(&of(0)?)),
        "trim" => Value::from(of(0)?.trim()),
        "trimAll" => {
            let set: BTreeSet<char> = of(0)?.chars().collect();
            Value::from(of(1)?.trim_matches(|c| set.contains(&c)))
        }
        "trimPrefix" => Value::from(of(1)?.strip_prefix(&of(0)?).unwrap_or(&of(1)?)),
        "trimSuffix" => Value::from(of(1)?.strip_suffix(&of(0)?).unwrap_or(&of(1)?)),
        "contains" => Value::from(of(1)?.contains(&of(0)?)),
        "hasPrefix" => Value::from(of(1)?.starts_with(&of(0)?)),
        "hasSuffix" => Value::from(of(1)?.ends_with(&of(0)?)),
        "quote" => Value::from(serde_json::to_string(&of(0)?).map_err(|error| error.to_string())?),
        "squote" => Value::from(format!("'{}'", of(0)?)),
        "html" => Value::from(escaped(&of(0)?)),
        "toString" => Value::from(of(0)?),
        "repeat" => {
            let (count, part) = (arguments.count(0)?, of(1)?);
            arguments.bounded(count.saturating_mul(part.len()))?;
            Value::from(part.repeat(count))
        }
        "replace" => {
            let (from, to, whole) = (of(0)?, of(1)?, of(2)?);
            let times = if from.is_empty() { whole.len() + 1 } else { whole.matches(&from).count() };
            arguments.bounded(whole.len().saturating_add(times.saturating_mul(to.len())))?;
            Value::from(whole.replace(&from, &to))
        }
        "indent" | "nindent" => {
            let (margin, whole) = (" ".repeat(arguments.count(0)?), of(1)?);
            arguments.bounded(whole.len().saturating_add(whole.lines().count().saturating_mul(margin.len())))?;
            let lines: Vec<String> = whole.split('\n').map(|line| format!("{margin}{line}")).collect();
            let start = if name == "nindent" { "\n" } else { "" };
            Value::from(format!("{start}{}", lines.join("\n")))
        }
        "substr" => {
            let (from, to) = (arguments.count(0)?, arguments.count(1)?);
            Value::from(of(2)?.chars().skip(from).take(to.saturating_sub(from)).collect::<String>())
        }
        "trunc" => Value::from(of(1)?.chars().take(arguments.count(0)?).collect::<String>()),
        "b64enc" => Value::from(STANDARD.encode(of(0)?)),
        "b64dec" => {
            let bytes = STANDARD.decode(of(0)?).map_err(|_| "the text is no Base64")?;
            Value::from(String::from_utf8(bytes).map_err(|_| "what it holds is not valid UTF-8")?)
        }
        "toJson" => Value::from(arguments.json(0)?.to_string()),
        "toPrettyJson" => {
            Value::from(serde_json::to_string_pretty(arguments.json(0)?).map_err(|error| error.to_string())?)
        }
        "fromJson" => {
            let whole = of(0)?;
            serde_json::from_str(data::bounded(&whole)?).map_err(|error| format!("the text is no JSON: {error}"))?
        }
        _ => return Ok(None),
    }))
}

/// As Go's `print`: with a space between two values where neither is a text.
fn printed(arguments: &Arguments) -> Result<String, String> {
    let mut out = String::new();
    let mut before: Option<&Val> = None;
    let is_text = |value: &Val| matches!(value, Val::Json(Value::String(_)));
    for value in &arguments.values {
        if before.is_some_and(|before| !is_text(before) && !is_text(value)) {
            out.push(' ');
        }
        out.push_str(&shown(value)?);
        before = Some(value);
    }
    Ok(out)
}

fn title(text: &str) -> String {
    let mut starts = true;
    let capital = |c: char| {
        let first = std::mem::replace(&mut starts, c.is_whitespace());
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(capital).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn numbers(name: &str, arguments: &Arguments) -> Result<Option<Value>, String> {
    let all = || (0..arguments.len()).map(|at| arguments.number(at)).collect::<Result<Vec<f64>, String>>();
    let two = || Ok::<_, String>((arguments.number(0)?, arguments.number(1)?));
    let number = match name {
        "add" => all()?.iter().sum(),
        "sub" => two().map(|(one, other)| one - other)?,
        "mul" => all()?.iter().product(),
        "div" | "mod" => {
            let (one, other) = two()?;
            if other == 0.0 {
                return Err("cannot divide by 0".to_owned());
            }
            if name == "div" { (one / other).trunc() } else { one % other }
        }
        "max" => all()?.into_iter().fold(arguments.number(0)?, f64::max),
        "min" => all()?.into_iter().fold(arguments.number(0)?, f64::min),
        "int" | "int64" | "atoi" => arguments.number(0)?.trunc(),
        "float64" => arguments.number(0)?,
        "floor" => arguments.number(0)?.floor(),
        "ceil" => arguments.number(0)?.ceil(),
        "round" => {
            let scale = 10_f64.powi(i32::try_from(arguments.count(1)?).unwrap_or(i32::MAX));
            (arguments.number(0)? * scale).round() / scale
        }
        _ => return Ok(None),
    };
    json_number(number).map(Some)
}

/// A number, as a whole one where it is.
pub(super) fn json_number(number: f64) -> Result<Value, String> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Ok(Value::from(integer(number)));
    }
    Number::from_f64(number).map(Value::Number).ok_or_else(|| "the result is no number".to_owned())
}

/// A value as a text, for functions of lists.
pub(super) fn as_text(value: &Value) -> String {
    text(value)
}

fn counted(number: usize) -> String {
    if number == 1 { "1 argument".to_owned() } else { format!("{number} arguments") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_there() {
        assert!(KNOWN.is_sorted());
        for name in KNOWN {
            let ended = call(name, Vec::new(), 0);
            assert_ne!(ended, Err("there is no such function".to_owned()), "{name}");
        }
        assert!(!is_known("env") && !is_known("exec"));
    }
}
