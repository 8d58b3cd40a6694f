//! What operators ask: publishing, enrolling, running, looking.

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, Labels, Millis, RunId, TokenId};
use sloth_trust::{PublicKey, Trigger};

use super::{
    AssignRelease, Dropped, HeadsPage, JobState, NewestReceipts, Platform, ProtoVersion, ReceiptsAsked, ReceiptsPage,
    Record, Refusal, ReleaseView, ResultsPage, RolloutRequest, RolloutResponse, TaskEnd, UpdateView,
};

/// Most digests of one [`OperatorRequest::MissingBlobs`].
pub const BLOBS_ASKED_MAX: usize = 8192;
/// Most rows of one page of a listing.
pub const PAGE_ROWS_MAX: u32 = 500;
/// Most events of one frame of a [`Follow`].
pub const EVENTS_IN_FRAME_MAX: usize = 256;
/// Most characters of an operator's name.
pub const OPERATOR_CHARS_MAX: usize = 63;
/// Most bytes of a run's values as JSON.
pub const VALUES_BYTES_MAX: usize = 256 * 1024;

/// One request of an operator. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorRequest {
    /// The first request on a connection.
    Hello(OperatorHello),
    /// The trust root. Answered by [`OperatorResponse::Root`].
    Root,
    /// Makes this envelope the trust root: the first, or the one after the newest.
    PutRoot(Vec<u8>),
    /// Which of these blobs are not there? Answered by [`OperatorResponse::Missing`].
    MissingBlobs(Vec<Digest>),
    /// A blob. Its stored form follows the frame, to the end of the stream.
    PutBlob {
        /// The digest of its plain bytes.
        digest: Digest,
        /// The length of its plain bytes.
        length: u64,
    },
    /// Publishes the bundle that this metadata envelope describes. All its blobs must be there.
    Publish(Vec<u8>),
    /// Makes a join token. Answered by [`OperatorResponse::Token`].
    CreateToken(CreateToken),
    /// The agents that a selector matches, in order of their ids, from after an id on.
    Agents {
        /// A selector, or `*`.
        selector: String,
        /// The last row of the page before.
        after: Option<AgentId>,
    },
    /// One agent by name or id.
    Agent(String),
    /// Withdraws an agent's identity, for good.
    RevokeAgent(String),
    /// Every bundle's newest release, in order of their names.
    Bundles,
    /// Every release of one bundle, newest first.
    Bundle(String),
    /// Starts a run. Answered by [`OperatorResponse::Started`].
    StartRun(StartRun),
    /// Runs, newest first, from before a run on.
    Runs {
        /// The last row of the page before.
        before: Option<RunId>,
        /// How many rows, at most [`PAGE_ROWS_MAX`].
        rows: u32,
    },
    /// One run with its jobs and tasks.
    Run(RunId),
    /// What happened in a run. Answered by frames of [`OperatorResponse::Events`] until the one that is last.
    Follow(Follow),
    /// Cancels a run wherever it has not ended.
    CancelRun(RunId),
    /// The coordinator's online keys. Answered by [`OperatorResponse::OnlineKeys`].
    OnlineKeys,
    /// Makes one more online key, which counts when a trust root names it. Answered by
    /// [`OperatorResponse::OnlineKeys`].
    NewOnlineKey,
    /// The heads that were issued, in order of their versions, from after one on.
    Heads {
        /// The version of the last of the page before; zero for the first page.
        after: u64,
    },
    /// The chain of receipts. Answered by [`OperatorResponse::Receipts`].
    Receipts(ReceiptsAsked),
    /// Publishes the release of the agent that this envelope describes. All its blobs must be there. Answered by
    /// [`OperatorResponse::Published`].
    PublishRelease(Vec<u8>),
    /// Every release of the agent, newest first. Answered by [`OperatorResponse::Releases`].
    Releases,
    /// Takes a release of the agent back: no agent is told of it any more. Named by its number.
    WithdrawRelease(u64),
    /// Orders one agent to go to a release. Answered by [`OperatorResponse::Agent`].
    AssignRelease(AssignRelease),
    /// The join tokens that count, or did until they were used up, in order of their ids, from after an id on.
    Tokens {
        /// The last row of the page before.
        after: Option<TokenId>,
    },
    /// Makes a join token count no more.
    RevokeToken(TokenId),
    /// Forgets an agent whose identity was withdrawn. Its receipts stay.
    ForgetAgent(String),
    /// About rollouts. Answered by [`OperatorResponse::Rollout`].
    Rollout(RolloutRequest),
    /// The operators that have connected or were withdrawn, in order of their names, from after a name on.
    Operators {
        /// The last row of the page before.
        after: Option<String>,
    },
    /// Makes every credential of an operator's name count no more, for good. Answered by [`OperatorResponse::Operator`].
    RevokeOperator(String),
    /// The newest receipts. Answered by [`OperatorResponse::Receipts`], the newest first.
    NewestReceipts(NewestReceipts),
    /// What is kept of a run's ends, summed up as receipts do it. Answered by [`OperatorResponse::Results`].
    Results {
        /// Which run.
        run: RunId,
        /// Jobs after this agent's; none for all.
        after: Option<AgentId>,
    },
}

