//! A workflow file that is looked at and not run.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sloth_bundle::{Description, PARAMETERS_FILE, parameters};
use sloth_cli::{Failure, Outcome, parameters::check_own_values};
use sloth_trust::Schema;
use sloth_workflow::{Limits, LoadError, Plan, PlanError, Validation, describe, validate};

/// The endings of files that are loaded by others, and define no tasks themselves.
const LIBRARY_ENDINGS: [&str; 2] = ["lua", "luau"];

/// The ending of workflow files.
const WORKFLOW_ENDING: &str = "sloth";
/// What describes a bundle, in its directory.
const DESCRIPTION_FILE: &str = "bundle.toml";
/// Most entries of a directory that is searched for a workflow file.
const ENTRIES_MAX: usize = 10_000;

/// A workflow file of a bundle.
pub(super) struct WorkflowFile {
    pub(super) bundle_dir: PathBuf,
    /// Its path in the bundle.
    pub(super) file: PathBuf,
    /// How its user calls it.
    pub(super) shown: String,
    /// What `bundle.toml` grants, where the bundle was named and not the file.
    pub(super) granted: Option<Vec<String>>,
    pub(super) text: String,
}

/// How much something that was found matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that was found in a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) file: String,
    /// From 1, where it is known.
    pub(super) line: Option<usize>,
    /// From 1, in characters, where it is known.
    pub(super) column: Option<usize>,
    pub(super) message: String,
}

/// What a file says when it is read for its plan.
pub(super) struct Look {
    pub(super) plans: Vec<Plan>,
    pub(super) findings: Vec<Finding>,
    /// What values a run may be given, where the bundle says so.
    pub(super) parameters: Option<Schema>,
}

impl WorkflowFile {
    /// Finds the file that a path means: itself, or the workflow of the bundle that is a directory.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        let (bundle_dir, file, granted) = if path.is_dir() && !path.join(DESCRIPTION_FILE).is_file() {
            (path.to_owned(), only_workflow(path)?, None)
        } else if path.is_dir() {
            let description = Description::load(path).map_err(Outcome::Usage.because())?;
            (path.to_owned(), PathBuf::from(description.workflow.to_string()), Some(description.capabilities))
        } else {
            let (dir, file) = split(path)?;
            (dir, file, None)
        };
        let whole = bundle_dir.join(&file);
        let shown = if path.is_dir() { whole.display() } else { path.display() }.to_string();
        let text = std::fs::read_to_string(&whole).map_err(|error| {
            Failure::new(Outcome::Usage, format!("cannot read the workflow file `{shown}`: {error}"))
        })?;
        Ok(Self { bundle_dir, file, shown, granted, text })
    }

    /// Reads it for its plan, and its text for names that no module has.
    pub(super) fn look(&self, values: &serde_json::Value) -> Look {
        let mut look = Look { plans: Vec::new(), findings: Vec::new(), parameters: None };
        let Validation { plans, errors, warnings, names } =
            validate(&self.bundle_dir, &self.file, values, &Limits::default());
        look.plans = plans;
        let told = errors.iter().filter(|error| !(matches!(error, LoadError::NoWorkflow { .. }) && self.is_library()));
        look.findings.extend(told.map(|error| self.finding(error)));
        look.findings.extend(warnings.iter().map(|message| self.warning(message)));
        for fault in describe::check_names(&self.text).into_iter().chain(names) {
            look.findings.push(Finding {
                severity: Severity::Warning,
                file: self.shown.clone(),
                line: Some(fault.line),
                column: Some(fault.column),
                message: fault.message,
            });
        }
        match parameters(&self.bundle_dir) {
            Ok(schema) => {
                look.findings.extend(schema.iter().flat_map(|schema| self.misfits(schema, values)));
                look.parameters = schema;
            }
            Err(error) => look.findings.push(self.of_parameters(&error)),
        }
        look
    }

    /// What of the given values, and of those that lie in the bundle, its schema does not take. That none are given says
    /// nothing here: nothing is run.
    fn misfits(&self, schema: &Schema, values: &serde_json::Value) -> Vec<Finding> {
        let own = check_own_values(&self.bundle_dir, schema).err().map(|error| self.of_parameters(&error));
        let given = values.as_object().filter(|values| !values.is_empty());
        let given = given.and_then(|values| schema.check(values).err()).map(|misfits| {
            let mut finding = self.of_parameters(&misfits);
            finding.message = format!("the values do not fit: {}", finding.message);
            finding
        });
        own.into_iter().chain(given).collect()
    }

    fn of_parameters(&self, error: &dyn std::error::Error) -> Finding {
        let file = self.bundle_dir.join(PARAMETERS_FILE).display().to_string();
        let message = sloth_core::Chain(error).to_string();
        Finding { severity: Severity::Error, file, line: None, column: None, message }
    }

    /// A warning of the loader, with its place where its text begins with one.
    fn warning(&self, text: &str) -> Finding {
        let of = |file, line, message: &str| Finding {
            severity: Severity::Warning,
            file,
            line,
            column: None,
            message: message.to_owned(),
        };
        match placed(text) {
            Some((file, line, message)) if self.bundle_dir.join(file).is_file() => {
                of(self.beside(file), Some(line), message)
            }
            Some(_) | None => of(self.shown.clone(), None, text),
        }
    }

    fn is_library(&self) -> bool {
        self.file.extension().is_some_and(|ending| LIBRARY_ENDINGS.iter().any(|known| ending == *known))
    }

    /// An error of the loader, with its place where its text begins with one.
    fn finding(&self, error: &LoadError) -> Finding {
        let finding = |line, column, message: &str| Finding {
            severity: Severity::Error,
            file: self.shown.clone(),
            line,
            column,
            message: message.to_owned(),
        };
        if let LoadError::Syntax { file, line, column, message, .. } = error {
            let mut finding = finding(Some(*line), Some(*column), message);
            finding.file = self.beside(file);
            return finding;
        }
        let text = sloth_core::Chain(error).to_string();
        match placed(&text) {
            Some((file, line, message)) if self.bundle_dir.join(file).is_file() => {
                let mut finding = finding(Some(line), None, message);
                finding.file = self.beside(file);
                finding
            }
            Some(_) | None => {
                let place = named_by(error).and_then(|(name, nth)| literal(&self.text, name, nth));
                finding(place.map(|(line, _)| line), place.map(|(_, column)| column), &text)
            }
        }
    }

    /// How a file of the bundle is called from where its user is.
    fn beside(&self, file: &str) -> String {
        if Path::new(file) == self.file {
            return self.shown.clone();
        }
        let dir = Path::new(&self.shown).parent().unwrap_or(Path::new(""));
        dir.join(file).display().to_string()
    }
}

