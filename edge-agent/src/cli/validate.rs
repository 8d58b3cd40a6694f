//! `sloth-agent validate`.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;
use sloth_cli::{Failure, Format, Outcome, OutputArgs, print_json, print_line, report};

use super::{
    print::counted,
    run_arguments::ValueArgs,
    workflow_file::{Look, Severity, WorkflowFile},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Workflow files, or directories with a `bundle.toml`
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    values: ValueArgs,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let values = arguments.values.read()?;
    let (mut good, mut missing) = (true, None);
    for path in &arguments.paths {
        let file = match WorkflowFile::find(path) {
            Ok(file) => file,
            // The others are looked at all the same.
            Err(failure) => {
                if let Some(earlier) = missing.replace(failure) {
                    report(Err(earlier));
                }
                continue;
            }
        };
        let file = &file;
        let look = file.look(&values);
        let count = |severity| look.findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        good &= errors == 0 && (warnings == 0 || !arguments.strict);
        let printed = match arguments.output.format {
            Format::Json => print_json(&json!({
                "file": file.shown, "ok": errors == 0, "findings": look.findings, "workflows": look.plans,
            })),
            Format::Text => print(file, &look, errors, warnings, arguments.strict),
        };
        printed.map_err(Outcome::Internal.because())?;
    }
    match missing {
        Some(failure) => Err(failure),
        None => Ok(if good { Outcome::Done } else { Outcome::Failed }),
    }
}

fn print(file: &WorkflowFile, look: &Look, errors: usize, warnings: usize, strict: bool) -> std::io::Result<()> {
    let mut others: BTreeMap<&str, String> = BTreeMap::new();
    for finding in &look.findings {
        // What is found in a file that this one loads is shown with that one's line.
        let source = if finding.file == file.shown {
            &file.text
        } else {
            let read = || std::fs::read_to_string(&finding.file).unwrap_or_default();
            others.entry(&finding.file).or_insert_with(read)
        };
        print_line(&finding.text(source))?;
    }
    let mut said = Vec::new();
    if errors == 0 {
        let tasks = look.plans.iter().map(|plan| plan.tasks().len()).sum();
        let ok = if strict && 0 < warnings { "" } else { "ok, " };
        said.push(format!("{ok}{} with {}", counted(look.plans.len(), "workflow"), counted(tasks, "task")));
    } else {
        said.push(counted(errors, "error"));
    }
    if 0 < warnings {
        said.push(counted(warnings, "warning"));
    }
    print_line(&format!("{}: {}", file.shown, said.join(", ")))
}
