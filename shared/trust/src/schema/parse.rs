//! Reading a schema.

use serde_json::{Map, Number, Value};
use sloth_core::error::excerpt;

use super::{
    Additional, CHOICES_MAX, Choices, DEPTH_MAX, Kind, NODES_MAX, Node, PATTERNS_MAX, SchemaError, Twice, listed,
    number::{Decimal, canonical},
    pattern, within,
};

/// Every keyword that a schema may have.
pub const KEYWORDS: [&str; 25] = [
    "$comment",
    "$schema",
    "additionalProperties",
    "const",
    "default",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// The drafts in which the keywords mean the same.
const DRAFTS: [&str; 3] =
    ["json-schema.org/draft/2020-12/schema", "json-schema.org/draft/2019-09/schema", "json-schema.org/draft-07/schema"];

/// Reads the schema of a run's values.
pub(super) fn root(source: &Value) -> Result<Node, SchemaError> {
    let root = Parser { nodes: 0, patterns: 0 }.node(source, "", 1)?;
    if !root.kinds.is_empty() && !root.kinds.contains(&Kind::Object) {
        return Err(refused("type", "values are a mapping: write `\"type\": \"object\"`"));
    }
    Ok(root)
}

/// What was read so far, for the bounds.
struct Parser {
    nodes: usize,
    patterns: usize,
}

impl Parser {
    fn node(&mut self, source: &Value, at: &str, depth: usize) -> Result<Node, SchemaError> {
        if DEPTH_MAX < depth {
            return Err(refused(at, &format!("schemas may be {DEPTH_MAX} deep within each other at most")));
        }
        self.nodes += 1;
        if NODES_MAX < self.nodes {
            return Err(refused(at, &format!("a schema has {NODES_MAX} others in it at most")));
        }
        let Value::Object(keywords) = source else {
            return Err(refused(at, "a schema is a mapping of keywords, as `{\"type\": \"string\"}`"));
        };
        let mut node = Node::default();
        for (keyword, value) in keywords {
            self.keyword(&mut node, keyword, value, at, depth)?;
        }
        Ok(node)
    }

    fn keyword(
        &mut self,
        node: &mut Node,
        keyword: &str,
        value: &Value,
        whole: &str,
        depth: usize,
    ) -> Result<(), SchemaError> {
        let at = &*within(whole, keyword);
        match keyword {
            "type" => node.kinds = kinds(value, at)?,
            "properties" => node.properties = self.properties(mapping(value, at)?, at, depth)?,
            "required" => node.required = names(value, at)?,
            "additionalProperties" => {
                node.additional = if truth(value, at)? { Additional::Taken } else { Additional::Refused };
            }
            "enum" => node.choices = Some(choices(value, at)?),
            "const" => node.constant = Some(value.clone()),
            "minimum" => node.limits.minimum = Some(number(value, at)?),
            "maximum" => node.limits.maximum = Some(number(value, at)?),
            "exclusiveMinimum" => node.limits.above = Some(number(value, at)?),
            "exclusiveMaximum" => node.limits.below = Some(number(value, at)?),
            "multipleOf" => node.limits.multiple_of = Some(step(value, at)?),
            "minLength" => node.length.least = Some(count(value, at)?),
            "maxLength" => node.length.most = Some(count(value, at)?),
            "pattern" => node.pattern = Some(self.pattern(value, at)?),
            "items" => node.items = Some(Box::new(self.node(value, at, depth + 1)?)),
            "minItems" => node.count.least = Some(count(value, at)?),
            "maxItems" => node.count.most = Some(count(value, at)?),
            "uniqueItems" => node.twice = if truth(value, at)? { Twice::Refused } else { Twice::Taken },
            "description" => node.description = text(value, at)?.to_owned(),
            "default" => node.default = Some(value.clone()),
            "title" | "$comment" => _ = text(value, at)?,
            "deprecated" => _ = truth(value, at)?,
            "examples" => _ = list(value, at)?,
            "$schema" => draft(value, at)?,
            unknown => {
                let unknown = excerpt(unknown);
                let reason = format!("`{unknown}` is no keyword that is known; known are {}", KEYWORDS.join(", "));
                return Err(refused(whole, &reason));
            }
        }
        Ok(())
    }

    fn properties(
        &mut self,
        properties: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Result<Vec<(String, Node)>, SchemaError> {
        let read =
            |(name, schema): (&String, &Value)| Ok((name.clone(), self.node(schema, &within(at, name), depth + 1)?));
        properties.iter().map(read).collect()
    }

    fn pattern(&mut self, value: &Value, at: &str) -> Result<String, SchemaError> {
        self.patterns += 1;
        if PATTERNS_MAX < self.patterns {
            return Err(refused(at, &format!("a schema has {PATTERNS_MAX} patterns at most")));
        }
        let text = text(value, at)?;
        pattern::compile(text).map_err(|reason| refused(at, &reason))?;
        Ok(text.to_owned())
    }
}

fn kinds(value: &Value, at: &str) -> Result<Vec<Kind>, SchemaError> {
    let known = || listed(Kind::ALL.into_iter().map(|kind| kind.name().to_owned()));
    let wanted = || refused(at, &format!("a type, or a list of types, is wanted here: {}", known()));
    let kind = |value: &Value| {
        let name = value.as_str().ok_or_else(wanted)?;
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| refused(at, &format!("`{}` is no type; there are {}", excerpt(name), known())))
    };
    match value {
        Value::String(_) => Ok(vec![kind(value)?]),
        Value::Array(list) if !list.is_empty() => list.iter().map(kind).collect(),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(wanted()),
    }
}

fn names(value: &Value, at: &str) -> Result<Vec<String>, SchemaError> {
    let name =
        |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| refused(at, "a list of names is wanted here"));
    bounded(list(value, at)?, at)?.iter().map(name).collect()
}

