//! Making a version ready to be switched to: copied, checked, tried and on the disk, or not there at all.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256 as Hasher};
use sloth_core::{
    Digest,
    fs::{self, Access, Action, FsError},
};
use sloth_protocol::update::Version;
use sloth_trust::{Sha256, Triple};

use super::{
    elf::{self, ElfError},
    versions::{self, DIGEST, PROGRAM},
};
use crate::paths::{self, Paths};

/// Most bytes of a program.
pub const PROGRAM_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long a program may take to say its version.
const SELF_TEST: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const SELF_TEST_STEP: Duration = Duration::from_millis(5);
/// Most bytes of what it says.
const SELF_TEST_BYTES_MAX: u64 = 4096;
/// How much is copied at a time.
const COPY_BYTES: usize = 64 * 1024;
/// Everyone may run it: commands of other users call it too.
const PROGRAM_MODE: u32 = 0o755;

/// What is to be staged, as somebody who is believed has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The version; none where only the program itself says so.
    pub version: Option<Version>,
    /// It must be newer than this; none where older ones are taken too.
    pub above: Option<Version>,
    /// What it runs on, like `x86_64-unknown-linux-gnu`; none where only the program itself says so.
    pub target: Option<Triple>,
    /// The length of the program.
    pub bytes: u64,
    /// The program's SHA-256.
    pub sha256: Sha256,
}

/// A version that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Which.
    pub version: Version,
    /// Its program.
    pub program: PathBuf,
}

/// Why a version was not staged. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The program cannot be read from where it comes.
    #[error("the new program cannot be read")]
    Source {
        /// Why.
        source: io::Error,
    },
    /// It is too large.
    #[error("the new program has {bytes} bytes: {PROGRAM_BYTES_MAX} are the most")]
    TooLarge {
        /// How many it has.
        bytes: u64,
    },
    /// It is not what was signed.
    #[error("the new program is not the one that was signed: it was changed, or cut short")]
    Mismatch,
    /// It is for another host.
    #[error("the new program is not for this host")]
    Elf {
        /// Why.
        #[from]
        source: ElfError,
    },
    /// It is said to be for another host.
    #[error("the release is for `{}`, and this host is {}-linux", target.as_str(), std::env::consts::ARCH)]
    Target {
        /// For which.
        target: Triple,
    },
    /// It does not run.
    #[error("the new program does not run on this host: {why}")]
    SelfTest {
        /// What became of it.
        why: String,
    },
    /// It says it is another version.
    #[error("the new program says `{said}`, and was to be {wanted}")]
    Version {
        /// What it says.
        said: String,
        /// What it was to be.
        wanted: String,
    },
    /// It is older than what runs, or the same.
    #[error("version {new} is not newer than {current}, which runs: `--allow-older` takes it all the same")]
    Older {
        /// What it is.
        new: Version,
        /// What runs.
        current: Version,
    },
    /// Another program of this version is there, and may be running.
    #[error("another program of version {version} is staged or runs: give the new one a version of its own")]
    Taken {
        /// Which version.
        version: Version,
    },
}

