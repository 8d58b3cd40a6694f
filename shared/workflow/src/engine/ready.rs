//! What is there before a task begins.

use std::path::PathBuf;

use super::{Engine, attempt::Job};
use crate::{artifacts, beneath::Last, capability::Capability, modules::Phase};

/// The directory of artifacts in the run's scratch directory.
const ARTIFACTS_DIR: &str = ".artifacts";

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
            std::fs::create_dir_all(&job.workdir)
                .map_err(|error| format!("cannot make the directory `{}`: {error}", job.workdir.display()))?;
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
