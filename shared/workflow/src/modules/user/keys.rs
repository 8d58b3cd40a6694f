//! The keys that let a user in over SSH.
//!
//! The directory belongs to the user, who could put links there: no link is followed, and the file is replaced whole.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
};

use mlua::{IntoLua, MultiValue};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fchown, fstat, mkdirat, open, openat, renameat, unlinkat},
    process::{Gid, Uid},
};

use super::{missing, read::find, user_name};
use crate::modules::{
    account::{self, Account},
    call::Call,
    diff,
    options::Options,
    report::{Answer, Change, Report},
};

const DIR: &str = ".ssh";
const FILE: &str = "authorized_keys";
const TEMPORARY: &str = "authorized_keys.sloth-tmp";
/// Most bytes of the file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is to become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Present,
    Absent,
}

/// The lines of the file that hold a key.
pub(super) fn list(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    let keys = find(call, arguments)?.and_then(|account| {
        let text = match directory(&account, Wanted::Absent)? {
            Some(dir) => text(&dir, &account)?,
            None => String::new(),
        };
        Ok(text.lines().filter(|line| blob(line).is_some()).map(str::to_owned).collect::<Vec<_>>())
    });
    call.shown(keys, |keys| keys.clone().into_lua(&call.lua))
}

pub(super) fn change(call: &Call, arguments: &MultiValue, wanted: Wanted) -> mlua::Result<Answer> {
    let options = Options::named(call, arguments, &["username", "key"], &["name"])?;
    let (name, key) = (user_name(call, &options)?, options.required("key")?);
    let key = key.trim();
    if key.contains(['\n', '\r', '\0']) {
        return Err(call.error("`key` must be one line: add keys one by one"));
    }
    if blob(key).is_none() {
        return Err(call.error("`key` takes a line like `ssh-ed25519 AAAA… comment`"));
    }
    let outcome = match account::named(&name) {
        Some(account) => edit(call, &account, key, wanted),
        None if call.checking() => {
            let told = format!("change the keys of user `{name}`, which is not there yet");
            Change::new(told, String::new()).apply(call, || Ok(()))
        }
        None => Err(missing(&name)),
    };
    Ok(call.answer(outcome))
}

fn edit(call: &Call, account: &Account, key: &str, wanted: Wanted) -> Result<Report, String> {
    let name = &account.name;
    let found = directory(account, Wanted::Absent)?;
    let before = match &found {
        Some(dir) => text(dir, account)?,
        None => String::new(),
    };
    let after = edited(&before, key, wanted);
    if before == after {
        let told = match wanted {
            Wanted::Present => format!("`{name}` has this key already (idempotent)"),
            Wanted::Absent => format!("`{name}` does not have this key (idempotent)"),
        };
        return Ok(Report::unchanged(told));
    }
    let (would, did) = match wanted {
        Wanted::Present => (format!("give `{name}` a key"), format!("gave `{name}` a key")),
        Wanted::Absent => (format!("take a key from `{name}`"), format!("took a key from `{name}`")),
    };
    let shown = format!("{}/{DIR}/{FILE}", account.home);
    Change::new(would, did).diff(diff::unified(&shown, before.as_bytes(), after.as_bytes())).apply(call, || {
        let dir = directory(account, Wanted::Present)?.ok_or_else(|| format!("`{name}` has no home"))?;
        replace(&dir, account, &after).map_err(|error| format!("cannot write `{shown}`: {error}"))
    })
}

