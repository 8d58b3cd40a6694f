//! Doc comments: their text, their tags and their examples.

use super::{DefinitionError, Example};
use crate::Capability;

/// A block of lines that begin with `---`.
#[derive(Debug, Clone, Default)]
pub(super) struct Doc {
    /// The line it begins at, from 1.
    pub(super) line: usize,
    /// The line it ends at.
    pub(super) last: usize,
    lines: Vec<String>,
}

/// What a block says.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) capabilities: Vec<Capability>,
    pub(super) alias_of: Option<String>,
    pub(super) deprecated: Option<String>,
    pub(super) examples: Vec<Example>,
}

impl Doc {
    pub(super) fn push(&mut self, line: usize, text: &str) {
        if self.lines.is_empty() {
            self.line = line;
        }
        self.last = line;
        let text = text.trim_start_matches("---");
        self.lines.push(text.strip_prefix(' ').unwrap_or(text).trim_end().to_owned());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Splits it into text, tags and examples.
    pub(super) fn read(&self, file: &str) -> Result<Told, DefinitionError> {
        let mut told = Told::default();
        let mut text: Vec<&str> = Vec::new();
        let mut fence: Option<&str> = None;
        for (at, line) in self.lines.iter().enumerate() {
            let place = self.line + at;
            if let Some(language) = line.strip_prefix("```") {
                fence = if fence.is_some() { None } else { Some(language) };
                if let Some("lua" | "lua compile") = fence {
                    let is_run = fence == Some("lua");
                    told.examples.push(Example { code: String::new(), line: place + 1, is_run });
                }
                // How tests treat it is nothing to readers.
                text.push(if line == "```lua compile" { "```lua" } else { line });
                continue;
            }
            match (fence, line.strip_prefix('@')) {
                (None, Some(tag)) => told.tag(file, place, tag)?,
                (Some("lua" | "lua compile"), _) => {
                    if let Some(example) = told.examples.last_mut() {
                        example.code.push_str(line);
                        example.code.push('\n');
                    }
                    text.push(line);
                }
                (Some(_) | None, _) => text.push(line),
            }
        }
        if fence.is_some() {
            return Err(DefinitionError::new(file, self.line, "a fence in this comment is not closed"));
        }
        told.text = text.join("\n").trim().to_owned();
        Ok(told)
    }
}

impl Told {
    fn tag(&mut self, file: &str, line: usize, tag: &str) -> Result<(), DefinitionError> {
        let wrong = |message: String| Err(DefinitionError::new(file, line, message));
        let (name, value) = tag.split_once(' ').unwrap_or((tag, ""));
        let value = value.trim();
        if value.is_empty() {
            return wrong(format!("`@{name}` is followed by nothing"));
        }
        match name {
            "capability" => {
                for capability in value.split(',').map(str::trim) {
                    match capability.parse() {
                        Ok(capability) => self.capabilities.push(capability),
                        Err(error) => return wrong(format!("{error}")),
                    }
                }
            }
            "alias_of" => self.alias_of = Some(value.to_owned()),
            "deprecated" => self.deprecated = Some(value.to_owned()),
            other => {
                return wrong(format!("there is no tag `@{other}`: known are @capability, @alias_of, @deprecated"));
            }
        }
        Ok(())
    }
}

/// The first sentence of a text, without the period; all of the first paragraph where it has none.
pub(super) fn first_sentence(text: &str) -> &str {
    let paragraph = text.split("\n\n").next().unwrap_or_default().trim();
    let end = paragraph.match_indices('.').map(|(at, _)| at).find(|at| {
        let after = paragraph[at + 1..].chars().next();
        after.is_none_or(char::is_whitespace) && !paragraph[..*at].ends_with(['.', ' '])
    });
    end.map_or(paragraph, |end| &paragraph[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_at_a_period_before_white_space() {
        for (text, expected) in [
            ("Reads a file. At most 1 MiB.", "Reads a file"),
            ("Calls `fs.read` twice.\nMore", "Calls `fs.read` twice"),
            ("No period\n\nAnother. paragraph", "No period"),
            ("", ""),
        ] {
            assert_eq!(first_sentence(text), expected);
        }
    }
}
