//! What is installed and what could be newer, as the host's package database knows it.

use std::collections::BTreeMap;

use super::{ASK_TIMEOUT, Line, manager::Manager, names::Package, reason};
use crate::modules::{call::Call, tool::Output};

/// Packages with their versions.
pub(super) type Versions = BTreeMap<String, String>;

/// Those of `names` that are installed; without names, all.
pub(super) async fn installed(call: &Call, manager: Manager, names: &[String]) -> Result<Versions, String> {
    let line = match manager {
        // A package that was removed but whose settings are kept is known as well: its status says so.
        Manager::Apt => Line::new("dpkg-query", ["-W", "-f=${binary:Package}\t${Version}\t${db:Status-Status}\n"]),
        Manager::Dnf | Manager::Yum | Manager::Zypper => {
            let all = if names.is_empty() { "-qa" } else { "-q" };
            Line::new("rpm", [all, "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\tinstalled\\n"])
        }
        Manager::Pacman => Line::new("pacman", ["-Q"]),
        Manager::Apk => Line::new("apk", ["info", "-v"]),
    };
    let is_asked = manager != Manager::Apk;
    let output = line.with(if is_asked { names } else { &[] }).run(call, ASK_TIMEOUT).await?;
    // One that is not installed is an error to these programs; that nothing answers is one.
    if !output.success() && names.is_empty() {
        return Err(reason(&output));
    }
    let mut found = parse(manager, &output.stdout);
    if !names.is_empty() {
        found.retain(|name, _| names.contains(name));
    }
    Ok(found)
}

/// Whether a package is installed as it is wanted.
pub(super) fn is_there(installed: &Versions, package: &Package) -> bool {
    let Some(now) = installed.get(&package.name) else { return false };
    package.version.as_deref().is_none_or(|wanted| {
        let begin = wanted.strip_suffix('*');
        begin.map_or(now == wanted, |begin| now.starts_with(begin))
            // rpm adds a release, which nobody writes.
            || now.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
    })
}

/// What could be newer of `names`, or of everything: lines like `name 1.0 -> 1.1`. It asks the index as it is.
pub(in crate::modules) async fn outdated(
    call: &Call,
    manager: Manager,
    names: &[String],
) -> Result<Vec<String>, String> {
    let line = match manager {
        Manager::Apt if names.is_empty() => Line::new("apt-get", ["-s", "-q", "--with-new-pkgs", "upgrade"]),
        Manager::Apt => Line::new("apt-get", ["-s", "-q", "install", "--only-upgrade", "--"]),
        Manager::Dnf | Manager::Yum => Line::new(manager.name(), ["-q", "check-update"]),
        Manager::Zypper => Line::new("zypper", ["--non-interactive", "--quiet", "list-updates"]),
        Manager::Pacman => Line::new("pacman", ["-Qu"]),
        Manager::Apk => Line::new("apk", ["version", "-l", "<"]),
    };
    let takes_names = matches!(manager, Manager::Apt | Manager::Dnf | Manager::Yum | Manager::Pacman);
    let output = line.with(if takes_names { names } else { &[] }).run(call, ASK_TIMEOUT).await?;
    if !has_answered(manager, &output) {
        return Err(reason(&output));
    }
    let found = output.stdout.lines().filter_map(|line| newer(manager, line));
    let wanted = |name: &String| takes_names || names.is_empty() || names.contains(name);
    Ok(found.filter(|(name, _)| wanted(name)).map(|(_, told)| told).collect())
}

/// dnf and pacman say by their exit code whether something is newer.
fn has_answered(manager: Manager, output: &Output) -> bool {
    const DNF_NEWER: i32 = 100;
    const PACMAN_NONE: i32 = 1;
    output.success()
        || match manager {
            Manager::Dnf | Manager::Yum => output.exit_code == DNF_NEWER,
            Manager::Pacman => output.exit_code == PACMAN_NONE && output.stderr.is_empty(),
            Manager::Apt | Manager::Zypper | Manager::Apk => false,
        }
}

/// The packages that nothing needs any more, where that can be asked.
pub(super) async fn unneeded(call: &Call, manager: Manager) -> Result<Option<Vec<String>>, String> {
    let Some(line) = manager.unneeded() else { return Ok(None) };
    let output = line.run(call, ASK_TIMEOUT).await?;
    // pacman has no other way to say that there is none.
    let is_none = manager == Manager::Pacman && output.stderr.is_empty();
    if !output.success() && !is_none {
        return Err(reason(&output));
    }
    let name = |line: &str| {
        let name = if manager == Manager::Apt { line.strip_prefix("Remv ")? } else { line };
        name.split_whitespace().next().map(str::to_owned)
    };
    Ok(Some(output.stdout.lines().filter_map(name).collect()))
}

