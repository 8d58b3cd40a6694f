//! Go's `text/template`, which old files are written in: `{{ .Name }}`, `{{ range .list }}`, `{{ if eq .a "b" }}`.
//!
//! It computes on what it is given and touches nothing. Steps, depth and output are bounded.

mod exec;
mod format;
mod functions;
mod lex;
mod lists;
mod parse;

use serde_json::{Map, Value};

/// Most bytes of a template.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// How many characters of an action are looked at to tell its language.
const ACTION_CHARS_MAX: usize = 512;

/// Why a template gave no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(super) struct TemplateError {
    /// The line of the template, from 1.
    line: usize,
    message: String,
}

/// Bounds of one rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) steps: u64,
    pub(super) output_bytes: usize,
}

/// Fills `text` with `variables`.
///
/// # Errors
///
/// When it is no template, asks for what is not there, or takes more than it may.
pub(super) fn render(text: &str, variables: Map<String, Value>, bounds: Bounds) -> Result<String, TemplateError> {
    if TEXT_BYTES_MAX < text.len() {
        let message = format!("the template is longer than the {TEXT_BYTES_MAX} bytes it may have");
        return Err(TemplateError { line: 1, message });
    }
    let templates = parse::parse(text)?;
    exec::run(&templates, Value::Object(variables), bounds)
}

/// Whether `text` is written for Go: it has an action that Jinja has no such form of, and no block of Jinja's.
pub(super) fn looks_like_go(text: &str) -> bool {
    const KEYWORDS: [&str; 9] = ["if", "range", "with", "else", "end", "define", "template", "block", "break"];
    if text.contains("{%") {
        return false;
    }
    text.match_indices("{{").any(|(at, _)| {
        // The front of an action tells; of one that is never closed there may be a great deal.
        let front = text[at + 2..].char_indices().nth(ACTION_CHARS_MAX).map_or(text.len(), |(end, _)| at + 2 + end);
        let action = text[at + 2..front].trim_start_matches('-').trim_start();
        let action = action.split("}}").next().unwrap_or_default();
        let word = action.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let dotted = [" .", "(.", " $"].iter().any(|mark| action.contains(mark));
        action.starts_with(['.', '$']) || action.starts_with("/*") || KEYWORDS.contains(&word) || dotted
    })
}

#[cfg(test)]
mod tests;
