//! Where an agent keeps what it has: one directory.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sloth_core::{
    AgentId, Digest, RunId,
    fs::{self, Access, Action, FsError},
};
use sloth_protocol::update::Version;

/// The mode of directories that commands of other users must get through. What is secret in them is in files of the
/// owner alone.
const PASSABLE_MODE: u32 = 0o711;

/// An agent's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    dir: PathBuf,
}

impl Paths {
    /// The agent in `dir`. Nothing is made.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where an agent is kept when nothing else is said: a place of the system for root, one of the user for others.
    #[must_use]
    pub fn default_dir() -> PathBuf {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/sloth-agent");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
        data.unwrap_or_else(|| home().join(".local/share")).join("sloth-agent")
    }

    /// Makes the directory and those in it that are missing.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn create(&self) -> Result<(), FsError> {
        for dir in [&self.dir, &self.bundles(), &self.runs()] {
            create_passable(dir)?;
        }
        fs::create_dir(&self.cache(), Access::Owner)
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings; may be missing.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// The journal, the outbox and the state of the daemon.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir.join("agent.redb")
    }

    /// The state of runs without a daemon.
    #[must_use]
    pub fn local_state(&self) -> PathBuf {
        self.dir.join("state.redb")
    }

    /// The binary of an update that was brought in and not tried yet.
    #[must_use]
    pub fn update_binary(&self, digest: sloth_trust::Sha256) -> PathBuf {
        self.dir.join("updates").join(digest.to_string())
    }

    /// Held by the daemon, and by whoever enrols.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.dir.join("agent.lock")
    }

    /// Where the daemon answers questions of this host.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// The versions that were staged.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.dir.join("versions")
    }

    /// The directory of one version.
    #[must_use]
    pub fn version(&self, version: &Version) -> PathBuf {
        self.versions().join(version.to_string())
    }

    /// How updates stand.
    #[must_use]
    pub fn update_marker(&self) -> PathBuf {
        self.dir.join("update.marker")
    }

    /// How they stood before the last change.
    #[must_use]
    pub fn update_marker_before(&self) -> PathBuf {
        self.dir.join("update.before")
    }

    /// While it is there, no update is taken.
    #[must_use]
    pub fn hold(&self) -> PathBuf {
        self.dir.join("hold")
    }

    /// Held by the supervisor.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    /// Where the supervisor takes requests of this host.
    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.dir.join("supervisor.sock")
    }

    /// Certificate and private key.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.dir.join("identity.pem")
    }

    /// Whose agent this is. It is there when and only when the host is enrolled.
    #[must_use]
    pub fn enrolment(&self) -> PathBuf {
        self.dir.join("enrolment.toml")
    }

    /// The envelope of the trust root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.envelope")
    }

    /// The envelope of the newest trust root that this host took on after the one that it was enrolled with.
    #[must_use]
    pub fn newest_root(&self) -> PathBuf {
        self.dir.join("root.newest")
    }

    /// The private key of an enrolment that is not answered yet.
    #[must_use]
    pub fn pending_key(&self) -> PathBuf {
        self.dir.join("pending.key")
    }

    /// The private key with which the agent signs receipts.
    #[must_use]
    pub fn receipt_key(&self) -> PathBuf {
        self.dir.join("receipt.key")
    }

    /// The directory of an identity that is to take the place of this one.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { dir: self.dir.join("again") }
    }

    /// Where the identity stays that the agent's own took the place of.
    #[must_use]
    pub fn before(&self, agent: AgentId) -> Self {
        Self { dir: self.dir.join(format!("before-{agent}")) }
    }

    /// Chunks of bundles, and downloads.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// Unpacked bundles.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        self.dir.join("bundles")
    }

    /// The files of one unpacked bundle.
    #[must_use]
    pub fn bundle(&self, manifest: Digest) -> PathBuf {
        self.bundles().join(manifest.to_string())
    }

    /// The manifest of one unpacked bundle.
    #[must_use]
    pub fn bundle_manifest(&self, manifest: Digest) -> PathBuf {
        self.bundles().join(format!("{manifest}.manifest"))
    }

    /// Scratch directories of runs.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.dir.join("runs")
    }

    /// The scratch directory of one run.
    #[must_use]
    pub fn run(&self, run: RunId) -> PathBuf {
        self.runs().join(run.to_string())
    }
}

/// Makes a directory that everyone may pass through and nobody else may list. One that exists keeps its mode.
///
/// # Errors
///
/// When the system refuses.
pub fn create_passable(dir: &Path) -> Result<(), FsError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir(dir, Access::Owner)?;
    std::fs::set_permissions(dir, Permissions::from_mode(PASSABLE_MODE)).map_err(FsError::of(Action::SetMode, dir))
}
