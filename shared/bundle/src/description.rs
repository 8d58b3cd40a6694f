//! `bundle.toml`: what its author says about a bundle.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sloth_core::{
    Selector,
    config::{self, CONFIG_BYTES_MAX, ConfigError, Span, Spanned},
    fs::{Action, FsError, read_capped},
};
use sloth_trust::{BundleName, Trigger};

use crate::{InvalidPath, RelPath, manifest::check_version};

/// The file's name, at the top of the bundle's directory.
pub const DESCRIPTION_FILE: &str = "bundle.toml";
/// The ending of workflow files.
pub const WORKFLOW_SUFFIX: &str = ".sloth";
/// How long a bundle is good for new work where it does not say.
pub const EXPIRES_DEFAULT_SECS: u64 = 90 * 24 * 60 * 60;

/// What `bundle.toml` says, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The bundle's name.
    pub name: BundleName,
    /// What people call this release.
    pub version: String,
    /// The workflow file that a run begins with.
    pub workflow: RelPath,
    /// Which hosts may run it.
    pub audience: Selector,
    /// What its workflows may use. What the texts mean is for the workflow language to say.
    pub capabilities: Vec<String>,
    /// The line of each of [`Self::capabilities`] in the file.
    pub capability_lines: Vec<usize>,
    /// What may start it.
    pub triggers: Vec<Trigger>,
    /// How long it is good for new work, from when it is signed.
    pub expires: Span,
}

/// Why a bundle's description was refused.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// It cannot be read.
    #[error("cannot read the bundle's description")]
    Config {
        /// What is wrong; it names the file and line.
        #[from]
        source: ConfigError,
    },
    /// What people call the release.
    #[error("`{}` is refused", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: crate::ManifestError,
    },
    /// The workflow's path.
    #[error("`{}` names a workflow that cannot be in the bundle", path.display())]
    WorkflowPath {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidPath,
    },
    /// The directory cannot be listed.
    #[error("cannot look for the bundle's workflow")]
    Fs {
        /// What the system said.
        #[from]
        source: FsError,
    },
    /// There is none.
    #[error("`{}` has no workflow: add a file that ends in `{WORKFLOW_SUFFIX}`, or name one with `workflow = …`", dir.display())]
    NoWorkflow {
        /// The bundle's directory.
        dir: PathBuf,
    },
    /// There are several.
    #[error("`{}` has several workflows ({}): name the one to begin with, as `workflow = \"{}\"` in its bundle.toml", dir.display(), names.join(", "), names.first().map_or("", String::as_str))]
    SeveralWorkflows {
        /// The bundle's directory.
        dir: PathBuf,
        /// The files at its top.
        names: Vec<String>,
    },
}

impl Description {
    /// Reads the description of the bundle in the directory `dir`.
    ///
    /// # Errors
    ///
    /// When the file is missing or wrong, or no single workflow can be told.
    pub fn load(dir: &Path) -> Result<Self, DescriptionError> {
        let path = dir.join(DESCRIPTION_FILE);
        let bytes = read_capped(&path, CONFIG_BYTES_MAX).map_err(|source| ConfigError::Read { source })?;
        let table: Table = config::parse(&path, &bytes)?;
        check_version(&table.version).map_err(|source| DescriptionError::Version { path: path.clone(), source })?;
        let workflow = match table.workflow {
            Some(workflow) => workflow,
            None => only_workflow(dir)?,
        };
        let workflow = workflow.parse().map_err(|source| DescriptionError::WorkflowPath { path, source })?;
        Ok(Self {
            name: table.name,
            version: table.version,
            workflow,
            audience: table.audience,
            capability_lines: table.capabilities.iter().map(|text| config::line(&bytes, text.span().start)).collect(),
            capabilities: table.capabilities.into_iter().map(Spanned::into_inner).collect(),
            triggers: table.triggers,
            expires: table.expires,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: BundleName,
    version: String,
    workflow: Option<String>,
    #[serde(default = "Selector::everything")]
    audience: Selector,
    #[serde(default)]
    capabilities: Vec<Spanned<String>>,
    #[serde(default = "every_trigger")]
    triggers: Vec<Trigger>,
    #[serde(default = "expires_default")]
    expires: Span,
}

fn every_trigger() -> Vec<Trigger> {
    vec![Trigger::Manual, Trigger::Schedule, Trigger::Hook, Trigger::Rollout]
}

fn expires_default() -> Span {
    Span::from_secs(EXPIRES_DEFAULT_SECS)
}

fn only_workflow(dir: &Path) -> Result<String, DescriptionError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(FsError::of(Action::Read, dir))? {
        let name = entry.map_err(FsError::of(Action::Read, dir))?.file_name();
        names.extend(name.to_str().filter(|name| name.ends_with(WORKFLOW_SUFFIX)).map(str::to_owned));
    }
    names.sort();
    match names.len() {
        0 => Err(DescriptionError::NoWorkflow { dir: dir.to_owned() }),
        1 => Ok(names.swap_remove(0)),
        _ => Err(DescriptionError::SeveralWorkflows { dir: dir.to_owned(), names }),
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::{
        Chain,
        fs::{Access, replace},
    };

    use super::*;

    fn load(text: &str, workflows: &[&str]) -> Result<Description, String> {
        let dir = tempfile::tempdir().expect("a directory");
        replace(&dir.path().join(DESCRIPTION_FILE), text.as_bytes(), Access::Owner).expect("written");
        for name in workflows {
            replace(&dir.path().join(name), b"", Access::Owner).expect("written");
        }
        Description::load(dir.path()).map_err(|error| Chain(&error).to_string())
    }

    #[test]
    fn defaults_are_filled_in() {
        let described = load("name = 'web'\nversion = '1'", &["site.sloth", "lib.lua"]).expect("valid");
        assert_eq!((described.name.as_str(), described.workflow.as_str()), ("web", "site.sloth"));
        assert!(described.audience == Selector::everything() && described.capabilities.is_empty());
        assert_eq!(described.expires, "90d".parse().expect("a span"));

        let text = "name = 'web'\nversion = '1'\nworkflow = 'b.sloth'\naudience = 'role=web'\n\
            capabilities = [\n'exec',\n'net']\ntriggers = ['manual']\nexpires = '7d'";
        let described = load(text, &["a.sloth", "b.sloth"]).expect("valid");
        assert_eq!(described.capabilities, ["exec", "net"]);
        assert_eq!(described.capability_lines, [6, 7]);
        assert_eq!((described.workflow.as_str(), described.triggers), ("b.sloth", vec![Trigger::Manual]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = "name = 'web'\nversion = '1'\n";
        for (text, workflows, expected) in [
            ("version = '1'", &["a.sloth"][..], "missing field `name`"),
            ("name = 'Web'\nversion = '1'", &["a.sloth"], "line 1: `Web` is not a bundle's name"),
            ("name = 'web'\nversion = ''", &["a.sloth"], "version takes 1 to 64"),
            ("name = 'web'\nversion = '1'\nnmae = 2", &["a.sloth"], "line 3: unknown field `nmae`"),
            ("name = 'web'\nversion = '1'\nexpires = 30", &["a.sloth"], "line 3: invalid type: integer `30`"),
            ("name = 'web'\nversion = '1'\naudience = 'a b'", &["a.sloth"], "cannot read the selector `a b`"),
            ("name = 'web'\nversion = '1'\nworkflow = '../x'", &[], "a part `..`"),
            (good, &[], "has no workflow"),
            (good, &["b.sloth", "a.sloth"], "several workflows (a.sloth, b.sloth): name the one to begin with"),
        ] {
            let error = load(text, workflows).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
