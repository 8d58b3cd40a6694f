//! The rules of a schema, and values checked by them.

use mlua::{Function, Table, Value};

use super::Format;
use crate::modules::{
    call::{Call, describe, number_of},
    options::Options,
    regex,
};

/// Most faults that are told; past them a schema is likely the wrong one.
const FAULTS_MAX: usize = 100;
const OPTIONS: [&str; 15] = [
    "type",
    "required",
    "optional",
    "default",
    "min",
    "max",
    "pattern",
    "one_of",
    "items",
    "fields",
    "values",
    "strict",
    "check",
    "message",
    "description",
];

/// What a value must be.
#[derive(Default)]
pub(super) struct Rule {
    /// One of them; none = anything.
    kinds: Vec<Kind>,
    presence: Presence,
    default: Option<Value>,
    /// Of a number its value, of a text its characters, of a list its items.
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<::regex::Regex>,
    one_of: Vec<Value>,
    items: Option<Box<Self>>,
    fields: Option<Vec<(String, Self)>>,
    values: Option<Box<Self>>,
    /// Whether other fields are refused.
    strict: bool,
    check: Option<Function>,
    /// Told instead of what was found wrong.
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Presence {
    #[default]
    Required,
    Optional,
}

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    Number,
    Integer,
    Boolean,
    Table,
    List,
    Function,
    Formatted(Format),
}

/// A check under way.
pub(super) struct Walk<'a> {
    call: &'a Call,
    path: Vec<String>,
    faults: Vec<String>,
}

/// The rules of a table of names to rules, in the order of the names.
pub(super) fn fields(call: &Call, at: &str, table: &Table, depth: usize) -> mlua::Result<Vec<(String, Rule)>> {
    let mut fields = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (name, rule) = pair?;
        let Some(name) = name.as_string().map(|name| name.to_string_lossy()) else {
            return Err(call.error(format_args!("`{at}` takes names of fields, got {}", describe(&name))));
        };
        let rule = Rule::read(call, &format!("{at}.{name}"), &rule, depth)?;
        fields.push((name, rule));
    }
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(fields)
}

impl Rule {
    pub(super) fn of_fields(fields: Vec<(String, Self)>, strict: bool) -> Self {
        Self { kinds: vec![Kind::Table], fields: Some(fields), strict, ..Self::default() }
    }

