//! What values a run may be given: a strict subset of JSON Schema 2020-12.
//!
//! A keyword outside the subset is refused: a restriction that nobody enforces would be a promise that nobody keeps.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Number, Value};
use sloth_core::error::excerpt;

mod check;
mod number;
mod parameter;
mod parse;
mod pattern;

pub use check::{MISFITS_MAX, Misfit, Misfits};
pub use parameter::Parameter;
pub use parse::KEYWORDS;
pub use pattern::PATTERN_BYTES_MAX;

/// Most bytes of a schema, as JSON without blanks.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Most schemas within each other, the outermost counted.
pub const DEPTH_MAX: usize = 16;
/// Most schemas in one, itself counted.
pub const NODES_MAX: usize = 1024;
/// Most values that one `enum` lists, and names that one `required` does.
pub const CHOICES_MAX: usize = 1024;
/// Most `pattern`s in one schema.
pub const PATTERNS_MAX: usize = 32;

/// A schema of a run's values.
///
/// It is written as the JSON that it was read from. Equal are those of equal JSON.
#[derive(Debug, Clone)]
pub struct Schema {
    source: Value,
    root: Node,
}

/// Why a schema was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is no JSON.
    #[error("it is not JSON: {reason}")]
    Json {
        /// Where and why.
        reason: String,
    },
    /// It is too long.
    #[error("a schema takes {SCHEMA_BYTES_MAX} bytes at most, this has {bytes}")]
    Bytes {
        /// Its bytes.
        bytes: usize,
    },
    /// Something in it cannot be used.
    #[error("{}: {reason}", place(at))]
    Refused {
        /// The keyword's place in the schema, as `properties.port.minimum`; empty for the whole.
        at: String,
        /// What is wrong, with the way out.
        reason: String,
    },
}

/// The kinds of values that JSON Schema names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// One schema: of the values, or of a value in them.
#[derive(Debug, Clone, Default)]
struct Node {
    /// None where every kind may be.
    kinds: Vec<Kind>,
    properties: Vec<(String, Self)>,
    required: Vec<String>,
    additional: Additional,
    choices: Option<Choices>,
    constant: Option<Value>,
    limits: Limits,
    length: Span,
    pattern: Option<String>,
    items: Option<Box<Self>>,
    count: Span,
    twice: Twice,
    description: String,
    default: Option<Value>,
}

/// Whether an object may have what `properties` does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Additional {
    #[default]
    Taken,
    Refused,
}

/// Whether a list may have an item twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Twice {
    #[default]
    Taken,
    Refused,
}

/// The values that one may be of.
#[derive(Debug, Clone)]
struct Choices {
    listed: Vec<Value>,
    /// The same as [`number::canonical`] writes them: a list may have an item to look up for every byte that it takes.
    canonical: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
struct Limits {
    minimum: Option<Number>,
    maximum: Option<Number>,
    above: Option<Number>,
    below: Option<Number>,
    multiple_of: Option<Number>,
}

/// How many characters or items there may be.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    least: Option<u64>,
    most: Option<u64>,
}

impl Schema {
    /// Reads a schema of a mapping.
    ///
    /// # Errors
    ///
    /// When it has a keyword that is not one of [`KEYWORDS`], or one that says nothing that can be, takes no mapping, or
    /// is over a bound.
    pub fn parse(source: Value) -> Result<Self, SchemaError> {
        let bytes = source.to_string().len();
        if SCHEMA_BYTES_MAX < bytes {
            return Err(SchemaError::Bytes { bytes });
        }
        let root = parse::root(&source)?;
        Ok(Self { source, root })
    }

    /// Reads a schema's text.
    ///
    /// # Errors
    ///
    /// As [`Schema::parse`], and when it is no JSON.
    pub fn read(text: &[u8]) -> Result<Self, SchemaError> {
        let source = serde_json::from_slice(text).map_err(|error| SchemaError::Json { reason: error.to_string() })?;
        Self::parse(source)
    }

    /// Whether a run may be given these values.
    ///
    /// # Errors
    ///
    /// What of them does not fit; values themselves are not repeated, for some are secret.
    pub fn check(&self, values: &Map<String, Value>) -> Result<(), Misfits> {
        check::values(&self.root, values)
    }

    /// Whether each `default` fits where it stands. Nothing fills them in, so that one that does not fit misleads people
    /// and does no other harm.
    ///
    /// # Errors
    ///
    /// Which ones do not fit.
    pub fn check_defaults(&self) -> Result<(), Misfits> {
        check::defaults(&self.root)
    }

    /// What it lists, for people: every property in the order of the text, those within others after them.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        parameter::list(&self.root)
    }

    /// The JSON that it was read from.
    #[must_use]
    pub const fn source(&self) -> &Value {
        &self.source
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = Value::deserialize(deserializer)?;
        Self::parse(source).map_err(|error| D::Error::custom(format!("`parameters`: {error}")))
    }
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Null, Self::Boolean, Self::Integer, Self::Number, Self::String, Self::Array, Self::Object];

    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// The closest kind of a value: a whole number is an integer, however it is written.
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number::Decimal::of(number).is_whole() => Self::Integer,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    fn takes(self, kind: Self) -> bool {
        self == kind || (self == Self::Number && kind == Self::Integer)
    }
}

fn place(at: &str) -> String {
    if at.is_empty() { "the whole schema".to_owned() } else { format!("at `{at}`") }
}

/// The path of what is called `name` in what has the path `at`.
fn within(at: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '$');
    match (plain, at.is_empty()) {
        (true, true) => excerpt(name),
        (true, false) => format!("{at}.{}", excerpt(name)),
        (false, _) => format!("{at}[{}]", Value::String(excerpt(name))),
    }
}

/// Names for people: at most [`SHOWN_MAX`] of them, with how many more there are.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(SHOWN_MAX);
    let mut shown: Vec<String> = names.take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    if 0 < more {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

/// Most names or values that a sentence lists.
const SHOWN_MAX: usize = 8;
