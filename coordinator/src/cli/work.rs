//! Which work of a bundle is meant: options of what starts one.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};
use sloth_cli::{Failure, Outcome, values};
use sloth_protocol::wire::VALUES_BYTES_MAX;

#[derive(Debug, Args)]
pub(super) struct WorkArgs {
    /// The release that is meant to be the newest
    #[arg(long)]
    pub(super) release: Option<String>,
    /// One workflow of the bundle instead of all
    #[arg(long)]
    pub(super) workflow: Option<String>,
    /// A YAML file of values; of several, the later one counts
    #[arg(long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// One value, as KEY=VALUE or OUTER.INNER=VALUE; counts over all files
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl WorkArgs {
    /// The values that the options give, over those in `all`, as JSON.
    pub(super) fn values(&self, mut all: Map<String, Value>) -> Result<String, Failure> {
        values::merge(&mut all, values::read(&self.values, &self.set).map_err(Outcome::Usage.because())?);
        let text = Value::Object(all).to_string();
        if VALUES_BYTES_MAX < text.len() {
            let sentence = format!("the values take {VALUES_BYTES_MAX} bytes at most, these take {}", text.len());
            return Err(Failure::new(Outcome::Usage, sentence));
        }
        Ok(text)
    }
}