/// One answer to an operator. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorResponse {
    /// To [`OperatorRequest::Hello`]: the version both will speak, and the coordinator's release.
    Welcome {
        /// The version.
        proto: ProtoVersion,
        /// The release, like `0.1.0`.
        version: String,
    },
    /// Done, and on the disk.
    Done,
    /// The trust root's envelope, if there is one.
    Root(Option<Vec<u8>>),
    /// The blobs that are not there.
    Missing(Vec<Digest>),
    /// To [`OperatorRequest::Publish`].
    Published(Published),
    /// To [`OperatorRequest::CreateToken`].
    Token(TokenIssued),
    /// To [`OperatorRequest::Agents`].
    Agents(AgentsPage),
    /// To [`OperatorRequest::Agent`] and [`OperatorRequest::RevokeAgent`].
    Agent(AgentView),
    /// To [`OperatorRequest::Bundles`] and [`OperatorRequest::Bundle`].
    Bundles(Vec<BundleView>),
    /// To [`OperatorRequest::StartRun`].
    Started(Started),
    /// To [`OperatorRequest::Runs`].
    Runs(RunsPage),
    /// To [`OperatorRequest::Run`] and [`OperatorRequest::CancelRun`].
    Run(RunView),
    /// To [`OperatorRequest::Follow`].
    Events(Events),
    /// To any of them.
    Refused(Refusal),
    /// The public halves of the online keys in minisign's base 64, the newest last.
    OnlineKeys(Vec<String>),
    /// To [`OperatorRequest::Heads`].
    Heads(HeadsPage),
    /// To [`OperatorRequest::Receipts`] and [`OperatorRequest::NewestReceipts`].
    Receipts(ReceiptsPage),
    /// To [`OperatorRequest::Releases`].
    Releases(Vec<ReleaseView>),
    /// To [`OperatorRequest::Tokens`].
    Tokens(TokensPage),
    /// To [`OperatorRequest::Rollout`].
    Rollout(RolloutResponse),
    /// To [`OperatorRequest::Operators`].
    Operators(OperatorsPage),
    /// To [`OperatorRequest::RevokeOperator`].
    Operator(OperatorView),
    /// To [`OperatorRequest::Results`].
    Results(ResultsPage),
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHello {
    /// The oldest version of the protocol it speaks.
    pub proto_min: ProtoVersion,
    /// The newest.
    pub proto_max: ProtoVersion,
    /// Its release.
    pub version: String,
}

/// What a join token shall allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// How many hosts may enrol with it, at least one.
    pub uses: u32,
    /// How long it counts.
    pub ttl: Millis,
    /// The labels it gives to who enrols.
    pub labels: Labels,
}

/// A join token, told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenIssued {
    /// Its public half.
    pub id: TokenId,
    /// The text to hand to `sloth-agent enroll`.
    pub token: String,
    /// When it stops to count.
    pub expires: Millis,
}

/// A bundle's release as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The bundle.
    pub name: String,
    /// The release for people.
    pub version: String,
    /// The release for machines: above every earlier one.
    pub counter: u64,
    /// Whether exactly this release was there already.
    pub repeated: bool,
}

/// What to run and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRun {
    /// Chosen by the asker, so that asking twice starts one run.
    pub run: RunId,
    /// The bundle.
    pub bundle: String,
    /// Its release for people, or the newest.
    pub version: Option<String>,
    /// One workflow of the bundle, or all in their order.
    pub workflow: Option<String>,
    /// Which agents.
    pub selector: String,
    /// A JSON object of at most [`VALUES_BYTES_MAX`] bytes.
    pub values: String,
    /// How long from now agents may still begin it, and go on with it.
    pub ttl: Millis,
}

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Which one.
    pub run: RunId,
    /// On how many agents. None is no error here; nothing is started then.
    pub agents: u32,
}

/// An agent as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its identifier.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Labels from the host and from its join token.
    pub labels: Labels,
    /// Its release.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// Whether it is connected now.
    pub connected: bool,
    /// When it was last heard of.
    pub last_seen: Millis,
    /// When it was enrolled.
    pub enrolled: Millis,
    /// Whether its identity was withdrawn.
    pub revoked: bool,
    /// What it had to give up for want of space, ever.
    pub dropped: Dropped,
    /// Runs that it has not ended yet.
    pub jobs: u32,
    /// The version of the trust root that it had at its last poll; zero when it has not polled since the coordinator's
    /// start.
    pub root: u64,
    /// The version of the head that it had then, about the time in milliseconds at which that was issued.
    pub head: u64,
    /// What verifies its receipts.
    pub receipt_key: PublicKey,
    /// The version of the protocol that it speaks.
    pub proto: ProtoVersion,
    /// How the newest update of it stands.
    pub update: Option<Box<UpdateView>>,
    /// Another host that came with this agent's identity, and was turned away.
    pub copied: Option<Box<Copied>>,
}

