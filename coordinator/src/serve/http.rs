//! Health and metrics over plain HTTP.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use super::core_handle::CoreHandle;
use crate::{
    events::{COMMIT_SECONDS, COMMIT_SECONDS_BUCKETS},
    store::StoreHandle,
};

/// How long the store may take over a commit and still be called ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the machine may take to say how it stands.
const STANDING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often what was measured is gathered, so that it does not pile up when nobody asks.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The type of Prometheus's text.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Parts {
    core: CoreHandle,
    store: StoreHandle,
    metrics: PrometheusHandle,
}

/// The process's metrics. There is one registry in a process, however many servers.
///
/// # Errors
///
/// When another registry was installed before.
pub(super) fn metrics() -> Result<PrometheusHandle, Arc<BuildError>> {
    static METRICS: OnceLock<Result<PrometheusHandle, Arc<BuildError>>> = OnceLock::new();
    METRICS.get_or_init(|| install().map_err(Arc::new)).clone()
}

/// Listens on `address`, loopback unless the settings say otherwise.
pub(super) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until `stop` says so.
pub(super) async fn serve(
    listener: TcpListener,
    core: CoreHandle,
    store: StoreHandle,
    metrics: PrometheusHandle,
    mut stop: watch::Receiver<bool>,
) {
    let upkeep = {
        let metrics = metrics.clone();
        async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                metrics.run_upkeep();
            }
        }
    };
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(show))
        .with_state(Parts { core, store, metrics });
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = upkeep => {}
        served = async { axum::serve(listener, router).await } => {
            if let Err(error) = served {
                tracing::error!(%error, "metrics and health are not served any more: start again");
            }
        }
    }
}

async fn ready(State(parts): State<Parts>) -> impl IntoResponse {
    match timeout(READY_TIMEOUT, parts.store.probe()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", sloth_core::Chain(&error))),
        Err(_elapsed) => {
            let text = format!("the store took longer than {} s over a commit\n", READY_TIMEOUT.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn show(State(parts): State<Parts>) -> impl IntoResponse {
    // What can be counted is told even while the machine is busy with its disk.
    if let Ok(Some(standing)) = timeout(STANDING_TIMEOUT, parts.core.standing()).await {
        standing.emit();
    }
    ([("content-type", METRICS_TYPE)], parts.metrics.render())
}

fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(COMMIT_SECONDS.to_owned()), &COMMIT_SECONDS_BUCKETS)?
        .install_recorder()
}
