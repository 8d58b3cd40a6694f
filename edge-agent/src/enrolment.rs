//! Whose agent this is: what a host keeps of its enrolment.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sloth_core::{
    AgentId, Chain, Digest, Labels, Secret,
    config::{self, ConfigError},
    fs::{self, Access, FsError, ReadError, SecretError},
};
use sloth_transport::{Identity, IdentityError, KeyRequest};
use sloth_trust::{Envelope, KeyId, MachineKey, MachineKeyError, PublicKey, RootPin, Trusted};

use crate::{paths::Paths, platform};

/// Most bytes of a file with a key.
const PEM_BYTES_MAX: u64 = 64 * 1024;
/// Most bytes of a trust root's envelope.
const ROOT_BYTES_MAX: u64 = 1024 * 1024;

/// What the coordinator said, and what of it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Who the agent is.
    pub agent: AgentId,
    /// Its name in the fleet.
    pub name: String,
    /// Where the coordinator listens, as `host:port`.
    pub addresses: Vec<String>,
    /// The certificate of the coordinator's authority, in DER.
    pub authority: Vec<u8>,
    /// Labels that the join token gave.
    pub labels: Labels,
    /// Labels that were given to `enroll` on this host.
    pub host_labels: Labels,
    /// The envelope of the trust root.
    pub root: Vec<u8>,
    /// What the join token pinned that root to.
    pub root_pin: RootPin,
    /// What verifies this agent's receipts: the coordinator was told of it, and takes no other.
    pub receipt_key: PublicKey,
    /// The installation that was enrolled; none where it has no name.
    pub machine: Option<Digest>,
}

/// Why there is no enrolment.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// There is none yet.
    #[error("`{}` has no enrolled agent: run `sloth-agent enroll TOKEN --dir {}`", dir.display(), dir.display())]
    Missing {
        /// The agent's directory.
        dir: PathBuf,
    },
    /// The file makes no sense.
    #[error("cannot read this host's enrolment")]
    Config {
        /// Why; it names the file.
        source: ConfigError,
    },
    /// The authority's certificate is no base64.
    #[error("the authority in `{}` cannot be read: enrol this host again", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: base64::DecodeError,
    },
    /// A file is missing or cannot be read.
    #[error("cannot read a part of this host's enrolment")]
    Read {
        /// Why; it names the file.
        #[from]
        source: ReadError,
    },
    /// A secret is missing, cannot be read, or others can read it.
    #[error("cannot read a secret of this host's enrolment")]
    Secret {
        /// Why; it names the file.
        #[from]
        source: SecretError,
    },
    /// A file cannot be written.
    #[error("cannot keep this host's enrolment")]
    Write {
        /// Why; it names the file.
        #[from]
        source: FsError,
    },
    /// It cannot be put in a file.
    #[error("cannot write this host's enrolment as TOML")]
    Encode {
        /// Why.
        #[from]
        source: toml::ser::Error,
    },
    /// There is no key for receipts.
    #[error(
        "`{}` is missing, which signs this agent's receipts: bring back a copy of it, or revoke the agent with `sloth-coord agents revoke` and enrol this host again in a new directory",
        path.display()
    )]
    NoReceiptKey {
        /// The file.
        path: PathBuf,
    },
    /// The key for receipts is none.
    #[error("cannot use the key for receipts `{}`: bring back a copy of it, or enrol this host again", path.display())]
    ReceiptKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MachineKeyError,
    },
    /// The key for receipts is another one.
    #[error(
        "`{}` holds the key `{found}`, and this agent enrolled with `{expected}`: the coordinator would take none of its receipts. Bring back a copy of the file, or revoke the agent with `sloth-coord agents revoke` and enrol this host again in a new directory",
        path.display()
    )]
    OtherReceiptKey {
        /// The file.
        path: PathBuf,
        /// The key in it.
        found: KeyId,
        /// The key that it should be.
        expected: KeyId,
    },
    /// A trust root cannot be used.
    #[error("cannot use the trust root `{}`, {why}: start the daemon, which writes it anew, or enrol this host again", path.display())]
    Root {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No randomness.
    #[error("the system gives no randomness for a key")]
    Random {
        /// What it said.
        source: getrandom::Error,
    },
    /// Certificate or key.
    #[error("the identity in `{}` cannot be used: enrol this host again", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
}

