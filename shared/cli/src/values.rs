//! A run's values: YAML files, later ones over earlier ones, and single values over them all.

use std::path::PathBuf;

use serde_json::{Map, Value};
use sloth_core::fs::{self, ReadError};

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
    #[error("the values file `{file}` is not YAML")]
    Yaml {
        /// Which file.
        file: String,
        /// Where and why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// YAML, but no mapping.
    #[error("the values file `{file}` holds {found}: write a mapping like `replicas: 3`")]
    NotAMapping {
        /// Which file.
        file: String,
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
    // «no», «on» and «off» are words: only «true» and «false» are truth values.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| ValuesError::Yaml { file: file.to_owned(), source: error.to_string().into() })?;
    let found = match value {
        Value::Object(map) => return Ok(map),
        Value::Null => return Ok(Map::new()),
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
    };
    Err(ValuesError::NotAMapping { file: file.to_owned(), found })
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
/// When there is no `=` or a part of the key is empty.
pub fn set(values: &mut Map<String, Value>, text: &str) -> Result<(), ValuesError> {
    let invalid = || ValuesError::NotAPair { text: text.to_owned() };
    let (path, value) = text.split_once('=').ok_or_else(invalid)?;
    let value = match value {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        // A leading zero or sign is meant as a text: `0755`, `+49`.
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
    for part in parts {
        let entry = map.entry(part).or_insert_with(|| Value::Object(Map::new()));
        if !entry.is_object() {
            *entry = Value::Object(Map::new());
        }
        let Value::Object(inner) = entry else { return Err(invalid()) };
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
        let mut values = parse_file("a.yaml", "web: {port: 80, hosts: [a, b]}\nmode: on\n").expect("yaml");
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
        assert_eq!(values["e"], Value::Null);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text| parse_file("v.yaml", text).expect_err("unreadable").to_string();
        assert_eq!(error("- a"), "the values file `v.yaml` holds a list: write a mapping like `replicas: 3`");
        assert_eq!(error("a: [b"), "the values file `v.yaml` is not YAML");
        for text in ["a", "=1", "a.=1", ".a=1"] {
            assert!(set(&mut Map::new(), text).is_err(), "{text}");
        }
        assert!(parse_file("v.yaml", "").expect("empty").is_empty());
    }
}
