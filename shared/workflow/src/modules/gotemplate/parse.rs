//! Actions as a tree.

use std::{collections::BTreeMap, iter::Peekable, slice::Iter, vec::IntoIter};

use serde_json::Value;

use super::{
    TemplateError, functions,
    lex::{self, Part, Token},
};

/// How deep blocks and parentheses may lie in each other.
const DEPTH_MAX: usize = 64;
/// The name of the template that is the file itself.
pub(super) const MAIN: &str = "";

/// The templates of a file, by name.
pub(super) type Templates = BTreeMap<String, Vec<Node>>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text(String),
    Output(Pipeline),
    If { condition: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Range { list: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Template { name: String, argument: Option<Pipeline> },
    Break,
    Continue,
}

/// Commands, each of which gets what the one before gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    /// Whether the variables are there already.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Function(String),
    Literal(Value),
    /// What `.` is, or a field of a field of it.
    Dot(Vec<String>),
    Variable(String, Vec<String>),
    Group(Box<Pipeline>, Vec<String>),
}

pub(super) fn parse(text: &str) -> Result<Templates, TemplateError> {
    let mut parser = Parser { parts: lex::parts(text)?.into_iter(), line: 1, depth: 0, templates: BTreeMap::new() };
    let (main, end) = parser.body(&[])?;
    if let Some(end) = end {
        return Err(parser.wrong(format!("`{}` closes nothing", end.word)));
    }
    parser.templates.insert(MAIN.to_owned(), main);
    Ok(parser.templates)
}

struct Parser {
    parts: IntoIter<Part>,
    line: usize,
    depth: usize,
    templates: Templates,
}

/// What ended a body: `end`, or `else` with what follows it.
struct End {
    word: String,
    rest: Vec<Token>,
}

type Tokens<'a> = Peekable<Iter<'a, Token>>;

