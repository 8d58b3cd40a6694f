//! What a binary of the agent says of itself: the platform in its header, and its version when this machine can run it.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use sloth_cli::{Failure, Outcome};
use sloth_core::fs::{Action, FsError};
use sloth_trust::{InvalidName, Sha256, Triple, Version, release::BINARY_BYTES_MAX, sha256::Hasher};

/// Bytes of an ELF header for 64 bits.
const HEADER_BYTES: usize = 64;
/// Bytes of a program header for 64 bits.
const PROGRAM_HEADER_BYTES: usize = 56;
/// Most program headers that are looked at.
const PROGRAM_HEADERS_MAX: u16 = 64;
/// Most bytes of the name of a dynamic linker.
const INTERPRETER_BYTES_MAX: u64 = 256;
/// The program header that names the dynamic linker.
const PT_INTERP: u32 = 3;
/// The processors, by their numbers in ELF.
const MACHINES: [(u16, &str); 3] = [(62, "x86_64"), (183, "aarch64"), (243, "riscv64")];
/// How long a binary may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two looks at whether it has.
const VERSION_PAUSE: Duration = Duration::from_millis(10);
/// Most bytes of what it says.
const VERSION_BYTES_MAX: u64 = 1024;
/// What the agent calls itself.
const PROGRAM: &str = "sloth-agent";

/// A binary as it is given: its file, and the platform if the file does not say.
#[derive(Debug, Clone)]
pub(in crate::cli) struct FileArg {
    pub(super) path: PathBuf,
    target: Option<Triple>,
}

/// A binary that is what it was said to be.
pub(super) struct Binary {
    pub(super) path: PathBuf,
    pub(super) target: Triple,
    pub(super) digest: Sha256,
    pub(super) length: u64,
}

impl FromStr for FileArg {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.rsplit_once('=') {
            Some((path, target)) => Ok(Self { path: PathBuf::from(path), target: Some(target.parse()?) }),
            None => Ok(Self { path: PathBuf::from(text), target: None }),
        }
    }
}

impl Binary {
    /// Reads a binary, and holds it to the platform that it was said to be for.
    pub(super) fn read(given: &FileArg) -> Result<Self, Failure> {
        let path = &given.path;
        let refuse = |why: String| refused(path, &why);
        let system = |source| Outcome::Usage.because()(FsError::of(Action::Read, path)(source));
        let mut file = File::open(path).map_err(system)?;
        let length = file.metadata().map_err(system)?.len();
        if BINARY_BYTES_MAX < length {
            return Err(refuse(format!("has {length} bytes: a release takes {BINARY_BYTES_MAX} at most")));
        }
        let found = platform(&file).map_err(refuse)?;
        let target = given.target.clone().map_or_else(|| found.triple(), Ok).map_err(refuse)?;
        found.fits(&target).map_err(refuse)?;
        let mut hasher = Hasher::default();
        std::io::copy(&mut file, &mut hasher).map_err(system)?;
        Ok(Self { path: path.clone(), target, digest: hasher.finish(), length })
    }

    /// As [`Self::read`], and holds one that this machine can run to the version that it was said to have.
    pub(super) fn of_version(given: &FileArg, version: &Version) -> Result<Self, Failure> {
        let binary = Self::read(given)?;
        if binary.target == Triple::own() {
            let says = own_version(&binary.path).map_err(|why| refused(&binary.path, &why))?;
            if says != *version {
                return Err(refused(&binary.path, &format!("says that it is version {says}, not {version}")));
            }
        }
        Ok(binary)
    }

    /// Its content.
    pub(super) fn content(&self) -> Result<Vec<u8>, Failure> {
        std::fs::read(&self.path).map_err(FsError::of(Action::Read, &self.path)).map_err(Outcome::Usage.because())
    }
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::new(Outcome::Usage, format!("`{}` {why}", path.display()))
}

/// What an ELF file says of where it runs.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    processor: &'static str,
    /// The C library whose dynamic linker it names; none when it needs none.
    libc: Option<&'static str>,
}

impl Elf {
    fn triple(&self) -> Result<Triple, String> {
        let Some(libc) = self.libc else {
            return Err("is linked statically and does not say its platform: give it, as in `--file BINARY=x86_64-unknown-linux-musl`".to_owned());
        };
        format!("{}-unknown-linux-{libc}", self.processor).parse().map_err(|error: InvalidName| error.to_string())
    }

    /// Whether it can run on this platform.
    fn fits(&self, target: &Triple) -> Result<(), String> {
        let parts: Vec<&str> = target.as_str().split('-').collect();
        let (processor, libc) = (parts.first().copied().unwrap_or_default(), parts.last().copied().unwrap_or_default());
        let same_libc = self.libc.is_none_or(|own| own == libc);
        if processor == self.processor && same_libc && parts.contains(&"linux") {
            return Ok(());
        }
        let libc = self.libc.map_or(String::new(), |libc| format!(" and {libc}"));
        Err(format!("is for {}{libc} on Linux, not for `{target}`", self.processor))
    }
}

