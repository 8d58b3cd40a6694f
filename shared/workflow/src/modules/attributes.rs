//! The mode and the owner that a file is to have.

use std::{
    fs::{File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use mlua::Value;

use super::{
    account,
    call::{Call, number_of},
    files::{self, MODE_BITS},
    foreseen,
    options::Options,
};
use crate::beneath::{entry, inode};

/// The most digits of a mode.
const MODE_DIGITS_MAX: usize = 4;

/// What a file is to have; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: Option<Mode>,
    pub(super) owner: Option<Name>,
    pub(super) group: Option<Name>,
}

/// A mode, whole or as a change of the one that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// All of its bits.
    Octal(u32),
    /// Changes in order, as in `u+x,go-w`.
    Symbolic(Vec<Clause>),
}

/// One change of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clause {
    /// The bits that it is about.
    who: u32,
    operator: Operator,
    /// The bits that it gives or takes, of all three classes.
    bits: u32,
    /// Whether `X` is among them: to execute where that makes sense.
    search: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// A user or a group. One that does not exist yet may exist when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

impl Attributes {
    /// From the options `mode`, `owner` and `group`.
    pub(super) fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Self> {
        let mode = options.value("mode")?;
        Ok(Self {
            mode: if mode.is_nil() { None } else { Some(Mode::read(call, "mode", &mode)?) },
            owner: Name::read(call, "owner", &options.value("owner")?, Kind::User)?,
            group: Name::read(call, "group", &options.value("group")?, Kind::Group)?,
        })
    }

    /// Owner and group as `chown` takes them: `user`, `user:group`, `:group`, or apart.
    pub(super) fn owners(call: &Call, owner: &Value, group: &Value) -> mlua::Result<Self> {
        let joined = owner.as_string().map(mlua::LuaString::to_string_lossy);
        let (owner, group) = match joined.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, of)) => {
                let value = |text: &str| {
                    if text.is_empty() { Ok(Value::Nil) } else { call.lua.create_string(text).map(Value::String) }
                };
                (value(user)?, if of.is_empty() { group.clone() } else { value(of)? })
            }
            None => (owner.clone(), group.clone()),
        };
        let owner = Name::read(call, "owner", &owner, Kind::User)?;
        let group = Name::read(call, "group", &group, Kind::Group)?;
        if owner.is_none() && group.is_none() {
            return Err(call.error("takes an owner, a group or both"));
        }
        Ok(Self { mode: None, owner, group })
    }

    /// What would be changed of what `found` describes, each as in `mode 644 → 600`.
    pub(super) fn differences(&self, found: &Metadata) -> Vec<String> {
        let mut told = Vec::new();
        let mode = found.mode() & MODE_BITS;
        if let Some(wanted) = self.mode_of(found).filter(|wanted| *wanted != mode) {
            told.push(format!("mode {mode:o} → {wanted:o}"));
        }
        for (name, id, what) in [(&self.owner, found.uid(), "owner"), (&self.group, found.gid(), "group")] {
            if let Some(name) = name.as_ref().filter(|name| name.id() != Some(id)) {
                told.push(format!("{what} {} → {}", name.kind.name_of(id), name.text));
            }
        }
        told
    }

    /// The mode that what `found` describes is to have, if one is said.
    pub(super) fn mode_of(&self, found: &Metadata) -> Option<u32> {
        self.mode.as_ref().map(|mode| mode.applied(found.mode() & MODE_BITS, found.is_dir()))
    }

    /// The ids of owner and group.
    ///
    /// # Errors
    ///
    /// When the host does not know one.
    pub(super) fn ids(&self) -> Result<(Option<u32>, Option<u32>), String> {
        let id = |name: &Option<Name>| name.as_ref().map(Name::known).transpose();
        Ok((id(&self.owner)?, id(&self.group)?))
    }

    /// Checks in a run that only checks that the run itself would find owner and group.
    ///
    /// # Errors
    ///
    /// When the host does not know one, and no earlier step would have made it.
    pub(super) fn check(&self, call: &Call) -> Result<(), String> {
        if !call.checking() {
            return Ok(());
        }
        for name in [&self.owner, &self.group].into_iter().flatten() {
            let may_be_made = match name.kind {
                Kind::User => foreseen::may_have_user(call, &name.text),
                Kind::Group => foreseen::may_have_group(call, &name.text),
            };
            if !may_be_made {
                name.known()?;
            }
        }
        Ok(())
    }

    /// Gives them to what is at `path`; a link itself gets an owner only.
    pub(super) fn apply(&self, path: &Path) -> Result<(), String> {
        let (uid, gid) = self.ids()?;
        let way = entry(path);
        let found = way.symlink_metadata().map_err(files::said("look at", path))?;
        if uid.is_some_and(|uid| uid != found.uid()) || gid.is_some_and(|gid| gid != found.gid()) {
            std::os::unix::fs::lchown(&way, uid, gid).map_err(files::said("change the owner of", path))?;
        }
        // A new owner takes bits such as setuid from the mode, so it comes last.
        if let Some(mode) = self.mode_of(&found).filter(|_| !found.is_symlink()) {
            std::fs::set_permissions(inode(path), Permissions::from_mode(mode))
                .map_err(files::said("change the mode of", path))?;
        }
        Ok(())
    }

    /// Gives them to a new file, which has `mode` unless they say another.
    pub(super) fn apply_to_new(&self, file: &File, mode: u32, ids: (Option<u32>, Option<u32>)) -> io::Result<()> {
        if ids != (None, None) {
            std::os::unix::fs::fchown(file, ids.0, ids.1)?;
        }
        let mode = self.mode.as_ref().map_or(mode, |wanted| wanted.applied(mode, false));
        file.set_permissions(Permissions::from_mode(mode))
    }
}