    /// A rule is the name of a type, with a `?` behind it where the value may be missing, or a table.
    fn read(call: &Call, at: &str, value: &Value, depth: usize) -> mlua::Result<Self> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(call.error(format_args!("`{at}` is nested too deep")));
        };
        if value.is_string() {
            let (kinds, presence) = kinds(call, at, value)?;
            return Ok(Self { kinds, presence, ..Self::default() });
        }
        let table = value.as_table().ok_or_else(|| call.expected(at, "the name of a type, or a table", value))?;
        let options = Options::new(call, value, &OPTIONS)?;
        let named = options.value("type")?;
        let (kinds, mut presence) = if named.is_nil() { Default::default() } else { kinds(call, at, &named)? };
        let default = Some(options.value("default")?).filter(|value| !value.is_nil());
        if options.flag("optional")? == Some(true) || options.flag("required")? == Some(false) || default.is_some() {
            presence = Presence::Optional;
        }
        let number = |name: &str| {
            let value = options.value(name)?;
            if value.is_nil() { Ok(None) } else { call.number(&format!("{at}.{name}"), &value).map(Some) }
        };
        let pattern = options.text("pattern")?.map(|pattern| regex::compile(&pattern)).transpose();
        let below = |name: &str| -> mlua::Result<Option<Box<Self>>> {
            let value = options.value(name)?;
            if value.is_nil() {
                Ok(None)
            } else {
                Self::read(call, &format!("{at}.{name}"), &value, depth).map(Box::new).map(Some)
            }
        };
        let one_of = options.value("one_of")?;
        let one_of = if one_of.is_nil() {
            Vec::new()
        } else {
            call.table("one_of", &one_of)?.sequence_values().collect::<mlua::Result<_>>()?
        };
        let nested = options.value("fields")?;
        let nested =
            if nested.is_nil() { None } else { Some(fields(call, at, &call.table("fields", &nested)?, depth)?) };
        Ok(Self {
            kinds,
            presence,
            default,
            min: number("min")?,
            max: number("max")?,
            pattern: pattern.map_err(|reason| call.error(format_args!("`{at}.pattern`: {reason}")))?,
            one_of,
            items: below("items")?,
            fields: nested,
            values: below("values")?,
            strict: options.flag("strict")?.unwrap_or(false),
            check: function(call, at, table)?,
            message: options.text("message")?,
        })
    }

    /// A copy of the value with defaults where it says nothing. What is wrong is noted in the walk.
    pub(super) fn check(&self, walk: &mut Walk<'_>, value: &Value) -> mlua::Result<Value> {
        let before = walk.faults.len();
        let copy = self.checked(walk, value)?;
        if let Some(message) = self.message.as_ref().filter(|_| before < walk.faults.len()) {
            walk.faults.truncate(before);
            walk.fault(message);
        }
        Ok(copy)
    }

    fn checked(&self, walk: &mut Walk<'_>, value: &Value) -> mlua::Result<Value> {
        if value.is_nil() {
            if let Some(default) = &self.default {
                return Ok(default.clone());
            }
            if self.presence == Presence::Required {
                walk.fault("is missing");
            }
            return Ok(Value::Nil);
        }
        if !self.kinds.is_empty() && !self.kinds.iter().any(|kind| kind.fits(value)) {
            let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.description()).collect();
            walk.fault(&format!("takes {}, got {}", kinds.join(" or "), describe(value)));
            return Ok(value.clone());
        }
        self.bounds(walk, value);
        if let (Some(pattern), Some(text)) = (&self.pattern, value.as_string())
            && !pattern.is_match(&text.to_string_lossy())
        {
            walk.fault(&format!("does not match `{pattern}`: {}", describe(value)));
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|known| same(known, value)) {
            let known: Vec<_> = self.one_of.iter().map(describe).collect();
            walk.fault(&format!("takes one of {}, got {}", known.join(", "), describe(value)));
        }
        let copy = match value.as_table() {
            Some(table) if !table.has_metatable() => Value::Table(self.nested(walk, table)?),
            Some(_) | None => value.clone(),
        };
        if let Some(check) = &self.check {
            let (fits, reason): (Value, Value) = check.call(&copy)?;
            if matches!(fits, Value::Nil | Value::Boolean(false)) {
                let reason = reason.as_string().map_or("is refused by its check".to_owned(), |r| r.to_string_lossy());
                walk.fault(&reason);
            }
        }
        Ok(copy)
    }

    fn bounds(&self, walk: &mut Walk<'_>, value: &Value) {
        #[expect(clippy::cast_precision_loss, reason = "no text or list is that long")]
        let (size, unit) = if let Some(number) = number_of(value) {
            (number, "")
        } else if let Some(text) = value.as_string() {
            (text.to_string_lossy().chars().count() as f64, " characters")
        } else if let Some(table) = value.as_table() {
            (table.raw_len() as f64, " items")
        } else {
            return;
        };
        if let Some(min) = self.min.filter(|min| size < *min) {
            walk.fault(&format!("takes {min}{unit} or more, got {size}"));
        }
        if let Some(max) = self.max.filter(|max| *max < size) {
            walk.fault(&format!("takes {max}{unit} or less, got {size}"));
        }
    }

    /// A copy of a table whose fields, items or values are checked by rules of their own.
    fn nested(&self, walk: &mut Walk<'_>, table: &Table) -> mlua::Result<Table> {
        let copy = walk.call.lua.create_table()?;
        let known = |key: &Value| {
            let named = |name: &String| key.as_string().is_some_and(|key| key == name.as_str());
            self.fields.as_ref().is_some_and(|fields| fields.iter().any(|(name, _)| named(name)))
        };
        let mut others = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if known(&key) {
                continue;
            }
            let shown = key.to_string()?;
            let rule = if number_of(&key).is_some() { self.items.as_ref() } else { self.values.as_ref() };
            others.push((number_of(&key), shown, key, value, rule));
        }
        // What is wrong is told in an order that does not change from run to run.
        others.sort_by(|(a, a_name, ..), (b, b_name, ..)| {
            a.unwrap_or(f64::MAX).total_cmp(&b.unwrap_or(f64::MAX)).then_with(|| a_name.cmp(b_name))
        });
        for (number, shown, key, value, rule) in others {
            let name = if number.is_some() { format!("[{shown}]") } else { shown };
            let value = match rule {
                Some(rule) => walk.at(name, |walk| rule.check(walk, &value))?,
                None if self.strict && self.fields.is_some() => {
                    walk.at(name, |walk| walk.fault("is not known"));
                    value
                }
                None => value,
            };
            copy.raw_set(key, value)?;
        }
        for (name, rule) in self.fields.iter().flatten() {
            let value: Value = table.raw_get(name.as_str())?;
            copy.raw_set(name.as_str(), walk.at(name.clone(), |walk| rule.check(walk, &value))?)?;
        }
        Ok(copy)
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(call: &'a Call) -> Self {
        Self { call, path: Vec::new(), faults: Vec::new() }
    }

    /// Each with the path that leads to it.
    pub(super) fn faults(self) -> Vec<String> {
        self.faults
    }

    fn at<T>(&mut self, name: String, check: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name);
        let result = check(self);
        self.path.pop();
        result
    }

    fn fault(&mut self, what: &str) {
        if self.faults.len() < FAULTS_MAX {
            let path = self.path.join(".").replace(".[", "[");
            let path = if path.is_empty() { "values" } else { &path };
            self.faults.push(format!("`{path}` {what}"));
        }
    }
}