/// The text with the key in its place, at the end, or not at all. Keys are the same by what they are, not by the options
/// before it or the comment after it.
fn edited(text: &str, key: &str, wanted: Wanted) -> String {
    let wanted_blob = blob(key);
    let is_same = |line: &str| blob(line).is_some() && blob(line) == wanted_blob;
    let mut lines: Vec<_> = text.lines().collect();
    let place = lines.iter().position(|line| is_same(line));
    match (wanted, place) {
        (Wanted::Absent, None) => return text.to_owned(),
        (Wanted::Present, Some(at)) if lines[at].trim() == key => return text.to_owned(),
        (Wanted::Present, Some(at)) => lines[at] = key,
        (Wanted::Present, None) => lines.push(key),
        (Wanted::Absent, Some(_)) => lines.retain(|line| !is_same(line)),
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The part of a line that is the key itself.
fn blob(line: &str) -> Option<&str> {
    const KINDS: [&str; 3] = ["ssh-", "ecdsa-sha2-", "sk-"];
    if line.trim_start().starts_with('#') {
        return None;
    }
    let mut words = line.split_whitespace().skip_while(|word| !KINDS.iter().any(|kind| word.starts_with(kind)));
    let _kind = words.next()?;
    // What every such key begins with: the length of its kind's name.
    words.next().filter(|blob| blob.starts_with("AAAA"))
}

/// The user's directory of keys; made when a key is wanted in it.
fn directory(account: &Account, wanted: Wanted) -> Result<Option<OwnedFd>, String> {
    let shown = format!("{}/{DIR}", account.home);
    let home = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let home = match open(account.home.as_str(), home, Mode::empty()) {
        Ok(home) => home,
        Err(rustix::io::Errno::NOENT) if wanted == Wanted::Absent => return Ok(None),
        Err(error) => return Err(format!("cannot open `{}`: {error}", account.home)),
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = match openat(&home, DIR, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) if wanted == Wanted::Absent => return Ok(None),
        Err(rustix::io::Errno::NOENT) => {
            let made = mkdirat(&home, DIR, Mode::RWXU).and_then(|()| openat(&home, DIR, flags, Mode::empty()));
            made.and_then(|dir| own(&dir, account).map(|()| dir))
        }
        opened => opened,
    };
    let dir = opened.map_err(|error| format!("cannot open `{shown}`: {error}"))?;
    let owner = fstat(&dir).map_err(|error| format!("cannot open `{shown}`: {error}"))?.st_uid;
    if owner != account.uid && owner != 0 {
        return Err(format!("`{shown}` belongs to user {owner}, not to `{}`", account.name));
    }
    Ok(Some(dir))
}

fn text(dir: &OwnedFd, account: &Account) -> Result<String, String> {
    let said = |error: String| format!("cannot read `{}/{DIR}/{FILE}`: {error}", account.home);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match openat(dir, FILE, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
        Err(error) => return Err(said(error.to_string())),
    };
    let status = fstat(&file).map_err(|error| said(error.to_string()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(said("it is not a file".to_owned()));
    }
    let mut text = String::new();
    let read = File::from(file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let length = read.map_err(|error| said(error.to_string()))?;
    if FILE_BYTES_MAX < u64::try_from(length).unwrap_or(u64::MAX) {
        return Err(said(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn replace(dir: &OwnedFd, account: &Account, text: &str) -> std::io::Result<()> {
    // What a crash left behind.
    match unlinkat(dir, TEMPORARY, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(dir, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)?;
    own(&file, account)?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    renameat(dir, TEMPORARY, dir, FILE)?;
    rustix::fs::fsync(dir)?;
    Ok(())
}

fn own(file: &OwnedFd, account: &Account) -> rustix::io::Result<()> {
    match fchown(file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid))) {
        // It is the user's own already where this is not root.
        Err(error) if std::io::Error::from(error).kind() == ErrorKind::PermissionDenied => {
            if fstat(file)?.st_uid == account.uid { Ok(()) } else { Err(error) }
        }
        owned => owned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3one bob@a";
    const TWO: &str = "ssh-rsa AAAAB3two";

    #[test]
    fn keys_are_the_same_by_what_they_are() {
        let text = format!("# mine\n{ONE}\n");
        assert_eq!(edited(&text, ONE, Wanted::Present), text);
        assert_eq!(edited(&text, TWO, Wanted::Present), format!("{text}{TWO}\n"));
        let other = "from=\"10.0.0.*\",command=\"ssh x\" ssh-ed25519 AAAAC3one";
        assert_eq!(edited(&text, other, Wanted::Present), format!("# mine\n{other}\n"));
        assert_eq!(edited(&text, "ssh-ed25519 AAAAC3one", Wanted::Absent), "# mine\n");
        assert_eq!(edited(&text, TWO, Wanted::Absent), text);
        assert_eq!(edited("", ONE, Wanted::Present), format!("{ONE}\n"));
    }

    #[test]
    fn lines_without_a_key_have_none() {
        for line in ["", "# ssh-rsa AAAAB3", "ssh-rsa", "ssh-rsa nonsense", "hello AAAAB3"] {
            assert_eq!(blob(line), None, "{line}");
        }
        assert_eq!(blob("sk-ssh-ed25519@openssh.com AAAAG c"), Some("AAAAG"));
    }
}
