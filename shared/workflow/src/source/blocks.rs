//! Which block of a text lacks its `end`: the compiler tells only where it noticed.

use super::{Token, tokens};

/// What opens a block, besides `if` where it is a statement.
const OPENERS: [&str; 3] = ["function", "do", "repeat"];
/// What an `if` stands behind that is an expression and has no `end`.
const OPERATORS: [&str; 21] = [
    "=", "(", ",", "{", "[", "return", "and", "or", "not", "..", "+", "-", "*", "/", "%", "<", ">", "else", "then",
    ";", "?",
];

/// A block that is open.
struct Block<'a> {
    word: &'a str,
    line: usize,
    /// How far its line is set in, in bytes.
    indent: usize,
}

/// What to say of a text in which an `end` is missing; `None` where every block has its own.
pub(crate) fn unclosed(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent_of = |line: usize| lines.get(line - 1).map_or(0, |line| line.len() - line.trim_start().len());
    let mut open: Vec<Block<'_>> = Vec::new();
    // The first block whose `end` is set in otherwise: that `end` was meant for another.
    let mut suspect: Option<String> = None;
    let all = tokens(text);
    let (mut line, mut seen) = (1, 0);
    for (at, token) in all.iter().enumerate() {
        line += text.get(seen..token.start).unwrap_or_default().matches('\n').count();
        seen = token.start;
        if opens(&all, at) {
            open.push(Block { word: token.text, line, indent: indent_of(line) });
        } else if matches!(token.text, "end" | "until") {
            let closed = open.pop()?;
            let begins_line = lines.get(line - 1).is_some_and(|line| line.trim_start().starts_with(token.text));
            if suspect.is_none() && begins_line && closed.line != line && indent_of(line) != closed.indent {
                suspect = Some(told(&closed));
            }
        }
    }
    let first = open.last()?;
    Some(suspect.unwrap_or_else(|| told(first)))
}

fn told(block: &Block<'_>) -> String {
    let close = if block.word == "repeat" { "until" } else { "end" };
    format!("the `{}` of line {} seems to lack its `{close}`", block.word, block.line)
}

fn opens(all: &[Token<'_>], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| all.get(at)).map_or("", |token| token.text);
    let is_field = matches!(before, "." | ":");
    match all[at].text {
        // After `then` and `else` a statement may begin as well; on a line of its own it does.
        "if" => !is_field && !OPERATORS.contains(&before) || matches!(before, "then" | "else" | ";"),
        word => !is_field && OPENERS.contains(&word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_without_an_end_is_named() {
        for (text, expected) in [
            ("f(function()\n  if x then\n    return true\nend)\n", Some("the `if` of line 2 seems to lack its `end`")),
            ("f(function()\n  return true\n", Some("the `function` of line 1 seems to lack its `end`")),
            ("for i = 1, 2 do\n  while x do\n    y()\n  end\n", Some("the `do` of line 1 seems to lack its `end`")),
            ("repeat\n  x()\n", Some("the `repeat` of line 1 seems to lack its `until`")),
            ("local s = 'function' -- if\nlocal x = if a then b else c\n", None),
            ("if a then if b then c() end end", None),
            ("if a then b() else if c then d() end end", None),
            ("end", None),
        ] {
            assert_eq!(unclosed(text).as_deref(), expected, "{text}");
        }
    }
}
