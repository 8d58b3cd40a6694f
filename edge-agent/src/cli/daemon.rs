//! `sloth-agent daemon`.

use std::path::PathBuf;

use sloth_cli::{Failure, Outcome};

use super::{DirArgs, runtime, signals::Ends};
use crate::{
    VERSION,
    config::Settings,
    daemon::{Daemon, DaemonError},
    enrolment::EnrolmentError,
    store::StoreError,
};

/// This very program, also when its file was replaced since it was started.
const PROGRAM: &str = "/proc/self/exe";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    dir: DirArgs,
    /// The settings [default: agent.toml in the agent's directory]
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let paths = arguments.dir.paths();
    let file = arguments.config.clone().unwrap_or_else(|| paths.settings());
    if arguments.config.is_some() && !file.exists() {
        return Err(Failure::new(Outcome::Usage, format!("there are no settings at `{}`", file.display())));
    }
    let settings = Settings::load(&file).map_err(Outcome::Usage.because())?;
    let daemon = Daemon::open(paths, settings, PathBuf::from(PROGRAM)).map_err(failure)?;
    runtime()?.block_on(async {
        let mut ends = Ends::listen().map_err(Outcome::Internal.because())?;
        tracing::info!(version = VERSION, "daemon started");
        daemon.run(ends.next()).await.map_err(failure)?;
        tracing::info!("daemon stopped");
        Ok(Outcome::Done)
    })
}

fn failure(error: DaemonError) -> Failure {
    let outcome = match &error {
        DaemonError::Enrolment(
            EnrolmentError::Missing { .. }
            | EnrolmentError::Secret { .. }
            | EnrolmentError::NoReceiptKey { .. }
            | EnrolmentError::OtherReceiptKey { .. },
        )
        | DaemonError::Lock { .. } => Outcome::Refused,
        // What lies on the disk is damaged. A person mends it, and no version of the program is at fault.
        DaemonError::Enrolment(_)
        | DaemonError::Store(
            StoreError::Newer { .. } | StoreError::Value { .. } | StoreError::Key { .. } | StoreError::Database { .. },
        )
        | DaemonError::Restore(_) => Outcome::Refused,
        DaemonError::Fs(_)
        | DaemonError::Store(StoreError::Fs(_) | StoreError::Locked { .. } | StoreError::Closed)
        | DaemonError::Cache { .. } => Outcome::Internal,
    };
    Failure { outcome, error: error.into() }
}
