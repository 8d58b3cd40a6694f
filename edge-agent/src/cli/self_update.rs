//! `sloth-agent self-update`: from a signed file that is on this host.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use sloth_cli::{Failure, Outcome, SIGNATURE_ENDING, signatures_beside};
use sloth_core::{
    Clock,
    fs::{ReadError, read_capped},
};
use sloth_protocol::update::{Proof, Request, Version};
use sloth_trust::{
    Envelope, PayloadKind, PublicKey, RoleKeys, Sha256, Triple, Trusted,
    envelope::{RELEASE_BYTES_MAX, SIGNATURE_BYTES_MAX},
    verify::gather,
    verify_file,
};

use super::{DirArgs, update::ask, update::say};
use crate::{
    VERSION, enrolment,
    paths::Paths,
    update::{
        self,
        stage::{Expected, PROGRAM_BYTES_MAX, StageError, previous_of, replace_program, stage},
    },
};

/// Most bytes of a public key's file.
const KEY_BYTES_MAX: u64 = 4096;
/// Where packages put programs, and where they do not.
const PACKAGED_DIRS: [&str; 3] = ["/usr", "/bin", "/sbin"];
const LOCAL_DIR: &str = "/usr/local";

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("proof").required(true).args(["release", "key"])))]
pub(super) struct Arguments {
    #[command(flatten)]
    dir: DirArgs,
    /// The new program
    #[arg(long)]
    from: PathBuf,
    /// The signed release that names it, like `release-1.2.3.json` with its `.minisig` files beside it; it is held to the
    /// trust root that this host was enrolled with
    #[arg(long)]
    release: Option<PathBuf>,
    /// The public key that signed the program with `minisign`: the key, or its file
    #[arg(long)]
    key: Option<String>,
    /// The signature [default: the program's name with `.minisig` behind it]
    #[arg(long, requires = "key")]
    signature: Option<PathBuf>,
    /// Take it also when it is older than what runs
    #[arg(long)]
    allow_older: bool,
    /// This host cannot reach its coordinator: a new version need not connect to prove itself
    #[arg(long)]
    offline: bool,
}

/// Why a file is no update.
#[derive(Debug, thiserror::Error)]
enum RefusedError {
    #[error(
        "`{}` belongs to a package, which is updated by the package manager: start `sloth-agent supervise`, which keeps \
         other versions beside it",
        path.display()
    )]
    Packaged { path: PathBuf },
    #[error("the release is for no platform with this program: it is another release's, or was changed")]
    OtherProgram,
    #[error("version {version} is not reached from {current}: go to version {oldest} first")]
    OutOfReach { version: Version, current: Version, oldest: Version },
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let paths = arguments.dir.paths();
    let program = read(&arguments.from, PROGRAM_BYTES_MAX)?;
    let supervised = UnixStream::connect(paths.supervisor_socket()).is_ok();
    let status = update::status(&paths).filter(|_| supervised);
    let current = match status {
        Some(status) => status.current,
        None => VERSION.parse().map_err(Outcome::Internal.because())?,
    };
    let expected = match (&arguments.release, &arguments.key) {
        (Some(release), _) => released(&paths, release, &program, &current)?,
        (None, key) => signed(arguments, key.as_deref().unwrap_or_default(), &program)?,
    };
    let expected = Expected { above: (!arguments.allow_older).then_some(current), ..expected };
    if supervised {
        let staged = stage(&paths, program.as_slice(), &expected).map_err(stage_failure)?;
        let proof = if arguments.offline { Proof::Ready } else { Proof::Polled };
        ask(&paths, &Request::Switch { version: staged.version, proof })?;
        return Ok(Outcome::Done);
    }
    let own = std::env::current_exe().map_err(Outcome::Internal.because())?;
    let is_packaged = PACKAGED_DIRS.iter().any(|dir| own.starts_with(dir)) && !own.starts_with(LOCAL_DIR);
    if is_packaged {
        return Err(refused(RefusedError::Packaged { path: own }));
    }
    let staged = replace_program(&own, program.as_slice(), &expected).map_err(stage_failure)?;
    say(&format!(
        "`{}` is version {} from now on, and `{}` is what it was: start the daemon again",
        own.display(),
        staged.version,
        previous_of(&own).display()
    ))?;
    Ok(Outcome::Done)
}

