//! A run as `sloth-coord runs show -o json` tells it.

use serde_json::Value;

/// How a run stands.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Whether it has ended everywhere.
    pub ended: bool,
    /// How it stands on each agent.
    pub jobs: Vec<JobView>,
}

/// How a run stands on one agent.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The agent's name.
    pub agent: String,
    /// `pending`, `accepted`, `running`, `succeeded`, `failed`, …
    pub state: String,
    /// Why.
    pub message: String,
    /// The tasks that ended, in the order of their ends.
    pub tasks: Vec<TaskView>,
}

/// How a task ended.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// Its name, without its workflow's.
    pub name: String,
    /// `succeeded`, `failed`, `interrupted`, …
    pub status: String,
    /// How often it was begun.
    pub attempts: u64,
    /// What it said.
    pub message: String,
}

impl RunView {
    pub(crate) fn read(value: &Value) -> Self {
        Self { ended: !value["ended"].is_null(), jobs: list(&value["agents"]).iter().map(JobView::read).collect() }
    }

    /// How it stands on the only agent it runs on.
    ///
    /// # Panics
    ///
    /// When that is not one.
    #[must_use]
    pub fn only(&self) -> &JobView {
        assert_eq!(self.jobs.len(), 1, "{self:?}");
        &self.jobs[0]
    }
}

impl JobView {
    fn read(value: &Value) -> Self {
        Self {
            agent: text(&value["name"]),
            state: text(&value["state"]),
            message: text(&value["message"]),
            tasks: list(&value["tasks"]).iter().map(TaskView::read).collect(),
        }
    }

    /// The names of its ended tasks, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tasks.iter().map(|task| task.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// How `task` ended.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[must_use]
    pub fn task(&self, name: &str) -> &TaskView {
        self.tasks.iter().find(|task| task.name == name).unwrap_or_else(|| panic!("no end of `{name}`: {self:?}"))
    }
}

impl TaskView {
    fn read(value: &Value) -> Self {
        Self {
            name: text(&value["task"]),
            status: text(&value["status"]),
            attempts: value["attempts"].as_u64().unwrap_or_default(),
            message: text(&value["message"]),
        }
    }
}

/// The rows of a listing.
pub(crate) fn rows(value: &Value) -> &[Value] {
    list(value)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
