//! A bundle's recorded plan, for people.

use std::time::Duration;

use sloth_cli::{Failure, Outcome, print_line};
use sloth_core::config::Span;
use sloth_workflow::{Plan, TaskSpec};

use super::printed;

/// Prints a plan as it is recorded, as JSON.
pub(super) fn print(json: &str) -> Result<(), Failure> {
    let plans: Vec<Plan> = serde_json::from_str(json).map_err(Outcome::Internal.because())?;
    print_plans(&plans)
}

/// Prints what will be done, in an order in which it can be.
pub(super) fn print_plans(plans: &[Plan]) -> Result<(), Failure> {
    for plan in plans {
        printed(print_line(&format!("workflow {}{}", plan.name(), described(&plan.spec().description))))?;
        for place in plan.order() {
            let Some(task) = plan.tasks().get(*place) else { continue };
            printed(print_line(&format!("  {}", task_line(task))))?;
        }
    }
    Ok(())
}

fn task_line(task: &TaskSpec) -> String {
    let mut line = format!("{}{}", task.name, described(&task.description));
    if !task.depends_on.is_empty() {
        line.push_str(&format!(", after {}", task.depends_on.join(", ")));
    }
    if !task.delegate_to.is_empty() {
        line.push_str(&format!(", on {}", task.delegate_to.join(", ")));
    }
    if let Some(ms) = task.timeout_ms {
        line.push_str(&format!(", at most {}", Span::new(Duration::from_millis(ms).into())));
    }
    if 0 < task.retries {
        line.push_str(&format!(", {} retries", task.retries));
    }
    line
}

fn described(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
