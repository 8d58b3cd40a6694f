//! `sloth-coord rollout …`.

mod print;
mod spec;
mod watch;

use clap::{Args, Subcommand};
use sloth_cli::{Failure, Format, Outcome};
use sloth_core::AgentId;
use sloth_protocol::wire::{
    HostView, HostsPage, OperatorRequest, OperatorResponse, Passing, Resume, RolloutAction, RolloutPlan,
    RolloutRequest, RolloutResponse, RolloutSpec, RolloutView, RolloutWhat,
};

use self::spec::SpecArgs;
use super::{
    CredentialArgs,
    bundles::releases,
    client::{AskError, Client, block_on, connect, expect_answer, with_client},
};

#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Begin to bring the newest release of a bundle, or a release of the agent itself, to agents
    Create(CreateArgs),
    /// Show which hosts would fall into which wave, and begin nothing
    Plan(PlanArgs),
    /// List rollouts, newest first
    List(ListArgs),
    /// Show one rollout: its waves, and why it waits
    Show(ShowArgs),
    /// Show one rollout as it goes, until it is complete or halts
    Watch(OneArgs),
    /// Let the next wave begin
    Approve(ApproveArgs),
    /// Assign nothing until it is resumed
    Pause(OneArgs),
    /// Go on after a pause, or after a halt with the hosts that failed
    Resume(ResumeArgs),
    /// End it where it stands
    Abort(OneArgs),
    /// Take the hosts that it changed back to the release before
    Rollback(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    #[command(flatten)]
    spec: SpecArgs,
    /// Show how it goes until it is complete or halts
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    #[command(flatten)]
    spec: SpecArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The rollout's name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Show every host instead
    #[arg(long)]
    hosts: bool,
}

#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Although too little, or nothing, proves the wave before
    #[arg(long)]
    unproven: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    one: OneArgs,
    /// From the first wave on, with the newest release
    #[arg(long)]
    newest: bool,
}

pub(super) fn run(command: RolloutCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        RolloutCommand::Create(args) => create(&args, format),
        RolloutCommand::Plan(args) => plan(&args, format),
        RolloutCommand::List(args) => {
            let response = with_client(&args.credential, async |client| Ok(ask(client, RolloutRequest::List).await?))?;
            let RolloutResponse::Rollouts(rollouts) = response else { return Err(AskError::Unexpected.into()) };
            print::list(&rollouts, format)?;
            Ok(Outcome::Done)
        }
        RolloutCommand::Show(args) => show(&args, format),
        RolloutCommand::Watch(args) => block_on(Box::pin(watch::watch(&args.credential, &args.name, format))),
        RolloutCommand::Approve(args) => {
            let passing = if args.unproven { Passing::Unproven } else { Passing::Proven };
            act(&args.one, RolloutAction::Approve(passing), format)
        }
        RolloutCommand::Pause(args) => act(&args, RolloutAction::Pause, format),
        RolloutCommand::Resume(args) => {
            let with = if args.newest { Resume::Newest } else { Resume::Same };
            act(&args.one, RolloutAction::Resume(with), format)
        }
        RolloutCommand::Abort(args) => act(&args, RolloutAction::Abort, format),
        RolloutCommand::Rollback(args) => act(&args, RolloutAction::RollBack, format),
    }
}

fn create(args: &CreateArgs, format: Format) -> Result<Outcome, Failure> {
    let spec = args.spec.read()?;
    block_on(async {
        let client = connect(&args.credential).await?;
        let begun = begin(&client, spec).await;
        client.close().await;
        let view = begun?;
        if args.watch {
            return Box::pin(watch::watch(&args.credential, &view.summary.name, format)).await;
        }
        print::rollout(&view, format)?;
        Ok(Outcome::Done)
    })
}

async fn begin(client: &Client, spec: RolloutSpec) -> Result<RolloutView, AskError> {
    let spec = named(client, spec).await?;
    one(ask(client, RolloutRequest::Create(spec)).await?)
}

