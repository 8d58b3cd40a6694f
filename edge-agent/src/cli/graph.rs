//! Plans as texts: step by step for people, and as graphs for programs that draw.

use std::time::Duration;

use sloth_workflow::{Plan, TaskSpec};

use super::print::counted;

/// A plan step by step: the tasks of one step wait for none of the same step.
pub(super) fn steps(plan: &Plan) -> String {
    let mut step_of = vec![0_usize; plan.tasks().len()];
    for &task in plan.order() {
        step_of[task] = plan.dependencies(task).map(|other| step_of[other] + 1).max().unwrap_or(0);
    }
    let last = step_of.iter().max().map_or(0, |step| step + 1);
    let tasks = plan.tasks();
    let mut text = format!("{}: {} in {}", plan.name(), counted(tasks.len(), "task"), counted(last, "step"));
    for said in settings(plan) {
        text.push_str(&format!("; {said}"));
    }
    text.push('\n');
    if !plan.spec().description.is_empty() {
        text.push_str(&format!("  {}\n", plan.spec().description));
    }
    let width = tasks.iter().map(|task| task.name.chars().count()).max().unwrap_or(0);
    for step in 0..last {
        let of_step = plan.order().iter().filter(|task| step_of[**task] == step);
        for (at, &task) in of_step.enumerate() {
            let number = if at == 0 { (step + 1).to_string() } else { String::new() };
            let name = &tasks[task].name;
            let line = format!("{number:>4}  {name:<width$}  {}", properties(plan, task).join("; "));
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Plans as a graph of Graphviz.
pub(super) fn dot(plans: &[Plan]) -> String {
    let mut text = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
    for (at, plan) in plans.iter().enumerate() {
        text.push_str(&format!("  subgraph cluster_{at} {{\n    label={};\n", quoted(plan.name())));
        for (task, spec) in plan.tasks().iter().enumerate() {
            text.push_str(&format!("    w{at}t{task} [label={}];\n", quoted(&spec.name)));
        }
        for (from, to) in edges(plan) {
            text.push_str(&format!("    w{at}t{from} -> w{at}t{to};\n"));
        }
        text.push_str("  }\n");
    }
    text.push('}');
    text
}

/// Plans as a graph of Mermaid.
pub(super) fn mermaid(plans: &[Plan]) -> String {
    // Mermaid knows no backslash in a label, but the entities of HTML.
    let label = |text: &str| format!("\"{}\"", text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"));
    let mut text = String::from("flowchart LR");
    for (at, plan) in plans.iter().enumerate() {
        text.push_str(&format!("\n  subgraph w{at}[{}]", label(plan.name())));
        for (task, spec) in plan.tasks().iter().enumerate() {
            text.push_str(&format!("\n    w{at}t{task}[{}]", label(&spec.name)));
        }
        for (from, to) in edges(plan) {
            text.push_str(&format!("\n    w{at}t{from} --> w{at}t{to}"));
        }
        text.push_str("\n  end");
    }
    text
}

/// Who is waited for, and who waits, in the order of the file.
fn edges(plan: &Plan) -> Vec<(usize, usize)> {
    let mut edges: Vec<_> = (0..plan.tasks().len())
        .flat_map(|task| plan.dependencies(task).map(move |other| (other, task)).collect::<Vec<_>>())
        .collect();
    edges.sort_unstable();
    edges
}

/// What a workflow says of itself.
fn settings(plan: &Plan) -> Vec<String> {
    let spec = plan.spec();
    let mut said = Vec::new();
    if let Some(most) = spec.max_parallel_tasks {
        said.push(format!("{most} at a time"));
    }
    if let Some(timeout) = spec.timeout_ms {
        said.push(format!("timeout {}", span(timeout)));
    }
    if spec.on_task_failure != sloth_workflow::plan::OnTaskFailure::default() {
        said.push(format!("on failure: {}", word(&spec.on_task_failure)));
    }
    said
}

/// What is to be known of a task.
fn properties(plan: &Plan, task: usize) -> Vec<String> {
    let spec: &TaskSpec = &plan.tasks()[task];
    let mut said = Vec::new();
    let mut after: Vec<usize> = plan.dependencies(task).collect();
    after.sort_unstable();
    if !after.is_empty() {
        let names: Vec<&str> = after.iter().map(|other| plan.tasks()[*other].name.as_str()).collect();
        said.push(format!("after {}", names.join(", ")));
    }
    for condition in &spec.conditions {
        said.push(condition.clone());
    }
    if !spec.delegate_to.is_empty() {
        said.push(format!("on {}", spec.delegate_to.join(", ")));
    }
    if let Some(user) = &spec.user {
        said.push(format!("as {user}"));
    }
    if let Some(timeout) = spec.timeout_ms {
        said.push(format!("timeout {}", span(timeout)));
    }
    if 0 < spec.retries {
        let times = if spec.retries == 1 { "retry" } else { "retries" };
        said.push(format!("{} {times}, {} waits", spec.retries, word(&spec.backoff)));
    }
    if let Some(idempotent) = spec.idempotent {
        said.push(if idempotent { "idempotent" } else { "not idempotent" }.to_owned());
    }
    for (what, names) in [("leaves", &spec.artifacts), ("takes", &spec.consumes)] {
        if !names.is_empty() {
            said.push(format!("{what} {}", names.join(", ")));
        }
    }
    said
}

/// A choice in one word, as it is recorded.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn span(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use sloth_workflow::{Limits, WorkflowSpec};

    use super::*;

    fn plan() -> Plan {
        let task = |name: &str, after: &[&str]| TaskSpec {
            name: name.to_owned(),
            depends_on: after.iter().map(|name| (*name).to_owned()).collect(),
            ..TaskSpec::default()
        };
        let mut tasks =
            vec![task("fetch", &[]), task("a \"b\"", &["fetch"]), task("c", &["fetch"]), task("d", &["c", "a \"b\""])];
        tasks[0].retries = 2;
        tasks[0].delegate_to = vec!["web-1".to_owned()];
        tasks[3].timeout_ms = Some(90_000);
        let spec =
            WorkflowSpec { name: "site".to_owned(), max_parallel_tasks: Some(2), tasks, ..WorkflowSpec::default() };
        Plan::new(spec, Limits::default().tasks_max).expect("a plan")
    }

    #[test]
    fn a_plan_is_told_step_by_step() {
        let expected = "site: 4 tasks in 3 steps; 2 at a time
   1  fetch  on web-1; 2 retries, exponential waits
   2  a \"b\"  after fetch
      c      after fetch
   3  d      after a \"b\", c; timeout 1m 30s
";
        assert_eq!(steps(&plan()), expected);
    }

    #[test]
    fn graphs_name_and_join_the_tasks() {
        let dot = dot(&[plan()]);
        for expected in ["label=\"site\"", "w0t1 [label=\"a \\\"b\\\"\"]", "w0t0 -> w0t1;", "w0t1 -> w0t3;", "\n}"] {
            assert!(dot.contains(expected), "{expected}: {dot}");
        }
        let mermaid = mermaid(&[plan()]);
        for expected in ["flowchart LR\n", "w0[\"site\"]", "w0t1[\"a &quot;b&quot;\"]", "w0t2 --> w0t3", "\n  end"] {
            assert!(mermaid.contains(expected), "{expected}: {mermaid}");
        }
    }
}
