//! What a workflow will do: its tasks, what each waits for, and an order that respects it. Pure.

mod build;
mod names;

use std::{collections::HashMap, time::Duration};

use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};
use serde::{Deserialize, Serialize};

pub use build::{PlanError, problems};
pub(crate) use names::misspelt;
pub use names::nearest;

use crate::host::OnInterrupt;

/// One task as it is recorded in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSpec {
    /// Its name, unique in the workflow.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The names of the tasks that must have ended well before it starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// The names of the tasks of which one must have failed before it starts; empty = it needs no failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub if_failed: Vec<String>,
    /// The agents it is meant for; empty = the one that runs the workflow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegate_to: Vec<String>,
    /// Whether it may run on the agent that runs the workflow where it cannot run on those it is meant for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fallback_here: bool,
    /// How long one attempt may take, in milliseconds; `None` = as the runner's limits say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many times it is tried again after it failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// How the waits between attempts grow.
    pub backoff: Backoff,
    /// The wait after the first failed attempt, in milliseconds; `None` = as the runner's limits say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_wait_ms: Option<u64>,
    /// The longest wait between two attempts, in milliseconds; `None` = [`RETRY_WAIT_MS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_wait_ms_max: Option<u64>,
    /// Whether it may be begun again after a crash cut it off; `None` = while it has retries left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// The system user that its commands run as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The directory it works in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Its conditions as they are written, for people: lines for the shell, or that it is a function.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// The files it leaves for others, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// The files of others that it needs, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumes: Vec<String>,
}

impl TaskSpec {
    /// What becomes of the task when a crash cuts off attempt `number` (from 1): nothing is run twice unless the task
    /// says that it may be.
    #[must_use]
    pub const fn on_interrupt(&self, number: u32) -> OnInterrupt {
        match self.idempotent {
            Some(true) => OnInterrupt::Retry,
            Some(false) => OnInterrupt::Fail,
            None if number <= self.retries => OnInterrupt::Retry,
            None => OnInterrupt::Fail,
        }
    }
}

/// How the waits between the attempts at a task grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// Always the same.
    Fixed,
    /// One, two, three times the first.
    Linear,
    /// One, two, four times the first.
    #[default]
    Exponential,
}

/// The wait after the first failed attempt.
pub const RETRY_WAIT_MS: u64 = 1_000;
/// The longest wait between two attempts.
pub const RETRY_WAIT_MS_MAX: u64 = 60_000;

impl Backoff {
    /// The names that a workflow file may use.
    pub const NAMES: [(&'static str, Self); 3] =
        [("fixed", Self::Fixed), ("linear", Self::Linear), ("exponential", Self::Exponential)];

    /// The wait after the `failed`-th failed attempt (from 1), before jitter: never above `max`.
    #[must_use]
    pub fn wait(self, first: Duration, failed: u32, max: Duration) -> Duration {
        let times = match self {
            Self::Fixed => 1,
            Self::Linear => failed.max(1),
            Self::Exponential => 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX),
        };
        first.saturating_mul(times).min(max)
    }
}

/// What a failed task means for the tasks that do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTaskFailure {
    /// Nothing.
    #[default]
    Continue,
    /// None of them is started any more; those that run are left to end.
    Stop,
    /// As [`Self::Stop`], and then what ended well is undone: the rollback of each such task is called, that of the
    /// last one first.
    Rollback,
}

impl OnTaskFailure {
    /// Whether a failure keeps further tasks from being started.
    #[must_use]
    pub const fn stops(self) -> bool {
        match self {
            Self::Continue => false,
            Self::Stop | Self::Rollback => true,
        }
    }
}

/// A workflow as it is recorded in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkflowSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The version that its author gave it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How many of its tasks run at a time; `None` = as the runner's limits say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_tasks: Option<usize>,
    /// How long all of it may take, in milliseconds; `None` = as long as its tasks do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What a failed task means for the rest.
    pub on_task_failure: OnTaskFailure,
    /// The directory that its tasks work in when they do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Its tasks in the order of the file.
    pub tasks: Vec<TaskSpec>,
}

/// A workflow that can be run: every dependency exists and none waits for itself.
///
/// As JSON it is its [`WorkflowSpec`]; reading one back checks it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "WorkflowSpec", into = "WorkflowSpec")]
pub struct Plan {
    spec: WorkflowSpec,
    graph: Graph,
    order: Vec<usize>,
}

/// What a task waits for in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// That it ends well.
    Success,
    /// That it ends; one of those that are awaited so must fail.
    Failure,
}

/// Who waits for whom: a node for each task, by its place in the file, and an edge from what is waited for.
type Graph = DiGraph<(), Awaited>;

impl Plan {
    /// Checks a workflow of `tasks_max` tasks at most.
    ///
    /// # Errors
    ///
    /// When names are missing, given twice or unknown, or tasks wait for each other.
    pub fn new(spec: WorkflowSpec, tasks_max: usize) -> Result<Self, PlanError> {
        let (graph, order) = build::build(&spec, tasks_max)?;
        Ok(Self { spec, graph, order })
    }

    /// The workflow's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The workflow as it was written.
    #[must_use]
    pub fn spec(&self) -> &WorkflowSpec {
        &self.spec
    }

    /// Its tasks, in the order of the file.
    #[must_use]
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.spec.tasks
    }

    /// What a task waits for, in no particular order.
    pub fn dependencies(&self, task: usize) -> impl Iterator<Item = usize> {
        self.graph.neighbors_directed(NodeIndex::new(task), Direction::Incoming).map(NodeIndex::index)
    }

    /// What a task waits for, and what for in each, in no particular order.
    pub fn awaited(&self, task: usize) -> impl Iterator<Item = (usize, Awaited)> {
        let edges = self.graph.edges_directed(NodeIndex::new(task), Direction::Incoming);
        edges.map(|edge| (edge.source().index(), *edge.weight()))
    }

    /// What waits for a task, and what for, in no particular order.
    pub fn awaiting(&self, task: usize) -> impl Iterator<Item = (usize, Awaited)> {
        self.graph.edges(NodeIndex::new(task)).map(|edge| (edge.target().index(), *edge.weight()))
    }

    /// What waits for a task, in no particular order.
    pub fn dependents(&self, task: usize) -> impl Iterator<Item = usize> {
        self.graph.neighbors(NodeIndex::new(task)).map(NodeIndex::index)
    }

    /// The tasks' places in an order in which each comes after what it waits for, and else as in the file.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The places of the tasks by their names.
    #[must_use]
    pub fn places(&self) -> HashMap<&str, usize> {
        build::places(&self.spec)
    }
}

impl PartialEq for Plan {
    /// The graph and the order follow from the workflow.
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Plan {}

impl TryFrom<WorkflowSpec> for Plan {
    type Error = PlanError;

    fn try_from(spec: WorkflowSpec) -> Result<Self, PlanError> {
        Self::new(spec, crate::limits::TASKS_MAX)
    }
}

impl From<Plan> for WorkflowSpec {
    fn from(plan: Plan) -> Self {
        plan.spec
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
