//! An operator on the wire, without a program to start.

use anyhow::{Context, Result, anyhow, bail, ensure};
use sloth_core::{Clock, Labels, Millis, RunId};
use sloth_protocol::wire::{
    CreateToken, FRAME_BYTES_MAX, Follow, FollowWait, JobState, JoinToken, OperatorHello, OperatorRequest,
    OperatorResponse, PROTO_MAX, PROTO_MIN, RunView, StartRun,
};
use sloth_transport::{Connector, Credential, Link, Priority, recv, request};

/// How long runs and tokens of measurements count.
const TTL: Millis = Millis::from_secs(3600);

/// A connection of an operator.
#[derive(Debug)]
pub(crate) struct Operator {
    link: Link,
    clock: Clock,
}

impl Operator {
    /// Connects and says hello.
    pub(crate) async fn connect(credential: &Credential) -> Result<Self> {
        let clock = Clock::new();
        let link = Connector::operator(credential).connect(&credential.addresses, clock.now()).await?;
        let operator = Self { link, clock };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = OperatorHello { proto_min: PROTO_MIN, proto_max: PROTO_MAX, version };
        operator.ask(OperatorRequest::Hello(hello)).await?;
        Ok(operator)
    }

    /// A join token for `uses` hosts.
    pub(crate) async fn token(&self, uses: u32) -> Result<JoinToken> {
        let create = CreateToken { uses, ttl: TTL, labels: Labels::default() };
        let OperatorResponse::Token(issued) = self.ask(OperatorRequest::CreateToken(create)).await? else {
            bail!("the coordinator gave no token");
        };
        issued.token.parse().map_err(|error| anyhow!("the coordinator's token is none: {error}"))
    }

    /// Starts a run; returns when it is on the coordinator's disk.
    pub(crate) async fn start_run(&self, bundle: &str, selector: &str, values: String) -> Result<RunId> {
        let run = RunId::new(self.clock.now(), super::random()?);
        let start = StartRun {
            run,
            bundle: bundle.to_owned(),
            version: None,
            workflow: None,
            selector: selector.to_owned(),
            values,
            ttl: TTL,
        };
        let OperatorResponse::Started(started) = self.ask(OperatorRequest::StartRun(start)).await? else {
            bail!("the coordinator did not start the run");
        };
        ensure!(started.agents == 1, "the run started on {} agents", started.agents);
        Ok(run)
    }

    /// Waits until the run has ended everywhere, and gives what is known of it when it succeeded.
    pub(crate) async fn wait_for(&self, run: RunId) -> Result<RunView> {
        let follow = Follow { run, after: 0, agent: None, wait: FollowWait::UntilEnd };
        let asked = request(&self.link.connection, &OperatorRequest::Follow(follow), Priority::Control).await?;
        let (mut answer, mut stream): (OperatorResponse, _) = asked;
        loop {
            let OperatorResponse::Events(events) = answer else {
                bail!("the coordinator does not tell of the run: {answer:?}");
            };
            if events.last {
                break;
            }
            answer = recv(&mut stream, FRAME_BYTES_MAX).await?;
        }
        let OperatorResponse::Run(view) = self.ask(OperatorRequest::Run(run)).await? else {
            bail!("the coordinator does not show the run");
        };
        let job = view.jobs.first().context("the run is on no agent")?;
        ensure!(job.state == JobState::Succeeded, "the run did not succeed: {:?} {}", job.state, job.message);
        Ok(view)
    }

    /// Whether the agent `name` is connected.
    pub(crate) async fn is_connected(&self, name: &str) -> Result<bool> {
        let OperatorResponse::Agent(view) = self.ask(OperatorRequest::Agent(name.to_owned())).await? else {
            bail!("the coordinator does not show the agent");
        };
        Ok(view.connected)
    }

    async fn ask(&self, message: OperatorRequest) -> Result<OperatorResponse> {
        let (answer, _) = request(&self.link.connection, &message, Priority::Control).await?;
        if let OperatorResponse::Refused(refusal) = answer {
            return Err(anyhow!(refusal).context("the coordinator refuses"));
        }
        Ok(answer)
    }
}
