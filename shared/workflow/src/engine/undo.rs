//! What is done when a workflow has ended: rollbacks, cleanups, and its directory.

use std::path::PathBuf;

use mlua::Value;

use super::{Called, Engine, attempt::Job, hooks::outputs, workflow::Course};
use crate::{
    TaskEnd, TaskStatus,
    capability::Capability,
    dsl::{CleanWorkdir, TaskHook},
    modules,
    plan::OnTaskFailure,
    vm::Fault,
};

impl Engine {
    /// Undoes what the tasks of a failed workflow did, the last one first. Says what was undone.
    pub(super) async fn roll_back(&self, course: &Course<'_>) -> Option<String> {
        if course.plan.spec().on_task_failure != OnTaskFailure::Rollback {
            return None;
        }
        let (mut undone, mut failed) = (Vec::new(), Vec::new());
        for task in course.completed_last_first() {
            let Some(end) = course.end(task).filter(|end| end.status == TaskStatus::Succeeded) else { continue };
            match self.at_the_end(course, task, &end, TaskHook::Rollback).await {
                Some(Ok(())) => undone.push(format!("`{}`", end.task.task)),
                Some(Err(reason)) => failed.push(format!("`{}` ({reason})", end.task.task)),
                None => {}
            }
        }
        let undone = (!undone.is_empty()).then(|| format!("rolled back {}", undone.join(", ")));
        let failed = (!failed.is_empty()).then(|| format!("could not roll back {}", failed.join(", ")));
        let told: Vec<String> = undone.into_iter().chain(failed).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Calls the cleanup of every task that was begun, that of the last one first.
    pub(super) async fn clean_up(&self, course: &Course<'_>) {
        for task in course.completed_last_first() {
            if let Some(end) = course.end(task).filter(|end| 0 < end.attempts) {
                let _ = self.at_the_end(course, task, &end, TaskHook::Cleanup).await;
            }
        }
    }

    /// Removes the workflow's directory where it is wished, and where the run made it.
    pub(super) async fn clean_workdir(&self, course: &Course<'_>, failure: Option<&str>) {
        let Some(clean) = &course.finished.clean_workdir else { return };
        let wished = match clean {
            CleanWorkdir::Always => true,
            CleanWorkdir::AfterSuccess => failure.is_none(),
            CleanWorkdir::Asked(function) => {
                let Ok(result) = self.workflow_result(course, failure) else { return };
                let scope = self.scope(super::hooks::HOOK_TIME);
                let what = "clean_workdir_after_run";
                let called = self.call(&scope, function, (&result, &result, Value::Nil, what)).await;
                scope.stop();
                let wished = matches!(&called, Called::Returned(values) if super::attempt::is_true(values));
                self.hook_ended("the hook `clean_workdir_after_run`", called);
                wished
            }
        };
        let Some(dir) = course.plan.spec().workdir.as_ref().filter(|_| wished) else { return };
        let dir = self.context.workdir.join(modules::at_home(dir, None).unwrap_or_else(|| dir.into()));
        let allows = |capability| self.context.capabilities.allows(capability);
        let own = dir.starts_with(&self.context.workdir) && dir != self.context.workdir;
        if !own && !self.made.borrow().contains(&dir) || !allows(Capability::FsWrite) && !allows(Capability::Exec) {
            let text = format!("the directory `{}` is left as it is: this run did not make it", dir.display());
            return self.context.warn(&text);
        }
        self.remove(dir).await;
    }

    async fn remove(&self, dir: PathBuf) {
        let removing = dir.clone();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(removing)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.context.warn(&format!("cannot remove the directory `{}`: {error}", dir.display()));
        }
    }

    fn workflow_result(&self, course: &Course<'_>, failure: Option<&str>) -> mlua::Result<mlua::Table> {
        let result = self.prepared.machine.lua.create_table()?;
        result.raw_set("success", failure.is_none())?;
        result.raw_set("error", failure)?;
        result.raw_set("output", self.results(course)?)?;
        Ok(result)
    }

    /// Calls a task's hooks of one kind after the workflow's end; `None` = it has none.
    async fn at_the_end(
        &self,
        course: &Course<'_>,
        task: usize,
        end: &TaskEnd,
        hook: TaskHook,
    ) -> Option<Result<(), String>> {
        let hooks = course.finished.tasks[task].hooks.get(&hook)?;
        let job: Job<'_> = match self.job(course, task, end.task.clone()) {
            Ok(job) => job,
            Err(error) => return Some(Err(Fault::from(&error).message)),
        };
        let mut outcome = Ok(());
        for hook in hooks {
            let lua = &self.prepared.machine.lua;
            let arguments = self.this(&job, end.attempts).and_then(|this| {
                let outputs = outputs(lua, end)?;
                mlua::IntoLuaMulti::into_lua_multi((this, job.params.clone(), outputs), lua)
            });
            let ended = match arguments {
                Ok(arguments) => self.task_hook(&job, hook, arguments).await,
                Err(error) => Err(Fault::from(&error).message),
            };
            outcome = outcome.and(ended);
        }
        Some(outcome)
    }
}
