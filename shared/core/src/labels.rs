//! Labels of agents and the expressions that select by them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::excerpt;

/// What an agent is labelled with: names to values. A label named `name` or `id` is refused by
/// [`check_label`], since selectors answer these two themselves.
pub type Labels = BTreeMap<String, String>;

/// Most characters of a label's name or value.
pub const LABEL_CHARS_MAX: usize = 63;
/// Most labels of one agent.
pub const LABELS_MAX: usize = 64;
/// Most bytes of a selector's text.
pub const SELECTOR_BYTES_MAX: usize = 4096;

/// Names that every agent answers to without being labelled so.
const BUILT_IN: [&str; 2] = ["name", "id"];

/// Why a label or a selector was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A name or value with other characters, or of the wrong length.
    #[error(
        "`{text}` cannot be a label's {part}: it takes 1 to {LABEL_CHARS_MAX} letters, digits, `-`, `_`, `.` and `/`"
    )]
    Characters {
        /// The start of what was given.
        text: String,
        /// `name` or `value`.
        part: &'static str,
    },
    /// A label of a name that agents have anyway.
    #[error("a label cannot be named `{name}`: every agent has it already")]
    BuiltIn {
        /// The name.
        name: String,
    },
    /// Not `name=value`.
    #[error("`{text}` is not a label: write `name=value`")]
    Pair {
        /// The start of what was given.
        text: String,
    },
    /// A selector that cannot be read.
    #[error(
        "cannot read the selector `{text}` at `{at}`: write conditions like `role=web,region!=eu,tier in (a, b),canary,!old`, or `*` for all"
    )]
    Selector {
        /// The start of the selector.
        text: String,
        /// The condition at fault.
        at: String,
    },
    /// Too long to be meant.
    #[error("a selector takes {SELECTOR_BYTES_MAX} bytes at most")]
    TooLong,
}

/// Checks one label.
///
/// # Errors
///
/// When the name or the value has other characters than a label takes, or the name is built in.
pub fn check_label(name: &str, value: &str) -> Result<(), LabelError> {
    check_text(name, "name")?;
    check_text(value, "value")?;
    if BUILT_IN.contains(&name) {
        return Err(LabelError::BuiltIn { name: name.to_owned() });
    }
    Ok(())
}

/// Reads one `name=value` as it is given on a command line.
///
/// # Errors
///
/// When the text has no `=`, or either side cannot be a label's.
pub fn parse_label(text: &str) -> Result<(String, String), LabelError> {
    let (name, value) = text.split_once('=').ok_or_else(|| LabelError::Pair { text: excerpt(text) })?;
    let (name, value) = (name.trim(), value.trim());
    check_label(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A conjunction of conditions on labels, in the syntax of Kubernetes' label selectors.
///
/// `*` selects everything. `name` and `id` are answered by every agent. A condition that no label answers
/// is false, but for `!=`, `notin` and `!`, which are true of an agent without the label.
#[derive(Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    In { name: String, values: Vec<String> },
    NotIn { name: String, values: Vec<String> },
    Exists { name: String },
    Missing { name: String },
}

/// What a selector is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The agent's identifier as text.
    pub id: &'a str,
    /// The agent's name.
    pub name: &'a str,
    /// Its labels, from every source; where two give the same name, the later one counts.
    pub labels: &'a [&'a Labels],
}

impl Selector {
    /// The selector of everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { text: "*".to_owned(), conditions: Vec::new() }
    }

    /// Whether all conditions hold for `subject`.
    #[must_use]
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(subject))
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Condition {
    fn holds(&self, subject: Subject<'_>) -> bool {
        match self {
            Self::In { name, values } => subject.get(name).is_some_and(|have| values.iter().any(|v| v == have)),
            Self::NotIn { name, values } => subject.get(name).is_none_or(|have| values.iter().all(|v| v != have)),
            Self::Exists { name } => subject.get(name).is_some(),
            Self::Missing { name } => subject.get(name).is_none(),
        }
    }
}