/// Stages what `source` gives. Blocks. After `Ok`, a supervisor can be asked to switch to it, and no crash undoes that.
///
/// # Errors
///
/// When it is not what was expected, does not run here, or the disk refuses. What was there before is untouched.
pub fn stage(paths: &Paths, mut source: impl Read, expected: &Expected) -> Result<Staged, StageError> {
    check_claims(expected)?;
    let dir = paths.versions();
    paths::create_passable(paths.dir())?;
    paths::create_passable(&dir)?;
    let temporary = fs::temporary_name(&dir);
    paths::create_passable(&temporary)?;
    let filled = fill(&temporary.join(PROGRAM), &mut source, expected);
    let staged = filled.and_then(|(digest, version)| settle(paths, &temporary, digest, version));
    if staged.is_err() {
        // What is left behind is known by its name, and removed by the supervisor.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    staged
}

/// Puts what `source` gives in the place of the program at `path`, which stays beside it with `.previous` behind its
/// name. Blocks. Whatever happens, there is a whole program at `path`.
///
/// # Errors
///
/// As [`stage`].
pub fn replace_program(path: &Path, mut source: impl Read, expected: &Expected) -> Result<Staged, StageError> {
    check_claims(expected)?;
    let temporary = fs::temporary_name(path.parent().unwrap_or(Path::new("/")));
    let replaced = fill(&temporary, &mut source, expected).and_then(|(_, version)| {
        let previous = previous_of(path);
        let _ = std::fs::remove_file(&previous);
        std::fs::hard_link(path, &previous).map_err(FsError::of(Action::Create, &previous))?;
        fs::rename(&temporary, path)?;
        Ok(Staged { version, program: path.to_owned() })
    });
    if replaced.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

/// Where the program is that was replaced.
#[must_use]
pub fn previous_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    PathBuf::from(name)
}

/// Runs `program --version` with nothing around it, and gives what it says.
///
/// # Errors
///
/// When it does not run, says nothing in time, or fails.
pub(super) fn self_test(program: &Path) -> Result<String, StageError> {
    let failed = |why: String| StageError::SelfTest { why };
    // It is started elsewhere than here.
    let program = std::path::absolute(program).map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(program);
    command.arg("--version").env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            // Another thread's new process has not let go of the file that was just written.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && began.elapsed() < SELF_TEST => {
                thread::sleep(SELF_TEST_STEP);
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() < SELF_TEST => thread::sleep(SELF_TEST_STEP),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it says nothing within {SELF_TEST:?}")));
            }
        }
    };
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(SELF_TEST_BYTES_MAX).read_to_string(&mut said).map_err(|error| failed(error.to_string()))?;
    }
    if !status.success() {
        return Err(failed(format!("`--version` ended with {status}")));
    }
    Ok(said.trim().to_owned())
}

/// Whether what is said of the program can be right on this host: its length and its platform.
fn check_claims(expected: &Expected) -> Result<(), StageError> {
    if PROGRAM_BYTES_MAX < expected.bytes {
        return Err(StageError::TooLarge { bytes: expected.bytes });
    }
    let Some(target) = &expected.target else { return Ok(()) };
    let mut parts = target.as_str().split('-');
    let is_own = parts.next() == Some(std::env::consts::ARCH) && parts.any(|part| part == std::env::consts::OS);
    if is_own { Ok(()) } else { Err(StageError::Target { target: target.clone() }) }
}

/// Copies the program to `path`, where nothing is, and holds it to what is expected of it before it is run. Gives its
/// digest and its version.
fn fill(path: &Path, source: &mut impl Read, expected: &Expected) -> Result<(Digest, Version), StageError> {
    let mut file = File::create_new(path).map_err(FsError::of(Action::Create, path))?;
    let digest = copy(source, &mut file, path, expected)?;
    drop(file);
    let mut header = [0; elf::HEADER_BYTES];
    let whole = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    elf::check(if whole.is_ok() { &header } else { &[] })?;
    let said = self_test(path)?;
    let version = said.strip_prefix(PROGRAM).and_then(|rest| rest.trim().parse::<Version>().ok());
    if let (Some(new), Some(current)) = (&version, &expected.above)
        && new <= current
    {
        return Err(StageError::Older { new: new.clone(), current: current.clone() });
    }
    match (version, &expected.version) {
        (Some(version), None) => Ok((digest, version)),
        (Some(version), Some(wanted)) if version == *wanted => Ok((digest, version)),
        (_, wanted) => {
            let wanted = wanted.as_ref().map_or_else(|| "an agent".to_owned(), |wanted| format!("version {wanted}"));
            Err(StageError::Version { said: sloth_core::excerpt(&said), wanted })
        }
    }
}

fn copy(source: &mut impl Read, file: &mut File, path: &Path, expected: &Expected) -> Result<Digest, StageError> {
    let (mut sha256, mut digest, mut bytes) = (Hasher::new(), blake3::Hasher::new(), 0_u64);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StageError::Source { source }),
        };
        if read.is_empty() {
            break;
        }
        bytes = bytes.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
        if expected.bytes < bytes {
            return Err(StageError::Mismatch);
        }
        sha256.update(read);
        digest.update(read);
        file.write_all(read).map_err(FsError::of(Action::Write, path))?;
    }
    if bytes != expected.bytes || Sha256::from_bytes(sha256.finalize().into()) != expected.sha256 {
        return Err(StageError::Mismatch);
    }
    file.set_permissions(Permissions::from_mode(PROGRAM_MODE)).map_err(FsError::of(Action::SetMode, path))?;
    file.sync_all().map_err(FsError::of(Action::Sync, path))?;
    Ok(Digest::from_bytes(*digest.finalize().as_bytes()))
}

