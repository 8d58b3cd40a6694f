//! The log, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The options of the log.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// How log lines look
    #[arg(long, value_enum, default_value_t, env = "SLOTH_LOG_FORMAT", global = true)]
    pub log_format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives like `info,sloth_protocol=debug`
    #[arg(long, default_value = "info", env = "SLOTH_LOG", global = true)]
    pub log_level: String,
}

/// A level that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogLevelError {
    /// A word that is no level.
    #[error(
        "there is no log level `{word}`: write `error`, `warn`, `info`, `debug`, `trace` or `off`, or `target=level`"
    )]
    NoLevel {
        /// The word.
        word: String,
    },
    /// Directives that cannot be read.
    #[error("cannot read the log level `{text}`")]
    Directives {
        /// What was given.
        text: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Starts the log.
///
/// # Errors
///
/// When the level cannot be read.
pub fn start(args: &LogArgs) -> Result<(), LogLevelError> {
    let filter = filter(&args.log_level)?;
    let registry = tracing_subscriber::registry().with(filter);
    // A second start, as in tests, keeps the first.
    let _ = match args.log_format {
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    };
    Ok(())
}

/// A word alone would be taken for a target of which everything is logged; it is a level that was written wrong.
fn filter(text: &str) -> Result<EnvFilter, LogLevelError> {
    let alone = text.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ':']) && !word.is_empty());
    if let Some(word) = alone.into_iter().find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(LogLevelError::NoLevel { word: word.to_owned() });
    }
    EnvFilter::try_new(text).map_err(|source| LogLevelError::Directives { text: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["info", "WARN", "off", "info,sloth_protocol=debug", "sloth_agent::daemon=trace", ""] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for (text, expected) in [("loud", "no log level `loud`"), ("info,lowd", "`lowd`"), ("a=b=c", "`a=b=c`")] {
            let error = filter(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
