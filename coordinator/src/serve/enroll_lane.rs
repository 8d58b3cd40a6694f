//! What a peer without a certificate may do: enrol, once, quickly.

use std::{sync::Arc, time::Duration};

use quinn::Connection;
use sloth_core::{Chain, Digest};
use sloth_protocol::{
    coordinator::{self, Answer},
    wire::{
        Enroll, EnrollRequest, EnrollResponse, Enrolled, FRAME_UNAUTHENTICATED_BYTES_MAX, Refusal, RefusalCode,
        negotiate,
    },
};
use sloth_transport::{CloseCode, Priority, requested_key, settings::FRAME_TIMEOUT};
use tokio::time::timeout;

use super::{
    connection::{self, Context, Ended, misbehaved},
    core_handle::unexpected,
};
use crate::events;

/// How long such a connection lives at most.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests it may make: the first may be refused for its name.
const REQUESTS_MAX: usize = 4;

/// Serves a host that would be an agent.
pub(super) async fn serve(context: Arc<Context>, connection: Connection) {
    let Ok(_permit) = Arc::clone(&context.permits.enrolling).try_acquire_owned() else {
        return CloseCode::Shutdown.close(&connection);
    };
    let Some(_share) = context.permits.enrolling_from.take(connection.remote_address().ip()) else {
        return CloseCode::Shutdown.close(&connection);
    };
    match timeout(CONNECTION_TIMEOUT, requests(&context, &connection)).await {
        Ok(Ok(()) | Err(Ended::Gone)) => CloseCode::Normal.close(&connection),
        Ok(Err(Ended::Misbehaved(error))) => misbehaved(&connection, "nobody", &error),
        Err(_elapsed) => misbehaved(&connection, "nobody", "it did not enrol in time"),
    }
}

async fn requests(context: &Context, connection: &Connection) -> Result<(), Ended> {
    for request in 0..REQUESTS_MAX {
        let (mut sending, mut receiving) = match timeout(FRAME_TIMEOUT, connection.accept_bi()).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(_)) => return Err(Ended::Gone),
            // It was refused, and has nothing else to try.
            Err(_elapsed) if 0 < request => return Err(Ended::Gone),
            Err(_elapsed) => return Err(Ended::Misbehaved("it connected and asked nothing".to_owned())),
        };
        Priority::Control.apply(&sending);
        let EnrollRequest::Enroll(enroll) =
            connection::read(&mut receiving, FRAME_UNAUTHENTICATED_BYTES_MAX, FRAME_TIMEOUT).await?;
        let response = match take(context, connection, enroll).await {
            Ok(enrolled) => EnrollResponse::Enrolled(enrolled),
            Err(refusal) => {
                events::Refused { refusal: &refusal }.emit();
                EnrollResponse::Refused(refusal)
            }
        };
        connection::answer(&mut sending, &response, EnrollResponse::Refused).await?;
        let _ = sending.finish();
    }
    // The last answer is on its way; the host closes when it has it.
    connection.closed().await;
    Err(Ended::Gone)
}

async fn take(context: &Context, connection: &Connection, enroll: Enroll) -> Result<Enrolled, Refusal> {
    if negotiate(enroll.proto_min, enroll.proto_max).is_none() {
        return Err(Refusal::version("the agent", enroll.proto_min, enroll.proto_max));
    }
    let of_request = |error: sloth_transport::IssueError| Refusal::new(RefusalCode::Invalid, Chain(&error).to_string());
    let key = requested_key(&enroll.csr).map_err(of_request)?;
    let Enroll { token, secret, csr, name, version, platform, labels, receipt_key, .. } = enroll;
    let called = name.clone();
    let (secret, key) = (secret.digest(), Digest::of(&key));
    let enroll = coordinator::Enroll { token, secret, key, name, version, platform, labels, receipt_key };
    match context.core.enroll(enroll).await {
        Answer::Enrolled { agent, labels, root } => {
            let now = context.clock.now();
            let issued =
                context.authority.issue_agent(&csr, agent, now, context.certificate_life).map_err(of_request)?;
            events::Enrolled { agent, name: &called, address: connection.remote_address() }.emit();
            let (not_before, not_after) = (issued.not_before, issued.not_after);
            Ok(Enrolled { agent, certificate: issued.der, not_before, not_after, labels, root })
        }
        Answer::Refused(refusal) => Err(refusal),
        Answer::Agent(_) | Answer::Welcome { .. } | Answer::Work(_) | Answer::Certify { .. } | Answer::Operator(_) => {
            Err(unexpected())
        }
    }
}
