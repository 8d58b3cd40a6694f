//! Comparing values with a schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use regex::Regex;
use serde_json::{Map, Value};
use sloth_core::error::excerpt;

use super::{
    Additional, Kind, Node, Span, Twice, listed,
    number::{Decimal, canonical},
    pattern, within,
};

/// Most misfits that one refusal names.
pub const MISFITS_MAX: usize = 5;

/// One value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Its place in the values, as `sites[2].port`; empty for all of them.
    pub path: String,
    /// What was wanted there, as the rest of a sentence.
    pub wanted: String,
}

/// Values that do not fit, of which there is one at least and [`MISFITS_MAX`] at most: there may be more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfits(Vec<Misfit>);

impl Misfits {
    /// Each of them, in the order of the schema.
    #[must_use]
    pub fn all(&self) -> &[Misfit] {
        &self.0
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return write!(f, "the whole {}", self.wanted);
        }
        write!(f, "`{}` {}", self.path, self.wanted)
    }
}

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, misfit) in self.0.iter().enumerate() {
            write!(f, "{}{misfit}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Misfits {}

/// Compares a run's values with the schema of them.
pub(super) fn values(root: &Node, values: &Map<String, Value>) -> Result<(), Misfits> {
    let mut checker = Checker::default();
    // That values are a mapping is what the schema was read for.
    checker.shared(root, &Value::Object(values.clone()), "");
    checker.object(root, values, "");
    checker.verdict()
}

/// Compares every `default` with the schema that it stands in.
pub(super) fn defaults(root: &Node) -> Result<(), Misfits> {
    let mut checker = Checker::default();
    checker.defaults(root, "");
    checker.verdict()
}

#[derive(Default)]
struct Checker<'s> {
    misfits: Vec<Misfit>,
    /// Compiled once, for a list may have an item to compare for every byte that it takes.
    patterns: BTreeMap<&'s str, Option<Regex>>,
}

impl<'s> Checker<'s> {
    fn verdict(self) -> Result<(), Misfits> {
        if self.misfits.is_empty() { Ok(()) } else { Err(Misfits(self.misfits)) }
    }

    fn is_full(&self) -> bool {
        MISFITS_MAX <= self.misfits.len()
    }

    fn want(&mut self, at: &str, wanted: impl FnOnce() -> String) {
        if !self.is_full() {
            self.misfits.push(Misfit { path: at.to_owned(), wanted: wanted() });
        }
    }

    fn node(&mut self, node: &'s Node, value: &Value, at: &str) {
        if self.is_full() {
            return;
        }
        let kind = Kind::of(value);
        if !node.kinds.is_empty() && !node.kinds.iter().any(|wanted| wanted.takes(kind)) {
            let kinds: Vec<_> = node.kinds.iter().map(|kind| article(*kind)).collect();
            return self.want(at, || format!("must be {}, and is {}", kinds.join(" or "), article(kind)));
        }
        self.shared(node, value, at);
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => self.number(node, Decimal::of(number), at),
            Value::String(text) => self.text(node, text, at),
            Value::Array(items) => self.list(node, items, at),
            Value::Object(map) => self.object(node, map, at),
        }
    }

    /// What is asked of values of any kind.
    fn shared(&mut self, node: &Node, value: &Value, at: &str) {
        if node.choices.is_none() && node.constant.is_none() {
            return;
        }
        let own = canonical(value);
        if let Some(choices) = node.choices.as_ref().filter(|choices| !choices.canonical.contains(&own)) {
            self.want(at, || format!("must be one of {}", listed(choices.listed.iter().map(shown))));
        }
        if let Some(constant) = node.constant.as_ref().filter(|constant| canonical(constant) != own) {
            self.want(at, || format!("must be `{}`", shown(constant)));
        }
    }

    fn number(&mut self, node: &Node, number: Decimal, at: &str) {
        let limits = &node.limits;
        for (limit, what, holds) in [
            (&limits.minimum, "at least", (|n, limit| limit <= n) as fn(Decimal, Decimal) -> bool),
            (&limits.maximum, "at most", |n, limit| n <= limit),
            (&limits.above, "more than", |n, limit| limit < n),
            (&limits.below, "less than", |n, limit| n < limit),
            (&limits.multiple_of, "a multiple of", Decimal::is_multiple),
        ] {
            if let Some(limit) = limit.as_ref().filter(|limit| !holds(number, Decimal::of(limit))) {
                self.want(at, || format!("must be {what} {limit}"));
            }
        }
    }

    fn text(&mut self, node: &'s Node, text: &str, at: &str) {
        self.span(node.length, text.chars().count(), "characters", at);
        let Some(wanted) = node.pattern.as_deref() else { return };
        let compiled = self.patterns.entry(wanted).or_insert_with(|| pattern::compile(wanted).ok());
        // It was compiled when the schema was read; one that no longer is matches nothing.
        if !compiled.as_ref().is_some_and(|regex| regex.is_match(text)) {
            self.want(at, || format!("must match the pattern `{}`", excerpt(wanted)));
        }
    }

    fn list(&mut self, node: &'s Node, items: &[Value], at: &str) {
        self.span(node.count, items.len(), "items", at);
        if node.twice == Twice::Refused {
            let mut seen = BTreeSet::new();
            if let Some(place) = items.iter().position(|item| !seen.insert(canonical(item))) {
                self.want(&format!("{at}[{place}]"), || "is there before: every item must be another".to_owned());
            }
        }
        let Some(schema) = &node.items else { return };
        for (place, item) in items.iter().enumerate() {
            if self.is_full() {
                return;
            }
            self.node(schema, item, &format!("{at}[{place}]"));
        }
    }

    fn object(&mut self, node: &'s Node, map: &Map<String, Value>, at: &str) {
        for name in node.required.iter().filter(|name| !map.contains_key(*name)) {
            self.want(&within(at, name), || "is missing".to_owned());
        }
        for (name, schema) in &node.properties {
            if let Some(value) = map.get(name) {
                self.node(schema, value, &within(at, name));
            }
        }
        if node.additional == Additional::Taken {
            return;
        }
        let known = |name: &String| node.properties.iter().any(|(known, _)| known == name);
        for name in map.keys().filter(|name| !known(name)) {
            if self.is_full() {
                return;
            }
            self.want(&within(at, name), || match node.properties.is_empty() {
                true => "is no parameter: there are none".to_owned(),
                false => {
                    let names = node.properties.iter().map(|(name, _)| excerpt(name));
                    format!("is no parameter: there are {}", listed(names))
                }
            });
        }
    }

    fn span(&mut self, span: Span, has: usize, of: &str, at: &str) {
        let has = u64::try_from(has).unwrap_or(u64::MAX);
        if let Some(least) = span.least.filter(|least| has < *least) {
            self.want(at, || format!("must have {least} {of} at least"));
        }
        if let Some(most) = span.most.filter(|most| *most < has) {
            self.want(at, || format!("must have {most} {of} at most"));
        }
    }

    fn defaults(&mut self, node: &'s Node, at: &str) {
        if let Some(default) = &node.default {
            self.node(node, default, at);
        }
        for (name, schema) in &node.properties {
            self.defaults(schema, &within(at, name));
        }
        if let Some(items) = &node.items {
            self.defaults(items, &format!("{at}[]"));
        }
    }
}

fn shown(value: &Value) -> String {
    excerpt(&value.to_string())
}

const fn article(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "a boolean",
        Kind::Integer => "an integer",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}
