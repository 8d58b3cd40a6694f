//! A template as texts and actions, and an action as tokens.

use serde_json::{Number, Value};

use super::TemplateError;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    Action { line: usize, tokens: Vec<Token> },
}

/// A part of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A function, a keyword, or one of `true`, `false` and `nil`.
    Word(String),
    /// `.` alone.
    Dot,
    /// `.name`; `joined` when it follows what it is a field of without a space.
    Field {
        name: String,
        joined: bool,
    },
    /// `$name`; `$` alone has an empty name.
    Variable(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// Splits `text` at its actions. The white space that `{{-` and `-}}` take is gone.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let (mut rest, mut line, mut trims) = (text, 1, false);
    loop {
        let Some(open) = rest.find("{{") else {
            let last = if trims { rest.trim_start() } else { rest };
            parts.push(Part::Text(last.to_owned()));
            return Ok(parts);
        };
        let inside = &rest[open + 2..];
        let opens_trimming = inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace);
        let before = if trims { rest[..open].trim_start() } else { &rest[..open] };
        let before = if opens_trimming { before.trim_end() } else { before };
        parts.push(Part::Text(before.to_owned()));
        line += lines(&rest[..open]);
        let start = usize::from(opens_trimming);
        let lexed = action(&inside[start..], line)?;
        let end = start + lexed.taken;
        trims = lexed.trims;
        if !lexed.tokens.is_empty() || !lexed.comment {
            parts.push(Part::Action { line, tokens: lexed.tokens });
        }
        line += lines(&inside[..end]);
        rest = &inside[end..];
    }
}

fn lines(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

struct Lexed {
    tokens: Vec<Token>,
    /// Bytes up to behind the closing braces.
    taken: usize,
    /// Whether the white space after it goes.
    trims: bool,
    comment: bool,
}

/// Reads the action at the front of `text`.
fn action(text: &str, line: usize) -> Result<Lexed, TemplateError> {
    let wrong = |message: String| TemplateError { line, message };
    let (mut tokens, mut at, mut comment, mut spaced) = (Vec::new(), 0, false, true);
    loop {
        let rest = &text[at..];
        if let Some(closed) = closing(rest) {
            return Ok(Lexed { tokens, taken: at + closed.0, trims: closed.1, comment });
        }
        let Some(first) = rest.chars().next() else {
            return Err(wrong("an action `{{` is not closed by `}}`".to_owned()));
        };
        if first.is_whitespace() {
            // All of it at once: looking at each space anew takes a time that grows with the square of their number.
            (at, spaced) = (at + rest.len() - rest.trim_start().len(), true);
            continue;
        }
        if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| wrong("a comment is not closed by `*/`".to_owned()))?;
            (at, comment) = (at + end + 2, true);
            continue;
        }
        let (token, taken) = token(rest, spaced).map_err(wrong)?;
        tokens.push(token);
        (at, spaced) = (at + taken, false);
    }
}

/// How many bytes `}}` takes here, and whether it takes white space after it.
fn closing(rest: &str) -> Option<(usize, bool)> {
    if rest.starts_with("}}") {
        return Some((2, false));
    }
    let trimmed = rest.trim_start();
    let spaced = trimmed.len() < rest.len();
    (spaced && trimmed.starts_with("-}}")).then(|| (rest.len() - trimmed.len() + 3, true))
}

fn token(rest: &str, spaced: bool) -> Result<(Token, usize), String> {
    for (text, token) in [
        (":=", Token::Declare),
        ("=", Token::Assign),
        ("|", Token::Pipe),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ] {
        if rest.starts_with(text) {
            return Ok((token, text.len()));
        }
    }
    let first = rest.chars().next().unwrap_or_default();
    match first {
        '"' | '\'' => quoted(rest),
        '`' => {
            let end = rest[1..].find('`').ok_or("a text is not closed")?;
            Ok((Token::Literal(Value::from(&rest[1..=end])), end + 2))
        }
        '$' => {
            let name = word(&rest[1..]);
            Ok((Token::Variable(name.to_owned()), 1 + name.len()))
        }
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let name = word(&rest[1..]);
            let token =
                if name.is_empty() { Token::Dot } else { Token::Field { name: name.to_owned(), joined: !spaced } };
            Ok((token, 1 + name.len()))
        }
        _ if first.is_ascii_digit() || "+-.".contains(first) => number(rest),
        _ if is_word(first) => {
            let name = word(rest);
            let token = match name {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "nil" => Token::Literal(Value::Null),
                name => Token::Word(name.to_owned()),
            };
            Ok((token, name.len()))
        }
        other => Err(format!("`{other}` is not expected in an action")),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// A text with Go's escapes; with single quotes one character, whose number it is.
fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let quote = rest.chars().next().unwrap_or_default();
    let (mut text, mut chars) = (String::new(), rest.char_indices().skip(1));
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let number = || text.chars().next().map_or(Value::Null, |c| Value::from(u32::from(c)));
            let value = if quote == '"' { Value::from(text.as_str()) } else { number() };
            return Ok((Token::Literal(value), at + 1));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let escaped = chars.next().map(|(_, c)| c);
        text.push(match escaped {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('x') => code(&mut chars, 2)?,
            Some('u') => code(&mut chars, 4)?,
            Some(c @ ('\\' | '"' | '\'')) => c,
            Some(c) => return Err(format!("`\\{c}` is no escape")),
            None => break,
        });
    }
    Err("a text is not closed".to_owned())
}

fn code(chars: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Result<char, String> {
    let text: String = chars.take(digits).map(|(_, c)| c).collect();
    let code = u32::from_str_radix(&text, 16).ok().and_then(char::from_u32);
    code.ok_or_else(|| format!("`{text}` is no number of a character"))
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let len = rest.char_indices().skip(1).find(|(_, c)| !(is_word(*c) || *c == '.')).map_or(rest.len(), |(at, _)| at);
    let text = rest[..len].replace('_', "");
    let hexadecimal = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    let whole = hexadecimal.or_else(|| text.parse::<i64>().ok()).map(Number::from);
    let number = whole.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64));
    let number = number.ok_or_else(|| format!("`{text}` is no number"))?;
    Ok((Token::Literal(Value::Number(number)), len))
}
