//! The words of a definition file.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line of documentation, `--- …`.
    Doc,
    Word,
    Number,
    /// A quoted text.
    Text,
    Arrow,
    Dots,
    Symbol(u8),
    End,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) start: usize,
    /// Its line, from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, symbol: u8) -> bool {
        self.kind == Kind::Symbol(symbol)
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Splits a definition file; plain comments are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let (kind, length) = match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            b'-' if rest.starts_with("->") => (Kind::Arrow, 2),
            b'-' if rest.starts_with("--") => {
                let length = rest.find('\n').unwrap_or(rest.len());
                if !rest.starts_with("---") || rest.starts_with("----") {
                    at += length;
                    continue;
                }
                (Kind::Doc, length)
            }
            b'.' if rest.starts_with("...") => (Kind::Dots, 3),
            quote @ (b'"' | b'\'') => {
                (Kind::Text, rest[1..].find(char::from(quote)).map_or(rest.len(), |inner| inner + 2))
            }
            byte if byte.is_ascii_digit() => (Kind::Number, run(rest, |c| c.is_ascii_digit() || c == '.')),
            byte if is_letter(char::from(byte)) => (Kind::Word, run(rest, |c| is_letter(c) || c.is_ascii_digit())),
            byte if byte.is_ascii() => (Kind::Symbol(byte), 1),
            _ => (Kind::Symbol(0), rest.chars().next().map_or(1, char::len_utf8)),
        };
        tokens.push(Token { kind, text: &text[at..at + length], start: at, line });
        at += length;
    }
    tokens.push(Token { kind: Kind::End, text: "", start: text.len(), line });
    tokens
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Steps through tokens.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, tokens: tokens(text), at: 0 }
    }

    pub(super) fn peek(&self) -> Token<'a> {
        self.ahead(0)
    }

    /// The token after `count` others; the end, where there are fewer.
    pub(super) fn ahead(&self, count: usize) -> Token<'a> {
        self.tokens[(self.at + count).min(self.tokens.len() - 1)]
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes the next token if it is this symbol.
    pub(super) fn takes(&mut self, symbol: u8) -> bool {
        let takes = self.peek().is(symbol);
        if takes {
            self.next();
        }
        takes
    }

    /// Takes the next token if it is this word.
    pub(super) fn takes_word(&mut self, word: &str) -> bool {
        let takes = self.peek().kind == Kind::Word && self.peek().text == word;
        if takes {
            self.next();
        }
        takes
    }
}
