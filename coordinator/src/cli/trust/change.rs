//! From a root to the next.

use std::{fmt, str::FromStr};

use sloth_cli::{Failure, Outcome};
use sloth_core::{Clock, Millis, RepositoryId};
use sloth_trust::{KeyId, NamePattern, PublicKey, RoleKeys, Roles, Root, SPEC};

/// Fewest digits of a key's id that name it.
const ID_DIGITS_MIN: usize = 8;

/// A role as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Who signs roots.
    Root,
    /// Who signs the bundles whose names match.
    Bundles(NamePattern),
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{text}`: it takes `root`, or `bundles/` and a pattern of names, like `bundles/*`")]
pub(super) struct UnknownRole {
    text: String,
}

/// What the next root does differently, besides its time to live.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Nothing,
    AddKey(Role, PublicKey),
    /// The key by its file's path or its id's beginning.
    RemoveKey(Role, String),
    SetThreshold(Role, usize),
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let bundles = || text.strip_prefix("bundles/").and_then(|pattern| pattern.parse().ok()).map(Self::Bundles);
        let role = if text == "root" { Some(Self::Root) } else { bundles() };
        role.ok_or_else(|| UnknownRole { text: sloth_core::excerpt(text) })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Bundles(pattern) => write!(f, "bundles/{pattern}"),
        }
    }
}

/// The first root of a repository.
pub(in crate::cli) fn first(
    root: (Vec<PublicKey>, usize),
    bundles: (Vec<PublicKey>, usize),
    life: Millis,
) -> Result<Root, Failure> {
    let role = |(keys, threshold)| RoleKeys::new(keys, threshold).map_err(Outcome::Usage.because());
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Outcome::Internal.because())?;
    let now = Clock::new().now();
    let everything: NamePattern = "*".parse().map_err(Outcome::Internal.because::<sloth_trust::InvalidName>())?;
    Ok(Root {
        spec: SPEC,
        repository: RepositoryId::new(now, u128::from_be_bytes(random)),
        version: 1,
        expires: now + life,
        roles: Roles {
            root: role(root)?,
            releases: None,
            bundles: [(everything, role(bundles)?)].into(),
            head: None,
            assignment: None,
        },
    })
}

impl Change {
    /// The root after `current`.
    pub(super) fn apply(&self, current: &Root, life: Millis) -> Result<Root, Failure> {
        let mut next = current.clone();
        next.version += 1;
        next.expires = Clock::new().now() + life;
        match self {
            Self::Nothing => {}
            Self::AddKey(role, key) => {
                let (mut keys, threshold) = match keys_of(&next.roles, role) {
                    Some(have) => (have.keys().to_vec(), have.threshold()),
                    // A pattern that nobody signed for begins with this key.
                    None => (Vec::new(), 1),
                };
                keys.push(key.clone());
                set(&mut next.roles, role, keys, threshold)?;
            }
            Self::RemoveKey(role, named) => {
                let have = known(&next.roles, role)?;
                let gone = find(have, role, named)?;
                let keys: Vec<PublicKey> = have.keys().iter().filter(|key| key.id() != gone).cloned().collect();
                let threshold = have.threshold();
                if let (Role::Bundles(pattern), true) = (role, keys.is_empty()) {
                    next.roles.bundles.remove(pattern);
                } else {
                    set(&mut next.roles, role, keys, threshold)?;
                }
            }
            Self::SetThreshold(role, threshold) => {
                let keys = known(&next.roles, role)?.keys().to_vec();
                set(&mut next.roles, role, keys, *threshold)?;
            }
        }
        Ok(next)
    }
}

fn keys_of<'a>(roles: &'a Roles, role: &Role) -> Option<&'a RoleKeys> {
    match role {
        Role::Root => Some(&roles.root),
        Role::Bundles(pattern) => roles.bundles.get(pattern),
    }
}

fn known<'a>(roles: &'a Roles, role: &Role) -> Result<&'a RoleKeys, Failure> {
    keys_of(roles, role).ok_or_else(|| {
        let sentence = format!("the trust root names nobody for `{role}`: `sloth-coord trust status` shows its roles");
        Failure::new(Outcome::Usage, sentence)
    })
}

fn set(roles: &mut Roles, role: &Role, keys: Vec<PublicKey>, threshold: usize) -> Result<(), Failure> {
    let keys = RoleKeys::new(keys, threshold).map_err(Outcome::Usage.because())?;
    match role {
        Role::Root => roles.root = keys,
        Role::Bundles(pattern) => {
            roles.bundles.insert(pattern.clone(), keys);
        }
    }
    Ok(())
}

/// The key of a role that a path or the beginning of an id names.
fn find(keys: &RoleKeys, role: &Role, named: &str) -> Result<KeyId, Failure> {
    let refuse = |sentence: String| Failure::new(Outcome::Usage, sentence);
    let path = std::path::Path::new(named);
    if path.is_file() {
        let id = super::public_key(path)?.id();
        let missing = || refuse(format!("the key `{}` in `{named}` is not one of `{role}`", id.short()));
        return keys.key(id).map(PublicKey::id).ok_or_else(missing);
    }
    let matching: Vec<KeyId> =
        keys.keys().iter().map(PublicKey::id).filter(|id| id.to_string().starts_with(named)).collect();
    match matching[..] {
        [id] if ID_DIGITS_MIN <= named.len() => Ok(id),
        _ => {
            let known: Vec<_> = keys.keys().iter().map(|key| key.id().short()).collect();
            Err(refuse(format!(
                "`{named}` is neither a `.pub` file nor the first {ID_DIGITS_MIN} or more digits of one key of `{role}`, which has {}",
                known.join(", ")
            )))
        }
    }
}