/// What a release says of the program, if those whom the trust root names signed it.
fn released(paths: &Paths, path: &Path, program: &[u8], current: &Version) -> Result<Expected, Failure> {
    let trusted = enrolment::load_trusted(paths).map_err(Outcome::Refused.because())?;
    let envelope = envelope(path, &trusted)?;
    let release = trusted.verify_release(&envelope).map_err(Outcome::Refused.because())?;
    let channel = release.channel.clone();
    trusted.accept_release(&envelope, Clock::new().wall(), None, &channel).map_err(Outcome::Refused.because())?;
    let sha256 = Sha256::of(program);
    let binary = release.targets.iter().find(|binary| binary.digest == sha256);
    let binary = binary.ok_or_else(|| refused(RefusedError::OtherProgram))?;
    if !release.from.allows(current) {
        let (version, oldest) = (release.version.clone(), release.from.oldest.clone());
        return Err(refused(RefusedError::OutOfReach { version, current: current.clone(), oldest }));
    }
    let target: Option<Triple> = Some(binary.target.clone());
    Ok(Expected { version: Some(release.version.clone()), above: None, target, bytes: binary.length, sha256 })
}

/// The release at `path` with the signatures beside it. Nothing of it is verified by that.
fn envelope(path: &Path, trusted: &Trusted) -> Result<Envelope, Failure> {
    let payload = read(path, u64::try_from(RELEASE_BYTES_MAX).unwrap_or(u64::MAX))?;
    let minisigs = signatures_beside(path)?.into_iter().map(|(_, minisig)| minisig).collect();
    let keys = trusted.root().roles.releases.as_ref().map_or(&[][..], RoleKeys::keys);
    gather(PayloadKind::Release, payload, minisigs, keys).map_err(Outcome::Refused.because())
}

/// What a signature of `minisign` says of the program: that it is whole.
fn signed(arguments: &Arguments, key: &str, program: &[u8]) -> Result<Expected, Failure> {
    let key: PublicKey = match key.parse() {
        Ok(key) => key,
        Err(_) => text(&read(Path::new(key), KEY_BYTES_MAX)?).parse().map_err(Outcome::Usage.because())?,
    };
    let beside = || {
        let mut name = arguments.from.as_os_str().to_owned();
        name.push(format!(".{SIGNATURE_ENDING}"));
        PathBuf::from(name)
    };
    let path = arguments.signature.clone().unwrap_or_else(beside);
    let signature = read(&path, u64::try_from(SIGNATURE_BYTES_MAX).unwrap_or(u64::MAX))?;
    verify_file(&key, program, &text(&signature)).map_err(Outcome::Refused.because())?;
    let bytes = u64::try_from(program.len()).unwrap_or(u64::MAX);
    Ok(Expected { version: None, above: None, target: None, bytes, sha256: Sha256::of(program) })
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    read_capped(path, bytes_max).map_err(|error: ReadError| Outcome::Usage.because()(error))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(error: RefusedError) -> Failure {
    Failure { outcome: Outcome::Refused, error: error.into() }
}

fn stage_failure(error: StageError) -> Failure {
    let outcome = match &error {
        StageError::Fs(_) => Outcome::Internal,
        StageError::Source { .. }
        | StageError::TooLarge { .. }
        | StageError::Mismatch
        | StageError::Elf { .. }
        | StageError::Target { .. }
        | StageError::SelfTest { .. }
        | StageError::Version { .. }
        | StageError::Older { .. }
        | StageError::Taken { .. } => Outcome::Refused,
    };
    Failure { outcome, error: error.into() }
}
