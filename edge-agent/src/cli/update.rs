//! `sloth-agent update`: what a person on the host says to updates.

use clap::Subcommand;
use sloth_cli::{Failure, Format, Outcome, OutputArgs, print_json, print_line};
use sloth_core::Millis;
use sloth_protocol::update::{Request, Verdict, Version};

use super::DirArgs;
use crate::{
    paths::Paths,
    update::{self, UpdateOutcome, UpdateStatus, control, control::ControlError, rules},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    dir: DirArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How updates of this host stand
    Status(OutputArgs),
    /// Take no update until `unhold`, whoever asks
    Hold,
    /// Take updates again
    Unhold,
    /// Go back to the version before, and mark this one bad
    Rollback,
    /// Take the version of a package that was upgraded, once running work has ended: what packages do that a task upgrades
    Package,
    /// Let a version be tried again that was marked bad
    ForgetBad {
        /// Which
        version: Version,
    },
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let paths = arguments.dir.paths();
    match &arguments.command {
        Command::Status(output) => status(&paths, output.format)?,
        Command::Hold => {
            rules::hold(&paths).map_err(Outcome::Internal.because())?;
            say("updates are held on this host")?;
        }
        Command::Unhold => {
            let was_held = rules::unhold(&paths).map_err(Outcome::Internal.because())?;
            say(if was_held { "updates go on" } else { "updates were not held" })?;
        }
        Command::Rollback => ask(&paths, &Request::RollBack)?,
        Command::Package => ask(&paths, &Request::Package)?,
        Command::ForgetBad { version } => ask(&paths, &Request::Forget(version.clone()))?,
    }
    Ok(Outcome::Done)
}

/// Asks the supervisor, and prints what it answers.
pub(super) fn ask(paths: &Paths, request: &Request) -> Result<(), Failure> {
    let answer = control::ask(&paths.supervisor_socket(), request).map_err(|error| {
        let outcome = match &error {
            ControlError::Nobody { .. } | ControlError::Silent { .. } => Outcome::Unreachable,
            ControlError::Refused { .. } => Outcome::Refused,
        };
        Failure { outcome, error: error.into() }
    })?;
    say(&answer)
}

pub(super) fn say(line: &str) -> Result<(), Failure> {
    print_line(line).map_err(Outcome::Internal.because())
}

fn status(paths: &Paths, format: Format) -> Result<(), Failure> {
    let status = update::status(paths).ok_or_else(|| {
        let dir = paths.dir().display();
        let sentence = format!(
            "`{dir}` has had no supervisor yet: start `sloth-agent supervise --dir {dir}`, or give the agent's directory with `--dir`"
        );
        Failure::new(Outcome::Refused, sentence)
    })?;
    let printed = match format {
        Format::Json => print_json(&status),
        Format::Text => lines(&status).iter().try_for_each(|(name, value)| print_line(&format!("{name:<12} {value}"))),
    };
    printed.map_err(Outcome::Internal.because())
}

/// How updates stand, as people read it.
pub(super) fn lines(status: &UpdateStatus) -> Vec<(&'static str, String)> {
    let mut lines = vec![("packaged", status.packaged.to_string()), ("current", status.current.to_string())];
    lines.extend(status.previous.as_ref().map(|version| ("previous", version.to_string())));
    let trial = |version: &Version| ("on trial", format!("{version}, started {} times", status.starts));
    lines.extend(status.trial.as_ref().map(trial));
    lines.extend(status.put_off.as_ref().map(|put_off| ("put off", format!("{}: {put_off}", put_off.version))));
    lines.extend(status.held.then(|| ("held", "yes: `sloth-agent update unhold` lets updates go on".to_owned())));
    lines.extend(status.bad.iter().map(|bad| ("bad", format!("{}: {}", bad.version, bad.reason))));
    lines.extend(status.last.as_ref().map(|last| ("last update", outcome(last))));
    lines
}

fn outcome(outcome: &UpdateOutcome) -> String {
    let UpdateOutcome { from, to, verdict, reason, at, .. } = outcome;
    let at: Millis = *at;
    match verdict {
        Verdict::Confirmed => format!("{at}: from {from} to {to}, confirmed: {reason}"),
        Verdict::RolledBack => format!("{at}: from {from} to {to}, rolled back: {reason}"),
    }
}
