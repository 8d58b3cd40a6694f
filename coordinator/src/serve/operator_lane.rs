//! What operators ask.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use quinn::{Connection, RecvStream, SendStream};
use sloth_core::{AgentId, Digest, Millis, RunId, TokenId};
use sloth_protocol::{
    coordinator::{Command, Reply},
    wire::{
        AgentsPage, BLOBS_ASKED_MAX, BundleView, CreateToken, FRAME_BYTES_MAX, HostsPage, JoinToken, NewestReceipts,
        OperatorHello, OperatorRequest, OperatorResponse, ReceiptsAsked, Refusal, RefusalCode, RolloutAction,
        RolloutPlan, RolloutRequest, RolloutResponse, RunView, RunsPage, StartRun, Started, TokenIssued, TokenSecret,
        TokensPage, encode, negotiate,
    },
};
use sloth_transport::{CloseCode, Priority};
use sloth_trust::{Envelope, KeyId, PublicKey, RootPin, Trusted};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::{
    connection::{self, Context, Ended, FRAME_TIMEOUT, failed, misbehaved},
    core_handle::unexpected,
    follow, publish, releases,
};
use crate::events;

/// One operator's connection.
struct Operator {
    context: Arc<Context>,
    name: String,
    /// When its credential ends.
    until: Millis,
    welcome: AtomicBool,
}

/// Serves an operator until the connection is gone.
pub(super) async fn serve(context: Arc<Context>, connection: Connection, name: String, until: Millis) {
    let Ok(_permit) = Arc::clone(&context.permits.operators).try_acquire_owned() else {
        tracing::warn!("too many operators are connected, this one is turned away");
        return CloseCode::Shutdown.close(&connection);
    };
    // Before anything is asked whether it may come in: from then on a withdrawal finds it.
    context.core.operator(&name, connection.clone()).await;
    let operator = Arc::new(Operator { context, name, until, welcome: AtomicBool::new(false) });
    let mut requests = JoinSet::new();
    while let Ok((sending, receiving)) = connection.accept_bi().await {
        while requests.try_join_next().is_some() {}
        let (operator, connection) = (Arc::clone(&operator), connection.clone());
        let request = async move {
            if let Err(Ended::Misbehaved(error)) = operator.request(sending, receiving).await {
                misbehaved(&connection, &operator.name, &error);
            }
        };
        requests.spawn(request.in_current_span());
    }
    requests.shutdown().await;
}

/// There is no such run.
pub(super) fn no_run(run: RunId) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("there is no run `{run}`: `sloth-coord runs list` shows them"))
}

impl Operator {
    async fn request(&self, mut sending: SendStream, mut receiving: RecvStream) -> Result<(), Ended> {
        Priority::Control.apply(&sending);
        let request = connection::read(&mut receiving, FRAME_BYTES_MAX, FRAME_TIMEOUT).await?;
        if let (OperatorRequest::Follow(follow), true) = (&request, self.welcome.load(Ordering::Relaxed)) {
            follow::stream(&self.context, &mut sending, *follow).await.map_err(|_| Ended::Gone)?;
            let _ = sending.finish();
            return Ok(());
        }
        let response = match self.respond(request, &mut receiving).await {
            Ok(response) => shortened(response),
            Err(refusal) => {
                events::Refused { refusal: &refusal }.emit();
                OperatorResponse::Refused(refusal)
            }
        };
        connection::answer(&mut sending, &response, OperatorResponse::Refused).await?;
        // Finishing twice is the only failure, and this is the first time.
        let _ = sending.finish();
        Ok(())
    }

