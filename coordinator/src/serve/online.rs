//! The coordinator's online keys: what it says of itself, and what it orders, is signed with them.
//!
//! They lie in the coordinator's directory, without a passphrase, and are worth what the trust root says: alone they
//! can make no agent run what publishers did not sign for it.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sloth_core::{
    Secret,
    fs::{self, Access, FsError, SecretError},
};
use sloth_protocol::coordinator::Unsigned;
use sloth_trust::{DomainSubject, Envelope, KeyId, MachineKey, MachineKeyError, PublicKey};

/// Most keys that are kept: the one that counts, and those of a rotation.
const KEYS_MAX: usize = 4;
/// Most bytes of a key's file.
const KEY_BYTES_MAX: u64 = 4096;
const PREFIX: &str = "online-";
const SUFFIX: &str = ".key";

/// Why there is no online key.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The directory.
    #[error("cannot list the online keys in `{}`", dir.display())]
    List {
        /// Which one.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file.
    #[error(transparent)]
    Read(#[from] SecretError),
    /// A file that is no key.
    #[error("cannot use the online key `{}`", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MachineKeyError,
    },
    /// No key is written.
    #[error(transparent)]
    Write(#[from] FsError),
    /// No randomness.
    #[error("the system gives no randomness for a key")]
    Random {
        /// What it said.
        source: getrandom::Error,
    },
}

/// The online keys of one coordinator.
#[derive(Debug)]
pub(super) struct Online {
    dir: PathBuf,
    /// By their numbers, the newest last. Invariant: there is at least one.
    keys: Mutex<Arc<Vec<Numbered>>>,
    /// The head that was signed last.
    last: Mutex<Option<(Unsigned, Vec<u8>)>>,
}

#[derive(Debug, Clone)]
struct Numbered {
    number: u32,
    key: Arc<MachineKey>,
}

impl Online {
    /// Reads the keys in `dir`; makes the first if there is none.
    pub(super) fn open(dir: &Path) -> Result<Self, OnlineError> {
        fs::create_dir(dir, Access::Owner)?;
        let mut keys = files(dir)?
            .into_iter()
            .map(|(number, path)| Ok(Numbered { number, key: Arc::new(read(&path)?) }))
            .collect::<Result<Vec<_>, OnlineError>>()?;
        if keys.is_empty() {
            keys.push(make(dir, 1)?);
        }
        Ok(Self { dir: dir.to_owned(), keys: Mutex::new(Arc::new(keys)), last: Mutex::default() })
    }

    /// The keys' public halves, the newest last.
    pub(super) fn public_keys(&self) -> Vec<PublicKey> {
        self.keys().iter().map(|numbered| numbered.key.public().clone()).collect()
    }

    /// Makes another key. Those that are not in `named` go when there are too many: nobody counts what they sign.
    pub(super) fn generate(&self, named: &BTreeSet<KeyId>) -> Result<(), OnlineError> {
        let mut slot = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = slot.as_ref().clone();
        let number = keys.last().map_or(1, |newest| newest.number.saturating_add(1));
        keys.push(make(&self.dir, number)?);
        while let Some(place) =
            keys.iter().position(|key| !named.contains(&key.key.id())).filter(|_| KEYS_MAX < keys.len())
        {
            let gone = keys.remove(place);
            let path = path_of(&self.dir, gone.number);
            std::fs::remove_file(&path).map_err(FsError::of(fs::Action::Remove, &path))?;
        }
        *slot = Arc::new(keys);
        Ok(())
    }

    /// The envelope of what the coordinator says, signed by every key that it has: the trust root says which counts.
    pub(super) fn seal(&self, unsigned: &Unsigned) -> Vec<u8> {
        if unsigned.domain.subject != DomainSubject::Head {
            return self.sign(unsigned);
        }
        // Every agent is told the same head.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(same, _)| same != unsigned) {
            *last = Some((unsigned.clone(), self.sign(unsigned)));
        }
        last.as_ref().map(|(_, sealed)| sealed.clone()).unwrap_or_default()
    }

    fn sign(&self, unsigned: &Unsigned) -> Vec<u8> {
        let Unsigned { domain, payload } = unsigned;
        let signatures = self.keys().iter().map(|numbered| numbered.key.sign(payload, domain)).collect();
        Envelope { kind: domain.subject.kind(), payload: payload.clone(), signatures }.encode()
    }

    fn keys(&self) -> Arc<Vec<Numbered>> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The keys' files by their numbers.
fn files(dir: &Path) -> Result<Vec<(u32, PathBuf)>, OnlineError> {
    let refuse = |source| OnlineError::List { dir: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<MachineKey, OnlineError> {
    MachineKey::from_file(&fs::read_secret(path, KEY_BYTES_MAX)?)
        .map_err(|source| OnlineError::Key { path: path.to_owned(), source })
}

fn make(dir: &Path, number: u32) -> Result<Numbered, OnlineError> {
    let (mut seed, mut hint) = ([0; 32], [0; 8]);
    getrandom::fill(&mut seed)
        .and_then(|()| getrandom::fill(&mut hint))
        .map_err(|source| OnlineError::Random { source })?;
    let (seed, path) = (Secret::new(seed), path_of(dir, number));
    let key = MachineKey::from_seed(&seed, hint).map_err(|source| OnlineError::Key { path: path.clone(), source })?;
    fs::replace(&path, MachineKey::file(&seed, &key).expose().as_bytes(), Access::Owner)?;
    Ok(Numbered { number, key: Arc::new(key) })
}

fn path_of(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{PREFIX}{number}{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use sloth_core::{Millis, RepositoryId};
    use sloth_trust::{Domain, RoleKeys, verify_threshold};

    use super::*;

    #[test]
    fn keys_are_kept_added_and_let_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let online = Online::open(dir.path()).expect("opened");
        let first = online.public_keys();
        assert_eq!(Online::open(dir.path()).expect("again").public_keys(), first);
        let named = BTreeSet::from([first[0].id()]);
        for _ in 0..2 * KEYS_MAX {
            online.generate(&named).expect("another");
        }
        let keys = online.public_keys();
        assert_eq!((keys.len(), &keys[0]), (KEYS_MAX, &first[0]));
        assert_eq!(Online::open(dir.path()).expect("again").public_keys(), keys);
    }

    #[test]
    fn each_key_of_a_rotation_carries_what_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let online = Online::open(dir.path()).expect("opened");
        online.generate(&BTreeSet::new()).expect("another");
        let domain =
            Domain { subject: DomainSubject::Head, repository: RepositoryId::new(Millis::ZERO, 1), version: 1 };
        let said = Unsigned { domain: domain.clone(), payload: b"said".to_vec() };
        let sealed = online.seal(&said);
        assert_eq!(online.seal(&said), sealed);
        let envelope = Envelope::decode(&sealed).expect("an envelope");
        for key in online.public_keys() {
            let role = RoleKeys::new(vec![key], 1).expect("a role");
            verify_threshold(&role, &envelope, &domain).expect("verified");
        }
    }
}