fn parse(manager: Manager, text: &str) -> Versions {
    let mut found = Versions::new();
    for line in text.lines() {
        let entry = match manager {
            Manager::Apt | Manager::Dnf | Manager::Yum | Manager::Zypper => {
                let mut fields = line.split('\t');
                let entry = fields.next().zip(fields.next());
                entry.filter(|_| fields.next() == Some("installed"))
            }
            Manager::Pacman => line.split_once(' '),
            Manager::Apk => apk(line),
        };
        let Some((name, version)) = entry else { continue };
        // Of a package of several architectures each is named with its own.
        if let Some((bare, _)) = name.split_once(':') {
            found.insert(bare.to_owned(), version.to_owned());
        }
        found.insert(name.to_owned(), version.to_owned());
    }
    found
}

/// Splits `name-1.2-r0`.
fn apk(word: &str) -> Option<(&str, &str)> {
    let word = word.split_whitespace().next()?;
    let (rest, _release) = word.rsplit_once("-r")?;
    let at = rest.rfind('-')?;
    Some((&word[..at], &word[at + 1..]))
}

/// A package that could be newer: its name, and what is told of it.
fn newer(manager: Manager, line: &str) -> Option<(String, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (name, old, new) = match manager {
        Manager::Apt => {
            let ["Inst", name, rest @ ..] = &words[..] else { return None };
            let old = rest.first()?.strip_prefix('[').map(|old| old.trim_end_matches(']'));
            (*name, old, rest.iter().find_map(|word| word.strip_prefix('('))?)
        }
        Manager::Dnf | Manager::Yum => {
            let [name, new, _repository] = words[..] else { return None };
            (name.rsplit_once('.')?.0, None, new)
        }
        Manager::Zypper => {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let ["v", _, name, old, new, ..] = cells[..] else { return None };
            return Some((name.to_owned(), format!("{name} {old} -> {new}")));
        }
        Manager::Pacman => {
            let [name, old, "->", new, ..] = words[..] else { return None };
            (name, Some(old), new)
        }
        Manager::Apk => {
            let [word, "<", new, ..] = words[..] else { return None };
            let (name, old) = apk(word)?;
            (name, Some(old), new)
        }
    };
    let told = old.map_or_else(|| format!("{name} {new}"), |old| format!("{name} {old} -> {new}"));
    Some((name.to_owned(), told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_managers_list_is_read() {
        let apt = parse(Manager::Apt, "libc6:amd64\t2.36\tinstalled\nold\t1.0\tconfig-files\nvim\t9.0\tinstalled\n");
        assert_eq!(apt.get("libc6").map(String::as_str), Some("2.36"));
        assert!(apt.contains_key("libc6:amd64") && apt.contains_key("vim") && !apt.contains_key("old"));
        let rpm = parse(Manager::Dnf, "bash\t5.2-1.fc40\tinstalled\npackage vim is not installed\n");
        assert_eq!(rpm.into_iter().collect::<Vec<_>>(), [("bash".to_owned(), "5.2-1.fc40".to_owned())]);
        assert_eq!(parse(Manager::Pacman, "bash 5.2.026-2\n").get("bash").map(String::as_str), Some("5.2.026-2"));
        let apk = parse(Manager::Apk, "musl-1.2.4-r2\nlibcrypto3-3.1.4-r5\nWARNING: x\n");
        assert_eq!(apk.get("musl").map(String::as_str), Some("1.2.4-r2"));
        assert_eq!(apk.get("libcrypto3").map(String::as_str), Some("3.1.4-r5"));
    }

    #[test]
    fn each_managers_newer_ones_are_read() {
        for (manager, line, expected) in [
            (Manager::Apt, "Inst curl [7.88-1] (7.88-2 Debian:12 [amd64])", Some("curl 7.88-1 -> 7.88-2")),
            (Manager::Apt, "Inst new (1.0 Debian:12 [amd64])", Some("new 1.0")),
            (Manager::Apt, "Conf curl (7.88-2 Debian:12 [amd64])", None),
            (Manager::Dnf, "kernel-core.x86_64   6.8.5-301.fc40   updates", Some("kernel-core 6.8.5-301.fc40")),
            (Manager::Dnf, "Obsoleting Packages", None),
            (Manager::Zypper, "v | Main | curl | 8.0-1 | 8.1-1 | x86_64", Some("curl 8.0-1 -> 8.1-1")),
            (Manager::Zypper, "S | Repository | Name | Current | Available | Arch", None),
            (Manager::Pacman, "linux 6.8-1 -> 6.9-1", Some("linux 6.8-1 -> 6.9-1")),
            (Manager::Apk, "busybox-1.36.1-r2 < 1.36.1-r5", Some("busybox 1.36.1-r2 -> 1.36.1-r5")),
            (Manager::Apk, "Installed:   Available:", None),
        ] {
            assert_eq!(newer(manager, line).map(|(_, told)| told).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn versions_are_compared_as_they_are_written() {
        let installed = Versions::from([("a".to_owned(), "1.2-3".to_owned())]);
        for (version, expected) in [
            (None, true),
            (Some("1.2-3"), true),
            (Some("1.2"), true),
            (Some("1.*"), true),
            (Some("1"), false),
            (Some("1.3"), false),
        ] {
            let package = Package { name: "a".to_owned(), version: version.map(str::to_owned) };
            assert_eq!(is_there(&installed, &package), expected, "{version:?}");
        }
    }
}
