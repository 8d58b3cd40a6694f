//! The parameters of a bundle, for people.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sloth_trust::{Schema, schema::Misfits};

use crate::{
    Table, print_line,
    values::{self, ValuesError},
};

/// The values that a bundle has with it, where it has any.
pub const OWN_VALUES_FILE: &str = "values.yaml";

/// Why the values that lie in a bundle were refused.
#[derive(Debug, thiserror::Error)]
pub enum OwnValuesError {
    /// They cannot be read.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// Who starts a run with them would be refused.
    #[error("the values in `{}` do not fit the bundle's schema", path.display())]
    Misfits {
        /// Their file.
        path: PathBuf,
        /// Which of them.
        source: Misfits,
    },
}

/// Compares the values that lie in the bundle in the directory `dir` with its schema.
///
/// # Errors
///
/// When they cannot be read, or do not fit.
pub fn check_own_values(dir: &Path, schema: &Schema) -> Result<(), OwnValuesError> {
    let path = dir.join(OWN_VALUES_FILE);
    if !path.exists() {
        return Ok(());
    }
    let own = values::read(std::slice::from_ref(&path), &[])?;
    schema.check(&own).map_err(|source| OwnValuesError::Misfits { path, source })
}

/// Prints what a schema lists, after an empty line; nothing where there is none, or it lists nothing.
///
/// # Errors
///
/// When standard output takes nothing more.
pub fn print(schema: Option<&Schema>) -> io::Result<()> {
    let Some(table) = schema.and_then(table) else { return Ok(()) };
    print_line("")?;
    table.print()
}

fn table(schema: &Schema) -> Option<Table> {
    let parameters = schema.parameters();
    if parameters.is_empty() {
        return None;
    }
    let mut table = Table::new(&["PARAMETER", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"]);
    for parameter in parameters {
        let required = if parameter.required { "yes" } else { "no" };
        let default = parameter.default.as_ref().map_or(String::new(), text);
        table.row(vec![parameter.name, parameter.kind, required.to_owned(), default, parameter.description]);
    }
    Some(table)
}

/// A value as its user would write it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}