fn platform(file: &File) -> Result<Elf, String> {
    let mut header = [0; HEADER_BYTES];
    let none = || "is no program for Linux on 64 bits: give a binary of the agent".to_owned();
    file.read_exact_at(&mut header, 0).map_err(|_| none())?;
    // The magic number, 64 bits, little-endian.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(none());
    }
    let number = number_at::<2>(&header, 18).map(u16::from_le_bytes).ok_or_else(none)?;
    let Some((_, processor)) = MACHINES.iter().find(|(machine, _)| *machine == number) else {
        let known: Vec<&str> = MACHINES.iter().map(|(_, name)| *name).collect();
        return Err(format!("is for processor {number} of ELF's list: agents are built for {}", known.join(", ")));
    };
    let libc = match interpreter(file, &header).ok_or_else(none)? {
        None => None,
        Some(name) if name.contains("musl") => Some("musl"),
        Some(_) => Some("gnu"),
    };
    Ok(Elf { processor, libc })
}

/// The dynamic linker that a program names; nothing when it is damaged.
fn interpreter(file: &File, header: &[u8]) -> Option<Option<String>> {
    let offset = u64::from_le_bytes(number_at(header, 32)?);
    let size = u64::from(u16::from_le_bytes(number_at(header, 54)?));
    let count = u16::from_le_bytes(number_at(header, 56)?).min(PROGRAM_HEADERS_MAX);
    for index in 0..u64::from(count) {
        let mut program = [0; PROGRAM_HEADER_BYTES];
        file.read_exact_at(&mut program, offset.checked_add(index * size)?).ok()?;
        if u32::from_le_bytes(number_at(&program, 0)?) == PT_INTERP {
            let at = u64::from_le_bytes(number_at(&program, 8)?);
            let bytes = u64::from_le_bytes(number_at(&program, 32)?).min(INTERPRETER_BYTES_MAX);
            let mut name = vec![0; usize::try_from(bytes).ok()?];
            file.read_exact_at(&mut name, at).ok()?;
            return Some(Some(String::from_utf8_lossy(&name).into_owned()));
        }
    }
    Some(None)
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The version that a binary for this machine says.
fn own_version(path: &Path) -> Result<Version, String> {
    // A name without a slash would be looked for elsewhere.
    let program = std::path::absolute(path).map_err(|error| format!("has no place: {error}"))?;
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be run to ask for its version: {error}"))?;
    let until = Instant::now() + VERSION_TIMEOUT;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < until => std::thread::sleep(VERSION_PAUSE),
            Ok(None) | Err(_) => {
                // It may have ended in between.
                let _ = child.kill().and_then(|()| child.wait());
                break false;
            }
        }
    };
    let mut said = String::new();
    let stdout = child.stdout.take();
    let read = stdout.map(|stdout| stdout.take(VERSION_BYTES_MAX).read_to_string(&mut said));
    let version = said.trim().strip_prefix(PROGRAM).map(str::trim).and_then(|text| text.parse().ok());
    match version {
        Some(version) if ended && matches!(read, Some(Ok(_))) => Ok(version),
        Some(_) | None => Err(format!("does not answer `--version` as {PROGRAM} does: give a binary of the agent")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn elf(machine: u16, interpreter: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + PROGRAM_HEADER_BYTES];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        if let Some(name) = interpreter {
            bytes[56] = 1;
            bytes[64] = 3;
            bytes[72] = 120;
            bytes[96] = u8::try_from(name.len()).expect("short");
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Elf, String> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        platform(&file)
    }

    #[test]
    fn the_header_says_the_platform() {
        for (machine, interpreter, expected) in [
            (62, Some("/lib64/ld-linux-x86-64.so.2"), "x86_64-unknown-linux-gnu"),
            (183, Some("/lib/ld-linux-aarch64.so.1"), "aarch64-unknown-linux-gnu"),
            (62, Some("/lib/ld-musl-x86_64.so.1"), "x86_64-unknown-linux-musl"),
        ] {
            let found = read(&elf(machine, interpreter)).expect("a program");
            assert_eq!(found.triple().expect("said").as_str(), expected);
            assert!(found.fits(&expected.parse().expect("a platform")).is_ok());
            assert!(found.fits(&"riscv64-unknown-linux-gnu".parse().expect("a platform")).is_err());
        }
        let fixed = read(&elf(62, None)).expect("a program");
        assert!(fixed.triple().is_err());
        assert!(fixed.fits(&"x86_64-unknown-linux-musl".parse().expect("a platform")).is_ok());
    }

    #[test]
    fn this_program_is_for_the_platform_that_agents_of_its_kind_say() {
        let own = File::open(std::env::current_exe().expect("a path")).expect("a file");
        assert_eq!(platform(&own).expect("a program").triple().expect("said"), Triple::own());
        let known = MACHINES.map(|(_, name)| name);
        assert!(known.contains(&std::env::consts::ARCH), "{known:?}");
    }

    #[test]
    fn what_is_no_program_is_named() {
        for bytes in [&b""[..], b"#!/bin/sh\n", &elf(62, Some("x"))[..50], &elf(62, Some("/lib/ld.so"))[..122]] {
            assert!(read(bytes).expect_err("no program").contains("is no program for Linux"));
        }
        assert!(read(&elf(40, None)).expect_err("another").contains("processor 40"));
    }

    #[test]
    fn the_version_is_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        for (says, expected) in [
            ("echo sloth-agent 1.2.3", Ok("1.2.3")),
            ("echo 1.2.3", Err(())),
            ("echo sloth-agent 1.2.3; exit 1", Err(())),
        ] {
            let path = dir.path().join("program");
            let text = format!("#!/bin/sh\n{says}\n");
            sloth_core::fs::replace(&path, text.as_bytes(), sloth_core::fs::Access::Owner).expect("written");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("set");
            let found = own_version(&path).map(|version| version.to_string()).map_err(drop);
            assert_eq!(found, expected.map(str::to_owned), "{says}");
        }
    }
}