impl Parser {
    fn wrong(&self, message: impl Into<String>) -> TemplateError {
        TemplateError { line: self.line, message: message.into() }
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(self.wrong(format!("blocks lie more than {DEPTH_MAX} deep in each other")));
        }
        Ok(())
    }

    /// The nodes up to one of the words in `ends`, or to the end of the file where none is given.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Node>, Option<End>), TemplateError> {
        self.deeper()?;
        let (mut nodes, opened) = (Vec::new(), self.line);
        while let Some(part) = self.parts.next() {
            let tokens = match part {
                Part::Text(text) => {
                    nodes.push(Node { line: self.line, kind: Kind::Text(text) });
                    continue;
                }
                Part::Action { line, tokens } => {
                    self.line = line;
                    tokens
                }
            };
            let (word, rest) = match tokens.split_first() {
                Some((Token::Word(word), rest)) => (word.as_str(), rest),
                Some(_) | None => ("", &tokens[..]),
            };
            if matches!(word, "end" | "else") {
                self.depth -= 1;
                if !ends.is_empty() && !ends.contains(&word) {
                    return Err(self.wrong(format!("`{word}` is not expected here")));
                }
                return Ok((nodes, Some(End { word: word.to_owned(), rest: rest.to_vec() })));
            }
            let line = self.line;
            if let Some(kind) = self.action(word, rest, &tokens)? {
                nodes.push(Node { line, kind });
            }
        }
        self.depth -= 1;
        if ends.is_empty() {
            return Ok((nodes, None));
        }
        self.line = opened;
        Err(self.wrong("a block is not closed by `{{ end }}`"))
    }

    fn action(&mut self, word: &str, rest: &[Token], tokens: &[Token]) -> Result<Option<Kind>, TemplateError> {
        Ok(Some(match word {
            "if" | "with" | "range" => self.block(word, rest)?,
            "define" => {
                let (name, _) = self.name(rest)?;
                let body = self.closed()?;
                self.templates.insert(name, body);
                return Ok(None);
            }
            "block" => {
                let (name, argument) = self.name(rest)?;
                let body = self.closed()?;
                self.templates.insert(name.clone(), body);
                Kind::Template { name, argument }
            }
            "template" => {
                let (name, argument) = self.name(rest)?;
                Kind::Template { name, argument }
            }
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            _ => Kind::Output(self.pipeline(tokens)?),
        }))
    }

    fn block(&mut self, word: &str, head: &[Token]) -> Result<Kind, TemplateError> {
        let head = self.pipeline(head)?;
        let (body, end) = self.body(&["end", "else"])?;
        let otherwise = match end {
            Some(End { word, rest }) if word == "else" => self.otherwise(&rest)?,
            Some(_) | None => Vec::new(),
        };
        Ok(match word {
            "if" => Kind::If { condition: head, body, otherwise },
            "with" => Kind::With { value: head, body, otherwise },
            _ => Kind::Range { list: head, body, otherwise },
        })
    }

    /// What follows `else`: a body, or another block as its only node.
    fn otherwise(&mut self, rest: &[Token]) -> Result<Vec<Node>, TemplateError> {
        match rest.split_first() {
            None => self.closed(),
            Some((Token::Word(word), rest)) if word == "if" || word == "with" => {
                self.deeper()?;
                let line = self.line;
                let kind = self.block(word, rest)?;
                self.depth -= 1;
                Ok(vec![Node { line, kind }])
            }
            Some(_) => Err(self.wrong("after `else` comes `if`, `with` or nothing")),
        }
    }

    fn closed(&mut self) -> Result<Vec<Node>, TemplateError> {
        self.body(&["end"]).map(|(nodes, _)| nodes)
    }

    /// A template's name, and what it is given.
    fn name(&mut self, tokens: &[Token]) -> Result<(String, Option<Pipeline>), TemplateError> {
        match tokens.split_first() {
            Some((Token::Literal(Value::String(name)), [])) => Ok((name.clone(), None)),
            Some((Token::Literal(Value::String(name)), rest)) => Ok((name.clone(), Some(self.pipeline(rest)?))),
            Some(_) | None => Err(self.wrong("the name of a template is a text in quotes")),
        }
    }

    fn pipeline(&mut self, tokens: &[Token]) -> Result<Pipeline, TemplateError> {
        let mut tokens = tokens.iter().peekable();
        let pipeline = self.commands(&mut tokens)?;
        match tokens.next() {
            None => Ok(pipeline),
            Some(_) => Err(self.wrong("`)` closes nothing")),
        }
    }

    /// Commands up to the end or to a closing parenthesis.
    fn commands(&mut self, tokens: &mut Tokens<'_>) -> Result<Pipeline, TemplateError> {
        self.deeper()?;
        let (variables, assigns) = self.declared(tokens)?;
        let (mut commands, mut command) = (Vec::new(), Vec::new());
        while let Some(token) = tokens.next_if(|token| **token != Token::Close) {
            if *token != Token::Pipe {
                let operand = self.operand(token, tokens)?;
                command.push(operand);
            } else if command.is_empty() {
                return Err(self.wrong("nothing stands before `|`"));
            } else {
                commands.push(std::mem::take(&mut command));
            }
        }
        if command.is_empty() {
            return Err(self.wrong("an action holds nothing to compute"));
        }
        commands.push(command);
        self.depth -= 1;
        Ok(Pipeline { variables, assigns, commands })
    }

    /// The variables before `:=` or `=`.
    fn declared(&self, tokens: &mut Tokens<'_>) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = tokens.clone();
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = ahead.next() {
            names.push(name.clone());
            match ahead.next() {
                Some(Token::Comma) => {}
                Some(token @ (Token::Declare | Token::Assign)) => {
                    *tokens = ahead;
                    return Ok((names, *token == Token::Assign));
                }
                Some(_) | None => return Ok((Vec::new(), false)),
            }
        }
        if names.is_empty() { Ok((names, false)) } else { Err(self.wrong("after `,` comes another variable")) }
    }

    fn operand(&mut self, token: &Token, tokens: &mut Tokens<'_>) -> Result<Operand, TemplateError> {
        Ok(match token {
            Token::Word(name) if functions::is_known(name) => Operand::Function(name.clone()),
            Token::Word(name) => {
                return Err(self.wrong(format!("there is no function `{name}`: a variable is written `.{name}`")));
            }
            Token::Literal(value) => Operand::Literal(value.clone()),
            Token::Dot => Operand::Dot(fields(tokens)),
            Token::Field { name, .. } => {
                let mut path = vec![name.clone()];
                path.extend(fields(tokens));
                Operand::Dot(path)
            }
            Token::Variable(name) => Operand::Variable(name.clone(), fields(tokens)),
            Token::Open => {
                let inside = self.commands(tokens)?;
                if tokens.next().is_none() {
                    return Err(self.wrong("`(` is not closed"));
                }
                Operand::Group(Box::new(inside), fields(tokens))
            }
            Token::Pipe | Token::Close | Token::Comma | Token::Declare | Token::Assign => {
                return Err(self.wrong("a value is expected"));
            }
        })
    }
}

/// The fields that follow without a space.
fn fields(tokens: &mut Tokens<'_>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(Token::Field { name, .. }) =
        tokens.next_if(|token| matches!(token, Token::Field { joined: true, .. }))
    {
        names.push(name.clone());
    }
    names
}
