//! A workflow file that is looked at and not run.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sloth_bundle::Description;
use sloth_cli::{Failure, Outcome};
use sloth_workflow::{Limits, LoadError, Plan, Validation, describe, validate};

/// The endings of files that are loaded by others, and define no tasks themselves.
const LIBRARY_ENDINGS: [&str; 2] = ["lua", "luau"];

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
}

impl WorkflowFile {
    /// Finds the file that a path means: itself, or the workflow of the bundle that is a directory.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        let (bundle_dir, file, granted) = if path.is_dir() {
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
        let mut look = Look { plans: Vec::new(), findings: Vec::new() };
        let Validation { plans, errors, warnings } = validate(&self.bundle_dir, &self.file, values, &Limits::default());
        look.plans = plans;
        let told = errors.iter().filter(|error| !(matches!(error, LoadError::NoWorkflow { .. }) && self.is_library()));
        look.findings.extend(told.map(|error| self.finding(error)));
        look.findings.extend(warnings.into_iter().map(|message| Finding {
            severity: Severity::Warning,
            file: self.shown.clone(),
            line: None,
            column: None,
            message,
        }));
        for fault in describe::check_names(&self.text) {
            look.findings.push(Finding {
                severity: Severity::Warning,
                file: self.shown.clone(),
                line: Some(fault.line),
                column: Some(fault.column),
                message: fault.message,
            });
        }
        look
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
            Some(_) | None => finding(None, None, &text),
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

/// The directory that holds the file, and the file's name in it.
pub(super) fn split(path: &Path) -> Result<(PathBuf, PathBuf), Failure> {
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
