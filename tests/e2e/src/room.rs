//! Networks and mounts that only the test's own processes see.

use std::{
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    running::Ran,
    wait::{until, until_true},
};

/// How long the system may take to make a namespace.
const ROOM_LIMIT: Duration = Duration::from_secs(10);

/// What a room has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A network without anything in it.
    Network,
    /// Mounts: a copy of the system's, to be changed freely.
    Mounts,
}

/// A namespace, held by a process that ends with the room or, whatever happens, with the test.
///
/// Root makes them directly. Others make a user namespace first, in which they are root; where the system forbids that
/// too, [`Room::new`] says so.
#[derive(Debug)]
pub struct Room {
    holder: Child,
    share: Share,
    users: bool,
}

impl Room {
    /// A room of its own.
    ///
    /// # Panics
    ///
    /// When the system forbids it.
    #[must_use]
    pub fn new(share: Share) -> Self {
        let users = !rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if users {
            command.args(["--user", "--map-root-user"]);
        }
        command.arg(share.option()).arg("cat");
        Self::hold(command, share, users)
    }

    /// Another room, which belongs to the same user namespace, so that both can be wired together.
    ///
    /// # Panics
    ///
    /// When the system forbids it.
    #[must_use]
    pub fn beside(&self) -> Self {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid()));
        if self.users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["unshare", self.share.option(), "cat"]);
        Self::hold(command, self.share, self.users)
    }

    /// The process that holds it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that will run `program` in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid()));
        if self.users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(self.share.option());
        command.arg("--").arg(program);
        // Where `ip` and its like are, which not everybody has on the path.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// Runs a line of words in it, and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, line: &str) -> String {
        self.try_run(line).done()
    }

    /// Runs a line of words in it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn try_run(&self, line: &str) -> Ran {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or("true"));
        command.args(words);
        Ran::of(command)
    }

    /// Runs a line of the shell in it.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn shell(&self, line: &str) -> String {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        Ran::of(command).done()
    }

    /// What `path` in it is from outside.
    #[must_use]
    pub fn outside(&self, path: &std::path::Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(inside)
    }

    fn hold(mut command: Command, share: Share, users: bool) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let holder = command.spawn().unwrap_or_else(|error| panic!("cannot start `unshare` of util-linux: {error}"));
        let mut room = Self { holder, share, users };
        let ours = room.namespace("self");
        until_true("a namespace", ROOM_LIMIT, || {
            assert!(
                !matches!(room.holder.try_wait(), Ok(Some(_))),
                "this system lets nobody but root make namespaces: run the tests as root, or allow user namespaces \
                 (`sysctl kernel.unprivileged_userns_clone=1`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`)"
            );
            let theirs = room.namespace(&room.pid().to_string());
            theirs.is_some() && theirs != ours
        });
        // The namespace is there before `cat` is: only then is the holder done with changing itself.
        until("the namespace's holder", ROOM_LIMIT, || {
            let name = fs::read_to_string(format!("/proc/{}/comm", room.pid())).ok()?;
            (name.trim() == "cat").then_some(())
        });
        room
    }

    fn namespace(&self, pid: &str) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{pid}/ns/{}", self.share.file())).ok()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Share {
    const fn option(self) -> &'static str {
        match self {
            Self::Network => "--net",
            Self::Mounts => "--mount",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mounts => "mnt",
        }
    }
}
