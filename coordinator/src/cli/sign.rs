//! Opening publishers' keys.

use std::{
    collections::VecDeque,
    env,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
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
/// Names an open file descriptor that has the passphrases, a line for each key in their order.
pub(super) const PASSPHRASE_FD_VARIABLE: &str = "SLOTH_KEY_PASSPHRASE_FD";
/// Most bytes that are read of it.
const PASSPHRASES_BYTES_MAX: u64 = 64 * 1024;
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
    #[error(
        "the key `{}` has a passphrase: run this on a terminal, or set `{PASSPHRASE_VARIABLE}` or `{PASSPHRASE_FD_VARIABLE}`",
        path.display()
    )]
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
    let text = fs::read_secret(path, KEY_BYTES_MAX)?;
    let secret = match sign::open(&text, None) {
        Ok(secret) => secret,
        // A text that is no key at all needs no passphrase either.
        Err(error) if !text.expose().contains("encrypted") => return Err(refuse(error)),
        Err(_) => sign::open(&text, Some(&passphrase(path)?)).map_err(refuse)?,
    };
    let public = sign::public_key(&secret).map_err(refuse)?;
    Ok(Signer { secret, public })
}

/// The passphrase that the environment gives for the next key: a line of the descriptor that it names, or else its own.
///
/// # Errors
///
/// When the descriptor cannot be read.
pub(super) fn passphrase_given() -> Result<Option<Secret<String>>, KeyError> {
    if let Some(descriptor) = env::var_os(PASSPHRASE_FD_VARIABLE) {
        return next_line(&Path::new("/dev/fd").join(descriptor));
    }
    Ok(env::var(PASSPHRASE_VARIABLE).ok().filter(|text| !text.is_empty()).map(Secret::new))
}

/// The next line of the descriptor, which can be read only once; the last one is for every further key.
fn next_line(descriptor: &Path) -> Result<Option<Secret<String>>, KeyError> {
    static LINES: OnceLock<Mutex<VecDeque<Secret<String>>>> = OnceLock::new();
    if LINES.get().is_none() {
        let text = Secret::new(fs::read_capped(descriptor, PASSPHRASES_BYTES_MAX).map_err(SecretError::from)?);
        let lines = String::from_utf8_lossy(text.expose()).lines().map(|line| Secret::new(line.to_owned())).collect();
        let _ = LINES.set(Mutex::new(lines));
    }
    let Some(lines) = LINES.get() else { return Ok(None) };
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(if 1 < lines.len() { lines.pop_front() } else { lines.front().cloned() })
}

fn passphrase(path: &Path) -> Result<Secret<String>, KeyError> {
    if let Some(given) = passphrase_given()? {
        return Ok(given);
    }
    if !std::io::stdin().is_terminal() {
        return Err(KeyError::NoPassphrase { path: path.to_owned() });
    }
    let prompt = format!("passphrase of {}: ", path.display());
    rpassword::prompt_password(prompt).map(Secret::new).map_err(|source| KeyError::Terminal { source })
}
