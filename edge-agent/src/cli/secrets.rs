//! The secrets of a run: from files and from the environment, never from the command line itself, which every user of a
//! host can read.

use std::{collections::BTreeMap, env, path::PathBuf};

use serde_json::Value;
use sloth_cli::{Failure, Outcome, values};
use sloth_core::{
    Chain, Secret,
    fs::{SecretError, read_secret},
};

/// Most bytes of one secret.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Most bytes of a file of secrets.
const SECRETS_FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct SecretArgs {
    /// A secret: `NAME=env:VARIABLE` or `NAME=file:PATH`, where only its owner can read the file; over all files
    #[arg(long = "secret", value_name = "NAME=SOURCE")]
    secret: Vec<String>,
    /// A YAML file with texts by name, which only its owner can read; later ones go over earlier ones
    #[arg(long = "secrets", value_name = "FILE")]
    secrets: Vec<PathBuf>,
}

/// Secrets that cannot be read. None of its sentences holds one.
#[derive(Debug, thiserror::Error)]
enum SecretsError {
    #[error(
        "`--secret {name}=…` names no source: write `{name}=env:VARIABLE` or `{name}=file:PATH`; other users of this host can read the text of a command"
    )]
    NoSource { name: String },
    #[error("`--secret` takes `NAME=env:VARIABLE` or `NAME=file:PATH`")]
    NoName,
    #[error("the secret `{name}` is to come from the environment variable `{variable}`, which is not set")]
    NotSet { name: String, variable: String },
    #[error("the secret `{name}` takes more than {SECRET_BYTES_MAX} bytes")]
    TooLarge { name: String },
    #[error("cannot read the secret `{name}`")]
    File {
        name: String,
        #[source]
        source: SecretError,
    },
    #[error("cannot read the secrets of `{}`", path.display())]
    Files {
        path: PathBuf,
        #[source]
        source: SecretError,
    },
    #[error("`{}` is no YAML mapping of texts by name", path.display())]
    NotAMapping { path: PathBuf },
    #[error("the secret `{name}` of `{}` is no text: write it in quotes", path.display())]
    NoText { path: PathBuf, name: String },
}

impl SecretArgs {
    /// All of them, by name.
    pub(super) fn read(&self) -> Result<BTreeMap<String, Secret<String>>, Failure> {
        self.collect().map_err(|error| Failure::new(Outcome::Usage, Chain(&error).to_string()))
    }

    fn collect(&self) -> Result<BTreeMap<String, Secret<String>>, SecretsError> {
        let mut secrets = BTreeMap::new();
        for path in &self.secrets {
            let failed = |source| SecretsError::Files { path: path.clone(), source };
            let text = read_secret(path, SECRETS_FILE_BYTES_MAX).map_err(failed)?;
            // What is wrong with the text might be shown with a part of it.
            let map = values::parse_file("", text.expose());
            for (name, value) in map.map_err(|_| SecretsError::NotAMapping { path: path.clone() })? {
                let Value::String(text) = value else { return Err(SecretsError::NoText { path: path.clone(), name }) };
                add(&mut secrets, name, Secret::new(text))?;
            }
        }
        for text in &self.secret {
            let (name, source) =
                text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(SecretsError::NoName)?;
            add(&mut secrets, name.to_owned(), from(name, source)?)?;
        }
        Ok(secrets)
    }
}

fn add(
    secrets: &mut BTreeMap<String, Secret<String>>,
    name: String,
    secret: Secret<String>,
) -> Result<(), SecretsError> {
    if SECRET_BYTES_MAX < secret.expose().len() as u64 {
        return Err(SecretsError::TooLarge { name });
    }
    secrets.insert(name, secret);
    Ok(())
}

/// The secret `name` from where it lies. The line break at a file's end is none of it.
fn from(name: &str, source: &str) -> Result<Secret<String>, SecretsError> {
    let name = || name.to_owned();
    if let Some(variable) = source.strip_prefix("env:") {
        let unset = |_| SecretsError::NotSet { name: name(), variable: variable.to_owned() };
        return env::var(variable).map(Secret::new).map_err(unset);
    }
    let path = source.strip_prefix("file:").ok_or_else(|| SecretsError::NoSource { name: name() })?;
    let read = read_secret(path.as_ref(), SECRET_BYTES_MAX + 2);
    let text = read.map_err(|source| SecretsError::File { name: name(), source })?;
    let line = text.expose().strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.map_or_else(|| text.clone(), |line| Secret::new(line.to_owned())))
}
