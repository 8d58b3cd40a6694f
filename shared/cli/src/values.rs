//! A run's values: YAML files, later ones over earlier ones, and single values over them all.

use std::path::PathBuf;

use serde_json::{Map, Value};
use sloth_core::{
    fs::{self, ReadError},
    yaml,
};

/// What some editors put at a text's beginning.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Most bytes of a values file.
pub const VALUES_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Values that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// A file that cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file that is no text.
    #[error("the values file `{file}` is not UTF-8 text: write it as YAML")]
    Text {
        /// Which file.
        file: String,
    },
    /// Not YAML.
    #[error("the values file `{file}` is not YAML: {reason}")]
    Yaml {
        /// Which file.
        file: String,
        /// Where and why.
        reason: String,
    },
    /// YAML, but no mapping.
    #[error("the values file `{file}` holds {found}: write a mapping like `replicas: 3`")]
    NotAMapping {
        /// Which file.
        file: String,
        /// What it holds.
        found: &'static str,
    },
    /// A name below something that has none.
    #[error("`{text}` sets a value in `{parent}`, which is {found}: `--set {parent}.…` needs a mapping there")]
    Occupied {
        /// What was given.
        text: String,
        /// What is there already.
        parent: String,
        /// What it holds.
        found: &'static str,
    },
    /// Not `key=value`.
    #[error("`{text}` sets nothing: write `key=value`, or `outer.inner=value`")]
    NotAPair {
        /// What was given.
        text: String,
    },
}

/// The values of a command line: its files in their order, and its single values over them all.
///
/// # Errors
///
/// When a file cannot be read or is not a YAML mapping, or a single value sets nothing.
pub fn read(files: &[PathBuf], single: &[String]) -> Result<Map<String, Value>, ValuesError> {
    let mut all = Map::new();
    for path in files {
        let file = path.display().to_string();
        let bytes = fs::read_capped(path, VALUES_FILE_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| ValuesError::Text { file: file.clone() })?;
        merge(&mut all, parse_file(&file, &text)?);
    }
    for text in single {
        set(&mut all, text)?;
    }
    Ok(all)
}

/// Reads a values file's text; an empty one is an empty mapping.
///
/// # Errors
///
/// When it is not a YAML mapping.
pub fn parse_file(file: &str, text: &str) -> Result<Map<String, Value>, ValuesError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let value: Value = yaml::read(text).map_err(|reason| ValuesError::Yaml { file: file.to_owned(), reason })?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(ValuesError::NotAMapping { file: file.to_owned(), found: kind(&other) })
        }
    }
}

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Puts `over` on top of `base`: mappings are merged, everything else is replaced.
pub fn merge(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Sets one value, given as `key=value` or `outer.inner=value`. The value is read as YAML where that gives a number
/// or a truth value, and is a text otherwise.
///
/// # Errors
///
/// When there is no `=`, a part of the key is empty, or one leads to something that is no mapping.
pub fn set(values: &mut Map<String, Value>, text: &str) -> Result<(), ValuesError> {
    let invalid = || ValuesError::NotAPair { text: text.to_owned() };
    let (path, value) = text.split_once('=').ok_or_else(invalid)?;
    let value = match value {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        // A leading zero or sign is meant as a text: `0755`, `+49`. So it is in YAML, see `yaml::read`.
        number => match number.parse::<serde_json::Number>() {
            Ok(parsed) => Value::Number(parsed),
            Err(_) => Value::String(number.to_owned()),
        },
    };
    let mut parts: Vec<&str> = path.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(invalid());
    }
    let Some(last) = parts.pop() else { return Err(invalid()) };
    let mut map = values;
    for (at, part) in parts.iter().enumerate() {
        let entry = map.entry(*part).or_insert_with(|| Value::Object(Map::new()));
        if entry.is_null() {
            *entry = Value::Object(Map::new());
        }
        let found = kind(entry);
        let Value::Object(inner) = entry else {
            return Err(ValuesError::Occupied { text: text.to_owned(), parent: parts[..=at].join("."), found });
        };
        map = inner;
    }
    map.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_merge_and_single_values_go_on_top() {
        let mut values = parse_file("a.yaml", "web: {port: 80, hosts: [a, b]}\nmode: {}\n").expect("yaml");
        merge(&mut values, parse_file("b.yaml", "web: {port: 81}\n").expect("yaml"));
        for text in ["replicas=3", "web.tls.on=true", "mode.x=0755"] {
            set(&mut values, text).expect(text);
        }
        let expected = r#"{"web":{"port":81,"hosts":["a","b"],"tls":{"on":true}},"mode":{"x":"0755"},"replicas":3}"#;
        assert_eq!(serde_json::to_string(&values).expect("json"), expected);
    }

    #[test]
    fn words_stay_words() {
        let values = parse_file("a.yaml", "a: no\nb: on\nc: true\nd: 0755\ne:\n").expect("yaml");
        assert_eq!(values["a"], "no");
        assert_eq!(values["b"], "on");
        assert_eq!(values["c"], true);
        assert_eq!(values["d"], "0755");
        assert_eq!(values["e"], Value::Null);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text| parse_file("v.yaml", text).expect_err("unreadable").to_string();
        assert_eq!(error("- a"), "the values file `v.yaml` holds a list: write a mapping like `replicas: 3`");
        assert!(error("a: [b").starts_with("the values file `v.yaml` is not YAML: line 1"), "{}", error("a: [b"));
        let mut values = parse_file("v.yaml", "a: {b: text}").expect("yaml");
        let told = set(&mut values, "a.b.c=1").expect_err("occupied").to_string();
        assert_eq!(told, "`a.b.c=1` sets a value in `a.b`, which is a text: `--set a.b.…` needs a mapping there");
        for text in ["a", "=1", "a.=1", ".a=1"] {
            assert!(set(&mut Map::new(), text).is_err(), "{text}");
        }
        assert!(parse_file("v.yaml", "").expect("empty").is_empty());
    }
}