    async fn respond(&self, request: OperatorRequest, receiving: &mut RecvStream) -> Result<OperatorResponse, Refusal> {
        if let OperatorRequest::Hello(hello) = request {
            return self.hello(&hello).await;
        }
        if !self.welcome.load(Ordering::Relaxed) {
            return Err(Refusal::new(RefusalCode::Invalid, "the first request on a connection is a hello"));
        }
        match request {
            OperatorRequest::MissingBlobs(digests) => self.missing(digests).await,
            OperatorRequest::PutBlob { digest, length } => {
                publish::put_blob(&self.context, digest, length, receiving).await.map(|()| OperatorResponse::Done)
            }
            OperatorRequest::Publish(envelope) => {
                let published = publish::publish(&self.context, &self.name, envelope).await?;
                ordered("publish", &format!("{} {}", published.name, published.version));
                Ok(OperatorResponse::Published(published))
            }
            OperatorRequest::CreateToken(create) => self.create_token(create).await,
            OperatorRequest::StartRun(start) => self.start_run(start).await,
            OperatorRequest::CancelRun(run) => {
                self.command(Command::CancelRun(run)).await?;
                ordered("cancel", &run.to_string());
                self.run(run).await
            }
            OperatorRequest::Runs { before, rows } => self.runs(before, rows).await,
            OperatorRequest::Run(run) => self.run(run).await,
            OperatorRequest::PutRoot(root) => {
                self.order(Command::PutRoot(root), "put root", "the next of its trust roots").await
            }
            OperatorRequest::RevokeAgent(key) => self.order(Command::RevokeAgent(key.clone()), "revoke", &key).await,
            OperatorRequest::ForgetAgent(key) => {
                self.order(Command::ForgetAgent(key.clone()), "forget agent", &key).await
            }
            OperatorRequest::RevokeToken(id) => {
                self.order(Command::RevokeToken(id), "revoke token", &id.to_string()).await
            }
            OperatorRequest::RevokeOperator(name) => {
                self.order(Command::RevokeOperator(name.clone()), "revoke operator", &name).await
            }
            OperatorRequest::Operators { after } => self.command(Command::Operators { after }).await,
            OperatorRequest::Tokens { after } => self.command(Command::Tokens { after }).await,
            OperatorRequest::Root => self.command(Command::Root).await,
            OperatorRequest::Agents { selector, after } => self.command(Command::Agents { selector, after }).await,
            OperatorRequest::Agent(key) => self.command(Command::Agent(key)).await,
            OperatorRequest::Bundles => self.command(Command::Bundles).await,
            OperatorRequest::Bundle(name) => self.bundle(name).await,
            OperatorRequest::Rollout(request) => self.rollout(request).await,
            OperatorRequest::OnlineKeys => Ok(self.online_keys()),
            OperatorRequest::NewOnlineKey => self.new_online_key().await,
            OperatorRequest::Heads { after } => self.heads(after).await,
            OperatorRequest::Receipts(asked) => self.receipts(asked).await,
            OperatorRequest::NewestReceipts(asked) => self.newest_receipts(asked).await,
            OperatorRequest::Results { run, after } => self.results(run, after).await,
            OperatorRequest::PublishRelease(envelope) => {
                let published = releases::publish(&self.context, &self.name, envelope).await?;
                ordered("publish release", &published.version);
                Ok(OperatorResponse::Published(published))
            }
            OperatorRequest::Releases => self.command(Command::Releases).await,
            OperatorRequest::WithdrawRelease(counter) => {
                self.order(Command::WithdrawRelease(counter), "withdraw release", &counter.to_string()).await
            }
            OperatorRequest::AssignRelease(assign) => {
                let agent = assign.agent.clone();
                self.order(Command::AssignRelease(assign), "assign release", &agent).await
            }
            OperatorRequest::Hello(_) | OperatorRequest::Follow(_) => Err(unexpected()),
        }
    }

    async fn hello(&self, hello: &OperatorHello) -> Result<OperatorResponse, Refusal> {
        let Some(proto) = negotiate(hello.proto_min, hello.proto_max) else {
            let who = format!("sloth-coord {}", hello.version);
            return Err(Refusal::version(&who, hello.proto_min, hello.proto_max));
        };
        self.command(Command::Greet { until: self.until }).await?;
        self.welcome.store(true, Ordering::Relaxed);
        Ok(OperatorResponse::Welcome { proto, version: env!("CARGO_PKG_VERSION").to_owned() })
    }

    /// Gives a command that changes something, and notes that it was done.
    async fn order(&self, command: Command, what: &'static str, on: &str) -> Result<OperatorResponse, Refusal> {
        let response = self.command(command).await?;
        ordered(what, on);
        Ok(response)
    }

    async fn command(&self, command: Command) -> Result<OperatorResponse, Refusal> {
        Ok(match self.context.core.command(&self.name, command).await? {
            Reply::Done | Reply::Cancelling(_) => OperatorResponse::Done,
            Reply::Root(root) => OperatorResponse::Root(root),
            Reply::Published(published) => OperatorResponse::Published(published),
            Reply::Agents(page) => OperatorResponse::Agents(page),
            Reply::Agent(agent) => OperatorResponse::Agent(*agent),
            Reply::Bundles(bundles) => OperatorResponse::Bundles(bundles),
            Reply::Started(started) => OperatorResponse::Started(started),
            Reply::Releases(releases) => OperatorResponse::Releases(releases),
            Reply::Ended(run) => OperatorResponse::Started(self.started_before(run).await?),
            Reply::Tokens(page) => OperatorResponse::Tokens(page),
            Reply::Operators(page) => OperatorResponse::Operators(page),
            Reply::Operator(operator) => OperatorResponse::Operator(operator),
            Reply::Rollout(response) => OperatorResponse::Rollout(*response),
            Reply::Token { .. } => return Err(unexpected()),
        })
    }