fn choices(value: &Value, at: &str) -> Result<Choices, SchemaError> {
    let choices = bounded(list(value, at)?, at)?;
    if choices.is_empty() {
        return Err(refused(at, "at least one value is wanted here: nothing is one of none"));
    }
    Ok(Choices { listed: choices.to_vec(), canonical: choices.iter().map(canonical).collect() })
}

fn bounded<'a>(list: &'a [Value], at: &str) -> Result<&'a [Value], SchemaError> {
    if CHOICES_MAX < list.len() {
        return Err(refused(at, &format!("{CHOICES_MAX} are listed at most, here are {}", list.len())));
    }
    Ok(list)
}

fn number(value: &Value, at: &str) -> Result<Number, SchemaError> {
    value.as_number().cloned().ok_or_else(|| refused(at, "a number is wanted here"))
}

fn step(value: &Value, at: &str) -> Result<Number, SchemaError> {
    let step = number(value, at)?;
    if !Decimal::of(&step).is_positive() {
        return Err(refused(at, "a number above zero is wanted here"));
    }
    Ok(step)
}

fn count(value: &Value, at: &str) -> Result<u64, SchemaError> {
    value.as_u64().ok_or_else(|| refused(at, "a whole number of zero or more is wanted here"))
}

fn truth(value: &Value, at: &str) -> Result<bool, SchemaError> {
    value.as_bool().ok_or_else(|| refused(at, "`true` or `false` is wanted here"))
}

fn text<'a>(value: &'a Value, at: &str) -> Result<&'a str, SchemaError> {
    value.as_str().ok_or_else(|| refused(at, "a text is wanted here"))
}

fn list<'a>(value: &'a Value, at: &str) -> Result<&'a [Value], SchemaError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| refused(at, "a list is wanted here"))
}

fn mapping<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, SchemaError> {
    value.as_object().ok_or_else(|| refused(at, "a mapping of names to schemas is wanted here"))
}

fn draft(value: &Value, at: &str) -> Result<(), SchemaError> {
    let text = text(value, at)?.trim_end_matches('#');
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    if DRAFTS.contains(&bare) {
        return Ok(());
    }
    Err(refused(at, &format!("this draft is not known: write `https://{}`", DRAFTS[0])))
}

fn refused(at: &str, reason: &str) -> SchemaError {
    SchemaError::Refused { at: excerpt(at), reason: reason.to_owned() }
}
