//! `sloth-agent plan`: what a file will do, without doing it.

use std::{io::Write as _, path::PathBuf};

use serde_json::{Value, json};
use sloth_cli::{Failure, Format, Outcome, OutputArgs, parameters, print_json, print_line};
use sloth_workflow::{Plan, needs};

use super::{
    graph,
    run_arguments::ValueArgs,
    workflow_file::{Severity, WorkflowFile},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The workflow file, or a directory with a `bundle.toml`
    file: PathBuf,
    #[command(flatten)]
    values: ValueArgs,
    /// Only this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// How the plan is drawn
    #[arg(long = "format", value_enum, default_value_t)]
    drawing: Drawing,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a plan is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Drawing {
    /// For people: the tasks step by step.
    #[default]
    Tree,
    /// For programs, as `-o json`.
    Json,
    /// For Graphviz.
    Dot,
    /// For Mermaid, which Markdown pages can hold.
    Mermaid,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let file = WorkflowFile::find(&arguments.file)?;
    let look = file.look(&arguments.values.read()?);
    let told = |severity| {
        let findings = look.findings.iter().filter(move |finding| finding.severity == severity);
        findings.map(|finding| finding.text(&file.text)).collect::<Vec<String>>()
    };
    let errors = told(Severity::Error);
    if !errors.is_empty() {
        return Err(Failure::new(Outcome::Usage, errors.join("\n")));
    }
    for warning in told(Severity::Warning) {
        // Nothing is left to be done when even standard error is gone.
        let _ = writeln!(anstream::stderr(), "{warning}");
    }
    let plans = selected(look.plans, arguments.workflow.as_deref(), &file.shown)?;
    let needed = needs(&file.bundle_dir, &file.file).map_err(Outcome::Usage.because())?;
    let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
    let drawing = if arguments.output.format == Format::Json { Drawing::Json } else { arguments.drawing };
    let printed = match drawing {
        Drawing::Json => print_json(&json!({
            "file": file.shown, "capabilities": { "needed": needed, "granted": file.granted },
            "parameters": look.parameters, "workflows": plans.iter().map(shown).collect::<Vec<_>>(),
        })),
        Drawing::Tree => print_steps(&plans, &needed, file.granted.as_deref())
            .and_then(|()| parameters::print(look.parameters.as_ref())),
        Drawing::Dot => print_line(&graph::dot(&plans)),
        Drawing::Mermaid => print_line(&graph::mermaid(&plans)),
    };
    printed.map_err(Outcome::Internal.because())?;
    Ok(Outcome::Done)
}

/// A plan without what says nothing: how the waits between attempts grow, where there is one attempt.
fn shown(plan: &Plan) -> Value {
    let mut plan = json!(plan);
    for task in plan["tasks"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if !task.contains_key("retries") {
            task.remove("backoff");
        }
    }
    plan
}

fn selected(mut plans: Vec<Plan>, name: Option<&str>, file: &str) -> Result<Vec<Plan>, Failure> {
    let Some(name) = name else { return Ok(plans) };
    let known: Vec<String> = plans.iter().map(|plan| format!("`{}`", plan.name())).collect();
    plans.retain(|plan| plan.name() == name);
    if plans.is_empty() {
        let sentence = format!("`{file}` has no workflow `{name}`: it has {}", known.join(", "));
        return Err(Failure::new(Outcome::Usage, sentence));
    }
    Ok(plans)
}

fn print_steps(plans: &[Plan], needed: &[String], granted: Option<&[String]>) -> std::io::Result<()> {
    for plan in plans {
        print_line(graph::steps(plan).trim_end())?;
        print_line("")?;
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    print_line(&format!("needs the capabilities: {}", list(needed)))?;
    granted.map_or(Ok(()), |granted| print_line(&format!("bundle.toml grants: {}", list(granted))))
}