    async fn rollout(&self, request: RolloutRequest) -> Result<OperatorResponse, Refusal> {
        let changed = match &request {
            RolloutRequest::Create(spec) => Some(("begin rollout", spec.name.clone())),
            RolloutRequest::Act { name, action } => Some((action_name(*action), name.clone())),
            RolloutRequest::Plan { .. }
            | RolloutRequest::List
            | RolloutRequest::Show(_)
            | RolloutRequest::Hosts { .. } => None,
        };
        let response = self.command(Command::Rollout(request)).await?;
        if let Some((what, name)) = changed {
            ordered(what, &name);
        }
        Ok(response)
    }

    async fn create_token(&self, create: CreateToken) -> Result<OperatorResponse, Refusal> {
        let mut secret = [0; 32];
        let mut random = [0; 16];
        getrandom::fill(&mut secret).and_then(|()| getrandom::fill(&mut random)).map_err(|error| failed(&error))?;
        let secret = TokenSecret::from_bytes(secret);
        let id = TokenId::new(self.context.clock.now(), u128::from_be_bytes(random));
        let command = Command::CreateToken { create, id, secret: secret.digest() };
        let Reply::Token { root, expires } = self.context.core.command(&self.name, command).await? else {
            return Err(unexpected());
        };
        let addresses = self.context.addresses.clone();
        let token = JoinToken { id, secret, addresses, authority: self.context.authority.fingerprint(), root };
        ordered("create token", &id.to_string());
        Ok(OperatorResponse::Token(TokenIssued { id, token: token.to_string(), expires }))
    }

    fn online_keys(&self) -> OperatorResponse {
        let keys = self.context.online.public_keys();
        OperatorResponse::OnlineKeys(keys.iter().map(ToString::to_string).collect())
    }

    async fn new_online_key(&self) -> Result<OperatorResponse, Refusal> {
        let Reply::Root(root) = self.context.core.command(&self.name, Command::Root).await? else {
            return Err(unexpected());
        };
        self.context.online.generate(&named_online(root.as_deref())).map_err(|error| failed(&error))?;
        ordered("make online key", "the newest of its online keys");
        Ok(self.online_keys())
    }

    async fn start_run(&self, start: StartRun) -> Result<OperatorResponse, Refusal> {
        let bundle = start.bundle.clone();
        let response = self.command(Command::StartRun(start)).await?;
        if let OperatorResponse::Started(started) = &response
            && 0 < started.agents
        {
            let (run, agents) = (started.run, started.agents);
            events::RunStarted { run, bundle: &bundle, agents, operator: &self.name }.emit();
        }
        Ok(response)
    }

    /// What was said when a run was started that has ended since.
    async fn started_before(&self, run: RunId) -> Result<Started, Refusal> {
        let view = self.context.store.with(move |store| store.run(run)).await.map_err(|error| failed(&error))?;
        let view = view.ok_or_else(|| no_run(run))?;
        Ok(Started { run, agents: view.summary.jobs.iter().map(|(_, count)| count).sum() })
    }

    async fn missing(&self, digests: Vec<Digest>) -> Result<OperatorResponse, Refusal> {
        if BLOBS_ASKED_MAX < digests.len() {
            let reason = format!("{BLOBS_ASKED_MAX} blobs are asked for at a time at most");
            return Err(Refusal::new(RefusalCode::TooLarge, reason));
        }
        let blobs = self.context.blobs.clone();
        let now = self.context.clock.now();
        let look = move || {
            // What was damaged is missing as well: whoever publishes again brings it back.
            let is_there = |digest: &Digest| blobs.is_whole(*digest);
            let (there, missing): (Vec<_>, Vec<_>) = digests.into_iter().partition(is_there);
            // One that is not noted as used is removed sooner when nothing names it, and uploaded again.
            let _ = blobs.touch(there, now);
            missing
        };
        let missing = tokio::task::spawn_blocking(look).await.map_err(|error| failed(&error))?;
        Ok(OperatorResponse::Missing(missing))
    }

