//! Which tasks of a run are left out.

use std::collections::BTreeSet;

use crate::{
    LoadError,
    artifacts::matches,
    dsl::Finished,
    plan::{Plan, nearest},
};

/// Which tasks are run; nothing said = all. Each entry is a task's name, `workflow/task`, or a pattern with `*` and `?`
/// of either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these.
    pub only: Vec<String>,
    /// All but these.
    pub skip: Vec<String>,
    /// Only these and what waits for them, directly or not.
    pub from: Vec<String>,
    /// Only these and what they wait for, directly or not.
    pub to: Vec<String>,
}

impl Selection {
    /// For each task of each workflow why it is left out; `None` = it is run.
    pub(super) fn left_out(&self, workflows: &[Finished]) -> Result<Vec<Vec<Option<String>>>, LoadError> {
        for (option, patterns) in [("only", &self.only), ("skip", &self.skip), ("from", &self.from), ("to", &self.to)] {
            for pattern in patterns {
                known(option, pattern, workflows)?;
            }
        }
        Ok(workflows.iter().map(|workflow| self.of_plan(&workflow.plan)).collect())
    }

    fn of_plan(&self, plan: &Plan) -> Vec<Option<String>> {
        let chosen = |patterns: &[String], task: usize| patterns.iter().any(|pattern| is_named(pattern, plan, task));
        let mut begun = BTreeSet::new();
        for &task in plan.order() {
            if chosen(&self.from, task) || plan.dependencies(task).any(|other| begun.contains(&other)) {
                begun.insert(task);
            }
        }
        let mut needed = BTreeSet::new();
        for &task in plan.order().iter().rev() {
            if chosen(&self.to, task) || needed.contains(&task) {
                needed.insert(task);
                needed.extend(plan.dependencies(task));
            }
        }
        let why = |task: usize| {
            if chosen(&self.skip, task) {
                Some("left out: `skip` names it".to_owned())
            } else if !self.only.is_empty() && !chosen(&self.only, task) {
                Some("left out: `only` does not name it".to_owned())
            } else if !self.from.is_empty() && !begun.contains(&task) {
                Some(format!("left out: it does not come after `{}`", self.from.join("`, `")))
            } else if !self.to.is_empty() && !needed.contains(&task) {
                Some(format!("left out: `{}` does not wait for it", self.to.join("`, `")))
            } else {
                None
            }
        };
        (0..plan.tasks().len()).map(why).collect()
    }
}

fn is_named(pattern: &str, plan: &Plan, task: usize) -> bool {
    let name = &plan.tasks()[task].name;
    matches(pattern, name) || pattern.contains('/') && matches(pattern, &format!("{}/{name}", plan.name()))
}

/// An entry that names nothing is a mistake.
fn known(option: &'static str, pattern: &str, workflows: &[Finished]) -> Result<(), LoadError> {
    let named = |workflow: &Finished| (0..workflow.tasks.len()).any(|task| is_named(pattern, &workflow.plan, task));
    if workflows.iter().any(named) {
        return Ok(());
    }
    let names = workflows.iter().flat_map(|workflow| workflow.plan.tasks()).map(|task| task.name.as_str());
    Err(LoadError::UnknownTask {
        option,
        pattern: pattern.to_owned(),
        nearest: nearest(pattern, names).map(str::to_owned),
    })
}
