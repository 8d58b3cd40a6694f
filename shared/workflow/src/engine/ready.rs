//! What is there before a task begins.

use std::{
    fs::{DirBuilder, Permissions},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, fchown, mkdirat, openat};

use super::{Engine, attempt::Job};
use crate::{
    artifacts,
    beneath::Last,
    capability::Capability,
    modules::{self, Phase},
};

/// The directory of artifacts in the run's scratch directory.
const ARTIFACTS_DIR: &str = ".artifacts";
/// What lets everyone pass through a directory, and nobody list it.
const PASS: u32 = 0o011;
/// How directories are opened, to make others in them.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Engine {
    /// The directories and files that the task needs.
    pub(super) fn make_ready(&self, job: &Job<'_>) -> Result<(), String> {
        let (artifacts, consumes) = (!job.spec.artifacts.is_empty(), !job.spec.consumes.is_empty());
        let refused = |error: mlua::Error| self.prepared.fault(&error).message;
        let read = || self.context.may_read(&job.workdir, Last::Followed, "artifacts");
        let write = |what| self.context.may_write(&job.workdir, Last::Followed, what);
        if artifacts {
            read().map_err(refused)?;
        }
        if consumes {
            write("consumes").map_err(refused)?;
        }
        let checking = self.context.phase == Phase::Check;
        let own = job.workdir.starts_with(&self.context.workdir);
        let owner = job.spec.user.as_deref().and_then(modules::ids_of_other);
        let failed = |error| format!("cannot make the directory `{}`: {error}", job.workdir.display());
        if own && owner.is_some() {
            let_pass(&self.context.workdir).map_err(failed)?;
        }
        if job.workdir != self.context.workdir && !job.workdir.is_dir() && (own || !checking) {
            // Whoever may start commands may make it, too.
            if !self.context.capabilities.allows(Capability::Exec) {
                write("workdir").map_err(refused)?;
            }
            if job.course.finished.create_workdir == Some(false) && job.spec.workdir.is_none() {
                let dir = job.workdir.display();
                return Err(format!(
                    "the directory `{dir}` does not exist, and `create_workdir_before_run` is `false`"
                ));
            }
            make_dir(&job.workdir, owner).map_err(failed)?;
            self.made.borrow_mut().insert(job.workdir.clone());
        }
        if consumes && !checking {
            artifacts::fetch(&self.store(job), &job.spec.consumes, &job.workdir)
                .map_err(|error| sloth_core::error::Chain(&error).to_string())?;
        }
        Ok(())
    }

    pub(super) fn store(&self, job: &Job<'_>) -> PathBuf {
        self.context.workdir.join(ARTIFACTS_DIR).join(job.name.workflow.replace('/', "_"))
    }
}

/// Lets other users reach what is in a directory, whose names they must know.
fn let_pass(dir: &Path) -> io::Result<()> {
    let mode = dir.metadata()?.permissions().mode();
    std::fs::set_permissions(dir, Permissions::from_mode(mode | PASS))
}

/// Makes a directory, and those above it that are missing. What is made belongs to `owner`, who may have a hand in the
/// directories above: none of their names is followed twice.
fn make_dir(dir: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some((user, group)) = owner else { return DirBuilder::new().recursive(true).create(dir) };
    let there = dir.ancestors().find(|above| above.is_dir());
    let (mut above, rest) = match there {
        Some(there) => (openat(CWD, there, OPEN, Mode::empty())?, dir.strip_prefix(there).unwrap_or(dir)),
        None => (openat(CWD, ".", OPEN, Mode::empty())?, dir),
    };
    for name in rest.components() {
        let made = match mkdirat(above.as_fd(), name.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let own: OwnedFd = openat(above.as_fd(), name.as_os_str(), OPEN | OFlags::NOFOLLOW, Mode::empty())?;
        if made {
            fchown(&own, Some(rustix::fs::Uid::from_raw(user)), Some(rustix::fs::Gid::from_raw(group)))?;
        }
        above = own;
    }
    Ok(())
}
