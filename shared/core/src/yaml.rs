//! Texts of YAML: one reading for values of runs and for what scripts decode.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options, UserMessageFormatter};

/// Reads the YAML of today, where `no` is a text, and so is `0755`.
///
/// # Errors
///
/// When the text is no YAML, or holds no such value: where and why, in one line.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| told(&error))
}

/// As [`read`], of a stream of documents.
///
/// # Errors
///
/// As [`read`].
pub fn read_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, String> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| told(&error))
}

fn options() -> Options {
    serde_saphyr::options! { strict_booleans: true, leading_zero_numbers_as_strings: true, with_snippet: false }
}

/// The error in words for whoever wrote the text.
fn told(error: &Error) -> String {
    let whole = error.render_with_formatter(&UserMessageFormatter);
    let first = whole.lines().next().unwrap_or_default().trim_start_matches("error: ");
    // The place comes first, as in errors of scripts.
    let reason = first.split(" at line ").next().unwrap_or(first);
    match error.location() {
        Some(place) if !reason.starts_with("line ") => {
            format!("line {} column {}: {reason}", place.line(), place.column())
        }
        Some(_) | None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn texts_are_read_as_they_are_meant() {
        let value: Value = read("a: no\nb: 0755\nc: 01234\nd: 12\ne: on\nf: true\ng:\n").expect("YAML");
        let expected = json!({"a": "no", "b": "0755", "c": "01234", "d": 12, "e": "on", "f": true, "g": null});
        assert_eq!(value, expected);
        assert_eq!(read_all::<Value>("---\na: 1\n---\nb: 2\n").expect("YAML"), [json!({"a": 1}), json!({"b": 2})]);
    }

    #[test]
    fn what_is_wrong_is_told_in_plain_words() {
        for (text, told) in [
            ("a: [b\n", "line 1 column 4: unclosed bracket '['"),
            ("a: 1\na: 2\n", "line 2 column 1: duplicate mapping key `a` is not allowed here"),
            ("a:\n\tb: 2\n", "line 2 column 2: tabs disallowed within this context (block indentation)"),
            ("a: \"x\n", "line 1 column 4: unclosed quote"),
            ("a: *x\n", "line 1 column 4: reference to unknown value"),
            ("---\na: 1\n---\nb: 2\n", "line 4 column 1: only single YAML document expected but multiple found"),
        ] {
            assert_eq!(read::<Value>(text).expect_err(text), told);
        }
    }
}
