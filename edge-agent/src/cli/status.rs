//! `sloth-agent status`.

use sloth_cli::{Failure, Format, Outcome, OutputArgs, Table, print_json, print_line};

use super::{DirArgs, print::bytes, runtime, update};
use crate::daemon::{self, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let socket = arguments.dir.paths().socket();
    let status = runtime()?.block_on(daemon::ask(&socket)).map_err(Outcome::Unreachable.because())?;
    let printed = match arguments.output.format {
        Format::Json => print_json(&status),
        Format::Text => print(&status),
    };
    printed.map_err(Outcome::Internal.because())?;
    Ok(Outcome::Done)
}

fn print(status: &Status) -> std::io::Result<()> {
    let connection =
        if status.connected { "connected".to_owned() } else { format!("not connected: {}", status.problem) };
    let waiting = [("results", status.results), ("logs", status.logs)].map(|(name, lane)| {
        let given_up = if lane.dropped == 0 { String::new() } else { format!(", {} given up", lane.dropped) };
        format!("{} {name} wait ({}{given_up})", lane.records, bytes(lane.bytes))
    });
    for (name, value) in [
        ("agent", format!("{}, {}", status.name, status.agent)),
        ("version", format!("{}, process {}", status.version, status.pid)),
        ("coordinator", format!("{}, {connection}", status.coordinator.join(", "))),
        ("certificate", format!("until {}", status.certificate_until)),
        ("outbox", waiting.join(", ")),
        ("runs", status.jobs.len().to_string()),
    ] {
        print_line(&format!("{name:<12} {value}"))?;
    }
    let supervised = if status.supervised { "yes" } else { "no: nothing updates it, or starts it again" };
    print_line(&format!("{:<12} {supervised}", "supervised"))?;
    for (name, value) in status.update.iter().flat_map(update::lines) {
        print_line(&format!("  {name:<10} {value}"))?;
    }
    if status.jobs.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["RUN", "BUNDLE", "VERSION", "STAGE", "TASKS ENDED"]);
    for job in &status.jobs {
        let ended = job.tasks_ended.to_string();
        table.row(vec![job.run.to_string(), job.bundle.clone(), job.version.clone(), job.stage.clone(), ended]);
    }
    table.print()
}