impl Subject<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "name" => Some(self.name),
            "id" => Some(self.id),
            _ => self.labels.iter().rev().find_map(|labels| labels.get(name)).map(String::as_str),
        }
    }
}

impl FromStr for Selector {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        if SELECTOR_BYTES_MAX < text.len() {
            return Err(LabelError::TooLong);
        }
        let text = text.trim();
        if text == "*" {
            return Ok(Self::everything());
        }
        let conditions = split_outside_parentheses(text)
            .map(|part| parse_condition(part.trim()).ok_or_else(|| selector_error(text, part)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text: text.to_owned(), conditions })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn parse_condition(part: &str) -> Option<Condition> {
    if let Some(name) = part.strip_prefix('!') {
        return Some(Condition::Missing { name: valid(name, "name")? });
    }
    if let Some((name, value)) = part.split_once("!=") {
        return Some(Condition::NotIn { name: valid(name, "name")?, values: vec![valid(value, "value")?] });
    }
    if let Some((name, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Some(Condition::In { name: valid(name, "name")?, values: vec![valid(value, "value")?] });
    }
    let Some((head, list)) = part.split_once('(') else {
        return Some(Condition::Exists { name: valid(part, "name")? });
    };
    let values = list.strip_suffix(')')?.split(',').map(|v| valid(v, "value")).collect::<Option<Vec<_>>>()?;
    let (name, operator) = head.trim_end().rsplit_once(char::is_whitespace)?;
    let name = valid(name, "name")?;
    match operator {
        "in" => Some(Condition::In { name, values }),
        "notin" => Some(Condition::NotIn { name, values }),
        _ => None,
    }
}

fn valid(text: &str, part: &'static str) -> Option<String> {
    let text = text.trim();
    check_text(text, part).is_ok().then(|| text.to_owned())
}

fn check_text(text: &str, part: &'static str) -> Result<(), LabelError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if text.is_empty() || LABEL_CHARS_MAX < text.chars().count() || !text.chars().all(allowed) {
        return Err(LabelError::Characters { text: excerpt(text), part });
    }
    Ok(())
}

fn selector_error(text: &str, at: &str) -> LabelError {
    LabelError::Selector { text: excerpt(text), at: excerpt(at.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, expected: bool) {
        let host: Labels = [("role", "web"), ("region", "eu")].map(|(k, v)| (k.into(), v.into())).into();
        let added: Labels = [("tier", "gold")].map(|(k, v)| (k.into(), v.into())).into();
        let subject = Subject { id: "01JD", name: "web-1", labels: &[&host, &added] };
        let selector: Selector = selector.parse().expect("readable");
        assert_eq!(selector.matches(subject), expected, "{selector}");
    }

    #[test]
    fn conditions_hold_as_written() {
        for selector in [
            "*",
            "role=web",
            "role==web",
            "role=web,tier=gold",
            "region in (us, eu)",
            "tier notin (tin)",
            "role",
            "!old",
            "name=web-1",
            "id=01JD",
            "old!=yes",
        ] {
            check(selector, true);
        }
        for selector in [
            "role=db",
            "role!=web",
            "role=web,tier=tin",
            "region in (us)",
            "region notin (eu,us)",
            "old",
            "!role",
            "name=web-2",
        ] {
            check(selector, false);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for selector in [
            "",
            "role=",
            "=web",
            "a b",
            "role in web",
            "role in (",
            "role of (web)",
            "role=web,,tier=gold",
            "r$le=web",
            "role in ()",
        ] {
            let error = selector.parse::<Selector>().expect_err(selector).to_string();
            assert!(error.contains("selector"), "{error}");
        }
    }

    #[test]
    fn labels_are_checked() {
        assert_eq!(parse_label("role=web"), Ok(("role".into(), "web".into())));
        assert!(matches!(parse_label("role"), Err(LabelError::Pair { .. })));
        assert!(matches!(parse_label("name=x"), Err(LabelError::BuiltIn { .. })));
        assert!(matches!(parse_label("role=a b"), Err(LabelError::Characters { part: "value", .. })));
    }
}
