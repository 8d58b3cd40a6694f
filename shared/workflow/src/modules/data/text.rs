//! Values as texts and back: JSON, YAML and TOML.

use std::fmt::Display;

use serde_json::{Map, Value as Json};
use sloth_core::yaml;

use super::super::context::cut;
use crate::limits::{TEXT_VALUES_MAX, VALUE_DEPTH_MAX};

/// Most bytes of a text that is read.
pub(super) const TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes of a parser's message that are told.
const REASON_BYTES_MAX: usize = 1024;

/// Writes a value as a text.
pub(super) type Encode = fn(&Json) -> Result<String, String>;
/// Reads a text.
pub(super) type Decode = fn(&str) -> Result<Json, String>;

pub(super) fn read_json(text: &str) -> Result<Json, String> {
    serde_json::from_str(bounded(text)?).map_err(said)
}

pub(super) fn write_json(json: &Json) -> Result<String, String> {
    serde_json::to_string(json).map_err(said)
}

pub(super) fn write_pretty(json: &Json) -> Result<String, String> {
    serde_json::to_string_pretty(json).map_err(said)
}

pub(super) fn read_yaml(text: &str) -> Result<Json, String> {
    yaml::read(bounded(text)?).map_err(said)
}

/// The documents of a stream, one after the other.
pub(super) fn read_yaml_documents(text: &str) -> Result<Json, String> {
    yaml::read_all(bounded(text)?).map(Json::Array).map_err(said)
}

pub(super) fn write_yaml(json: &Json) -> Result<String, String> {
    serde_saphyr::to_string(json).map_err(said)
}

pub(super) fn read_toml(text: &str) -> Result<Json, String> {
    let table: toml::Table = bounded(text)?.parse().map_err(said)?;
    Ok(from_toml(toml::Value::Table(table)))
}

pub(super) fn write_toml(json: &Json) -> Result<String, String> {
    match to_toml(json, &mut Vec::new())? {
        toml::Value::Table(table) => toml::to_string(&table).map_err(said),
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_) => Err("a TOML text is a table at its top".to_owned()),
    }
}

pub(in crate::modules) fn bounded(text: &str) -> Result<&str, String> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(format!("the text is larger than the {TEXT_BYTES_MAX} bytes it may have"));
    }
    if TEXT_VALUES_MAX < values(text) {
        return Err(format!("the text has more than the {TEXT_VALUES_MAX} values it may have"));
    }
    Ok(text)
}

/// How many values a text has, roughly: what divides them is counted where it stands in no quotes. Read, each takes many
/// times the room that it has in the text, and none of that is on the machine's account.
fn values(text: &str) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b':' | b'[' | b'{' | b'\n' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// For `map_err`: the message of a parser, bounded, since some of them repeat what they read.
pub(super) fn said(error: impl Display) -> String {
    cut(error.to_string().trim_end(), REASON_BYTES_MAX).to_owned()
}

/// Points in time become texts.
fn from_toml(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => Json::from(number),
        toml::Value::Float(number) => Json::from(number),
        toml::Value::Boolean(value) => Json::Bool(value),
        toml::Value::Datetime(time) => Json::String(time.to_string()),
        toml::Value::Array(items) => Json::Array(items.into_iter().map(from_toml).collect()),
        toml::Value::Table(table) => {
            Json::Object(table.into_iter().map(|(key, value)| (key, from_toml(value))).collect::<Map<_, _>>())
        }
    }
}

fn to_toml(json: &Json, path: &mut Vec<String>) -> Result<toml::Value, String> {
    let at = |path: &[String]| if path.is_empty() { String::new() } else { format!(" (at `{}`)", path.join(".")) };
    if VALUE_DEPTH_MAX < path.len() {
        return Err(format!("tables are nested more than {VALUE_DEPTH_MAX} deep"));
    }
    let below = |key: String, value: &Json, path: &mut Vec<String>| {
        path.push(key);
        let value = to_toml(value, path);
        path.pop();
        value
    };
    Ok(match json {
        Json::Null => return Err(format!("TOML has no null{}", at(path))),
        Json::Bool(value) => toml::Value::Boolean(*value),
        Json::String(text) => toml::Value::String(text.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => toml::Value::Integer(whole),
            (None, Some(float)) => toml::Value::Float(float),
            (None, None) => return Err(format!("TOML has no number {number}{}", at(path))),
        },
        Json::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| below((index + 1).to_string(), item, path));
            toml::Value::Array(items.collect::<Result<_, _>>()?)
        }
        Json::Object(object) => {
            let entries = object.iter().map(|(key, value)| Ok((key.clone(), below(key.clone(), value, path)?)));
            toml::Value::Table(entries.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn toml_keeps_its_order_and_its_times() {
        let text = "z = 1\na = 2024-05-06T07:08:09Z\n\n[table]\nlist = [1, 2.5]\n";
        let json = read_toml(text).expect("TOML");
        assert_eq!(json.to_string(), r#"{"z":1,"a":"2024-05-06T07:08:09Z","table":{"list":[1,2.5]}}"#);
        let written = write_toml(&json!({"table": {"b": true}, "last": "x"})).expect("TOML");
        assert_eq!(read_toml(&written).expect("TOML"), json!({"last": "x", "table": {"b": true}}));
    }

    #[test]
    fn what_toml_has_no_name_for_is_refused_with_its_place() {
        assert_eq!(write_toml(&json!({"a": [{"b": null}]})), Err("TOML has no null (at `a.1.b`)".to_owned()));
        assert_eq!(write_toml(&json!([1])), Err("a TOML text is a table at its top".to_owned()));
    }
}