/// The name in the file that an error is about, and which of its mentions is meant, from 0.
fn named_by(error: &LoadError) -> Option<(&str, usize)> {
    let error = match error {
        LoadError::NoCommand { task, .. } | LoadError::Delegate { task } => return Some((task, 0)),
        LoadError::Plan(error) => error,
        LoadError::Source(_)
        | LoadError::Syntax { .. }
        | LoadError::Script { .. }
        | LoadError::Memory { .. }
        | LoadError::Slow { .. }
        | LoadError::Cancelled { .. }
        | LoadError::NoWorkflow { .. }
        | LoadError::NoTest { .. }
        | LoadError::UnknownWorkflow { .. }
        | LoadError::UnknownTask { .. }
        | LoadError::Elsewhere { .. }
        | LoadError::Machine(_) => return None,
    };
    match error {
        PlanError::Duplicate { task, .. } => Some((task, 1)),
        PlanError::Unknown { unknown, .. } => Some((unknown, 0)),
        PlanError::Never { task, .. } => Some((task, 0)),
        PlanError::Cycle { cycle, .. } => Some((cycle.first()?, 0)),
        PlanError::NoneAtATime { workflow } | PlanError::TooMany { workflow, .. } => Some((workflow, 0)),
        PlanError::Unnamed { .. } => None,
    }
}

/// Line and column of the `nth` text of this content in a file, or of its first.
fn literal(text: &str, content: &str, nth: usize) -> Option<(usize, usize)> {
    let mut places = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for quote in ['"', '\''] {
            let literal = format!("{quote}{content}{quote}");
            let found = line.match_indices(&literal).map(|(at, _)| (number + 1, line[..at].chars().count() + 1));
            places.extend(found);
        }
    }
    places.sort_unstable();
    places.get(nth).or(places.first()).copied()
}

impl Finding {
    /// The finding in one line, and the line of the file with a caret below it where its place is known.
    pub(super) fn text(&self, source: &str) -> String {
        let place = [self.line, self.column].into_iter().flatten().map(|number| format!(":{number}"));
        let head = format!("{}{}: {}: {}", self.file, place.collect::<String>(), self.severity.as_str(), self.message);
        let line = self.line.and_then(|line| Some((line, source.lines().nth(line - 1)?)));
        let Some((number, text)) = line else { return head };
        let margin = " ".repeat(number.to_string().len());
        let caret = self.column.map_or(String::new(), |column| {
            let pad: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            format!("\n{margin} | {pad}^")
        });
        format!("{head}\n{number} | {text}{caret}")
    }
}

/// The workflow file of a directory that describes no bundle.
fn only_workflow(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Outcome::Usage, format!("cannot look for a workflow file in `{}`: {error}", dir.display()))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)?.take(ENTRIES_MAX) {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        let is_test = name.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_test"));
        if name.extension().is_some_and(|ending| ending == WORKFLOW_ENDING) && !is_test {
            names.push(name);
        }
    }
    names.sort();
    let shown = dir.display();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => Err(Failure::new(
            Outcome::Usage,
            format!("`{shown}` is a directory without a workflow file (`*.{WORKFLOW_ENDING}`): name a workflow file"),
        )),
        _ => {
            let known: Vec<String> = names.iter().map(|name| format!("`{}`", dir.join(name).display())).collect();
            let known = known.join(", ");
            Err(Failure::new(Outcome::Usage, format!("`{shown}` has several workflow files, name one: {known}")))
        }
    }
}

/// The directory that holds the file, and the file's name in it. A directory means its workflow file.
pub(super) fn split(path: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    if path.is_dir() {
        let found = WorkflowFile::find(path)?;
        return Ok((found.bundle_dir, found.file));
    }
    let missing = |error: std::io::Error| {
        Failure::new(Outcome::Usage, format!("cannot read the workflow file `{}`: {error}", path.display()))
    };
    let whole = path.canonicalize().map_err(missing)?;
    match (whole.parent(), whole.file_name()) {
        (Some(dir), Some(name)) if whole.is_file() => Ok((dir.to_owned(), PathBuf::from(name))),
        (Some(_) | None, _) => {
            Err(Failure::new(Outcome::Usage, format!("`{}` is no file: name a workflow file", path.display())))
        }
    }
}

/// The file, the line and the rest of a text like `site.sloth:3: …`.
fn placed(text: &str) -> Option<(&str, usize, &str)> {
    let (file, rest) = text.split_once(':')?;
    let (line, message) = rest.split_once(':')?;
    Some((file, line.parse().ok()?, message.trim_start()))
}
