//! The arguments of `sloth-agent run`, those of the old program among them.

use std::path::{Path, PathBuf};

use sloth_bundle::{PARAMETERS_FILE, parameters};
use sloth_cli::{Failure, Outcome, OutputArgs, values};
use sloth_workflow::{Capabilities, Capability, Selection};

use super::{DirArgs, secrets::SecretArgs};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The workflow file; its directory is the bundle. Beside `--file` it is the name of a stack
    #[arg(value_name = "FILE", required_unless_present = "file")]
    target: Option<PathBuf>,
    /// The workflow file, as the old program takes it
    #[arg(long, short = 'f', value_name = "FILE", hide = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) values: ValueArgs,
    #[command(flatten)]
    pub(super) secrets: SecretArgs,
    /// The workflow to run [default: every one of the file, in its order]
    #[arg(long)]
    pub(super) workflow: Option<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Only say what would be changed: modules look, and change nothing
    #[arg(long, visible_aliases = ["plan", "dry-run"])]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) grants: GrantArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Show what scripts log for finding faults, too
    #[arg(long)]
    pub(super) debug: bool,
    #[command(flatten)]
    pub(super) dir: DirArgs,
    #[command(flatten)]
    old: OldArgs,
}

/// The values of a run.
#[derive(Debug, clap::Args)]
pub(super) struct ValueArgs {
    /// A YAML file with values; later ones go over earlier ones
    #[arg(long = "values", short = 'v', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A value, like `replicas=3` or `web.port=80`; over all files
    #[arg(long = "set", visible_alias = "var", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Which tasks of a run are left out.
#[derive(Debug, clap::Args)]
struct SelectionArgs {
    /// Run only this task: its name, `workflow/task`, or a pattern like `web-*`; may be repeated
    #[arg(long, value_name = "TASK")]
    only: Vec<String>,
    /// Leave this task out, as if it were done; may be repeated
    #[arg(long, value_name = "TASK")]
    skip: Vec<String>,
    /// Run only this task and what waits for it; may be repeated
    #[arg(long, value_name = "TASK")]
    from: Vec<String>,
    /// Run only this task and what it waits for; may be repeated
    #[arg(long, short = 't', visible_alias = "task", value_name = "TASK")]
    to: Vec<String>,
}

/// What a run may do.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// Grant this capability, like `exec` or `fs:read`, and no other that is not named; may be repeated
    #[arg(long = "allow", value_name = "CAPABILITY")]
    pub(super) allow: Vec<String>,
    /// Grant everything but this; may be repeated
    #[arg(long = "deny", value_name = "CAPABILITY", conflicts_with = "allow")]
    pub(super) deny: Vec<String>,
}

/// What the old program takes and this one does otherwise.
#[derive(Debug, clap::Args)]
struct OldArgs {
    /// Nothing is asked, so that there is nothing to say yes to.
    #[arg(long, short = 'y', hide = true)]
    yes: bool,
    #[arg(long, short = 'd', hide = true, value_name = "HOST")]
    delegate_to: Vec<String>,
    #[arg(long, hide = true, value_name = "NAME")]
    sloth: Option<String>,
    #[arg(long, hide = true, value_name = "PROFILE")]
    ssh: Option<String>,
    #[arg(long, hide = true)]
    interactive: bool,
}

impl Arguments {
    /// The workflow file.
    pub(super) fn file(&self) -> Result<&Path, Failure> {
        self.old.check()?;
        let file = match (&self.file, &self.target) {
            (Some(file), _) | (None, Some(file)) => file,
            (None, None) => return Err(Failure::new(Outcome::Usage, "name a workflow file")),
        };
        if file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            let file = file.display();
            let sentence = format!("`{file}` is no workflow file: values are given with `--values {file}`");
            return Err(Failure::new(Outcome::Usage, sentence));
        }
        Ok(file)
    }
}

impl Arguments {
    /// The stack that the run belongs to, where one is named.
    pub(super) fn stack(&self) -> Option<String> {
        self.file.as_ref().and(self.target.as_ref()).map(|name| name.display().to_string())
    }

    /// The tasks to run.
    pub(super) fn selection(&self) -> Selection {
        let SelectionArgs { only, skip, from, to } = &self.selection;
        Selection { only: only.clone(), skip: skip.clone(), from: from.clone(), to: to.clone() }
    }
}

impl ValueArgs {
    pub(super) fn read(&self) -> Result<serde_json::Value, Failure> {
        let values = values::read(&self.files, &self.set).map_err(Outcome::Usage.because())?;
        Ok(serde_json::Value::Object(values))
    }

    /// The same, once the bundle in the directory `dir` takes them.
    pub(super) fn read_for(&self, dir: &Path) -> Result<serde_json::Value, Failure> {
        let values = values::read(&self.files, &self.set).map_err(Outcome::Usage.because())?;
        let schema = parameters(dir).map_err(Outcome::Usage.because())?;
        schema.map_or(Ok(()), |schema| schema.check(&values)).map_err(|misfits| {
            let file = dir.join(PARAMETERS_FILE);
            Failure::new(Outcome::Usage, format!("the values do not fit `{}`: {misfits}", file.display()))
        })?;
        Ok(serde_json::Value::Object(values))
    }
}

impl GrantArgs {
    /// What is granted: everything, unless something else is said.
    pub(super) fn read(&self) -> Result<Capabilities, Failure> {
        if !self.allow.is_empty() {
            return Capabilities::parse(&self.allow).map_err(Outcome::Usage.because());
        }
        let denied = self.deny.iter().map(|name| name.parse()).collect::<Result<Vec<Capability>, _>>();
        let denied = denied.map_err(Outcome::Usage.because())?;
        Ok(Capability::ALL.into_iter().filter(|capability| !denied.contains(capability)).collect())
    }
}

impl OldArgs {
    /// What cannot be meant here, with what to write instead.
    fn check(&self) -> Result<(), Failure> {
        let instead = if let Some(host) = self.delegate_to.first() {
            format!(
                "`--delegate-to`: this program runs files here. On other hosts, publish the bundle and write `sloth-coord run BUNDLE --on 'name={host}'`"
            )
        } else if let Some(name) = &self.sloth {
            format!("`--sloth {name}`: there is no store of files; write the path of the workflow file")
        } else if self.ssh.is_some() {
            "`--ssh`: this program dials no host; make that host an agent with `sloth-agent enroll`".to_owned()
        } else if self.interactive {
            "`--interactive`: nothing is asked in a run; `--check` says what it would change".to_owned()
        } else {
            return Ok(());
        };
        Err(Failure::new(Outcome::Usage, instead))
    }
}
