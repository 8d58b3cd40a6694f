//! `sloth-coord token …`.

use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{
    Labels,
    config::Span,
    labels::{LabelError, parse_label},
};
use sloth_protocol::wire::{CreateToken, OperatorRequest, OperatorResponse};

use super::{
    CredentialArgs,
    client::{AskError, expect_answer, with_client},
    printed,
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a join token and print it
    Create(CreateArgs),
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
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    token: String,
    expires: String,
}

pub(super) fn run(command: TokenCommand, format: Format) -> Result<Outcome, Failure> {
    let TokenCommand::Create(args) = command;
    let labels: Labels = args.labels.into_iter().collect();
    let create = CreateToken { uses: args.uses, ttl: args.ttl.millis(), labels };
    let issued = with_client(&args.credential, async |client| {
        Ok(expect_answer!(client.ask(OperatorRequest::CreateToken(create)).await?, Token)?)
    })?;
    printed(match format {
        Format::Text => print_line(&issued.token),
        Format::Json => {
            let (id, expires) = (issued.id.to_string(), issued.expires.to_string());
            print_json(&Shown { id, token: issued.token, expires })
        }
    })?;
    Ok(Outcome::Done)
}

fn label(text: &str) -> Result<(String, String), LabelError> {
    parse_label(text)
}