    async fn runs(&self, before: Option<RunId>, rows: u32) -> Result<OperatorResponse, Refusal> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let page = self.context.store.with(move |store| store.runs(before, rows)).await;
        page.map(OperatorResponse::Runs).map_err(|error| failed(&error))
    }

    async fn heads(&self, after: u64) -> Result<OperatorResponse, Refusal> {
        let page = self.context.store.with(move |store| store.heads(after)).await;
        page.map(OperatorResponse::Heads).map_err(|error| failed(&error))
    }

    async fn receipts(&self, asked: ReceiptsAsked) -> Result<OperatorResponse, Refusal> {
        let page = self.context.store.with(move |store| store.receipts(asked)).await;
        page.map(OperatorResponse::Receipts).map_err(|error| failed(&error))
    }

    async fn newest_receipts(&self, asked: NewestReceipts) -> Result<OperatorResponse, Refusal> {
        let page = self.context.store.with(move |store| store.newest_receipts(asked)).await;
        page.map(OperatorResponse::Receipts).map_err(|error| failed(&error))
    }

    async fn results(&self, run: RunId, after: Option<AgentId>) -> Result<OperatorResponse, Refusal> {
        let page = self.context.store.with(move |store| store.results(run, after)).await;
        page.map(OperatorResponse::Results).map_err(|error| failed(&error))
    }

    async fn run(&self, run: RunId) -> Result<OperatorResponse, Refusal> {
        let view: Option<RunView> =
            self.context.store.with(move |store| store.run(run)).await.map_err(|error| failed(&error))?;
        view.map(OperatorResponse::Run).ok_or_else(|| no_run(run))
    }

    /// The releases of a bundle, the newest with its plan.
    async fn bundle(&self, name: String) -> Result<OperatorResponse, Refusal> {
        let Reply::Bundles(mut bundles) = self.context.core.command(&self.name, Command::Bundle(name)).await? else {
            return Err(unexpected());
        };
        if let Some(newest) = bundles.first_mut() {
            newest.plan = self.plan(newest).await;
        }
        Ok(OperatorResponse::Bundles(bundles))
    }

    async fn plan(&self, bundle: &BundleView) -> String {
        let (blobs, digest) = (self.context.blobs.clone(), bundle.manifest);
        let plan = tokio::task::spawn_blocking(move || publish::plan(&blobs, digest)).await;
        plan.ok().flatten().unwrap_or_default()
    }
}

/// The keys that the trust root names for what the coordinator signs.
fn named_online(root: Option<&[u8]>) -> BTreeSet<KeyId> {
    let envelope = root.and_then(|root| Envelope::decode(root).ok());
    let trusted = envelope.and_then(|envelope| Trusted::new(&envelope, RootPin::of(&envelope.payload)).ok());
    let roles = trusted.as_ref().map(|trusted| &trusted.root().roles);
    let online = roles.into_iter().flat_map(|roles| [&roles.head, &roles.assignment]).flatten();
    online.flat_map(|role| role.keys()).map(PublicKey::id).collect()
}

const fn action_name(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Approve(_) => "approve rollout",
        RolloutAction::Pause => "pause rollout",
        RolloutAction::Resume(_) => "resume rollout",
        RolloutAction::Abort => "abort rollout",
        RolloutAction::RollBack => "roll back rollout",
    }
}

fn ordered(what: &'static str, on: &str) {
    events::Ordered { what, on }.emit();
}

/// The answer, with as many rows as fit into a frame.
fn shortened(mut response: OperatorResponse) -> OperatorResponse {
    while encode(&response).is_err() {
        match &mut response {
            OperatorResponse::Agents(AgentsPage { agents: rows, more }) if 1 < rows.len() => {
                rows.truncate(rows.len() / 2);
                *more = true;
            }
            OperatorResponse::Runs(RunsPage { runs: rows, more }) if 1 < rows.len() => {
                rows.truncate(rows.len() / 2);
                *more = true;
            }
            OperatorResponse::Tokens(TokensPage { tokens: rows, more }) if 1 < rows.len() => {
                rows.truncate(rows.len() / 2);
                *more = true;
            }
            OperatorResponse::Bundles(bundles) if bundles.iter().any(|bundle| !bundle.plan.is_empty()) => {
                bundles.iter_mut().for_each(|bundle| bundle.plan.clear());
            }
            OperatorResponse::Rollout(
                RolloutResponse::Hosts(HostsPage { hosts: rows, more })
                | RolloutResponse::Plan(RolloutPlan { page: HostsPage { hosts: rows, more }, .. }),
            ) if 1 < rows.len() => {
                rows.truncate(rows.len() / 2);
                *more = true;
            }
            OperatorResponse::Agents(_)
            | OperatorResponse::Rollout(_)
            | OperatorResponse::Runs(_)
            | OperatorResponse::Bundles(_)
            | OperatorResponse::Welcome { .. }
            | OperatorResponse::Done
            | OperatorResponse::Root(_)
            | OperatorResponse::Missing(_)
            | OperatorResponse::Published(_)
            | OperatorResponse::Token(_)
            | OperatorResponse::Agent(_)
            | OperatorResponse::Started(_)
            | OperatorResponse::Run(_)
            | OperatorResponse::Events(_)
            | OperatorResponse::OnlineKeys(_)
            | OperatorResponse::Heads(_)
            | OperatorResponse::Receipts(_)
            | OperatorResponse::Releases(_)
            | OperatorResponse::Tokens(_)
            | OperatorResponse::Operators(_)
            | OperatorResponse::Operator(_)
            | OperatorResponse::Results(_)
            | OperatorResponse::Refused(_) => break,
        }
    }
    response
}
