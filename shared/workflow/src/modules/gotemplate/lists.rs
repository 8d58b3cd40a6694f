//! Functions of lists and tables.

use serde_json::{Map, Value};

use super::{
    exec::Val,
    format::kind,
    functions::{Arguments, as_text},
};

pub(super) fn call(name: &str, arguments: &Arguments) -> Result<Option<Value>, String> {
    let end = |value: Option<&Value>| value.cloned().unwrap_or(Value::Null);
    Ok(Some(match name {
        "len" => Value::from(len(arguments.json(0)?)?),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "list" => Value::Array(arguments.values().iter().map(|value| value.clone().json()).collect()),
        "first" => end(arguments.list(0)?.first()),
        "last" => end(arguments.list(0)?.last()),
        "rest" => Value::from(arguments.list(0)?.split_first().map_or(Vec::new(), |(_, rest)| rest.to_vec())),
        "initial" => Value::from(arguments.list(0)?.split_last().map_or(Vec::new(), |(_, rest)| rest.to_vec())),
        "append" => Value::from([arguments.list(0)?, &[arguments.json(1)?.clone()]].concat()),
        "concat" => {
            let lists: Result<Vec<&[Value]>, String> = (0..arguments.len()).map(|at| arguments.list(at)).collect();
            Value::from(lists?.concat())
        }
        "has" => Value::from(arguments.list(1)?.contains(arguments.json(0)?)),
        "reverse" => Value::from(arguments.list(0)?.iter().rev().cloned().collect::<Vec<_>>()),
        "uniq" => {
            let mut seen: Vec<Value> = Vec::new();
            let mut known = std::collections::BTreeSet::new();
            for value in arguments.list(0)? {
                if known.insert(value.to_string()) {
                    seen.push(value.clone());
                }
            }
            Value::from(seen)
        }
        "compact" => {
            let full = |value: &&Value| Val::Json((*value).clone()).is_true();
            Value::from(arguments.list(0)?.iter().filter(full).cloned().collect::<Vec<_>>())
        }
        "sortAlpha" => {
            let mut texts: Vec<String> = arguments.list(0)?.iter().map(as_text).collect();
            texts.sort();
            Value::from(texts)
        }
        "join" => {
            let texts: Vec<String> = arguments.list(1)?.iter().map(as_text).collect();
            Value::from(texts.join(&arguments.text(0)?))
        }
        "splitList" => {
            let (separator, whole) = (arguments.text(0)?, arguments.text(1)?);
            Value::from(arguments.parts(&whole, &separator)?)
        }
        "split" => {
            let (separator, whole) = (arguments.text(0)?, arguments.text(1)?);
            let parts = arguments.parts(&whole, &separator)?.into_iter().enumerate();
            Value::Object(parts.map(|(at, part)| (format!("_{at}"), Value::from(part))).collect())
        }
        "until" => Value::from((0..arguments.count(0)?).collect::<Vec<_>>()),
        "untilStep" => {
            let (from, to, step) = (arguments.count(0)?, arguments.count(1)?, arguments.count(2)?.max(1));
            Value::from((from..to).step_by(step).collect::<Vec<_>>())
        }
        "dict" => dict(arguments)?,
        "keys" => {
            let mut keys: Vec<String> = arguments.table(0)?.keys().cloned().collect();
            keys.sort();
            Value::from(keys)
        }
        "values" => {
            let mut pairs: Vec<(&String, &Value)> = arguments.table(0)?.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            Value::from(pairs.into_iter().map(|(_, value)| value.clone()).collect::<Vec<_>>())
        }
        "hasKey" => Value::from(arguments.table(0)?.contains_key(&arguments.text(1)?)),
        "get" => arguments.table(0)?.get(&arguments.text(1)?).cloned().unwrap_or_else(|| Value::from("")),
        _ => return Ok(None),
    }))
}

fn len(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(table) => Ok(table.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Err(format!("{} has no length", kind(value))),
    }
}

fn index(arguments: &Arguments) -> Result<Value, String> {
    let mut at = arguments.json(0)?;
    for key in 1..arguments.len() {
        at = match at {
            Value::Array(list) => {
                let number = arguments.count(key)?;
                list.get(number).ok_or_else(|| format!("the list has {} items and none at {number}", list.len()))?
            }
            Value::Object(table) => {
                let name = arguments.text(key)?;
                match table.get(&name) {
                    Some(value) => value,
                    // As in Go, a key that a table has not gives nothing.
                    None => return Ok(Value::Null),
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(format!("{} cannot be indexed", kind(at)));
            }
        };
    }
    Ok(at.clone())
}

fn slice(arguments: &Arguments) -> Result<Value, String> {
    let from = if 1 < arguments.len() { arguments.count(1)? } else { 0 };
    let to = |len: usize| if 2 < arguments.len() { arguments.count(2) } else { Ok(len) };
    let whole = arguments.json(0)?;
    let outside = || format!("there is no slice from {from} of {}", kind(whole));
    match whole {
        Value::String(text) => text.get(from..to(text.len())?).map(Value::from).ok_or_else(outside),
        Value::Array(list) => {
            list.get(from..to(list.len())?).map(|part| Value::from(part.to_vec())).ok_or_else(outside)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err(format!("{} cannot be sliced", kind(whole)))
        }
    }
}

fn dict(arguments: &Arguments) -> Result<Value, String> {
    let mut table = Map::new();
    for at in (0..arguments.len()).step_by(2) {
        table.insert(arguments.text(at)?, arguments.any(at + 1)?.clone().json());
    }
    Ok(Value::Object(table))
}
