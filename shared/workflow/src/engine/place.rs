//! Whether a task is one for this host.

use sloth_core::{Selector, labels::Subject};

use super::Engine;
use crate::{AgentInfo, LoadError, Plan, artifacts};

/// What becomes of tasks that are meant for another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Elsewhere {
    /// The run is refused, unless they may fall back to this host.
    #[default]
    Refused,
    /// They run here, and a warning says so.
    Here,
}

/// Names that every host answers to.
const HERE: [&str; 3] = ["local", "localhost", "any"];

/// Whether `target` means this host: `local`, `localhost`, `any`, its name, a pattern of it, or labels that it has.
pub(crate) fn is_here(target: &str, agent: &AgentInfo) -> bool {
    if HERE.contains(&target) || artifacts::matches(target, &agent.name) {
        return true;
    }
    let subject = Subject { id: "", name: &agent.name, labels: &[&agent.labels] };
    let is_selector = target.contains(['=', '!', ',', '(']);
    is_selector && target.parse::<Selector>().is_ok_and(|selector| selector.matches(subject))
}

/// How this host is called in a message.
pub(crate) fn here(agent: &AgentInfo) -> String {
    if agent.name.is_empty() { "`local`".to_owned() } else { format!("`local` or `{}`", agent.name) }
}

impl Engine {
    /// Every task must be one for this host, or may be run by it.
    pub(super) fn place(&self, plans: &[&Plan]) -> Result<(), LoadError> {
        let agent = &self.context.agent;
        let (mut moved, mut meant_for) = (Vec::new(), Vec::new());
        for task in plans.iter().flat_map(|plan| plan.tasks()) {
            let Some(delegate) = task.delegate_to.iter().find(|delegate| !is_here(delegate, agent)) else { continue };
            if self.context.settings.elsewhere == Elsewhere::Refused && !task.fallback_here {
                let (task, delegate, here) = (task.name.clone(), delegate.clone(), here(agent));
                return Err(LoadError::Elsewhere { task, delegate, here });
            }
            moved.push(format!("`{}`", task.name));
            if !meant_for.contains(delegate) {
                meant_for.push(delegate.clone());
            }
        }
        if !moved.is_empty() {
            let (tasks, hosts) = (moved.join(", "), meant_for.join("`, `"));
            self.context.warn(&format!("meant for `{hosts}`, and run here: {tasks}"));
        }
        Ok(())
    }
}
