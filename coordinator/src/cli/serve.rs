//! `sloth-coord serve`.

use clap::Args;
use sloth_cli::{Failure, Outcome};
use tokio::signal::unix::{SignalKind, signal};

use super::DirArgs;
use crate::{
    config::Config,
    serve::{ServeError, Server},
    store::StoreError,
};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    dir: DirArgs,
}

pub(super) fn run(args: &ServeArgs) -> Result<Outcome, Failure> {
    let paths = args.dir.paths();
    let config = Config::load(&paths).map_err(|error| failure(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Outcome::Internal.because())?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Outcome::Internal.because())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Outcome::Internal.because())?;
        let addresses = config.addresses.join(", ");
        let server = Server::start(&paths, config).await.map_err(failure)?;
        let listen = server.address().map_err(Outcome::Internal.because())?;
        tracing::info!(%listen, http = %server.http(), addresses, version = env!("CARGO_PKG_VERSION"), "serving");
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        Box::pin(server.run_until(stop)).await.map_err(failure)?;
        Ok(Outcome::Done)
    })
}

fn failure(error: ServeError) -> Failure {
    let outcome = match &error {
        ServeError::Settings(_) => Outcome::Usage,
        ServeError::Lock { .. }
        | ServeError::AuthorityFile { .. }
        | ServeError::Authority { .. }
        | ServeError::Online { .. }
        | ServeError::Listen(_)
        | ServeError::Http { .. }
        | ServeError::Store(StoreError::Locked { .. } | StoreError::Newer { .. } | StoreError::Fs(_))
        | ServeError::Blobs { .. } => Outcome::Refused,
        ServeError::Store(StoreError::Database { .. } | StoreError::Row { .. })
        | ServeError::Certificate { .. }
        | ServeError::Tls { .. }
        | ServeError::Metrics { .. }
        | ServeError::System { .. }
        | ServeError::Core(_)
        | ServeError::Lost { .. } => Outcome::Internal,
    };
    Failure { outcome, error: error.into() }
}
