//! What a schema lists, for people.

use serde_json::Value;
use sloth_core::error::excerpt;

use super::{Kind, Node, within};

/// One parameter of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its place in the values, as `sites[].port`.
    pub name: String,
    /// What it may be: `integer`, `array of string`, `one of "fast", "slow"`.
    pub kind: String,
    /// Whether it must be given where what it is in is given.
    pub required: bool,
    /// What the workflow is said to take when it is not given. Nothing fills it in.
    pub default: Option<Value>,
    /// What it is for; may be empty.
    pub description: String,
}

pub(super) fn list(root: &Node) -> Vec<Parameter> {
    let mut all = Vec::new();
    properties(root, "", &mut all);
    all
}

fn properties(node: &Node, at: &str, all: &mut Vec<Parameter>) {
    for (name, schema) in &node.properties {
        let path = within(at, name);
        all.push(Parameter {
            name: path.clone(),
            kind: kind(schema),
            required: node.required.contains(name),
            default: schema.default.clone(),
            description: schema.description.clone(),
        });
        properties(schema, &path, all);
        if let Some(items) = &schema.items {
            properties(items, &format!("{path}[]"), all);
        }
    }
}

fn kind(node: &Node) -> String {
    if let Some(constant) = &node.constant {
        return excerpt(&constant.to_string());
    }
    if let Some(choices) = &node.choices {
        let choices: Vec<_> = choices.listed.iter().map(ToString::to_string).collect();
        return format!("one of {}", excerpt(&choices.join(", ")));
    }
    if node.kinds.is_empty() {
        return "any".to_owned();
    }
    let named = node.kinds.iter().map(|kind| match (kind, &node.items) {
        (Kind::Array, Some(items)) => format!("array of {}", self::kind(items)),
        (Kind::Array, None)
        | (Kind::Null | Kind::Boolean | Kind::Integer | Kind::Number | Kind::String | Kind::Object, _) => {
            kind.name().to_owned()
        }
    });
    named.collect::<Vec<_>>().join(" or ")
}
