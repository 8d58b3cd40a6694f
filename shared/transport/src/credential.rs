//! An operator's credential: one file with all it takes to reach a coordinator.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sloth_core::{
    Secret,
    config::{self, CONFIG_BYTES_MAX, ConfigError},
    fs::{self, Access, FsError, SecretError},
};
use sloth_protocol::wire::ADDRESSES_MAX;

use crate::{
    identity::{Identity, IdentityError},
    pem::{self, PemError},
};

/// What an operator needs to reach a coordinator: where it is, whom to believe, and who one is.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Where the coordinator listens, as `host:port`, tried in order. At least one.
    pub addresses: Vec<String>,
    /// The certificate of the coordinator's authority, in DER.
    pub authority: Vec<u8>,
    /// The operator's certificate and key.
    pub identity: Identity,
}

/// Why a credential was not loaded or stored.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It is no TOML of the right keys.
    #[error("cannot read the credential")]
    Read {
        /// What stood in the way; it names the file.
        source: ConfigError,
    },
    /// It names no coordinator.
    #[error("the credential `{}` needs 1 to {ADDRESSES_MAX} `addresses` like `coord.example.org:7461`", path.display())]
    Addresses {
        /// The file.
        path: PathBuf,
    },
    /// Its authority is no certificate.
    #[error("the credential `{}` has no usable `authority`", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// Its certificate or key cannot be used.
    #[error("the credential `{}` has no usable `certificate` and `key`", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// It cannot be read, it is no file, or others may read it.
    #[error("cannot use the credential")]
    Secret {
        /// Why; it names the file.
        source: SecretError,
    },
    /// It cannot be put into text.
    #[error("cannot write the credential `{}`", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: toml::ser::Error,
    },
    /// It cannot be written.
    #[error("cannot store the credential")]
    Write {
        /// What stood in the way; it names the file.
        source: FsError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    addresses: Vec<String>,
    authority: String,
    certificate: String,
    key: Secret<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    addresses: &'a [String],
    authority: &'a str,
    certificate: &'a str,
    key: &'a str,
}

impl Credential {
    /// Reads the credential in the file `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or a part of it cannot be used.
    pub fn load(path: &Path) -> Result<Self, CredentialError> {
        let text = fs::read_secret(path, CONFIG_BYTES_MAX).map_err(|source| CredentialError::Secret { source })?;
        let stored: Stored =
            config::parse(path, text.expose().as_bytes()).map_err(|source| CredentialError::Read { source })?;
        let path = || path.to_owned();
        if !(1..=ADDRESSES_MAX).contains(&stored.addresses.len()) {
            return Err(CredentialError::Addresses { path: path() });
        }
        let authority = pem::decode_certificate(&stored.authority)
            .map_err(|source| CredentialError::Authority { path: path(), source })?;
        let identity = Identity::from_parts(&stored.certificate, stored.key.expose())
            .map_err(|source| CredentialError::Identity { path: path(), source })?;
        Ok(Self { addresses: stored.addresses, authority: authority.to_vec(), identity })
    }

    /// Writes the credential to the file `path`, for its owner's eyes only.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn store(&self, path: &Path) -> Result<(), CredentialError> {
        let key = self.identity.key_pem();
        let written = Written {
            addresses: &self.addresses,
            authority: &pem::encode_certificate(&self.authority),
            certificate: &self.identity.certificate_pem(),
            key: key.expose(),
        };
        let text = toml::to_string(&written)
            .map(Secret::new)
            .map_err(|source| CredentialError::Encode { path: path.to_owned(), source })?;
        fs::replace(path, text.expose().as_bytes(), Access::Owner).map_err(|source| CredentialError::Write { source })
    }
}
