//! `sloth-coord init`.

use std::{
    io::IsTerminal as _,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, lchown},
    path::Path,
};

use clap::Args;
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{
    Clock, Millis,
    config::Span,
    fs::{self, Access, Action, FsError},
};
use sloth_protocol::coordinator::HEAD_LIFE;
use sloth_transport::{Authority, Credential};

use super::{DirArgs, printed};
use crate::{
    config::{CERTIFICATE_LIFE_SECS, Config, HTTP_DEFAULT, LISTEN_DEFAULT, check_address},
    paths::Paths,
    serve,
    store::RedbStore,
};

/// How long the first operator's credential is good.
const ADMIN_LIFE: Millis = Millis::from_secs(365 * 24 * 3600);
/// What the first operator is called.
const ADMIN_NAME: &str = "admin";

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// The UDP address to listen on
    #[arg(long, default_value = LISTEN_DEFAULT, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// What agents and operators connect to, tried in order [default: this host's name, and the port of --listen]
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<String>,
    /// The TCP address of metrics and health, plain HTTP
    #[arg(long, default_value = HTTP_DEFAULT, value_name = "ADDR:PORT")]
    http: SocketAddr,
}

#[derive(Serialize)]
struct Made<'a> {
    dir: String,
    listen: String,
    addresses: &'a [String],
    credential: String,
}

pub(super) fn run(args: &InitArgs, format: Format) -> Result<Outcome, Failure> {
    let paths = args.dir.paths();
    if paths.config().exists() {
        let sentence = format!(
            "there is a coordinator in `{0}` already: start it with `sloth-coord serve --dir {0}`, or give another `--dir`",
            paths.dir().display()
        );
        return Err(Failure::new(Outcome::Refused, sentence));
    }
    let config = config(args)?;
    make(&paths, &config)?;
    let credential = paths.admin().display().to_string();
    match format {
        Format::Json => printed(print_json(&Made {
            dir: paths.dir().display().to_string(),
            listen: config.listen.to_string(),
            addresses: &config.addresses,
            credential,
        }))?,
        Format::Text => {
            printed(print_line(&format!("made a coordinator in {}", paths.dir().display())))?;
            if std::io::stdout().is_terminal() {
                printed(print_line(&format!("serve: sloth-coord serve --dir {}", paths.dir().display())))?;
                printed(print_line(&format!("then:  export SLOTH_CREDENTIAL={credential}")))?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn config(args: &InitArgs) -> Result<Config, Failure> {
    let addresses = if args.address.is_empty() {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        vec![format!("{name}:{}", args.listen.port())]
    } else {
        args.address.clone()
    };
    addresses.iter().try_for_each(|address| check_address(address)).map_err(Outcome::Usage.because())?;
    let life = Span::from_secs(CERTIFICATE_LIFE_SECS);
    Ok(Config {
        listen: args.listen,
        addresses,
        http: args.http,
        certificate_life: life,
        head_life: Span::new(HEAD_LIFE),
    })
}

/// Makes everything, the settings last: without them there is no coordinator, and `init` begins again.
fn make(paths: &Paths, config: &Config) -> Result<(), Failure> {
    let now = Clock::new().now();
    fs::create_dir(paths.dir(), Access::Owner).map_err(Outcome::Refused.because())?;
    let authority = authority(paths, now)?;
    drop(RedbStore::open(&paths.store()).map_err(Outcome::Refused.because())?);
    let identity = authority.issue_operator(ADMIN_NAME, now, ADMIN_LIFE).map_err(Outcome::Internal.because())?;
    let addresses = config.addresses.clone();
    let credential = Credential { addresses, authority: authority.certificate().to_vec(), identity };
    credential.store(&paths.admin()).map_err(Outcome::Refused.because())?;
    let text = config.to_text();
    give_to_owner(paths.dir())?;
    fs::replace(&paths.config(), text.as_bytes(), Access::Owner).map_err(Outcome::Refused.because())?;
    give_to_owner(paths.dir())
}

/// What root makes in the directory of another user is that user's: packages make the directory for the user that the
/// service runs as.
fn give_to_owner(dir: &Path) -> Result<(), Failure> {
    let of_dir = std::fs::metadata(dir).map_err(Outcome::Refused.because())?;
    if !rustix::process::geteuid().is_root() || of_dir.uid() == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(Outcome::Refused.because())? {
        let entry = entry.map_err(Outcome::Refused.because())?.path();
        lchown(&entry, Some(of_dir.uid()), Some(of_dir.gid()))
            .map_err(FsError::of(Action::SetMode, &entry))
            .map_err(Outcome::Refused.because())?;
    }
    Ok(())
}

/// A new authority, or the one that an `init` which was cut off has left: it may have been told to somebody.
fn authority(paths: &Paths, now: Millis) -> Result<Authority, Failure> {
    if paths.authority_key().exists() && paths.authority_certificate().exists() {
        return serve::authority(paths).map_err(Outcome::Refused.because());
    }
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(Outcome::Internal.because())?;
    let authority = Authority::create(now, serial).map_err(Outcome::Internal.because())?;
    let refused = Outcome::Refused.because();
    fs::replace(&paths.authority_key(), authority.key_pem().expose().as_bytes(), Access::Owner).map_err(refused)?;
    fs::replace(&paths.authority_certificate(), authority.certificate_pem().as_bytes(), Access::Everyone)
        .map_err(Outcome::Refused.because())?;
    Ok(authority)
}
