//! What daemon, supervisor and commands of one host say to each other: lines of words.
//!
//! They may be of different releases, in either order, so a line that says nothing to the one who reads it is passed over.

use std::fmt;

use semver::Version;

use super::Proof;

/// Most bytes of a line.
pub const LINE_BYTES_MAX: usize = 4096;

/// What a daemon says to its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromDaemon {
    /// It has its directory and its state, and works.
    Ready,
    /// The coordinator answered a poll.
    Polled,
    /// The connection was lost, and not by its own wish.
    Lost,
    /// It still does what it should.
    Alive,
}

/// What a supervisor says to its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToDaemon {
    /// Begin no new work, and end once what runs has ended.
    End,
}

/// What is asked of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Try a version that is staged.
    Switch {
        /// Which.
        version: Version,
        /// What will prove it.
        proof: Proof,
    },
    /// Go back to the version before, and mark this one bad.
    RollBack,
    /// Take the package's new version, once running work has ended.
    Package,
    /// Mark a version bad no longer.
    Forget(Version),
    /// The outcomes up to this number are stored elsewhere.
    Acknowledge(u64),
}

impl FromDaemon {
    /// Reads a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        [Self::Ready, Self::Polled, Self::Lost, Self::Alive].into_iter().find(|word| word.word() == line)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Polled => "polled",
            Self::Lost => "lost",
            Self::Alive => "alive",
        }
    }
}

impl ToDaemon {
    /// Reads a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        (line == Self::End.to_string()).then_some(Self::End)
    }
}

impl Request {
    /// Reads a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        Some(match words.as_slice() {
            ["switch", version] => Self::Switch { version: version.parse().ok()?, proof: Proof::Polled },
            ["switch", version, "offline"] => Self::Switch { version: version.parse().ok()?, proof: Proof::Ready },
            ["rollback"] => Self::RollBack,
            ["package"] => Self::Package,
            ["forget", version] => Self::Forget(version.parse().ok()?),
            ["acknowledge", number] => Self::Acknowledge(number.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for FromDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for ToDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch { version, proof: Proof::Polled } => write!(f, "switch {version}"),
            Self::Switch { version, proof: Proof::Ready } => write!(f, "switch {version} offline"),
            Self::RollBack => f.write_str("rollback"),
            Self::Package => f.write_str("package"),
            Self::Forget(version) => write!(f, "forget {version}"),
            Self::Acknowledge(number) => write!(f, "acknowledge {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_frozen_and_other_words_say_nothing() {
        for line in
            ["switch 1.2.3", "switch 1.2.3-rc.1+b offline", "rollback", "package", "forget 1.2.3", "acknowledge 7"]
        {
            assert_eq!(Request::parse(line).expect(line).to_string(), line);
        }
        for line in ["ready", "polled", "lost", "alive"] {
            assert_eq!(FromDaemon::parse(line).expect(line).to_string(), line);
        }
        assert_eq!(ToDaemon::parse("end"), Some(ToDaemon::End));
        for line in ["", "switch", "switch 1", "switch  1.2.3", "switch 1.2.3 now", "Ready", "forget", "acknowledge -1"]
        {
            assert_eq!((Request::parse(line), FromDaemon::parse(line), ToDaemon::parse(line)), (None, None, None));
        }
    }
}
