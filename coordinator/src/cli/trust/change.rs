//! From a root to the next.

use std::{collections::BTreeMap, fmt, str::FromStr};

use sloth_cli::{Failure, Outcome};
use sloth_core::{Clock, Millis, RepositoryId};
use sloth_trust::{KeyId, NamePattern, PublicKey, RoleKeys, Roles, Root, SPEC};

/// Fewest digits of a key's id that name it.
const ID_DIGITS_MIN: usize = 8;

/// A role as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Role {
    /// Who signs roots.
    Root,
    /// Who signs the bundles whose names match.
    Bundles(NamePattern),
    /// Who signs releases of the agent.
    Releases,
    /// Who signs heads and assignments: the coordinator's own keys.
    Online,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no role `{text}`: it takes `root`, `online`, `releases`, or `bundles/` and a pattern of names, like `bundles/*`"
)]
pub(in crate::cli) struct UnknownRole {
    text: String,
}

/// What the next root does differently, besides its time to live.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Change {
    Nothing,
    AddKey(Role, PublicKey),
    /// The key by its file's path or its id's beginning.
    RemoveKey(Role, String),
    SetThreshold(Role, usize),
    /// The coordinator's own key from now on, alone.
    SetOnline(PublicKey),
    /// Another key in every place of one, which is named by its file's path or its id's beginning.
    Replace(String, PublicKey),
    /// No place for a key any more, named likewise.
    Revoke(String),
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let bundles = || text.strip_prefix("bundles/").and_then(|pattern| pattern.parse().ok()).map(Self::Bundles);
        let role = match text {
            "root" => Some(Self::Root),
            "online" => Some(Self::Online),
            "releases" => Some(Self::Releases),
            _ => bundles(),
        };
        role.ok_or_else(|| UnknownRole { text: sloth_core::excerpt(text) })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Bundles(pattern) => write!(f, "bundles/{pattern}"),
            Self::Releases => f.write_str("releases"),
            Self::Online => f.write_str("online"),
        }
    }
}

/// The first root of a repository.
pub(in crate::cli) fn first(
    root: (Vec<PublicKey>, usize),
    bundles: (Vec<PublicKey>, usize),
    releases: (Vec<PublicKey>, usize),
    online: PublicKey,
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
        issued: now,
        expires: now + life,
        roles: Roles {
            root: role(root)?,
            releases: Some(role(releases)?),
            bundles: [(everything, role(bundles)?)].into(),
            head: Some(role((vec![online.clone()], 1))?),
            assignment: Some(role((vec![online], 1))?),
        },
    })
}

impl Change {
    /// The root after `current`.
    pub(super) fn apply(&self, current: &Root, life: Millis) -> Result<Root, Failure> {
        let mut next = current.clone();
        next.version += 1;
        next.issued = Clock::new().now();
        next.expires = next.issued + life;
        match self {
            Self::Nothing => {}
            Self::AddKey(role, key) => {
                let (mut keys, threshold) = match keys_of(&next.roles, role) {
                    Some(have) => (have.keys().to_vec(), have.threshold()),
                    // What nobody signed for begins with this key.
                    None => (Vec::new(), 1),
                };
                keys.push(key.clone());
                set(&mut next.roles, role, keys, threshold)?;
            }
            Self::RemoveKey(role, named) => {
                let gone = find(known(&next.roles, role)?.keys(), &format!("`{role}`"), named)?;
                exchange(&mut next.roles, role, gone, None)?;
            }
            Self::SetThreshold(role, threshold) => {
                let keys = known(&next.roles, role)?.keys().to_vec();
                set(&mut next.roles, role, keys, *threshold)?;
            }
            Self::SetOnline(key) => set(&mut next.roles, &Role::Online, vec![key.clone()], 1)?,
            Self::Replace(named, key) => everywhere(&mut next.roles, named, Some(key))?,
            Self::Revoke(named) => everywhere(&mut next.roles, named, None)?,
        }
        Ok(next)
    }
}

