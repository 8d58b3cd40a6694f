//! The command line of `sloth-coord`.
//!
//! Arguments become settings, settings become work, and work ends in an [`Outcome`], whose numbers are part of the
//! interface. Standard output carries data only.

mod agents;
mod audit;
mod bundles;
mod client;
mod follow;
mod init;
mod keys;
mod operators;
mod plan;
mod publish;
mod release;
mod rollout;
mod run;
mod runs;
mod serve;
mod show;
mod sign;
mod signed_file;
mod tokens;
mod trust;
mod upload;
mod work;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sloth_cli::{Failure, LogArgs, Outcome, OutputArgs, logging};

use crate::paths::Paths;

/// Sloth's coordinator, and the command line of publishers and operators.
#[derive(Debug, Parser)]
#[command(name = "sloth-coord", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a coordinator: its authority, its store, its settings and the first operator's credential
    Init(init::InitArgs),
    /// Serve agents and operators
    Serve(serve::ServeArgs),
    /// Publishers' signing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Who may sign what
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Check, sign and publish the bundle in a directory
    Publish(publish::PublishArgs),
    /// Join tokens, with which hosts enrol
    #[command(subcommand, alias = "tokens")]
    Token(tokens::TokenCommand),
    /// Who may order and ask: their credentials
    #[command(subcommand)]
    Operators(operators::OperatorsCommand),
    /// The fleet
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// What was published
    #[command(subcommand)]
    Bundles(bundles::BundlesCommand),
    /// Versions of the agent: publish them, and order agents to go to them
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Run a bundle on agents
    Run(run::RunArgs),
    /// Releases on their way to the fleet, wave by wave
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// What is running and what has run
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// What agents signed of runs, and whether that is still what is here
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// Where the coordinator lives.
#[derive(Debug, Clone, Args)]
struct DirArgs {
    /// The coordinator's directory [default: /var/lib/sloth-coord for root, else ~/.local/share/sloth-coord]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Who asks.
#[derive(Debug, Clone, Args)]
struct CredentialArgs {
    /// The operator's credential [default: ~/.config/sloth/credential.toml, else the one that `init` made]
    #[arg(long, value_name = "FILE", env = "SLOTH_CREDENTIAL")]
    credential: Option<PathBuf>,
}

impl DirArgs {
    fn paths(&self) -> Paths {
        Paths::new(self.dir.clone().unwrap_or_else(Paths::default_dir))
    }
}

impl CredentialArgs {
    fn path(&self) -> PathBuf {
        self.credential.clone().unwrap_or_else(|| {
            let own = Paths::user_credential();
            if own.exists() { own } else { Paths::new(Paths::default_dir()).admin() }
        })
    }
}

/// Does what the arguments say.
///
/// # Errors
///
/// When it cannot be done; the failure says how the process ends.
pub fn run(cli: Cli) -> Result<Outcome, Failure> {
    let Cli { command, output, log } = cli;
    logging::start(&log).map_err(Outcome::Usage.because())?;
    let format = output.format;
    match command {
        Command::Init(args) => init::run(&args, format),
        Command::Serve(args) => serve::run(&args),
        Command::Keys(command) => keys::run(command, format),
        Command::Trust(command) => trust::run(command, format),
        Command::Publish(args) => publish::run(&args, format),
        Command::Token(command) => tokens::run(command, format),
        Command::Operators(command) => operators::run(command, format),
        Command::Agents(command) => agents::run(command, format),
        Command::Bundles(command) => bundles::run(command, format),
        Command::Release(command) => release::run(command, format),
        Command::Run(args) => run::run(&args, format),
        Command::Rollout(command) => rollout::run(command, format),
        Command::Runs(command) => runs::run(command, format),
        Command::Audit(command) => audit::run(command, format),
    }
}

/// A failure to print is one of this machine. That a pipe's reader has seen enough is none.
fn printed(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Outcome::Internal.because()(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