/// The file `enrolment.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agent: AgentId,
    name: String,
    addresses: Vec<String>,
    /// DER in base64.
    authority: String,
    root_pin: RootPin,
    receipt_key: PublicKey,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    host_labels: Labels,
    #[serde(default)]
    machine: Option<Digest>,
}

impl Enrolment {
    /// Whether the host is enrolled.
    #[must_use]
    pub fn exists(paths: &Paths) -> bool {
        paths.enrolment().exists()
    }

    /// Reads what [`Enrolment::store`] wrote.
    ///
    /// # Errors
    ///
    /// When the host is not enrolled, or a file is missing or damaged.
    pub fn load(paths: &Paths) -> Result<Self, EnrolmentError> {
        let path = paths.enrolment();
        let file: File = match config::load(&path) {
            Ok(file) => file,
            Err(ConfigError::Read { source }) if source.is_not_found() => {
                return Err(EnrolmentError::Missing { dir: paths.dir().to_owned() });
            }
            Err(source) => return Err(EnrolmentError::Config { source }),
        };
        let authority =
            STANDARD.decode(&file.authority).map_err(|source| EnrolmentError::Authority { path, source })?;
        Ok(Self {
            agent: file.agent,
            name: file.name,
            addresses: file.addresses,
            authority,
            labels: file.labels,
            host_labels: file.host_labels,
            root: fs::read_capped(&paths.root(), ROOT_BYTES_MAX)?,
            root_pin: file.root_pin,
            receipt_key: file.receipt_key,
            machine: file.machine,
        })
    }

    /// Whether another installation was enrolled than this one: this one has its disk, or was given a new machine-id(5).
    #[must_use]
    pub fn is_of_another_machine(&self) -> bool {
        self.machine.zip(platform::machine()).is_some_and(|(enrolled, own)| enrolled != own)
    }

    /// Keeps the enrolment and the first identity. The file that says «enrolled» comes last.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn store(&self, paths: &Paths, identity: &Identity) -> Result<(), EnrolmentError> {
        let file = File {
            agent: self.agent,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            authority: STANDARD.encode(&self.authority),
            root_pin: self.root_pin,
            receipt_key: self.receipt_key.clone(),
            labels: self.labels.clone(),
            host_labels: self.host_labels.clone(),
            machine: self.machine,
        };
        let text = toml::to_string(&file)?;
        store_identity(paths, identity)?;
        fs::replace(&paths.root(), &self.root, Access::Owner)?;
        Ok(fs::replace(&paths.enrolment(), text.as_bytes(), Access::Owner)?)
    }

    /// Reads the key that signs this agent's receipts. Another one than it enrolled with would sign receipts that nobody
    /// takes, and that are then lost.
    ///
    /// # Errors
    ///
    /// When the file is missing, is no key, or holds another one.
    pub fn receipt_key(&self, paths: &Paths) -> Result<MachineKey, EnrolmentError> {
        let key = load_receipt_key(paths)?;
        if *key.public() == self.receipt_key {
            return Ok(key);
        }
        let (found, expected) = (key.public().id(), self.receipt_key.id());
        Err(EnrolmentError::OtherReceiptKey { path: paths.receipt_key(), found, expected })
    }
}

/// Keeps the newest trust root beside the first, for commands that cannot open the store while the daemon has it.
///
/// # Errors
///
/// When the system refuses.
pub fn store_newest_root(paths: &Paths, envelope: &[u8]) -> Result<(), FsError> {
    let path = paths.newest_root();
    let is_there = fs::read_capped(&path, ROOT_BYTES_MAX).is_ok_and(|there| there == envelope);
    if is_there { Ok(()) } else { fs::replace(&path, envelope, Access::Owner) }
}

