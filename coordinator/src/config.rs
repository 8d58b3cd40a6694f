//! `coordinator.toml`.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use sloth_core::{
    Millis,
    config::{self, ConfigError, Span},
};
use sloth_protocol::{
    coordinator::{HEAD_LIFE, HEAD_LIFE_MAX, HEAD_LIFE_MIN},
    wire::ADDRESSES_MAX,
};
use sloth_transport::BACKDATE;

use crate::paths::Paths;

/// Where agents connect unless the settings say otherwise.
pub const LISTEN_DEFAULT: &str = "0.0.0.0:7461";
/// Where metrics and health are told unless the settings say otherwise: to this host only.
pub const HTTP_DEFAULT: &str = "127.0.0.1:7462";
/// How long an agent's certificate is good unless the settings say otherwise.
pub const CERTIFICATE_LIFE_SECS: u64 = 7 * 24 * 3600;
/// The shortest life of an agent's certificate: it has to be renewed in time, over networks that fail.
pub const CERTIFICATE_LIFE_MIN: Millis = Millis::from_secs(600);
/// The longest.
pub const CERTIFICATE_LIFE_MAX: Millis = Millis::from_secs(365 * 24 * 3600);

/// The settings of `serve`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The UDP address where agents and operators connect.
    #[serde(default = "listen_default")]
    pub listen: SocketAddr,
    /// What agents and operators are told to connect to, as `host:port`, tried in order.
    pub addresses: Vec<String>,
    /// The TCP address of `/metrics`, `/healthz` and `/readyz`; plain HTTP, for this host or a proxy.
    #[serde(default = "http_default")]
    pub http: SocketAddr,
    /// How long an agent's certificate is good. Agents renew it when a third is left.
    #[serde(default = "certificate_life_default")]
    pub certificate_life: Span,
    /// How long the coordinator's word on what is the newest is good for new work on agents.
    #[serde(default = "head_life_default")]
    pub head_life: Span,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no coordinator.
    #[error(
        "there is no coordinator in `{0}`: give the directory of one with `--dir`, or make one with `sloth-coord init --dir {0}`",
        dir.display()
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Agents are told nothing, or too much.
    #[error("`{}` needs 1 to {ADDRESSES_MAX} `addresses` like `coord.example.org:7461`", path.display())]
    Addresses {
        /// The file.
        path: PathBuf,
    },
    /// Something that is no address.
    #[error("`{address}` is not an address: write `host:port`, like `coord.example.org:7461`")]
    Address {
        /// The start of what was given.
        address: String,
    },
    /// A head's life out of bounds.
    #[error("`{}`: `head_life` takes {} to {}", path.display(), Span::new(HEAD_LIFE_MIN), Span::new(HEAD_LIFE_MAX))]
    HeadLife {
        /// The file.
        path: PathBuf,
    },
    /// A life out of bounds.
    #[error("`{}`: `certificate_life` takes {} to {}", path.display(), Span::new(CERTIFICATE_LIFE_MIN), Span::new(CERTIFICATE_LIFE_MAX))]
    Life {
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// The settings in the coordinator's directory.
    ///
    /// # Errors
    ///
    /// When there are none, or one of them makes no sense.
    pub fn load(paths: &Paths) -> Result<Self, SettingsError> {
        let path = paths.config();
        let config: Self = match config::load(&path) {
            Ok(config) => config,
            Err(ConfigError::Read { source }) if source.is_not_found() => {
                return Err(SettingsError::Missing { dir: paths.dir().to_owned() });
            }
            Err(error) => return Err(error.into()),
        };
        if !(1..=ADDRESSES_MAX).contains(&config.addresses.len()) {
            return Err(SettingsError::Addresses { path });
        }
        config.addresses.iter().try_for_each(|address| check_address(address))?;
        let life = config.certificate_life.millis();
        if life < CERTIFICATE_LIFE_MIN.max(BACKDATE) || CERTIFICATE_LIFE_MAX < life {
            return Err(SettingsError::Life { path });
        }
        if !(HEAD_LIFE_MIN..=HEAD_LIFE_MAX).contains(&config.head_life.millis()) {
            return Err(SettingsError::HeadLife { path });
        }
        Ok(config)
    }

    /// The settings as the text of a file, with what each is for.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write!(
            text,
            "# The UDP address where agents and operators connect.\n\
             listen = \"{}\"\n\
             # What agents and operators are told to connect to, tried in order.\n\
             addresses = [{}]\n\
             # /metrics, /healthz and /readyz over plain HTTP.\n\
             http = \"{}\"\n\
             # How long an agent's certificate is good; agents renew it in time by themselves.\n\
             certificate_life = \"{}\"\n\
             # How long agents begin new work on the coordinator's last word on what is the newest.\n\
             head_life = \"{}\"\n",
            self.listen,
            self.addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", "),
            self.http,
            self.certificate_life,
            self.head_life,
        );
        text
    }
}

/// Checks that a text is `host:port`.
///
/// # Errors
///
/// When it is not.
pub fn check_address(address: &str) -> Result<(), SettingsError> {
    const HOST_CHARS_MAX: usize = 253;
    let refuse = || SettingsError::Address { address: sloth_core::excerpt(address) };
    let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match bare {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    let port = port.parse::<u16>().is_ok_and(|port| port != 0);
    if fits && port && host.len() <= HOST_CHARS_MAX { Ok(()) } else { Err(refuse()) }
}

fn listen_default() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7461))
}

fn http_default() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7462))
}

const fn head_life_default() -> Span {
    Span::new(HEAD_LIFE)
}

fn certificate_life_default() -> Span {
    Span::from_secs(CERTIFICATE_LIFE_SECS)
}

#[cfg(test)]
mod tests {
    use sloth_core::{
        Chain,
        fs::{Access, replace},
    };

    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path().to_owned());
        replace(&paths.config(), text.as_bytes(), Access::Owner).expect("written");
        Config::load(&paths).map_err(|error| Chain(&error).to_string())
    }

    #[test]
    fn what_init_writes_is_read() {
        let config = load("addresses = ['coord.example.org:7461']").expect("valid");
        assert_eq!((config.listen.to_string(), config.http.to_string()), (LISTEN_DEFAULT.into(), HTTP_DEFAULT.into()));
        assert_eq!(load(&config.to_text()), Ok(config));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "missing field `addresses`"),
            ("addresses = []", "needs 1 to 8 `addresses`"),
            ("addresses = ['coord']", "`coord` is not an address: write `host:port`"),
            ("addresses = ['coord:0']", "is not an address"),
            ("addresses = ['[::1:7461']", "is not an address"),
            ("addresses = ['a:1']\nlistn = 'x'", "line 2: unknown field `listn`"),
            ("addresses = ['a:1']\nlisten = 'x'", "line 2: "),
            ("addresses = ['a:1']\ncertificate_life = '1s'", "`certificate_life` takes 10m to "),
        ] {
            let error = load(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let missing = Config::load(&Paths::new("/nonexistent".into())).expect_err("missing").to_string();
        assert!(missing.contains("make one with `sloth-coord init --dir /nonexistent`"), "{missing}");
        assert!(check_address("[::1]:7461").is_ok());
    }
}
