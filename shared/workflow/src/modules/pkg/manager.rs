//! The package managers, and how each is told what to do.

use super::{Line, names::Package};
use crate::modules::{call::Call, tool::Tool};

/// How long another run of the manager is waited for.
pub(super) const LOCK_SECS: u32 = 300;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::modules) enum Manager {
    Apt,
    Dnf,
    Yum,
    Zypper,
    Pacman,
    Apk,
}

impl Manager {
    /// In the order in which they are looked for.
    const ALL: [Self; 6] = [Self::Apt, Self::Dnf, Self::Yum, Self::Zypper, Self::Pacman, Self::Apk];

    /// The one that the host has.
    pub(in crate::modules) fn detect(call: &Call) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|manager| Tool::exists(call, manager.program()));
        found.ok_or_else(|| {
            "this host has no package manager that is known: apt, dnf, yum, zypper, pacman or apk".to_owned()
        })
    }

    pub(in crate::modules) const fn name(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Dnf => "dnf",
            Self::Yum => "yum",
            Self::Zypper => "zypper",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf | Self::Yum | Self::Zypper | Self::Pacman | Self::Apk => self.name(),
        }
    }

    /// Its beginning of every change: no questions, and patience where another run holds the lock.
    fn line<S: AsRef<str>>(self, arguments: impl IntoIterator<Item = S>) -> Line {
        let lock = format!("DPkg::Lock::Timeout={LOCK_SECS}");
        let wait = LOCK_SECS.to_string();
        let first: Vec<&str> = match self {
            // Settings that people changed are kept.
            Self::Apt => vec![
                "-y",
                "-q",
                "-o",
                &lock,
                "-o",
                "Dpkg::Options::=--force-confdef",
                "-o",
                "Dpkg::Options::=--force-confold",
            ],
            Self::Dnf | Self::Yum => vec!["-y", "-q"],
            Self::Zypper => vec!["--non-interactive", "--quiet"],
            Self::Pacman => vec!["--noconfirm", "--noprogressbar"],
            Self::Apk => vec!["--wait", &wait, "--no-progress"],
        };
        let rest = Line::new(self.program(), arguments);
        Line::new(self.program(), first).with(&rest.arguments)
    }

    pub(super) fn install(self, packages: &[Package], refresh: bool) -> Result<Line, String> {
        let mut words: Vec<String> = Vec::new();
        for package in packages {
            words.push(match (&package.version, self) {
                (None, _) => package.name.clone(),
                (Some(version), Self::Apt | Self::Zypper | Self::Apk) => format!("{}={version}", package.name),
                (Some(version), Self::Dnf | Self::Yum) => format!("{}-{version}", package.name),
                (Some(_), Self::Pacman) => {
                    return Err(format!(
                        "pacman has one version of a package only: name `{}` without it",
                        package.name
                    ));
                }
            });
        }
        let line = match self {
            Self::Apt if packages.iter().any(|package| package.version.is_some()) => {
                self.line(["install", "--allow-downgrades", "--"])
            }
            Self::Apt => self.line(["install", "--"]),
            Self::Dnf | Self::Yum => self.line(["install"]),
            Self::Zypper => self.line(["install", "--auto-agree-with-licenses"]),
            Self::Pacman => self.line(["-S", "--needed"]),
            Self::Apk if refresh => self.line(["add", "--upgrade"]),
            Self::Apk => self.line(["add"]),
        };
        Ok(line.with(&words))
    }

    pub(super) fn remove(self, names: &[String], purge: bool) -> Line {
        match (self, purge) {
            (Self::Apt, true) => self.line(["purge", "--"]),
            (Self::Apt, false) => self.line(["remove", "--"]),
            (Self::Dnf | Self::Yum | Self::Zypper, _) => self.line(["remove"]),
            (Self::Pacman, true) => self.line(["-Rn"]),
            (Self::Pacman, false) => self.line(["-R"]),
            (Self::Apk, true) => self.line(["del", "--purge"]),
            (Self::Apk, false) => self.line(["del"]),
        }
        .with(names)
    }

    pub(super) fn update(self) -> Line {
        match self {
            Self::Apt | Self::Apk => self.line(["update"]),
            Self::Dnf => self.line(["makecache", "--refresh"]),
            Self::Yum => self.line(["makecache"]),
            Self::Zypper => self.line(["refresh"]),
            Self::Pacman => self.line(["-Sy"]),
        }
    }

    pub(super) fn upgrade(self) -> Line {
        match self {
            Self::Apt => self.line(["--with-new-pkgs", "upgrade"]),
            Self::Dnf | Self::Yum | Self::Apk => self.line(["upgrade"]),
            Self::Zypper => self.line(["update", "--auto-agree-with-licenses"]),
            Self::Pacman => self.line(["-Su"]),
        }
    }

    pub(super) fn clean(self) -> Line {
        match self {
            Self::Apt => self.line(["clean"]),
            Self::Dnf | Self::Yum => self.line(["clean", "all"]),
            Self::Zypper => self.line(["clean", "--all"]),
            Self::Pacman => self.line(["-Sc"]),
            Self::Apk => self.line(["cache", "clean"]),
        }
    }

    /// What removes packages that nothing needs any more; `Ok(None)` where it does so by itself.
    pub(super) fn autoremove(self, unneeded: &[String]) -> Result<Option<Line>, String> {
        match self {
            Self::Apt | Self::Dnf | Self::Yum => Ok(Some(self.line(["autoremove"]))),
            Self::Zypper => {
                Err("zypper cannot remove what nothing needs: name the packages with `pkg.remove`".to_owned())
            }
            Self::Pacman => Ok(Some(self.line(["-Rns"]).with(unneeded))),
            Self::Apk => Ok(None),
        }
    }

    /// What tells which packages nothing needs any more.
    pub(super) fn unneeded(self) -> Option<Line> {
        match self {
            Self::Apt => Some(Line::new("apt-get", ["-s", "-q", "autoremove"])),
            Self::Dnf => Some(Line::new("dnf", ["-q", "repoquery", "--unneeded", "--qf", "%{name}\\n"])),
            Self::Pacman => Some(Line::new("pacman", ["-Qdtq"])),
            Self::Yum | Self::Zypper | Self::Apk => None,
        }
    }

    pub(super) fn install_local(self, file: &str) -> Line {
        let words = [file.to_owned()];
        match self {
            Self::Apt => self.line(["install", "--allow-downgrades", "--"]),
            Self::Dnf | Self::Yum => self.line(["install"]),
            Self::Zypper => self.line(["install", "--allow-unsigned-rpm"]),
            Self::Pacman => self.line(["-U"]),
            Self::Apk => self.line(["add", "--allow-untrusted"]),
        }
        .with(&words)
    }

    /// What tells the name and the version of a package's file, with a space or tab between them.
    pub(super) fn identify(self, file: &str) -> Option<Line> {
        match self {
            Self::Apt => Some(Line::new("dpkg-deb", ["--show", "--showformat=${Package}\t${Version}\n", file])),
            Self::Dnf | Self::Yum | Self::Zypper => {
                Some(Line::new("rpm", ["-qp", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n", file]))
            }
            Self::Pacman => Some(Line::new("pacman", ["-Qp", file])),
            Self::Apk => None,
        }
    }

    pub(super) fn search(self, query: &str) -> Line {
        match self {
            Self::Apt => Line::new("apt-cache", ["search", "--", query]),
            Self::Dnf | Self::Yum => Line::new(self.program(), ["-q", "search", query]),
            Self::Zypper => Line::new("zypper", ["--non-interactive", "--quiet", "search", query]),
            Self::Pacman => Line::new("pacman", ["-Ss", query]),
            Self::Apk => Line::new("apk", ["search", "-v", query]),
        }
    }

    pub(super) fn info(self, name: &str) -> Line {
        match self {
            Self::Apt => Line::new("apt-cache", ["show", "--no-all-versions", "--", name]),
            Self::Dnf | Self::Yum => Line::new(self.program(), ["-q", "info", name]),
            Self::Zypper => Line::new("zypper", ["--non-interactive", "--quiet", "info", name]),
            Self::Pacman => Line::new("pacman", ["-Si", name]),
            Self::Apk => Line::new("apk", ["info", "-a", name]),
        }
    }

    pub(super) fn dependencies(self, name: &str) -> Line {
        match self {
            Self::Apt => Line::new("apt-cache", ["depends", "--", name]),
            Self::Dnf => Line::new("dnf", ["-q", "repoquery", "--requires", name]),
            Self::Yum => Line::new("yum", ["-q", "deplist", name]),
            Self::Zypper => Line::new("zypper", ["--non-interactive", "--quiet", "info", "--requires", name]),
            Self::Pacman => Line::new("pacman", ["-Si", name]),
            Self::Apk => Line::new("apk", ["info", "-R", name]),
        }
    }

    pub(super) fn hold(self, names: &[String], on: bool) -> Result<Line, String> {
        let line = match (self, on) {
            (Self::Apt, true) => Line::new("apt-mark", ["hold", "--"]),
            (Self::Apt, false) => Line::new("apt-mark", ["unhold", "--"]),
            (Self::Dnf | Self::Yum, true) => self.line(["versionlock", "add"]),
            (Self::Dnf | Self::Yum, false) => self.line(["versionlock", "delete"]),
            (Self::Zypper, true) => self.line(["addlock"]),
            (Self::Zypper, false) => self.line(["removelock"]),
            (Self::Pacman | Self::Apk, _) => return Err(format!("{} cannot hold packages", self.name())),
        };
        Ok(line.with(names))
    }

    /// What tells which packages are held.
    pub(super) fn held(self) -> Result<Line, String> {
        match self {
            Self::Apt => Ok(Line::new("apt-mark", ["showhold"])),
            Self::Dnf | Self::Yum => Ok(Line::new(self.program(), ["-q", "versionlock", "list"])),
            Self::Zypper => Ok(Line::new("zypper", ["--non-interactive", "--quiet", "locks"])),
            Self::Pacman | Self::Apk => Err(format!("{} cannot hold packages", self.name())),
        }
    }

    /// What the index of packages is kept in: its age is that of the newest of these.
    pub(super) const fn index(self) -> &'static [&'static str] {
        match self {
            Self::Apt => {
                &["/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists", "/var/lib/apt/lists/partial"]
            }
            Self::Dnf => &["/var/cache/dnf", "/var/cache/libdnf5"],
            Self::Yum => &["/var/cache/yum"],
            Self::Zypper => &["/var/cache/zypp/raw", "/var/cache/zypp/solv"],
            Self::Pacman => &["/var/lib/pacman/sync"],
            Self::Apk => &["/var/cache/apk", "/lib/apk/db"],
        }
    }
}
