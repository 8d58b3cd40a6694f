//! From the dialect of old workflow files to Luau, keeping every line and column.
//!
//! Two things differ: a `#!` first line, and `goto` to a label at the end of a loop's body, which Luau spells
//! `continue`.

use std::{collections::BTreeSet, fmt};

/// What Luau calls it.
const CONTINUE: &[u8] = b"continue";

/// A `goto` that is no `continue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialectError {
    /// The line, from 1.
    pub line: usize,
    /// The label.
    pub label: String,
}

impl fmt::Display for DialectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: `goto {}` can lead only to a label that is the last statement of the loop it stands in; use an `if` or a function instead",
            self.line, self.label
        )
    }
}

impl std::error::Error for DialectError {}

/// Makes `text` ready for Luau.
///
/// # Errors
///
/// When a `goto` does more than to go on with its loop.
pub fn adapt(mut text: String) -> Result<String, DialectError> {
    if text.starts_with("#!") {
        text.replace_range(..2, "--");
    }
    if text.contains("goto") { rewrite_goto(text) } else { Ok(text) }
}

/// Whether `text` calls the global `name`, as far as its words tell.
#[must_use]
pub fn calls(text: &str, name: &str) -> bool {
    if !text.contains(name) {
        return false;
    }
    let tokens = tokens(text);
    tokens.iter().enumerate().any(|(at, token)| {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
        let after = tokens.get(at + 1).map_or("", |after| after.text);
        token.text == name && matches!(after, "(" | "{") && !matches!(before, "." | ":" | "function")
    })
}

/// A piece of a file's text that is no comment and no string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

/// A block that is not closed yet.
#[derive(Debug, Clone, Copy)]
enum Block {
    Loop(LoopId),
    /// `if` and `do`, and a function's body, with the loop that a `continue` in it goes on with: none leads out of a
    /// function.
    Other(Option<LoopId>),
}

/// Where a loop's body begins, which no other's does.
type LoopId = usize;

/// A `goto` or a label, from its first byte to after its last.
#[derive(Debug)]
struct Jump<'a> {
    label: &'a str,
    start: usize,
    end: usize,
    /// The loop that a `continue` here would go on with.
    of_loop: Option<LoopId>,
}

fn rewrite_goto(text: String) -> Result<String, DialectError> {
    let (jumps, labels) = scan(&tokens(&text));
    if jumps.is_empty() {
        return Ok(text);
    }
    let targets: BTreeSet<_> = labels.iter().map(|label| (label.of_loop, label.label)).collect();
    let mut bytes = text.clone().into_bytes();
    for jump in &jumps {
        if jump.of_loop.is_none() || !targets.contains(&(jump.of_loop, jump.label)) {
            let line = 1 + text[..jump.start].matches('\n').count();
            return Err(DialectError { line, label: jump.label.to_owned() });
        }
        blank(&mut bytes[jump.start..jump.end]);
    }
    for label in &labels {
        blank(&mut bytes[label.start..label.end]);
    }
    let mut written = Vec::with_capacity(bytes.len() + jumps.len() * CONTINUE.len());
    let mut copied = 0;
    for jump in &jumps {
        written.extend_from_slice(&bytes[copied..jump.start]);
        written.extend_from_slice(CONTINUE);
        // It may take more room than there was, but never a line's end.
        let line = bytes[jump.start..jump.end].iter().take_while(|byte| **byte != b'\n').count();
        copied = jump.start + line.min(CONTINUE.len());
    }
    written.extend_from_slice(&bytes[copied..]);
    Ok(String::from_utf8(written).unwrap_or(text))
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Every `goto`, and every label that ends a loop's body, in the order of the text.
fn scan<'a>(tokens: &[Token<'a>]) -> (Vec<Jump<'a>>, Vec<Jump<'a>>) {
    let (mut jumps, mut labels) = (Vec::new(), Vec::new());
    let mut blocks: Vec<Block> = Vec::new();
    // `for` and `while` have a `do` of their own.
    let mut heads = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let next = |n: usize| tokens.get(at + n).map_or("", |token| token.text);
        let of_loop = blocks.last().and_then(|block| block.of_loop());
        match token.text {
            "for" | "while" => heads += 1,
            "do" if 0 < heads => {
                heads -= 1;
                blocks.push(Block::Loop(at));
            }
            "repeat" => blocks.push(Block::Loop(at)),
            "do" | "if" => blocks.push(Block::Other(of_loop)),
            "function" => blocks.push(Block::Other(None)),
            "end" | "until" => drop(blocks.pop()),
            // `goto goto x` is left for the compiler to refuse.
            "goto" if is_name(next(1)) && next(1) != "goto" => {
                let end = tokens[at + 1].start + next(1).len();
                jumps.push(Jump { label: next(1), start: token.start, end, of_loop });
            }
            "::" if is_name(next(1)) && next(2) == "::" && matches!(next(3), "end" | "until") => {
                if let Some(Block::Loop(id)) = blocks.last() {
                    let end = tokens[at + 2].start + 2;
                    labels.push(Jump { label: next(1), start: token.start, end, of_loop: Some(*id) });
                }
            }
            _ => {}
        }
    }
    (jumps, labels)
}

