//! Opening publishers' keys.

use std::{
    env,
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use sloth_cli::{Failure, Outcome};
use sloth_core::{
    Secret,
    fs::{self, SecretError},
};
use sloth_trust::{
    PublicKey,
    sign::{self, SecretKey, SignError},
};

/// Where a passphrase is looked for when nobody is there to type it.
pub(super) const PASSPHRASE_VARIABLE: &str = "SLOTH_KEY_PASSPHRASE";
/// Most bytes of a key's file.
pub(super) const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// Its file.
    #[error("cannot read the key")]
    Read {
        /// Why; it names the file.
        #[from]
        source: SecretError,
    },
    /// What is in it.
    #[error("cannot use the key `{}`", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignError,
    },
    /// Nobody can be asked.
    #[error("the key `{}` has a passphrase: set `{PASSPHRASE_VARIABLE}`, or run this on a terminal", path.display())]
    NoPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The terminal.
    #[error("cannot ask for the passphrase")]
    Terminal {
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self { outcome: Outcome::Usage, error: error.into() }
    }
}

/// A key that can sign, and what verifies it.
pub(super) struct Signer {
    pub(super) secret: SecretKey,
    pub(super) public: PublicKey,
}

/// Opens the secret key in the file `path`, asking for its passphrase if it has one.
pub(super) fn open(path: &Path) -> Result<Signer, KeyError> {
    let refuse = |source| KeyError::Use { path: path.to_owned(), source };
    let bytes = fs::read_secret(path, KEY_BYTES_MAX)?;
    let text = Secret::new(String::from_utf8_lossy(bytes.expose()).into_owned());
    let secret = match sign::open(&text, None) {
        Ok(secret) => secret,
        // A text that is no key at all needs no passphrase either.
        Err(error) if !text.expose().contains("encrypted") => return Err(refuse(error)),
        Err(_) => sign::open(&text, Some(&passphrase(path)?)).map_err(refuse)?,
    };
    let public = sign::public_key(&secret).map_err(refuse)?;
    Ok(Signer { secret, public })
}

/// The passphrase that the environment gives.
pub(super) fn passphrase_given() -> Option<Secret<String>> {
    env::var(PASSPHRASE_VARIABLE).ok().filter(|text| !text.is_empty()).map(Secret::new)
}

fn passphrase(path: &Path) -> Result<Secret<String>, KeyError> {
    if let Some(given) = passphrase_given() {
        return Ok(given);
    }
    if !std::io::stdin().is_terminal() {
        return Err(KeyError::NoPassphrase { path: path.to_owned() });
    }
    let prompt = format!("passphrase of {}: ", path.display());
    rpassword::prompt_password(prompt).map(Secret::new).map_err(|source| KeyError::Terminal { source })
}
