//! Making a version ready to be switched to: copied, checked, tried and on the disk, or not there at all.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Seek as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use sloth_core::{
    Digest,
    fs::{self, Access, Action, FsError},
};
use sloth_protocol::update::Version;

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
    /// The version.
    pub version: Version,
    /// What it runs on, like `x86_64-unknown-linux-gnu`; none where only the program itself says so.
    pub target: Option<String>,
    /// The length of the program.
    pub bytes: u64,
    /// The program's SHA-256.
    pub sha256: [u8; 32],
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
    #[error("the release is for `{target}`, and this host is {}-linux", std::env::consts::ARCH)]
    Target {
        /// For which.
        target: String,
    },
    /// It does not run.
    #[error("the new program does not run on this host: {why}")]
    SelfTest {
        /// What became of it.
        why: String,
    },
    /// It says it is another version.
    #[error("the new program says `{said}`, and was to be version {version}")]
    Version {
        /// What it says.
        said: String,
        /// What it was to be.
        version: Version,
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
pub fn stage(paths: &Paths, mut source: impl Read, expected: &Expected) -> Result<PathBuf, StageError> {
    check_target(expected)?;
    let dir = paths.versions();
    paths::create_passable(paths.dir())?;
    paths::create_passable(&dir)?;
    let temporary = fs::temporary_name(&dir);
    paths::create_passable(&temporary)?;
    let staged = fill(&temporary, &mut source, expected).and_then(|digest| settle(paths, &temporary, digest, expected));
    if staged.is_err() {
        // What is left behind is known by its name, and removed by the supervisor.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    staged
}

/// Runs `program --version` with nothing around it, and gives the version it says.
///
/// # Errors
///
/// When it does not run, says nothing in time, or says something else.
pub fn self_test(program: &Path) -> Result<String, StageError> {
    let failed = |why: String| StageError::SelfTest { why };
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

fn check_target(expected: &Expected) -> Result<(), StageError> {
    if PROGRAM_BYTES_MAX < expected.bytes {
        return Err(StageError::TooLarge { bytes: expected.bytes });
    }
    let Some(target) = &expected.target else { return Ok(()) };
    let mut parts = target.split('-');
    let is_own = parts.next() == Some(std::env::consts::ARCH) && parts.any(|part| part == std::env::consts::OS);
    if is_own { Ok(()) } else { Err(StageError::Target { target: sloth_core::excerpt(target) }) }
}

/// Copies the program into `dir`, and holds it to what is expected of it before it is run.
fn fill(dir: &Path, source: &mut impl Read, expected: &Expected) -> Result<Digest, StageError> {
    let path = dir.join(PROGRAM);
    let mut file = File::create_new(&path).map_err(FsError::of(Action::Create, &path))?;
    let digest = copy(source, &mut file, &path, expected)?;
    let mut header = [0; elf::HEADER_BYTES];
    drop(file);
    let mut file = File::open(&path).map_err(FsError::of(Action::Read, &path))?;
    let whole = file.rewind().and_then(|()| file.read_exact(&mut header));
    elf::check(if whole.is_ok() { &header } else { &[] })?;
    drop(file);
    let said = self_test(&path)?;
    if said.split_whitespace().last().and_then(|word| word.parse().ok()) != Some(expected.version.clone()) {
        return Err(StageError::Version { said: sloth_core::excerpt(&said), version: expected.version.clone() });
    }
    Ok(digest)
}

fn copy(source: &mut impl Read, file: &mut File, path: &Path, expected: &Expected) -> Result<Digest, StageError> {
    let (mut sha256, mut digest, mut bytes) = (Sha256::new(), blake3::Hasher::new(), 0_u64);
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
    if bytes != expected.bytes || <[u8; 32]>::from(sha256.finalize()) != expected.sha256 {
        return Err(StageError::Mismatch);
    }
    file.set_permissions(Permissions::from_mode(PROGRAM_MODE)).map_err(FsError::of(Action::SetMode, path))?;
    file.sync_all().map_err(FsError::of(Action::Sync, path))?;
    Ok(Digest::from_bytes(*digest.finalize().as_bytes()))
}

/// Gives the staged directory its name. Until then there is no such version.
fn settle(paths: &Paths, temporary: &Path, digest: Digest, expected: &Expected) -> Result<PathBuf, StageError> {
    fs::replace(&temporary.join(DIGEST), digest.to_string().as_bytes(), Access::Everyone)?;
    fs::sync_dir(temporary)?;
    let dir = paths.version(&expected.version);
    let program = dir.join(PROGRAM);
    if dir.exists() {
        match versions::program(paths, &expected.version) {
            Ok(_) if versions::digest(&program).is_ok_and(|own| own == digest) => {
                let _ = std::fs::remove_dir_all(temporary);
                return Ok(program);
            }
            Ok(_) => return Err(StageError::Taken { version: expected.version.clone() }),
            // It cannot be started, so nobody has it.
            Err(_) => std::fs::remove_dir_all(&dir).map_err(FsError::of(Action::Remove, &dir))?,
        }
    }
    fs::rename(temporary, &dir)?;
    Ok(program)
}
