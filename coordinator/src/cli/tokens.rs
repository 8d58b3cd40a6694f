//! `sloth-coord token …`.

use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, Table, print_json, print_line};
use sloth_core::{Clock, Labels, TokenId, config::Span, labels::parse_label};
use sloth_protocol::wire::{CreateToken, OperatorRequest, OperatorResponse, TokenView};

use super::{
    CredentialArgs,
    client::{AskError, Client, expect_answer, note, with_client},
    printed, show,
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a join token and print it
    Create(CreateArgs),
    /// List the join tokens that have not expired
    List(CredentialArgs),
    /// Make a join token count no more; who enrolled with it stays
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The token's id, as `token list` shows it
    token: TokenId,
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// How many hosts may enrol with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// How long it counts
    #[arg(long, default_value = "1h")]
    ttl: Span,
    /// A label for who enrols with it, as NAME=VALUE
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Issued {
    id: String,
    token: String,
    expires: String,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    uses_left: u32,
    expires: String,
    labels: Labels,
    operator: String,
}

pub(super) fn run(command: TokenCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        TokenCommand::Create(args) => create(args, format),
        TokenCommand::List(credential) => list(&credential, format),
        TokenCommand::Revoke(args) => revoke(&args),
    }
}

fn create(args: CreateArgs, format: Format) -> Result<Outcome, Failure> {
    let labels: Labels = args.labels.into_iter().collect();
    let create = CreateToken { uses: args.uses, ttl: args.ttl.millis(), labels };
    let issued = with_client(&args.credential, async |client| {
        Ok(expect_answer!(client.ask(OperatorRequest::CreateToken(create)).await?, Token)?)
    })?;
    printed(match format {
        Format::Text => print_line(&issued.token),
        Format::Json => {
            let (id, expires) = (issued.id.to_string(), issued.expires.to_string());
            print_json(&Issued { id, token: issued.token, expires })
        }
    })?;
    Ok(Outcome::Done)
}

fn list(credential: &CredentialArgs, format: Format) -> Result<Outcome, Failure> {
    let tokens = with_client(credential, async |client| Ok(all(client).await?))?;
    if format == Format::Json {
        let listed: Vec<Listed> = tokens.into_iter().map(Listed::from).collect();
        printed(print_json(&listed))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let mut table = Table::new(&["TOKEN", "USES LEFT", "EXPIRES", "BY", "LABELS"]);
    for token in tokens {
        let (uses, expires) = (token.uses.to_string(), show::ago(now, token.expires));
        table.row(vec![token.id.to_string(), uses, expires, token.operator, show::labels(&token.labels)]);
    }
    printed(table.print())?;
    Ok(Outcome::Done)
}

async fn all(client: &Client) -> Result<Vec<TokenView>, AskError> {
    let mut tokens: Vec<TokenView> = Vec::new();
    loop {
        let after = tokens.last().map(|token| token.id);
        let mut page = expect_answer!(client.ask(OperatorRequest::Tokens { after }).await?, Tokens)?;
        // A page that brings nobody further would be asked for without end.
        let goes_on = page.more && after < page.tokens.last().map(|token| token.id);
        tokens.append(&mut page.tokens);
        if !goes_on {
            return Ok(tokens);
        }
    }
}

fn revoke(args: &RevokeArgs) -> Result<Outcome, Failure> {
    with_client(&args.credential, async |client| Ok(client.ask(OperatorRequest::RevokeToken(args.token)).await?))?;
    note(&format!("join token {} counts no more", args.token));
    Ok(Outcome::Done)
}

impl From<TokenView> for Listed {
    fn from(token: TokenView) -> Self {
        let TokenView { id, uses, expires, labels, operator } = token;
        Self { id: id.to_string(), uses_left: uses, expires: expires.to_string(), labels, operator }
    }
}
