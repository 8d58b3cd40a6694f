//! The users and groups of the host, as its files have them.

use std::path::{Path, PathBuf};

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) comment: String,
    pub(super) home: String,
    pub(super) shell: String,
}

/// One line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) gid: u32,
    /// Those whose first group it is are not among them.
    pub(super) members: Vec<String>,
}

/// What of a line of `/etc/shadow` may be known. The password's hash does not leave this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shadow {
    pub(super) password: Password,
    /// The day of its last change, counted from 1970; the first day = it must be changed at the next login.
    pub(super) changed: Option<i64>,
    /// The day the account expires, counted from 1970.
    pub(super) expires: Option<i64>,
}

/// Whether an account has a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Password {
    Empty,
    Set,
    /// It is there and was locked.
    Locked,
    /// There is none that would fit, locked or not.
    Never {
        locked: bool,
    },
}

impl Password {
    pub(super) fn is_locked(self) -> bool {
        match self {
            Self::Locked | Self::Never { locked: true } => true,
            Self::Empty | Self::Set | Self::Never { locked: false } => false,
        }
    }
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SHADOW: &str = "/etc/shadow";
const LOGIN_DEFS: &str = "/etc/login.defs";
/// Most bytes of each of these files.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The first number of users that are people, where the host does not say.
const UID_MIN: u32 = 1000;
/// `nobody`, on every system.
const UID_NOBODY: u32 = 65534;
/// Most bytes of a user's name.
const NAME_BYTES_MAX: usize = 32;

/// Every user; none when the file cannot be read.
pub(super) fn all() -> Vec<Account> {
    text(PASSWD).lines().filter_map(parse).collect()
}

/// The first user that `wanted` takes.
pub(super) fn find(wanted: impl FnMut(&Account) -> bool) -> Option<Account> {
    all().into_iter().find(wanted)
}

/// The user of that name.
pub(super) fn named(name: &str) -> Option<Account> {
    find(|account| account.name == name)
}

/// The path that `~` or `~/…` means: in the home of `user`, or of whoever runs this process, which is where `HOME` says, as it
/// is for a shell. `None` = it begins with no `~`, or the host knows no such home.
pub(crate) fn at_home(path: &str, user: Option<&str>) -> Option<PathBuf> {
    let rest = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let uid = rustix::process::getuid().as_raw();
    let said = || std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = |account: Account| PathBuf::from(account.home);
    let home = match user {
        Some(user) => named(user).map(home),
        None => said().or_else(|| find(|account| account.uid == uid).map(home)),
    };
    Some(home?.join(rest.trim_start_matches('/')))
}

/// Where commands of `user` begin when nothing says where: in that home, or at the root where there is none. `None` = as for
/// any other, since it is who runs this process, or nobody that this process may become.
pub(crate) fn beginning_of(user: &str) -> Option<PathBuf> {
    let account = other(user)?;
    let home = PathBuf::from(account.home);
    Some(if home.is_absolute() && home.is_dir() { home } else { PathBuf::from("/") })
}

/// The numbers of a user and of its group, where it is another one than runs this process and one that it may become.
pub(crate) fn ids_of_other(user: &str) -> Option<(u32, u32)> {
    other(user).map(|account| (account.uid, account.gid))
}

/// The user of that name, where it is another one than runs this process and one that this process may become.
fn other(user: &str) -> Option<Account> {
    let own = rustix::process::geteuid();
    named(user).filter(|account| own.is_root() && account.uid != own.as_raw())
}

/// Every group; none when the file cannot be read.
pub(super) fn groups() -> Vec<Group> {
    text(GROUP).lines().filter_map(parse_group).collect()
}

/// The group of that name.
pub(super) fn group(name: &str) -> Option<Group> {
    groups().into_iter().find(|group| group.name == name)
}

/// The group of that number.
pub(super) fn group_of(gid: u32) -> Option<Group> {
    groups().into_iter().find(|group| group.gid == gid)
}

/// The names of a user's groups, the first one first.
pub(super) fn groups_of(account: &Account) -> Vec<String> {
    let groups = groups();
    let first = groups.iter().filter(|group| group.gid == account.gid);
    let others = groups.iter().filter(|group| group.gid != account.gid && group.members.contains(&account.name));
    first.chain(others).map(|group| group.name.clone()).collect()
}

/// What the host says of a user's password; nothing when this process may not know.
pub(super) fn shadow(name: &str) -> Option<Shadow> {
    text(SHADOW).lines().find_map(|line| parse_shadow(line.strip_prefix(name)?.strip_prefix(':')?))
}

/// The hash of a user's password, to be compared with one that is wanted.
pub(super) fn has_hash(name: &str, hash: &str) -> bool {
    let same = |line: &str| {
        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(rest.split(':').next() == Some(hash))
    };
    text(SHADOW).lines().find_map(same).unwrap_or(false)
}

/// Whether it belongs to the system, not to a person.
pub(super) fn is_system(account: &Account) -> bool {
    account.uid < uid_min() || account.uid == UID_NOBODY
}

/// What the name of a user or group takes, for messages.
pub(super) fn name_rule() -> String {
    format!("begin it with a small letter or `_`, use letters, digits, `_`, `-` and `.`, {NAME_BYTES_MAX} at most")
}

/// Whether it can be the name of a user or group: what `useradd` takes on every system.
pub(super) fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_');
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let rest = name.strip_suffix('$').unwrap_or(name);
    begins && name.len() <= NAME_BYTES_MAX && rest.chars().all(is_plain)
}