impl Kind {
    const PLAIN: [(Self, &'static str, &'static str); 7] = [
        (Self::String, "string", "a string"),
        (Self::Number, "number", "a number"),
        (Self::Integer, "integer", "a whole number"),
        (Self::Boolean, "boolean", "true or false"),
        (Self::Table, "table", "a table"),
        (Self::List, "list", "a list"),
        (Self::Function, "function", "a function"),
    ];

    fn description(self) -> &'static str {
        if let Self::Formatted(format) = self {
            return format.description();
        }
        Self::PLAIN.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., description)| description)
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => number_of(value).is_some(),
            Self::Integer => number_of(value).is_some_and(|number| number.fract() == 0.0),
            Self::Boolean => value.is_boolean(),
            Self::Table => value.is_table(),
            Self::List => value.as_table().is_some_and(|table| {
                let length = table.raw_len();
                table.pairs::<Value, Value>().take(length + 1).count() == length
            }),
            Self::Function => value.is_function(),
            Self::Formatted(Format::Port) if number_of(value).is_some() => {
                number_of(value).is_some_and(|port| Format::Port.check(&port.to_string()))
            }
            Self::Formatted(format) => value.as_string().is_some_and(|text| format.check(&text.to_string_lossy())),
        }
    }
}

/// The types that a text names, or a list of such texts.
fn kinds(call: &Call, at: &str, value: &Value) -> mlua::Result<(Vec<Kind>, Presence)> {
    let names = match value.as_table() {
        Some(list) => list.sequence_values::<Value>().collect::<mlua::Result<Vec<_>>>()?,
        None => vec![value.clone()],
    };
    let (mut kinds, mut presence) = (Vec::new(), Presence::Required);
    for name in names {
        let text = call.text(at, &name)?;
        let bare = text.strip_suffix('?').unwrap_or(&text);
        if bare.len() < text.len() {
            presence = Presence::Optional;
        }
        if bare == "any" {
            return Ok((Vec::new(), presence));
        }
        let plain = Kind::PLAIN.iter().find(|(_, known, _)| *known == bare).map(|(kind, ..)| *kind);
        let Some(kind) = plain.or_else(|| Format::named(bare).map(Kind::Formatted)) else {
            return Err(call.error(format_args!("`{at}` names no type: `{bare}`; known are {}", known())));
        };
        kinds.push(kind);
    }
    Ok((kinds, presence))
}

fn known() -> String {
    let plain = Kind::PLAIN.iter().map(|(_, name, _)| *name);
    let names = ["any"].into_iter().chain(plain).chain(Format::ALL.iter().map(|(_, name, _)| *name));
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn function(call: &Call, at: &str, table: &Table) -> mlua::Result<Option<Function>> {
    let check: Value = table.raw_get("check")?;
    if check.is_nil() || check.is_function() {
        return Ok(check.as_function().cloned());
    }
    Err(call.expected(&format!("{at}.check"), "a function", &check))
}

fn same(a: &Value, b: &Value) -> bool {
    match (number_of(a), number_of(b)) {
        (Some(a), Some(b)) => a == b,
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => a == b,
    }
}