pub(in crate::cli) fn keys_of<'a>(roles: &'a Roles, role: &Role) -> Option<&'a RoleKeys> {
    match role {
        Role::Root => Some(&roles.root),
        Role::Bundles(pattern) => roles.bundles.get(pattern),
        Role::Releases => roles.releases.as_ref(),
        Role::Online => roles.assignment.as_ref(),
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
        Role::Releases => roles.releases = Some(keys),
        Role::Online => {
            roles.head = Some(keys.clone());
            roles.assignment = Some(keys);
        }
    }
    Ok(())
}

/// Every role that the root names.
pub(in crate::cli) fn all_roles(roles: &Roles) -> Vec<Role> {
    let online = roles.assignment.as_ref().map(|_| Role::Online);
    let bundles = roles.bundles.keys().cloned().map(Role::Bundles);
    let releases = roles.releases.as_ref().map(|_| Role::Releases);
    [Role::Root].into_iter().chain(bundles).chain(releases).chain(online).collect()
}

/// Puts `key` in the place of the named one in every role that has it, or nothing.
fn everywhere(roles: &mut Roles, named: &str, key: Option<&PublicKey>) -> Result<(), Failure> {
    let all = all_roles(roles);
    let keys = all.iter().filter_map(|role| keys_of(roles, role)).flat_map(RoleKeys::keys);
    let keys: BTreeMap<KeyId, PublicKey> = keys.map(|key| (key.id(), key.clone())).collect();
    let gone = find(keys.values(), "the trust root", named)?;
    let holds = |roles: &Roles, role: &Role| keys_of(roles, role).is_some_and(|keys| keys.key(gone).is_some());
    let holding: Vec<Role> = all.into_iter().filter(|role| holds(roles, role)).collect();
    holding.iter().try_for_each(|role| exchange(roles, role, gone, key))
}

/// Puts `key` in the place of a key of a role, or nothing. A pattern without keys goes, and so does who signs releases.
fn exchange(roles: &mut Roles, role: &Role, gone: KeyId, key: Option<&PublicKey>) -> Result<(), Failure> {
    let have = known(roles, role)?;
    let threshold = have.threshold();
    let mut keys: Vec<PublicKey> = have.keys().iter().filter(|have| have.id() != gone).cloned().collect();
    keys.extend(key.filter(|key| have.key(key.id()).is_none()).cloned());
    match role {
        Role::Bundles(pattern) if keys.is_empty() => {
            roles.bundles.remove(pattern);
            Ok(())
        }
        Role::Releases if keys.is_empty() => {
            roles.releases = None;
            Ok(())
        }
        Role::Root | Role::Bundles(_) | Role::Releases | Role::Online => set(roles, role, keys, threshold),
    }
}

/// The key that a path or the beginning of an id names, of these keys of `whose`.
fn find<'k>(keys: impl IntoIterator<Item = &'k PublicKey>, whose: &str, named: &str) -> Result<KeyId, Failure> {
    let ids: Vec<KeyId> = keys.into_iter().map(PublicKey::id).collect();
    let refuse = |sentence: String| Err(Failure::new(Outcome::Usage, sentence));
    let path = std::path::Path::new(named);
    if path.is_file() {
        let id = super::public_key(path)?.id();
        if ids.contains(&id) {
            return Ok(id);
        }
        return refuse(format!("the key `{}` in `{named}` is not one of {whose}", id.short()));
    }
    let matching: Vec<KeyId> = ids.iter().filter(|id| id.to_string().starts_with(named)).copied().collect();
    match matching[..] {
        [id] if ID_DIGITS_MIN <= named.len() => Ok(id),
        _ => {
            let known: Vec<_> = ids.iter().map(KeyId::short).collect();
            refuse(format!(
                "`{named}` is neither a `.pub` file nor the first {ID_DIGITS_MIN} or more digits of one key of {whose}, which has {}",
                known.join(", ")
            ))
        }
    }
}