fn plan(args: &PlanArgs, format: Format) -> Result<Outcome, Failure> {
    let spec = args.spec.read()?;
    let (plan, hosts) = with_client(&args.credential, async |client| Ok(foresee(client, spec).await?))?;
    print::plan(&plan, &hosts, format)?;
    Ok(Outcome::Done)
}

/// The plan, with every host.
async fn foresee(client: &Client, spec: RolloutSpec) -> Result<(RolloutPlan, Vec<HostView>), AskError> {
    let spec = named(client, spec).await?;
    let mut hosts: Vec<HostView> = Vec::new();
    loop {
        let after = hosts.last().map(|host| host.agent);
        let response = ask(client, RolloutRequest::Plan { spec: spec.clone(), after }).await?;
        let RolloutResponse::Plan(mut plan) = response else { return Err(AskError::Unexpected) };
        let more = plan.page.more && !plan.page.hosts.is_empty();
        hosts.append(&mut plan.page.hosts);
        if !more {
            return Ok((plan, hosts));
        }
    }
}

/// A specification without a name is named after the release that it brings.
async fn named(client: &Client, mut spec: RolloutSpec) -> Result<RolloutSpec, AskError> {
    if spec.name.is_empty() {
        let (what, version) = match &spec.what {
            RolloutWhat::Bundle(bundle) => {
                let newest = releases(client, &bundle.name).await?;
                (bundle.name.as_str(), newest.first().map(|release| release.version.clone()).unwrap_or_default())
            }
            RolloutWhat::Agent(agent) => ("agent", agent.version.clone()),
        };
        let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        spec.name = format!("{what}-{}", version.chars().map(fits).collect::<String>());
    }
    Ok(spec)
}

fn show(args: &ShowArgs, format: Format) -> Result<Outcome, Failure> {
    let OneArgs { credential, name } = &args.one;
    if args.hosts {
        let hosts = with_client(credential, async |client| Ok(hosts(client, name).await?))?;
        print::hosts(&hosts, format)?;
    } else {
        let view = with_client(credential, async |client| Ok(shown(client, name).await?))?;
        print::rollout(&view, format)?;
    }
    Ok(Outcome::Done)
}

async fn hosts(client: &Client, name: &str) -> Result<Vec<HostView>, AskError> {
    let mut hosts: Vec<HostView> = Vec::new();
    loop {
        let after: Option<AgentId> = hosts.last().map(|host| host.agent);
        let response = ask(client, RolloutRequest::Hosts { name: name.to_owned(), after }).await?;
        let RolloutResponse::Hosts(HostsPage { hosts: mut page, more }) = response else {
            return Err(AskError::Unexpected);
        };
        let more = more && !page.is_empty();
        hosts.append(&mut page);
        if !more {
            return Ok(hosts);
        }
    }
}

fn act(args: &OneArgs, action: RolloutAction, format: Format) -> Result<Outcome, Failure> {
    let request = RolloutRequest::Act { name: args.name.clone(), action };
    let view = with_client(&args.credential, async |client| Ok(one(ask(client, request).await?)?))?;
    print::rollout(&view, format)?;
    Ok(Outcome::Done)
}

/// One rollout by its name.
async fn shown(client: &Client, name: &str) -> Result<RolloutView, AskError> {
    one(ask(client, RolloutRequest::Show(name.to_owned())).await?)
}

async fn ask(client: &Client, request: RolloutRequest) -> Result<RolloutResponse, AskError> {
    expect_answer!(client.ask(OperatorRequest::Rollout(request)).await?, Rollout)
}

fn one(response: RolloutResponse) -> Result<RolloutView, AskError> {
    match response {
        RolloutResponse::Rollout(view) => Ok(*view),
        RolloutResponse::Plan(_) | RolloutResponse::Rollouts(_) | RolloutResponse::Hosts(_) => {
            Err(AskError::Unexpected)
        }
    }
}