/// Gives the staged directory its name. Until then there is no such version.
fn settle(paths: &Paths, temporary: &Path, digest: Digest, version: Version) -> Result<Staged, StageError> {
    fs::replace(&temporary.join(DIGEST), digest.to_string().as_bytes(), Access::Everyone)?;
    fs::sync_dir(temporary)?;
    let dir = paths.version(&version);
    let program = dir.join(PROGRAM);
    if dir.exists() {
        match versions::program(paths, &version) {
            Ok(_) if versions::digest(&program).is_ok_and(|own| own == digest) => {
                let _ = std::fs::remove_dir_all(temporary);
                return Ok(Staged { version, program });
            }
            Ok(_) => return Err(StageError::Taken { version }),
            // It cannot be started, so nobody has it.
            Err(_) => std::fs::remove_dir_all(&dir).map_err(FsError::of(Action::Remove, &dir))?,
        }
    }
    fs::rename(temporary, &dir)?;
    Ok(Staged { version, program })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be said of these bytes if they were version 1.2.3.
    fn expected(bytes: &[u8]) -> Expected {
        let bytes_len = u64::try_from(bytes.len()).expect("few");
        Expected {
            version: Some(Version::new(1, 2, 3)),
            above: None,
            target: None,
            bytes: bytes_len,
            sha256: Sha256::of(bytes),
        }
    }

    fn refusal(bytes: &[u8], expected: &Expected) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path().join("agent"));
        let error = stage(&paths, bytes, expected).expect_err("refused");
        let left = std::fs::read_dir(paths.versions()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing is left behind: {error}");
        sloth_core::Chain(&error).to_string()
    }

    #[test]
    fn what_is_not_as_expected_is_not_staged() {
        let program = std::fs::read("/bin/true").expect("a program");
        let good = expected(&program);
        let mut foreign = program.clone();
        (foreign[18], foreign[19]) = (22, 0);
        let target = |text: &str| Expected { target: Some(text.parse().expect("a target")), ..good.clone() };
        let longer = Expected { bytes: good.bytes + 1, ..good.clone() };
        let large = Expected { bytes: PROGRAM_BYTES_MAX + 1, ..good.clone() };
        for (name, bytes, expected, reason) in [
            ("cut short", &program[1..], good.clone(), "not the one that was signed"),
            ("longer", &program[..], longer, "not the one that was signed"),
            ("another", &foreign[..], good.clone(), "not the one that was signed"),
            ("too large", &program[..], large, "has 268435457 bytes: 268435456 are the most"),
            (
                "a script",
                b"#!/bin/sh\necho sloth-agent 1.2.3",
                expected(b"#!/bin/sh\necho sloth-agent 1.2.3"),
                "not a program",
            ),
            ("for another host", &foreign, expected(&foreign), "not for this host: it is for machine 22"),
            ("of another target", &program, target("mips-unknown-linux-gnu"), "the release is for `mips-"),
            ("of another system", &program, target("x86_64-pc-windows-msvc"), "the release is for `x86_64-pc"),
            ("no agent", &program, good.clone(), "and was to be version 1.2.3"),
        ] {
            let error = refusal(bytes, &expected);
            assert!(error.contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn a_program_that_fails_is_not_staged() {
        let error = self_test(Path::new("/bin/false")).expect_err("refused").to_string();
        assert!(error.contains("ended with exit status: 1"), "{error}");
        assert!(self_test(Path::new("/nonexistent")).is_err());
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let program =
            dir.path().strip_prefix(std::env::current_dir().expect("a place")).unwrap_or(dir.path()).join("p");
        std::fs::copy("/bin/echo", &program).expect("copied");
        assert_eq!(self_test(&program).map(|said| said.is_empty()).ok(), Some(false), "named from here");
    }

    #[test]
    fn a_program_that_cannot_be_replaced_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sloth-agent");
        std::fs::copy("/bin/true", &path).expect("copied");
        let program = std::fs::read(&path).expect("readable");
        assert!(replace_program(&path, &program[..], &expected(&program)).is_err());
        assert_eq!(std::fs::read(&path).expect("readable"), program);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