fn uid_min() -> u32 {
    let value = |line: &str| line.strip_prefix("UID_MIN")?.trim().parse().ok();
    text(LOGIN_DEFS).lines().find_map(value).unwrap_or(UID_MIN)
}

fn text(path: &str) -> String {
    let bytes = sloth_core::fs::read_capped(Path::new(path), FILE_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let mut text = || fields.next().map(str::to_owned);
    Some(Account { name, uid, gid, comment: text()?, home: text()?, shell: text()? })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let _password = fields.next()?;
    let gid = fields.next()?.parse().ok()?;
    let members = fields.next()?.split(',').filter(|member| !member.is_empty());
    Some(Group { name, gid, members: members.map(str::to_owned).collect() })
}

/// Reads what comes after the name.
fn parse_shadow(fields: &str) -> Option<Shadow> {
    let fields: Vec<_> = fields.split(':').collect();
    let day = |at: usize| fields.get(at).and_then(|day| day.parse::<i64>().ok());
    let password = match *fields.first()? {
        "" => Password::Empty,
        hash => match (hash.strip_prefix('!'), hash.trim_start_matches('!')) {
            (locked, "" | "*") => Password::Never { locked: locked.is_some() },
            (Some(_), _) => Password::Locked,
            (None, _) => Password::Set,
        },
    };
    Some(Shadow { password, changed: day(1), expires: day(6) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_strange_ones_passed_over() {
        let web = parse("web:x:33:34:Web,,,:/var/www:/bin/sh").expect("an account");
        assert_eq!((web.name.as_str(), web.uid, web.gid), ("web", 33, 34));
        assert_eq!((web.home.as_str(), web.shell.as_str()), ("/var/www", "/bin/sh"));
        for line in ["", "web", "web:x:one:2::/:", "web:x:-1:2::/:/bin/sh", ":x:1:2::/:/bin/sh", "+::::::"] {
            assert_eq!(parse(line), None, "{line}");
        }
        let group = parse_group("adm:x:4:syslog,bob").expect("a group");
        assert_eq!((group.gid, group.members), (4, vec!["syslog".to_owned(), "bob".to_owned()]));
        assert_eq!(parse_group("adm:x:4:").map(|group| group.members.len()), Some(0));
        assert_eq!(parse_group("+:::"), None);
    }

    #[test]
    fn passwords_are_known_by_their_kind_only() {
        for (fields, password, is_locked) in [
            ("$6$a$b:19000:0:99999:7:::", Password::Set, false),
            ("!$6$a$b:19000:0:99999:7:::", Password::Locked, true),
            ("!:19000::::::", Password::Never { locked: true }, true),
            ("!*:19000::::::", Password::Never { locked: true }, true),
            ("!!:19000::::::", Password::Never { locked: true }, true),
            ("*:19000::::::", Password::Never { locked: false }, false),
            (":19000::::::", Password::Empty, false),
        ] {
            let shadow = parse_shadow(fields).expect(fields);
            assert_eq!((shadow.password, shadow.password.is_locked()), (password, is_locked), "{fields}");
        }
        let shadow = parse_shadow("x:0:0:99999:7::20000:").expect("a line");
        assert_eq!((shadow.changed, shadow.expires), (Some(0), Some(20_000)));
    }

    #[test]
    fn names_are_those_that_every_system_takes() {
        for name in ["bob", "_apt", "web-1", "a.b", "machine$", "aB"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-bob", "1bob", "bob:x", "bob\n", "Bob", "a b", "$", "../x", &"a".repeat(33), "a$b"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