/// What the host trusts: the newest root that its daemon took on, else the one that it was enrolled with.
///
/// # Errors
///
/// When the host is not enrolled, or a file cannot be read or used.
pub fn load_trusted(paths: &Paths) -> Result<Trusted, EnrolmentError> {
    let enrolment = Enrolment::load(paths)?;
    let (path, bytes, pin) = match fs::read_capped(&paths.newest_root(), ROOT_BYTES_MAX) {
        // The daemon has verified it, and nobody else writes there.
        Ok(bytes) => (paths.newest_root(), bytes, None),
        Err(error) if error.is_not_found() => (paths.root(), enrolment.root, Some(enrolment.root_pin)),
        Err(error) => return Err(error.into()),
    };
    let refused = |why: String| EnrolmentError::Root { path: path.clone(), why };
    let envelope = Envelope::decode(&bytes).map_err(|error| refused(Chain(&error).to_string()))?;
    let pin = pin.unwrap_or_else(|| RootPin::of(&envelope.payload));
    Trusted::new(&envelope, pin).map_err(|error| refused(Chain(&error).to_string()))
}

/// Reads the identity.
///
/// # Errors
///
/// When the file is missing or holds none.
pub fn load_identity(paths: &Paths) -> Result<Identity, EnrolmentError> {
    let path = paths.identity();
    let text = fs::read_secret(&path, PEM_BYTES_MAX)?;
    Identity::from_pem(&text).map_err(|source| EnrolmentError::Identity { path, source })
}

/// Keeps a new identity in place of the old one.
///
/// # Errors
///
/// When the system refuses.
pub fn store_identity(paths: &Paths, identity: &Identity) -> Result<(), FsError> {
    fs::replace(&paths.identity(), identity.to_pem().expose().as_bytes(), Access::Owner)
}

