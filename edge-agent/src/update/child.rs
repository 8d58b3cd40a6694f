//! A daemon as its supervisor's child: started, heard, told and ended.
//!
//! It is started by way of this very program, which asks the system to kill the daemon should the supervisor die: there
//! are never two daemons, and never one without a supervisor.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, PipeReader, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use sloth_protocol::update::{Exit, LINE_BYTES_MAX, ToDaemon};

use super::{elf, log, memory, notify};

/// Says to a daemon who its supervisor is, by its process's number; they are connected by the daemon's standard input.
pub(super) const SUPERVISOR_VARIABLE: &str = "SLOTH_SUPERVISOR";
/// The hidden command that starts a daemon.
pub(crate) const LAUNCH: &str = "launch";
/// How a launch ends when the program cannot be run, as with shells.
pub(super) const EXIT_CANNOT_RUN: i32 = 126;
/// This very program, also when its file was replaced since it was started.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";
/// Most bytes that are read of a daemon's words or lines at once.
const READ_BYTES: usize = 4 * 1024;
/// How often that is done before everything else is looked at again: a daemon that never stops printing must not keep its
/// supervisor from its other duties.
const READS_MAX: u32 = 16;

/// A daemon that runs.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    words: UnixStream,
    heard: Lines,
    stderr: PipeReader,
    printed: Lines,
}

/// What came of a daemon.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// Words for the supervisor.
    pub(super) words: Vec<String>,
    /// Lines for the log.
    pub(super) lines: Vec<String>,
}

impl Child {
    /// Starts `program` with these arguments.
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> io::Result<Self> {
        let (words, theirs) = UnixStream::pair()?;
        let (stderr, their_stderr) = io::pipe()?;
        words.set_nonblocking(true)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        let own = std::process::id().to_string();
        let process = Command::new(OWN_PROGRAM)
            .args([LAUNCH, &own])
            .arg(program)
            .args(arguments)
            .env(SUPERVISOR_VARIABLE, own)
            .env_remove(notify::SOCKET_VARIABLE)
            .env_remove(notify::WATCHDOG_VARIABLE)
            .env_remove(notify::WATCHDOG_PID_VARIABLE)
            .stdin(OwnedFd::from(theirs))
            .stderr(their_stderr)
            .stdout(Stdio::inherit())
            .spawn()?;
        Ok(Self { process, words, heard: Lines::default(), stderr, printed: Lines::default() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What to wait on.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let words = (!self.heard.is_over).then(|| self.words.as_fd());
        let stderr = (!self.printed.is_over).then(|| self.stderr.as_fd());
        words.into_iter().chain(stderr)
    }

    /// What it said and printed since, or a part of it. What it printed is passed on.
    pub(super) fn hear(&mut self) -> Came {
        let words = self.heard.take(|buffer| (&self.words).read(buffer));
        let lines = self.printed.take(|buffer| {
            let read = (&self.stderr).read(buffer)?;
            log::put(buffer.get(..read).unwrap_or_default());
            Ok(read)
        });
        Came { words, lines }
    }

    /// How it ended, if it did. What it said until then must be heard before and once more after.
    pub(super) fn ended(&mut self) -> Option<Exit> {
        let status = self.process.try_wait().ok()??;
        Some(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        })
    }

    /// The last line, which has no end.
    pub(super) fn rest(&mut self) -> Option<String> {
        self.printed.rest()
    }

    pub(super) fn tell(&self, word: ToDaemon) {
        // Whoever does not listen is ended when the time has come.
        let _ = (&self.words).write_all(format!("{word}\n").as_bytes());
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It was not waited for, so its number still means it.
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Becomes the program that the arguments name, as the child of the process that they name. Returns only when that
/// cannot be.
#[must_use]
pub(crate) fn launch(mut arguments: impl Iterator<Item = OsString>) -> i32 {
    use rustix::process::{getppid, set_parent_process_death_signal};

    let parent = arguments.next().and_then(|text| text.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let Some(program) = arguments.next() else { return EXIT_CANNOT_RUN };
    // A system that does not know this leaves the daemon to find out by itself.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if parent.is_none() || getppid() != parent {
        return EXIT_CANNOT_RUN;
    }
    memory::limit();
    let why = match check(Path::new(&program)) {
        Ok(()) => Command::new(&program).args(arguments).exec().to_string(),
        Err(why) => why,
    };
    let _ = writeln!(io::stderr(), "cannot run `{}`: {why}", Path::new(&program).display());
    EXIT_CANNOT_RUN
}

/// Whether it is a program for this host: of what is none, the system would have a shell make what it can.
fn check(program: &Path) -> Result<(), String> {
    let mut header = [0; elf::HEADER_BYTES];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut header));
    read.map_err(|error| error.to_string())?;
    elf::check(&header).map_err(|error| error.to_string())
}

/// Bytes that become lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// Nothing comes any more.
    is_over: bool,
}

impl Lines {
    /// The lines that `read` completes, until it has nothing more for the moment, or for ever, or there is much.
    fn take(&mut self, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            let bytes = match read(&mut buffer) {
                Ok(0) => {
                    self.is_over = true;
                    return lines;
                }
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return lines,
            };
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                self.begun.extend(part);
                if part.ends_with(b"\n") || LINE_BYTES_MAX < self.begun.len() {
                    lines.extend(self.rest());
                }
            }
        }
        lines
    }

    fn rest(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.begun);
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_never_stops_printing_is_heard_in_parts() {
        let mut lines = Lines::default();
        let mut reads = 0;
        let heard = lines.take(|buffer| {
            reads += 1;
            buffer.fill(b'\n');
            Ok(buffer.len())
        });
        assert_eq!((reads, heard.len()), (READS_MAX, READ_BYTES * usize::try_from(READS_MAX).expect("few")));
        let mut rest = [&b"two\nli"[..], b"nes"].into_iter();
        let read = |buffer: &mut [u8]| {
            let Some(part) = rest.next() else { return Err(io::ErrorKind::WouldBlock.into()) };
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        };
        assert_eq!(lines.take(read), ["two"]);
        assert_eq!(lines.rest().as_deref(), Some("lines"));
    }
}
