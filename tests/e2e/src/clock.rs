//! Clocks that go wrong, without anybody touching the machine's own.
//!
//! Debian's `faketime` has a library that stands between a process and the clock. What a process believes is in a file that
//! it reads again each time, so that a test sets the clock while the process runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use sloth_core::fs::{Access, replace};

/// Where distributions put the library; below the first ones is a directory for each architecture.
const LIBRARY_DIRS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];
/// The library for programs of several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// What the clock of one host says.
#[derive(Debug)]
pub(crate) struct HostClock {
    library: PathBuf,
    file: PathBuf,
}

impl HostClock {
    /// A clock that is right, until it is set. What it says stands in `file`.
    ///
    /// # Panics
    ///
    /// When `faketime` is not installed.
    pub(crate) fn new(file: PathBuf) -> Self {
        let library = library().expect(
            "a test of wrong clocks needs the library of `faketime`: install it, on Debian with `sudo apt-get install faketime`",
        );
        let clock = Self { library, file };
        clock.set("+0");
        clock
    }

    /// Sets it: to a moment like `@2040-01-01 00:00:00`, or away from the right time, like `-365d`.
    ///
    /// # Panics
    ///
    /// When that cannot be written down.
    pub(crate) fn set(&self, time: &str) {
        replace(&self.file, format!("{time}\n").as_bytes(), Access::Everyone).expect("a clock can be set");
    }

    /// Has a command go by it. How fast time passes, and what files are told to be of, stays as it is.
    pub(crate) fn wear(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file).env("TZ", "UTC");
        for setting in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_DISABLE_SHM", "NO_FAKE_STAT"] {
            command.env(setting, "1");
        }
    }
}

fn library() -> Option<PathBuf> {
    let dirs = LIBRARY_DIRS.iter().flat_map(|dir| {
        let below = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(Path::new(dir).to_owned()).chain(below)
    });
    dirs.map(|dir| dir.join(LIBRARY)).find(|path| path.is_file())
}
