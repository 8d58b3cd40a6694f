//! `sloth-coord keys …`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, Table, print_json, print_line};
use sloth_core::{
    Secret,
    fs::{self, Access},
};
use sloth_protocol::wire::OperatorRequest;
use sloth_trust::{PublicKey, RoleKeys, Roles, sign::generate};

use super::{
    CredentialArgs,
    client::{AskError, with_client},
    printed, show,
    sign::{KEY_BYTES_MAX, PASSPHRASE_FD_VARIABLE, PASSPHRASE_VARIABLE, passphrase_given},
    trust::{Change, ChangeArgs, all_roles, change_root, fetch, keys_of, online_keys, public_key, trusted},
};

/// Where minisign's own id of a key stands in its bytes.
const MINISIGN_ID: std::ops::Range<usize> = 2..10;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a signing key: NAME.key, which stays with its owner, and NAME.pub
    Generate(GenerateArgs),
    /// Show a public key
    Show(ShowArgs),
    /// Show which keys the trust root names, and for what
    #[command(visible_alias = "status")]
    List(ListArgs),
    /// Write the coordinator's online key to a file, for `sloth-coord trust init`
    Online(OnlineArgs),
    /// Put a new key in every place of an old one
    Rotate(RotateArgs),
    /// Let a key sign for nothing any more
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// The files' name, without its ending
    #[arg(long, default_value = "publisher", value_name = "NAME")]
    out: PathBuf,
    /// Write the secret key in the clear, as machines need it
    #[arg(long)]
    no_passphrase: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The `.pub` file
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
}

#[derive(Debug, Args)]
pub(super) struct OnlineArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "online.pub")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The old key's `.pub` file, or the beginning of its id
    old: String,
    /// The new key's `.pub` file
    new: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The key's `.pub` file, or the beginning of its id
    key_or_id: String,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    key: String,
    roles: Vec<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    id: String,
    minisign_id: String,
}

pub(super) fn run(command: KeysCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        KeysCommand::Generate(args) => make(&args, format),
        KeysCommand::Show(args) => show(&args.file, format),
        KeysCommand::List(args) => list(&args, format),
        KeysCommand::Online(args) => online(&args, format),
        KeysCommand::Rotate(args) => {
            let change = Change::Replace(args.old, public_key(&args.new)?);
            change_root(&args.change, &change, format)
        }
        KeysCommand::Revoke(args) => change_root(&args.change, &Change::Revoke(args.key_or_id), format),
    }
}

fn make(args: &GenerateArgs, format: Format) -> Result<Outcome, Failure> {
    let (secret_file, public_file) = (with_ending(&args.out, "key"), with_ending(&args.out, "pub"));
    for file in [&secret_file, &public_file] {
        if file.symlink_metadata().is_ok() {
            let sentence =
                format!("`{}` is there already, and a key is never overwritten: give another `--out`", file.display());
            return Err(Failure::new(Outcome::Refused, sentence));
        }
    }
    let passphrase = if args.no_passphrase { None } else { Some(new_passphrase()?) };
    let key = generate(passphrase.as_ref()).map_err(Outcome::Internal.because())?;
    let refused = Outcome::Refused.because();
    fs::replace(&secret_file, key.secret.expose().as_bytes(), Access::Owner).map_err(refused)?;
    let refused = Outcome::Refused.because();
    fs::replace(&public_file, key.public.as_bytes(), Access::Everyone).map_err(refused)?;
    show(&public_file, format)
}

fn show(file: &Path, format: Format) -> Result<Outcome, Failure> {
    let bytes = fs::read_capped(file, KEY_BYTES_MAX).map_err(Outcome::Usage.because())?;
    let parsed = String::from_utf8_lossy(&bytes).parse();
    let key: PublicKey = parsed.map_err(|error: sloth_trust::InvalidKey| {
        Failure::new(Outcome::Usage, format!("cannot read the key in `{}`: {error}", file.display()))
    })?;
    let (id, minisign_id) = (key.id().to_string(), minisign_id(&key));
    match format {
        Format::Json => printed(print_json(&Shown { key: key.as_str(), id, minisign_id }))?,
        Format::Text => {
            printed(print_line(&format!("key          {key}")))?;
            printed(print_line(&format!("id           {id}")))?;
            printed(print_line(&format!("minisign id  {minisign_id}")))?;
        }
    }
    Ok(Outcome::Done)
}

fn list(args: &ListArgs, format: Format) -> Result<Outcome, Failure> {
    let trusted = with_client(&args.credential, async |client| trusted(&fetch(client).await?))?;
    let keys = listed(&trusted.root().roles);
    if format == Format::Json {
        printed(print_json(&keys))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["KEY", "SIGNS FOR"]);
    for key in &keys {
        table.row(vec![show::key(&key.id), key.roles.join(", ")]);
    }
    printed(table.print())?;
    Ok(Outcome::Done)
}

/// Every key that the root names, in the order of its roles.
fn listed(roles: &Roles) -> Vec<Listed> {
    let mut keys: Vec<Listed> = Vec::new();
    for role in all_roles(roles) {
        for key in keys_of(roles, &role).into_iter().flat_map(RoleKeys::keys) {
            let id = key.id().to_string();
            match keys.iter_mut().find(|listed| listed.id == id) {
                Some(listed) => listed.roles.push(role.to_string()),
                None => keys.push(Listed { id, key: key.to_string(), roles: vec![role.to_string()] }),
            }
        }
    }
    keys
}

fn online(args: &OnlineArgs, format: Format) -> Result<Outcome, Failure> {
    let keys = with_client(&args.credential, async |client| online_keys(client, OperatorRequest::OnlineKeys).await)?;
    let newest = keys.into_iter().next_back().ok_or(AskError::Unexpected)?;
    fs::replace(&args.out, newest.file().as_bytes(), Access::Everyone).map_err(Outcome::Refused.because())?;
    show(&args.out, format)
}

fn new_passphrase() -> Result<Secret<String>, Failure> {
    if let Some(given) = passphrase_given()? {
        return Ok(given);
    }
    if !std::io::stdin().is_terminal() {
        let sentence = format!(
            "a key takes a passphrase: run this on a terminal, set `{PASSPHRASE_VARIABLE}` or `{PASSPHRASE_FD_VARIABLE}`, or give `--no-passphrase`"
        );
        return Err(Failure::new(Outcome::Usage, sentence));
    }
    let ask = |prompt| rpassword::prompt_password(prompt).map(Secret::new).map_err(Outcome::Internal.because());
    let first = ask("new passphrase: ")?;
    if first.expose().is_empty() {
        return Err(Failure::new(Outcome::Usage, "the passphrase is empty: give `--no-passphrase` if that is meant"));
    }
    if ask("again: ")?.expose() != first.expose() {
        return Err(Failure::new(Outcome::Usage, "the two passphrases differ: try again"));
    }
    Ok(first)
}

/// What `minisign` calls the key: eight bytes, which it prints the other way round.
fn minisign_id(key: &PublicKey) -> String {
    let bytes = STANDARD.decode(key.as_str()).unwrap_or_default();
    bytes.get(MINISIGN_ID).unwrap_or_default().iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
