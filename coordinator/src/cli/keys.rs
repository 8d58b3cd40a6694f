//! `sloth-coord keys …`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{
    Secret,
    fs::{self, Access},
};
use sloth_trust::{PublicKey, sign::generate};

use super::{
    printed,
    sign::{KEY_BYTES_MAX, PASSPHRASE_VARIABLE, passphrase_given},
};

/// Where minisign's own id of a key stands in its bytes.
const MINISIGN_ID: std::ops::Range<usize> = 2..10;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a signing key: NAME.key, which stays with its owner, and NAME.pub
    Generate(GenerateArgs),
    /// Show a public key
    Show(ShowArgs),
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

fn new_passphrase() -> Result<Secret<String>, Failure> {
    if let Some(given) = passphrase_given() {
        return Ok(given);
    }
    if !std::io::stdin().is_terminal() {
        let sentence = format!(
            "a key takes a passphrase: run this on a terminal, set `{PASSPHRASE_VARIABLE}`, or give `--no-passphrase`"
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
