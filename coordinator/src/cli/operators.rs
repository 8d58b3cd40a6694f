//! `sloth-coord operators …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, Table, print_json, print_line};
use sloth_core::{Clock, Millis, config::Span};
use sloth_protocol::wire::{OperatorRequest, OperatorResponse, OperatorView, Withdrawn};
use sloth_transport::{Authority, Credential};

use super::{
    CredentialArgs, DirArgs,
    client::{AskError, Client, expect_answer, note, with_client},
    printed, show,
};
use crate::{config::Config, paths::Paths, serve};

/// How long a credential is good unless something else is said.
const LIFE_DEFAULT: &str = "365d";
/// Longest life of one: about what people remember to renew.
const LIFE_MAX: Millis = Millis::from_secs(5 * 365 * 24 * 3600);

#[derive(Debug, Subcommand)]
pub(super) enum OperatorsCommand {
    /// Make another operator's credential, with the authority's key on the coordinator's machine
    Add(AddArgs),
    /// List the operators that have connected, and those who may do so no more
    List(ListArgs),
    /// Make every credential of an operator's name count no more, for good: open connections are closed at once
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The operator's name, which no revoked one had: letters, digits, `-`, `_` and `.`
    name: String,
    /// Where to, as a new file [default: NAME.toml]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long it is good
    #[arg(long, default_value = LIFE_DEFAULT)]
    expires: Span,
    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The operator's name, as `operators list` shows it
    name: String,
}

#[derive(Serialize)]
struct Added {
    name: String,
    credential: String,
    expires: String,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    first_seen: Option<String>,
    last_seen: Option<String>,
    expires: Option<String>,
    revoked: Option<String>,
    revoked_by: Option<String>,
}

pub(super) fn run(command: OperatorsCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        OperatorsCommand::Add(args) => add(&args, format),
        OperatorsCommand::List(args) => list(&args, format),
        OperatorsCommand::Revoke(args) => revoke(&args, format),
    }
}

fn add(args: &AddArgs, format: Format) -> Result<Outcome, Failure> {
    let paths = args.dir.paths();
    let config = Config::load(&paths).map_err(Outcome::Usage.because())?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", args.name)));
    if out.exists() {
        let sentence = format!("`{}` is there already: give another file with `--out`", out.display());
        return Err(Failure::new(Outcome::Usage, sentence));
    }
    let life = args.expires.millis();
    if life == Millis::ZERO || LIFE_MAX < life {
        return Err(Failure::new(Outcome::Usage, "a credential is good for more than nothing and at most 5 years"));
    }
    let authority = authority(&paths)?;
    let identity = authority.issue_operator(&args.name, Clock::new().now(), life).map_err(Outcome::Usage.because())?;
    let expires = identity.not_after().to_string();
    let credential = Credential { addresses: config.addresses, authority: authority.certificate().to_vec(), identity };
    credential.store(&out).map_err(Outcome::Usage.because())?;
    let (name, file) = (args.name.clone(), out.display().to_string());
    printed(match format {
        Format::Json => print_json(&Added { name, credential: file, expires }),
        Format::Text => print_line(&format!("operator `{name}` has the credential `{file}`, good until {expires}")),
    })?;
    Ok(Outcome::Done)
}

fn authority(paths: &Paths) -> Result<Authority, Failure> {
    serve::authority(paths).map_err(Outcome::Refused.because())
}

fn list(args: &ListArgs, format: Format) -> Result<Outcome, Failure> {
    let operators = with_client(&args.credential, async |client| Ok(all(client).await?))?;
    print(operators, format)
}

async fn all(client: &Client) -> Result<Vec<OperatorView>, AskError> {
    let mut operators: Vec<OperatorView> = Vec::new();
    loop {
        let after = operators.last().map(|operator| operator.name.clone());
        let mut page = expect_answer!(client.ask(OperatorRequest::Operators { after }).await?, Operators)?;
        operators.append(&mut page.operators);
        if !page.more {
            return Ok(operators);
        }
    }
}

fn revoke(args: &RevokeArgs, format: Format) -> Result<Outcome, Failure> {
    let question = OperatorRequest::RevokeOperator(args.name.clone());
    let operator =
        with_client(&args.credential, async |client| Ok(expect_answer!(client.ask(question).await?, Operator)?))?;
    if operator.first_seen.is_none() {
        note(&format!("no credential of operator `{}` was ever used here: look whether that is the name", args.name));
    }
    print(vec![operator], format)
}

fn print(operators: Vec<OperatorView>, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        let shown: Vec<Shown> = operators.into_iter().map(Shown::from).collect();
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let ago = |at: Option<Millis>| at.map_or_else(|| "-".to_owned(), |at| show::ago(now, at));
    let mut table = Table::new(&["OPERATOR", "STATE", "FIRST SEEN", "LAST SEEN", "EXPIRES"]);
    for operator in operators {
        let state = operator.withdrawn.as_ref().map_or_else(
            || "counts".to_owned(),
            |Withdrawn { at, by }| format!("revoked {} by {by}", show::ago(now, *at)),
        );
        let OperatorView { name, first_seen, last_seen, until, withdrawn: _ } = operator;
        table.row(vec![name, state, ago(first_seen), ago(last_seen), ago(until)]);
    }
    printed(table.print())?;
    Ok(Outcome::Done)
}

impl From<OperatorView> for Shown {
    fn from(operator: OperatorView) -> Self {
        let OperatorView { name, first_seen, last_seen, until, withdrawn } = operator;
        let text = |at: Option<Millis>| at.map(|at| at.to_string());
        let (revoked, revoked_by) = withdrawn.map(|Withdrawn { at, by }| (at.to_string(), by)).unzip();
        Self {
            name,
            first_seen: text(first_seen),
            last_seen: text(last_seen),
            expires: text(until),
            revoked,
            revoked_by,
        }
    }
}
