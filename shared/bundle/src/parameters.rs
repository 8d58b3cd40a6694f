//! `values.schema.json`: what values a run of a bundle may be given.

use std::path::{Path, PathBuf};

use sloth_core::fs::{ReadError, read_capped};
use sloth_trust::{
    Schema, SchemaError,
    schema::{Misfits, SCHEMA_BYTES_MAX},
};

/// The file's name, at the top of the bundle's directory.
pub const PARAMETERS_FILE: &str = "values.schema.json";
/// Most bytes of the file, which may have blanks that the schema does not count.
const FILE_BYTES_MAX: u64 = 4 * SCHEMA_BYTES_MAX as u64;

/// Why a bundle's schema was refused.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no schema that can be enforced.
    #[error("`{}` cannot be used", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SchemaError,
    },
    /// A default that would be refused as a value.
    #[error("`{}` has a `default` that does not fit where it stands", path.display())]
    Default {
        /// The file.
        path: PathBuf,
        /// Which.
        source: Misfits,
    },
}

/// Reads the schema of the bundle in the directory `dir`; a bundle without the file takes any values.
///
/// # Errors
///
/// When it cannot be read, or not all of it can be enforced.
pub fn parameters(dir: &Path) -> Result<Option<Schema>, ParametersError> {
    let path = dir.join(PARAMETERS_FILE);
    let bytes = match read_capped(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let schema = match Schema::read(&bytes) {
        Ok(schema) => schema,
        Err(source) => return Err(ParametersError::Schema { path, source }),
    };
    match schema.check_defaults() {
        Ok(()) => Ok(Some(schema)),
        Err(source) => Err(ParametersError::Default { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::{
        Chain,
        fs::{Access, replace},
    };

    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(parameters(dir.path()).expect("no file").is_none());
        let path = dir.path().join(PARAMETERS_FILE);
        for (text, wanted) in [
            ("{", "cannot be used: it is not JSON: EOF"),
            (r#"{"oneOf": []}"#, "cannot be used: the whole schema: `oneOf` is no keyword"),
            (
                r#"{"properties": {"a": {"type": "integer", "default": "x"}}}"#,
                "has a `default` that does not fit where it stands: `a` must be an integer, and is a string",
            ),
        ] {
            replace(&path, text.as_bytes(), Access::Owner).expect("written");
            let error = parameters(dir.path()).expect_err(wanted);
            let said = Chain(&error).to_string();
            assert!(said.starts_with(&format!("`{}` {wanted}", path.display())), "{said}");
        }
        replace(&path, br#"{"type": "object"}"#, Access::Owner).expect("written");
        assert!(parameters(dir.path()).expect("a schema").is_some());
    }
}
