//! Lines of a text put in, changed and taken out. Endings of lines stay what they are.

use regex::bytes::{Captures, Regex};

use super::super::files::READ_BYTES_MAX;

/// Which line is meant, and where it goes when it is not there.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) matched: Matched,
    /// Only the first line that matches is changed.
    pub(super) first_only: bool,
    /// `$1` in the line stands for what the expression found.
    pub(super) expanded: bool,
    pub(super) place: Place,
}

/// Which lines are taken for the one that is meant.
#[derive(Debug)]
pub(super) enum Matched {
    /// Those that are it already.
    Itself,
    By(Regex),
    Holding(Vec<u8>),
}

/// Where what is not there goes.
#[derive(Debug)]
pub(super) enum Place {
    Start,
    End,
    /// After the last line that matches; at the end when none does.
    After(Regex),
    /// Before the last line that matches; at the end when none does.
    Before(Regex),
}

/// A block of lines between two others.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) begin: Vec<u8>,
    pub(super) end: Vec<u8>,
    pub(super) place: Place,
}

impl Matched {
    fn takes(&self, content: &[u8], line: &[u8]) -> bool {
        match self {
            Self::Itself => content == line,
            Self::By(regex) => regex.is_match(content),
            Self::Holding(part) => holds(content, part),
        }
    }
}

/// `text` with `line` in it: in the place of those that match, or else where it belongs.
pub(super) fn with_line(text: &[u8], line: &[u8], wanted: &Line) -> Result<Vec<u8>, String> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut changed = Vec::with_capacity(text.len() + line.len());
    let mut found = false;
    for whole in &lines {
        let (content, ending) = split(whole);
        if !(found && wanted.first_only) && wanted.matched.takes(content, line) {
            found = true;
            match &wanted.matched {
                Matched::By(regex) if wanted.expanded => {
                    if let Some(captures) = regex.captures(content) {
                        expand(&captures, line, &mut changed)?;
                    }
                }
                Matched::By(_) | Matched::Holding(_) | Matched::Itself => changed.extend_from_slice(line),
            }
            changed.extend_from_slice(ending);
        } else {
            changed.extend_from_slice(whole);
        }
        bounded(&changed)?;
    }
    // With references, a line that matches nothing has nothing to be made of.
    if found || wanted.expanded || lines.iter().any(|whole| split(whole).0 == line) {
        return Ok(changed);
    }
    let ending = ending(text);
    insert(&lines, &wanted.place, &[line, ending].concat(), ending)
}

/// `text` without the lines that match.
pub(super) fn without_line(text: &[u8], line: &[u8], matched: &Matched) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|whole| !matched.takes(split(whole).0, line)).flatten().copied().collect()
}

/// `text` with the block holding `inside`, or without the block.
pub(super) fn with_block(text: &[u8], inside: Option<&[u8]>, wanted: &Block) -> Result<Vec<u8>, String> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let is = |whole: &[u8], marker: &[u8]| split(whole).0.trim_ascii() == marker.trim_ascii();
    let begin = lines.iter().position(|whole| is(whole, &wanted.begin));
    let end =
        begin.and_then(|begin| lines[begin..].iter().position(|whole| is(whole, &wanted.end)).map(|end| begin + end));
    let newline = ending(text);
    let block = inside.map(|inside| rendered(inside, wanted, newline));
    match (begin, end) {
        (Some(_), None) => Err(format!(
            "the line `{}` begins a block that no line `{}` ends: mend the file by hand",
            String::from_utf8_lossy(&wanted.begin),
            String::from_utf8_lossy(&wanted.end)
        )),
        (Some(begin), Some(end)) => {
            let mut block = block.unwrap_or_default();
            if end + 1 == lines.len() && split(lines[end]).1.is_empty() && block.ends_with(newline) {
                block.truncate(block.len() - newline.len());
            }
            let changed = [lines[..begin].concat(), block, lines[end + 1..].concat()].concat();
            bounded(&changed).map(|()| changed)
        }
        (None, _) => match block {
            Some(block) => insert(&lines, &wanted.place, &block, newline),
            None => Ok(text.to_vec()),
        },
    }
}

/// `text` with up to `count` matches replaced.
pub(super) fn replaced(text: &[u8], regex: &Regex, replacement: &[u8], count: usize) -> Result<Vec<u8>, String> {
    let mut changed = Vec::with_capacity(text.len());
    let mut last = 0;
    for captures in regex.captures_iter(text).take(count) {
        let Some(found) = captures.get(0) else { continue };
        changed.extend_from_slice(&text[last..found.start()]);
        expand(&captures, replacement, &mut changed)?;
        last = found.end();
        bounded(&changed)?;
    }
    changed.extend_from_slice(&text[last..]);
    bounded(&changed).map(|()| changed)
}

/// The lines with `added`, which ends in a newline, among them.
fn insert(lines: &[&[u8]], place: &Place, added: &[u8], newline: &[u8]) -> Result<Vec<u8>, String> {
    let last = |regex: &Regex| lines.iter().rposition(|whole| regex.is_match(split(whole).0));
    let at = match place {
        Place::Start => 0,
        Place::End => lines.len(),
        Place::After(regex) => last(regex).map_or(lines.len(), |at| at + 1),
        Place::Before(regex) => last(regex).unwrap_or(lines.len()),
    };
    let mut changed = lines[..at].concat();
    if !changed.is_empty() && !changed.ends_with(b"\n") {
        changed.extend_from_slice(newline);
    }
    changed.extend_from_slice(added);
    changed.extend(lines[at..].concat());
    bounded(&changed).map(|()| changed)
}

/// The block with its markers, each line with the file's ending.
fn rendered(inside: &[u8], wanted: &Block, newline: &[u8]) -> Vec<u8> {
    let mut block = [&wanted.begin[..], newline].concat();
    for whole in inside.split_inclusive(|byte| *byte == b'\n') {
        block.extend_from_slice(split(whole).0);
        block.extend_from_slice(newline);
    }
    block.extend_from_slice(&wanted.end);
    block.extend_from_slice(newline);
    block
}

/// A line without its ending, and that.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    let content = if content.len() < line.len() { content.strip_suffix(b"\r").unwrap_or(content) } else { content };
    line.split_at(content.len())
}

/// How the lines of `text` end: as its first does.
fn ending(text: &[u8]) -> &'static [u8] {
    let first = text.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    if first.ends_with(b"\r\n") { b"\r\n" } else { b"\n" }
}

/// Adds `template` with its references filled in, unless that could be too large.
fn expand(captures: &Captures<'_>, template: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    let references = template.iter().filter(|byte| **byte == b'$').count();
    let longest = captures.get(0).map_or(0, |found| found.len());
    bounded_len(into.len().saturating_add(template.len()).saturating_add(references.saturating_mul(longest)))?;
    captures.expand(template, into);
    Ok(())
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

fn bounded(text: &[u8]) -> Result<(), String> {
    bounded_len(text.len())
}

fn bounded_len(len: usize) -> Result<(), String> {
    if READ_BYTES_MAX < len as u64 {
        return Err(format!("the new text would be larger than the {READ_BYTES_MAX} bytes it may have"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