impl Block {
    const fn of_loop(self) -> Option<LoopId> {
        match self {
            Self::Loop(id) => Some(id),
            Self::Other(of_loop) => of_loop,
        }
    }
}

pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names, `::` and single other characters; strings and comments are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'-' if bytes[at..].starts_with(b"--") => {
                at = long_bracket(text, at + 2).unwrap_or_else(|| line_end(text, at));
            }
            b'[' => at = long_bracket(text, at).unwrap_or(at + 1),
            quote @ (b'"' | b'\'' | b'`') => at = quoted(bytes, at, quote),
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                at = word_end(bytes, at);
                tokens.push(Token { text: &text[start..at], start });
            }
            // A number is no name, though letters may follow its digits.
            byte if byte.is_ascii_digit() => at = word_end(bytes, at),
            b':' if bytes[at..].starts_with(b"::") => {
                at += 2;
                tokens.push(Token { text: &text[start..at], start });
            }
            byte => {
                at += 1;
                if byte.is_ascii_punctuation() {
                    tokens.push(Token { text: &text[start..at], start });
                }
            }
        }
    }
    tokens
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    let word = bytes[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
    from + word.count()
}

fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |length| from + length)
}

/// Where a string that begins at `from` ends.
fn quoted(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\n' => return at,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where a text in `[[` or `[==[` that begins at `from` ends; `None` when none begins there.
fn long_bracket(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?.strip_prefix('[')?;
    let level = rest.len() - rest.trim_start_matches('=').len();
    let body = rest[level..].strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    let start = text.len() - body.len();
    Some(body.find(&close).map_or(text.len(), |length| start + length + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goto_to_the_end_of_its_loop_becomes_continue() {
        for (old, new) in [
            (
                "for i = 1, 3 do\n  if i == 2 then goto continue end\n  f(i)\n  ::continue::\nend",
                "for i = 1, 3 do\n  if i == 2 then continue      end\n  f(i)\n              \nend",
            ),
            ("while x do if y then goto n end ::n:: end", "while x do if y then continue end       end"),
            (
                "repeat if y then goto next_one end ::next_one:: -- last\nuntil x",
                "repeat if y then continue      end              -- last\nuntil x",
            ),
            (
                "for _ in f() do for _ in g() do goto a ::a:: end goto b ::b:: end",
                "for _ in f() do for _ in g() do continue       end continue       end",
            ),
            ("while x do goto\nn ::n:: end", "while x do continue\n        end"),
            ("while x do goto goto n ::n:: end", "while x do goto continue       end"),
            ("local s = 'goto x' -- goto y", "local s = 'goto x' -- goto y"),
            ("local s = [==[ goto x ]] ]==]", "local s = [==[ goto x ]] ]==]"),
        ] {
            assert_eq!(adapt(old.to_owned()).as_deref(), Ok(new), "{old}");
        }
    }

    #[test]
    fn calls_are_told_from_other_uses() {
        for (text, called) in [
            ("values({ a = 1 })", true),
            ("local v = values { a = 1 }", true),
            ("x = values.a or f(values)", false),
            ("t.values({})", false),
            ("function values() end", false),
            ("-- values({})", false),
        ] {
            assert_eq!(calls(text, "values"), called, "{text}");
        }
    }

    #[test]
    fn any_other_goto_is_refused_by_name_and_line() {
        for text in [
            "\ngoto out\n::out::",
            "\nfor _ in f() do for _ in g() do goto outer end ::outer:: end",
            "\nfor _ in f() do goto mid ::mid:: h() end",
            "\nfor _ in f() do local g = function() goto out end ::out:: end",
        ] {
            let error = adapt(text.to_owned()).expect_err(text);
            assert_eq!(error.line, 2, "{text}");
        }
    }
}
