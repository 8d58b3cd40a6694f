//! `sloth-coord bundles …`.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use sloth_cli::{Failure, Format, Outcome, Table, parameters, print_json, print_line};
use sloth_core::{Clock, Millis};
use sloth_protocol::wire::{BundleView, OperatorRequest, OperatorResponse, RefusalCode};
use sloth_trust::{Schema, Trigger};

use super::{
    CredentialArgs,
    client::{AskError, Client, expect_answer, with_client},
    plan, printed, show,
};

#[derive(Debug, Subcommand)]
pub(super) enum BundlesCommand {
    /// List the newest release of every bundle
    List(ListArgs),
    /// Show the releases of a bundle, and what the newest does
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The bundle's name
    name: String,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    version: String,
    counter: u64,
    manifest: String,
    size: u64,
    audience: String,
    capabilities: Vec<String>,
    triggers: Vec<Trigger>,
    published: String,
    expires: String,
    signers: Vec<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    plan: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    parameters: Value,
}

pub(super) fn run(command: BundlesCommand, format: Format) -> Result<Outcome, Failure> {
    let (bundles, whole) = match command {
        BundlesCommand::List(args) => {
            let listed = with_client(&args.credential, async |client| {
                Ok(expect_answer!(client.ask(OperatorRequest::Bundles).await?, Bundles)?)
            })?;
            (listed, false)
        }
        BundlesCommand::Show(args) => {
            let question = OperatorRequest::Bundle(args.name.clone());
            let listed = with_client(&args.credential, async |client| {
                Ok(expect_answer!(client.ask(question).await?, Bundles)?)
            })?;
            (listed, true)
        }
    };
    if format == Format::Json {
        let shown: Vec<_> = bundles.into_iter().map(Shown::from).collect();
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    print_table(&bundles)?;
    if let Some(newest) = bundles.first().filter(|newest| whole && !newest.plan.is_empty()) {
        printed(print_line(""))?;
        plan::print(&newest.plan)?;
        let schema = Some(&newest.parameters).filter(|text| !text.is_empty());
        let schema =
            schema.map(|text| Schema::read(text.as_bytes())).transpose().map_err(Outcome::Internal.because())?;
        printed(parameters::print(schema.as_ref()))?;
    }
    Ok(Outcome::Done)
}

/// The releases of a bundle, newest first; none when there is no such bundle.
pub(super) async fn releases(client: &Client, name: &str) -> Result<Vec<BundleView>, AskError> {
    match client.ask(OperatorRequest::Bundle(name.to_owned())).await {
        Ok(OperatorResponse::Bundles(bundles)) => Ok(bundles),
        Ok(_other) => Err(AskError::Unexpected),
        Err(AskError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn print_table(bundles: &[BundleView]) -> Result<(), Failure> {
    let now = Clock::new().now();
    let columns =
        ["NAME", "RELEASE", "NUMBER", "PUBLISHED", "EXPIRES", "SIZE", "AUDIENCE", "CAPABILITIES", "SIGNED BY"];
    let mut table = Table::new(&columns);
    for bundle in bundles {
        let signers = bundle.signers.iter().map(|key| show::key(key));
        table.row(vec![
            bundle.name.clone(),
            bundle.version.clone(),
            bundle.counter.to_string(),
            show::ago(now, bundle.published),
            expires(bundle.expires, now),
            show::size(bundle.size),
            bundle.audience.clone(),
            bundle.capabilities.join(","),
            signers.collect::<Vec<_>>().join(","),
        ]);
    }
    printed(table.print())
}

fn expires(at: Millis, now: Millis) -> String {
    if at <= now { format!("expired {}", show::ago(now, at)) } else { show::ago(now, at) }
}

impl From<BundleView> for Shown {
    fn from(bundle: BundleView) -> Self {
        Self {
            name: bundle.name,
            version: bundle.version,
            counter: bundle.counter,
            manifest: bundle.manifest.to_string(),
            size: bundle.size,
            audience: bundle.audience,
            capabilities: bundle.capabilities,
            triggers: bundle.triggers,
            published: bundle.published.to_string(),
            expires: bundle.expires.to_string(),
            signers: bundle.signers,
            plan: serde_json::from_str(&bundle.plan).unwrap_or(Value::Null),
            parameters: serde_json::from_str(&bundle.parameters).unwrap_or(Value::Null),
        }
    }
}
