//! The directory of a run, gone with it.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::PathBuf};

use sloth_cli::{Failure, Outcome};
use sloth_core::{
    RunId,
    fs::{Action, FsError},
};

/// Nobody else reads what a run leaves on its way.
const MODE: u32 = 0o700;

/// The run's own directory, gone with it.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(run: RunId) -> Result<Self, Failure> {
        let dir = std::env::temp_dir().join(format!("sloth-run-{run}"));
        let made = DirBuilder::new().mode(MODE).create(&dir);
        made.map_err(FsError::of(Action::Create, &dir)).map_err(Outcome::Internal.because())?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the run's directory");
        }
    }
}
