//! The command line: arguments, and what becomes of them.

mod completions;
mod daemon;
mod enroll;
mod graph;
mod live;
mod local_host;
mod local_state;
mod modules;
mod new;
mod plan;
mod print;
mod repl;
mod run;
mod run_arguments;
mod scratch;
mod secrets;
mod self_update;
mod signals;
mod status;
mod supervise;
mod test;
mod test_report;
mod update;
mod validate;
mod workflow_file;

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};
use sloth_cli::{Failure, LogArgs, Outcome, keep_memory_private, logging, report};

use crate::{paths::Paths, worker};

/// The agent of Sloth: works for a coordinator, or runs a workflow file here and now
#[derive(Debug, Parser)]
#[command(name = "sloth-agent", version)]
struct Arguments {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this host an agent of the coordinator that a join token is for
    Enroll(enroll::Arguments),
    /// Work for the coordinator, until stopped
    Daemon(daemon::Arguments),
    /// Start the daemon and keep it running, in the version that works: what a service manager starts
    Supervise(supervise::Arguments),
    /// How updates of this host stand, and what it says to them
    Update(update::Arguments),
    /// Go to another version, from a signed file
    SelfUpdate(self_update::Arguments),
    /// Run a workflow file here and now, without a coordinator
    Run(Box<run_arguments::Arguments>),
    /// Ask this host's daemon how it is
    Status(status::Arguments),
    /// Make a bundle to begin with: a workflow file, its test, and a `bundle.toml`
    New(new::Arguments),
    /// Look for mistakes in workflow files, without running them
    Validate(validate::Arguments),
    /// Show what a workflow file will do, without doing it
    Plan(plan::Arguments),
    /// Run the tests of workflow files: `*_test.lua`, `*_test.luau`, `*_test.sloth`
    Test(test::Arguments),
    /// Talk Lua with all modules, line by line
    Repl(repl::Arguments),
    /// What workflow files can call, for people and for editors
    Modules(modules::Arguments),
    /// Print a script that completes this program's arguments in a shell
    Completions(completions::Arguments),
    /// Run what the daemon says on standard input
    #[command(hide = true)]
    Worker,
}

/// Says where the agent's directory is.
const DIR_VARIABLE: &str = "SLOTH_AGENT_DIR";

/// The option that says which agent is meant.
#[derive(Debug, clap::Args)]
struct DirArgs {
    /// The agent's directory [default: what SLOTH_AGENT_DIR says, else /var/lib/sloth-agent for root and
    /// ~/.local/share/sloth-agent for others]
    // An argument that has its value from the environment would be shown as a part of every usage.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
}

impl DirArgs {
    fn paths(&self) -> Paths {
        let said = || std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Paths::new(self.dir.clone().or_else(said).unwrap_or_else(Paths::default_dir))
    }
}

/// The program's arguments, for those who write them down: manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does what the process's arguments say.
#[must_use]
pub fn main() -> Outcome {
    keep_memory_private();
    if let Some(done) = supervise::main() {
        return report(done);
    }
    let arguments = Arguments::parse();
    report(execute(arguments))
}

fn execute(arguments: Arguments) -> Result<Outcome, Failure> {
    let log = arguments.log;
    logging::start(&log).map_err(Outcome::Usage.because())?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a part of this program failed")));
    match arguments.command {
        Command::Enroll(arguments) => enroll::execute(&arguments),
        Command::Daemon(arguments) => daemon::execute(&arguments),
        Command::Supervise(arguments) => supervise::execute(arguments, &log),
        Command::SelfUpdate(arguments) => self_update::execute(&arguments),
        Command::Update(arguments) => update::execute(&arguments),
        Command::Run(arguments) => run::execute(&arguments),
        Command::Status(arguments) => status::execute(&arguments),
        Command::New(arguments) => new::execute(&arguments),
        Command::Validate(arguments) => validate::execute(&arguments),
        Command::Plan(arguments) => plan::execute(&arguments),
        Command::Test(arguments) => test::execute(&arguments),
        Command::Repl(arguments) => repl::execute(&arguments),
        Command::Modules(arguments) => modules::execute(&arguments),
        Command::Completions(arguments) => completions::execute(&arguments),
        Command::Worker => worker::run().map(|()| Outcome::Done).map_err(Outcome::Internal.because()),
    }
}

/// A runtime on this thread alone: an agent mostly waits.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Outcome::Internal.because())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_fit_together() {
        super::command().debug_assert();
    }
}