/// A host that came with the identity of an agent that another host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// When this was noticed.
    pub since: Millis,
    /// When a copy was last turned away; up to [`crate::coordinator::LAST_SEEN_STEP`] late.
    pub last: Millis,
    /// What that host calls itself.
    pub hostname: String,
}

/// Some agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentsPage {
    /// At most [`PAGE_ROWS_MAX`] rows.
    pub agents: Vec<AgentView>,
    /// Whether there are more.
    pub more: bool,
}

/// A bundle's release as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleView {
    /// The bundle.
    pub name: String,
    /// The release for people.
    pub version: String,
    /// The release for machines.
    pub counter: u64,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// Which hosts may run it.
    pub audience: String,
    /// What its workflows may use.
    pub capabilities: Vec<String>,
    /// What may start its runs.
    pub triggers: Vec<Trigger>,
    /// When it was published.
    pub published: Millis,
    /// After this, no new work with it is begun.
    pub expires: Millis,
    /// SHA-256 of each key that signed it, in hexadecimal.
    pub signers: Vec<String>,
    /// The recorded plan of its workflows, as JSON; empty in listings of many bundles.
    pub plan: String,
    /// The schema of a run's values, as JSON; empty where there is none, and in all but the newest release of one bundle.
    pub parameters: String,
}

/// A run in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Which one.
    pub run: RunId,
    /// The bundle.
    pub bundle: String,
    /// Its release for people.
    pub version: String,
    /// The workflow, or none for all of the bundle.
    pub workflow: Option<String>,
    /// The selector it was started with.
    pub selector: String,
    /// Who started it.
    pub operator: String,
    /// When.
    pub created: Millis,
    /// When it ended everywhere, if it did.
    pub ended: Option<Millis>,
    /// When what is left of it expires.
    pub deadline: Millis,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// On how many agents it stands how.
    pub jobs: Vec<(JobState, u32)>,
}

/// Some runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsPage {
    /// At most [`PAGE_ROWS_MAX`] rows.
    pub runs: Vec<RunSummary>,
    /// Whether there are more.
    pub more: bool,
}

/// A run as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// The line of the listing.
    pub summary: RunSummary,
    /// How it stands on each agent; at most [`PAGE_ROWS_MAX`] of them.
    pub jobs: Vec<JobView>,
}

/// How a run stands on one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: String,
    /// How the run stands there.
    pub state: JobState,
    /// Why, when it is not plain success.
    pub message: String,
    /// What the workflows exported, as JSON.
    pub outputs: String,
    /// Its tasks that have ended, in the order of their ends.
    pub tasks: Vec<TaskView>,
}

/// A task's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// As the agent reported it.
    pub end: TaskEnd,
}

/// Asks what happened in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Which run.
    pub run: RunId,
    /// Events after this number; zero for all.
    pub after: u64,
    /// Only those of this agent.
    pub agent: Option<AgentId>,
    /// Whether to go on as more happens.
    pub wait: FollowWait,
}

/// When a [`Follow`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FollowWait {
    /// After what is there.
    No,
    /// When the run has ended everywhere.
    UntilEnd,
}

/// Some events of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// At most [`EVENTS_IN_FRAME_MAX`], numbers rising.
    pub events: Vec<RunEvent>,
    /// Whether no more frames follow.
    pub last: bool,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Its number among the run's events, from 1.
    pub number: u64,
    /// On which agent.
    pub agent: AgentId,
    /// What.
    pub record: Record,
}

/// A join token as operators see it: without its secret, which was told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its public half.
    pub id: TokenId,
    /// How many further hosts may enrol with it.
    pub uses: u32,
    /// When it stops to count.
    pub expires: Millis,
    /// The labels that it gives.
    pub labels: Labels,
    /// Who made it.
    pub operator: String,
}

/// Some join tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensPage {
    /// At most [`PAGE_ROWS_MAX`] rows.
    pub tokens: Vec<TokenView>,
    /// Whether there are more.
    pub more: bool,
}

/// An operator as operators see one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorView {
    /// The name in the credential.
    pub name: String,
    /// When a credential of this name was first used; none when none ever was.
    pub first_seen: Option<Millis>,
    /// When one was last used, up to an hour late.
    pub last_seen: Option<Millis>,
    /// When the one that was used last ends; none when none ever was.
    pub until: Option<Millis>,
    /// When they were withdrawn and by whom, if they were.
    pub withdrawn: Option<Withdrawn>,
}

/// That an operator's credentials count no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Since when.
    pub at: Millis,
    /// Who withdrew them.
    pub by: String,
}

/// Some operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorsPage {
    /// At most [`PAGE_ROWS_MAX`] rows.
    pub operators: Vec<OperatorView>,
    /// Whether there are more.
    pub more: bool,
}

/// Whether an operator can have this name: letters, digits, `-`, `_` and `.`, at most [`OPERATOR_CHARS_MAX`] of them.
#[must_use]
pub fn is_operator_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=OPERATOR_CHARS_MAX).contains(&name.len()) && name.chars().all(allowed)
}
