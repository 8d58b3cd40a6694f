//! What modules offer, as their definition files say it: the source of the documentation, of the types for editors and
//! of what `validate` knows.
//!
//! A definition file is Luau's own syntax of types with doc comments (`---`), one file a module, in
//! `modules/definitions`. The language itself is described by `language.d.luau`, what they share by `types.d.luau`.

mod cursor;
mod docs;
mod markdown;
mod names;
mod parse;
mod undefined;

use std::sync::LazyLock;

use serde::Serialize;

pub use markdown::markdown;
pub use names::{NameFault, check_names, named, needed};
pub use parse::{DefinitionError, parse};

pub(crate) use undefined::undefined;

use crate::Capability;

include!(concat!(env!("OUT_DIR"), "/definitions.rs"));

/// The files that describe no module.
const NO_MODULES: [&str; 3] = ["language", "testing", "types"];

/// The types of the builders, and the methods that each of them knows.
#[must_use]
pub fn builders() -> [(&'static str, &'static [&'static str]); 2] {
    [("Task", &crate::dsl::TASK_METHODS), ("Workflow", &crate::dsl::WORKFLOW_METHODS)]
}

/// What one definition file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name, which is that of its file and of the global that it describes.
    pub name: String,
    /// What it is for, in one sentence.
    pub summary: String,
    /// The rest of what there is to say of it, in Markdown; may be empty.
    pub text: String,
    /// Its functions, in the order of the file; those of a table inside are called like `register.file`.
    pub functions: Vec<Function>,
    /// Its other fields.
    pub values: Vec<Field>,
    /// The types that it declares.
    pub types: Vec<Type>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Its name in its module; empty when the module itself can be called.
    pub name: String,
    /// How a script writes it, such as `fs.read`.
    pub call: String,
    /// How it is called and what it returns, one way a line, such as `fs.read(path: string) -> string?`.
    pub signature: String,
    /// What it does, in Markdown, with its examples.
    pub text: String,
    /// What a bundle must be granted for it; all of them, where there are several.
    pub capabilities: Vec<Capability>,
    /// The examples in `text`, each the body of a task.
    pub examples: Vec<Example>,
    /// The function that it is another name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// What to write instead of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
}

/// A field that is no function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, in Markdown; may be empty.
    pub text: String,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Type {
    /// Its name, unique over all files.
    pub name: String,
    /// What it stands for, on one line.
    pub definition: String,
    /// What it is, in Markdown; may be empty.
    pub text: String,
    /// Its fields, where it is a table.
    pub fields: Vec<Field>,
}

/// An example: the body of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its text.
    pub code: String,
    /// Its first line in the definition file, from 1.
    pub line: usize,
    /// Whether tests run it; those marked with `compile` after the fence's `lua` they do not.
    pub is_run: bool,
}

static ALL: LazyLock<Vec<Module>> =
    LazyLock::new(|| FILES.iter().filter_map(|(name, text)| parse(name, text).ok()).collect());

/// The modules and, last, the language itself and the types that all share. A file that cannot be read is left out; a
/// test keeps that from happening.
#[must_use]
pub fn all() -> &'static [Module] {
    &ALL
}

/// The modules, by the alphabet.
pub fn modules() -> impl Iterator<Item = &'static Module> {
    ALL.iter().filter(|module| module.is_module())
}

/// The module of this name; `language` is the language itself.
#[must_use]
pub fn find(name: &str) -> Option<&'static Module> {
    ALL.iter().find(|module| module.name == name)
}

/// All definitions as one file for editors (luau-lsp: `--definitions sloth.d.luau`).
#[must_use]
pub fn types() -> String {
    let (shared, own): (Vec<_>, Vec<_>) = FILES.iter().partition(|(name, _)| NO_MODULES.contains(name));
    shared.iter().rev().chain(&own).map(|(_, text)| *text).collect::<Vec<_>>().join("\n")
}

impl Module {
    /// Whether it describes a module, not the language or what all share.
    #[must_use]
    pub fn is_module(&self) -> bool {
        !NO_MODULES.contains(&self.name.as_str())
    }
}

impl Function {
    /// What it does, in one sentence.
    #[must_use]
    pub fn summary(&self) -> &str {
        docs::first_sentence(&self.text)
    }
}