impl Mode {
    /// A text of octal digits or of changes; the digits of a number are taken as they are written, so `644` is `"644"`.
    pub(super) fn read(call: &Call, argument: &str, value: &Value) -> mlua::Result<Self> {
        let text = match number_of(value) {
            Some(number) => number.to_string(),
            None => call.text(argument, value)?,
        };
        Self::parse(&text).ok_or_else(|| {
            call.error(format_args!("`{argument}` takes a mode like `0644` or `u+x,go-w`, got `{text}`"))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if digits.starts_with(|first: char| first.is_ascii_digit()) {
            let digits = digits.strip_prefix('0').filter(|rest| rest.len() == MODE_DIGITS_MAX).unwrap_or(digits);
            let octal = digits.len() <= MODE_DIGITS_MAX && digits.bytes().all(|byte| (b'0'..b'8').contains(&byte));
            return if octal { u32::from_str_radix(digits, 8).ok().map(Self::Octal) } else { None };
        }
        text.split(',').map(Clause::parse).collect::<Option<_>>().map(Self::Symbolic)
    }

    /// The mode that comes of `mode`.
    pub(super) fn applied(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(octal) => *octal,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.applied(mode, is_dir)),
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let mut who = 0;
        for class in text[..at].chars() {
            who |= match class {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => MODE_BITS,
                _ => return None,
            };
        }
        let operator = match text.as_bytes()[at] {
            b'+' => Operator::Add,
            b'-' => Operator::Remove,
            _ => Operator::Set,
        };
        let (mut bits, mut search) = (0, false);
        for permission in text[at + 1..].chars() {
            match permission {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'x' => bits |= 0o111,
                's' => bits |= 0o6000,
                't' => bits |= 0o1000,
                'X' => search = true,
                _ => return None,
            }
        }
        Some(Self { who: if who == 0 { MODE_BITS } else { who }, operator, bits, search })
    }

    fn applied(self, mode: u32, is_dir: bool) -> u32 {
        let search = if self.search && (is_dir || mode & 0o111 != 0) { 0o111 } else { 0 };
        let bits = (self.bits | search) & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => (mode & !self.who) | bits,
        }
    }
}

impl Name {
    fn read(call: &Call, argument: &str, value: &Value, kind: Kind) -> mlua::Result<Option<Self>> {
        let text = match number_of(value) {
            Some(number) => Some(number.to_string()),
            None => call.optional_text(argument, value)?,
        };
        match text {
            Some(text) if text.is_empty() || text.contains([':', '\n', '\0']) => {
                Err(call.error(format_args!("`{argument}` takes a name or a number, got `{text}`")))
            }
            text => Ok(text.map(|text| Self { text, kind })),
        }
    }

    /// Its number: a name that the host knows, or the number itself.
    fn id(&self) -> Option<u32> {
        self.kind.id_of(&self.text).or_else(|| self.text.parse().ok())
    }

    fn known(&self) -> Result<u32, String> {
        self.id().ok_or_else(|| match self.kind {
            Kind::User => format!("there is no user `{}` on this host", self.text),
            Kind::Group => format!("there is no group `{}` on this host", self.text),
        })
    }
}

impl Kind {
    fn id_of(self, name: &str) -> Option<u32> {
        match self {
            Self::User => account::named(name).map(|account| account.uid),
            Self::Group => account::group(name).map(|group| group.gid),
        }
    }

    fn name_of(self, id: u32) -> String {
        let name = match self {
            Self::User => account::find(|account| account.uid == id).map(|account| account.name),
            Self::Group => account::group_of(id).map(|group| group.name),
        };
        name.unwrap_or_else(|| id.to_string())
    }
}

/// The name of a user, or its number where it has none.
pub(super) fn user_name(uid: u32) -> String {
    Kind::User.name_of(uid)
}

/// The name of a group, or its number where it has none.
pub(super) fn group_name(gid: u32) -> String {
    Kind::Group.name_of(gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_applied() {
        for (text, before, after) in [
            ("0644", 0, Some(0o644)),
            ("644", 0, Some(0o644)),
            ("0o755", 0, Some(0o755)),
            ("4755", 0, Some(0o4755)),
            ("04755", 0, Some(0o4755)),
            ("0", 0o777, Some(0)),
            ("u+x", 0o644, Some(0o744)),
            ("+x", 0o644, Some(0o755)),
            ("go-rwx", 0o755, Some(0o700)),
            ("a=r,u+w", 0o777, Some(0o644)),
            ("u=rw,go=r", 0o777, Some(0o644)),
            ("go=", 0o777, Some(0o700)),
            ("a+X", 0o644, Some(0o644)),
            ("a+X", 0o744, Some(0o755)),
            ("u+s", 0o755, Some(0o4755)),
            ("+t", 0o777, Some(0o1777)),
            ("689", 0, None),
            ("10644", 0, None),
            ("u*x", 0, None),
            ("rw-r--r--", 0, None),
            ("", 0, None),
            ("u+x,", 0, None),
        ] {
            assert_eq!(Mode::parse(text).map(|mode| mode.applied(before, false)), after, "{text}");
        }
        assert_eq!(Mode::parse("a+X").map(|mode| mode.applied(0o644, true)), Some(0o755));
    }

    #[test]
    fn names_have_numbers() {
        let user = |text: &str| Name { text: text.to_owned(), kind: Kind::User };
        assert_eq!(user("root").id(), Some(0));
        assert_eq!(user("12345").id(), Some(12_345));
        assert_eq!(user("no-one-here").known(), Err("there is no user `no-one-here` on this host".to_owned()));
        assert_eq!((group_name(0), user_name(0)), ("root".to_owned(), "root".to_owned()));
    }
}
