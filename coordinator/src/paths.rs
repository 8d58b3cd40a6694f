//! What is where in the coordinator's directory.

use std::path::{Path, PathBuf};

/// What the authority's private key is called, in the directory and as a credential of a service.
const AUTHORITY_KEY: &str = "authority.key";

/// The coordinator's directory, made by `sloth-coord init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths(PathBuf);

impl Paths {
    /// The directory `dir`.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Where the coordinator lives unless it is told: `/var/lib/sloth-coord` for root, else under the user's data.
    #[must_use]
    pub fn default_dir() -> PathBuf {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/sloth-coord");
        }
        user_dir("XDG_DATA_HOME", ".local/share").join("sloth-coord")
    }

    /// Where an operator's credential is looked for first.
    #[must_use]
    pub fn user_credential() -> PathBuf {
        user_dir("XDG_CONFIG_HOME", ".config").join("sloth").join("credential.toml")
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("coordinator.toml")
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("coordinator.redb")
    }

    /// Held by the process that serves.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("coordinator.lock")
    }

    /// Bundles' chunks and manifests.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// The certificate of the coordinator's authority.
    #[must_use]
    pub fn authority_certificate(&self) -> PathBuf {
        self.0.join("authority.pem")
    }

    /// Its private key. Whoever has it can be any agent and any operator.
    #[must_use]
    pub fn authority_key(&self) -> PathBuf {
        self.0.join(AUTHORITY_KEY)
    }

    /// The private key as a systemd credential of the service, where it has one: then it need not lie in the directory.
    #[must_use]
    pub fn authority_credential() -> Option<PathBuf> {
        let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(AUTHORITY_KEY);
        path.is_file().then_some(path)
    }

    /// The online keys, with which the coordinator signs what it says.
    #[must_use]
    pub fn online_keys(&self) -> PathBuf {
        self.0.join("online")
    }

    /// The credential of the first operator.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.0.join("admin.toml")
    }
}

fn user_dir(variable: &str, below_home: &str) -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).unwrap_or_else(|| absolute("HOME").unwrap_or_else(|| PathBuf::from("/")).join(below_home))
}