/// The key to enrol with: that of an enrolment whose answer was lost, since asking again with it gives the same agent,
/// or else a new one, which is kept before anybody is asked.
///
/// # Errors
///
/// When the system refuses.
pub fn pending_key(paths: &Paths) -> Result<KeyRequest, EnrolmentError> {
    let path = paths.pending_key();
    match fs::read_secret(&path, PEM_BYTES_MAX) {
        Ok(text) => {
            return KeyRequest::from_pem(&text).map_err(|source| EnrolmentError::Identity { path, source });
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let key = KeyRequest::generate().map_err(|source| EnrolmentError::Identity { path: path.clone(), source })?;
    fs::replace(&path, key.to_pem().expose().as_bytes(), Access::Owner)?;
    Ok(key)
}

/// The key that the agent signs receipts with, made when there is none. It stays the same through renewals, and for as long
/// as the agent is this agent: the coordinator takes no other.
///
/// # Errors
///
/// When the system refuses, or the file is no key.
pub fn receipt_key(paths: &Paths) -> Result<MachineKey, EnrolmentError> {
    match load_receipt_key(paths) {
        Err(EnrolmentError::NoReceiptKey { .. }) => {}
        read => return read,
    }
    let (mut seed, mut hint) = ([0; 32], [0; 8]);
    getrandom::fill(&mut seed)
        .and_then(|()| getrandom::fill(&mut hint))
        .map_err(|source| EnrolmentError::Random { source })?;
    let (seed, path) = (Secret::new(seed), paths.receipt_key());
    let key = MachineKey::from_seed(&seed, hint)
        .map_err(|source| EnrolmentError::ReceiptKey { path: path.clone(), source })?;
    fs::replace(&path, MachineKey::file(&seed, &key).expose().as_bytes(), Access::Owner)?;
    Ok(key)
}

/// Reads the key that [`receipt_key`] made.
///
/// # Errors
///
/// When the file is missing or is no key.
fn load_receipt_key(paths: &Paths) -> Result<MachineKey, EnrolmentError> {
    let path = paths.receipt_key();
    let text = match fs::read_secret(&path, PEM_BYTES_MAX) {
        Err(error) if error.is_not_found() => return Err(EnrolmentError::NoReceiptKey { path }),
        read => read?,
    };
    MachineKey::from_file(&text).map_err(|source| EnrolmentError::ReceiptKey { path, source })
}

/// Forgets the key of an enrolment that is done. One that stays is overwritten by nobody and asked for by nobody.
pub fn forget_pending_key(paths: &Paths) {
    if let Err(error) = std::fs::remove_file(paths.pending_key()) {
        tracing::debug!(%error, "cannot remove the pending key");
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::{Chain, Clock, Millis};
    use sloth_transport::Authority;

    use super::*;

    fn enrolled(paths: &Paths) -> (Enrolment, Identity) {
        let now = Clock::new().now();
        let agent = AgentId::new(now, 1);
        let authority = Authority::create(now, [1; 16]).expect("an authority");
        let key = pending_key(paths).expect("a key");
        let issued = authority.issue_agent(key.csr(), agent, now, Millis::from_secs(3600)).expect("issued");
        let enrolment = Enrolment {
            agent,
            name: "web-1".into(),
            addresses: vec!["coord:7461".into()],
            authority: authority.certificate().to_vec(),
            labels: Labels::from([("role".into(), "web".into())]),
            host_labels: Labels::new(),
            root: b"root".to_vec(),
            root_pin: RootPin::of(b"root"),
            receipt_key: receipt_key(paths).expect("a key").public().clone(),
            machine: platform::machine(),
        };
        (enrolment, key.certified(issued.der).expect("an identity"))
    }

    #[test]
    fn an_enrolment_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path().join("agent"));
        paths.create().expect("made");
        let error = Chain(&Enrolment::load(&paths).expect_err("none yet")).to_string();
        assert!(error.contains("sloth-agent enroll TOKEN --dir"), "{error}");
        let (enrolment, identity) = enrolled(&paths);
        enrolment.store(&paths, &identity).expect("stored");
        assert_eq!(Enrolment::load(&paths).expect("loaded"), enrolment);
        assert!(!enrolment.is_of_another_machine());
        let elsewhere = Enrolment { machine: Some(Digest::of(b"another")), ..enrolment.clone() };
        assert_eq!(elsewhere.is_of_another_machine(), enrolment.machine.is_some());
        let loaded = load_identity(&paths).expect("loaded");
        assert_eq!(loaded.certificate(), identity.certificate());
        for path in [paths.identity(), paths.enrolment(), paths.root()] {
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("there"));
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn the_key_for_receipts_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        let error = Chain(&load_receipt_key(&paths).expect_err("none yet")).to_string();
        assert!(error.contains("receipt.key") && error.contains("bring back a copy"), "{error}");
        let made = receipt_key(&paths).expect("made");
        assert_eq!(receipt_key(&paths).expect("there").public(), made.public());
        assert_eq!(load_receipt_key(&paths).expect("there").public(), made.public());
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(paths.receipt_key()).expect("there"));
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_key_for_receipts_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        let (enrolment, _) = enrolled(&paths);
        assert_eq!(*enrolment.receipt_key(&paths).expect("its own").public(), enrolment.receipt_key);
        std::fs::remove_file(paths.receipt_key()).expect("removed");
        assert!(matches!(enrolment.receipt_key(&paths), Err(EnrolmentError::NoReceiptKey { .. })));
        let other = receipt_key(&paths).expect("made");
        let error = enrolment.receipt_key(&paths).expect_err("another").to_string();
        for part in [other.public().id(), enrolment.receipt_key.id()] {
            assert!(error.contains(&part.to_string()) && error.contains("agents revoke"), "{error}");
        }
    }

    #[test]
    fn an_enrolment_that_was_not_answered_goes_on_with_the_same_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        let first = pending_key(&paths).expect("a key");
        let pem = |key: &KeyRequest| key.to_pem().expose().clone();
        assert_eq!(pem(&pending_key(&paths).expect("a key")), pem(&first));
        forget_pending_key(&paths);
        assert_ne!(pem(&pending_key(&paths).expect("a key")), pem(&first));
    }
}
