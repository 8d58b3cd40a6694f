//! What a Jinja template may hold, looked at token by token before anything is made of it.
//!
//! The engine walks its trees, and frees them, by calling itself, a level of the native stack for each of the tree. It
//! bounds brackets and blocks, and neither chains such as `a.b.c` or `a ~ b`, nor `elif`, nor what is kept in a variable
//! to be put in a list and kept again. Here these are bounded so that [`STACK_BYTES`] are enough for whatever passes.
#![expect(clippy::wildcard_enum_match_arm, reason = "the tokens and the kinds of values are the engine's")]

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use minijinja::{
    Environment, Error, ErrorKind, Value,
    machinery::{Span, Token, tokenize},
    syntax::SyntaxConfig,
    value::ValueKind,
};

/// Stack of the thread that renders: [`CHAIN_TOKENS_MAX`] levels of a tree take 4 MiB where the compiler optimizes
/// least; as many levels of values as there can be, a level in each of [`KEPT_TOKENS_MAX`] statements of
/// [`RECURSION_MAX`] templates and macros that call each other, take 80 MiB where it optimizes. What is not used costs
/// nothing.
pub(super) const STACK_BYTES: usize = 128 * 1024 * 1024;
/// How deep templates, macros and loops may call each other; a macro counts for 4 and an included template for 10.
pub(super) const RECURSION_MAX: usize = 100;
/// Most bytes of a template.
const TEMPLATE_BYTES_MAX: usize = 1024 * 1024;
/// Most names, values and operators of one expression, what lies in its open brackets included. Commas part expressions.
const CHAIN_TOKENS_MAX: usize = 1000;
/// Most `elif` of one `if`, those around it included.
const ELIFS_MAX: usize = 250;
/// Most brackets and filters of one template in statements that keep values, such as `set`.
const KEPT_TOKENS_MAX: usize = 1500;
/// How deep lists and tables may lie in each other in what a namespace keeps.
const KEPT_DEPTH_MAX: usize = 16;
/// Most values that one rendering puts in namespaces, each that lies in a list or table counted.
const KEPT_VALUES_MAX: usize = 1_000_000;
/// The filter that what a namespace is to keep passes.
const FILTER: &str = "sloth_kept";

/// The text to be rendered in the place of `text`, or why it is none that may be.
///
/// # Errors
///
/// When it is too long, or one of its expressions is.
pub(super) fn checked(text: &str, syntax: SyntaxConfig) -> Result<Cow<'_, str>, Error> {
    if TEMPLATE_BYTES_MAX < text.len() {
        return Err(refused(format!("the template is longer than the {TEMPLATE_BYTES_MAX} bytes it may have")));
    }
    let mut guard = Guard::default();
    for token in tokenize(text, false, syntax) {
        // The parser stumbles over the same place, and says it better.
        let Ok((token, span)) = token else { break };
        guard.token(&token, span).map_err(|reason| {
            let line = text[..span.start_offset as usize].matches('\n').count() + 1;
            refused(format!("line {line}: {reason}"))
        })?;
    }
    Ok(guard.insert(text))
}

/// Gives `environment` the filter that [`checked`] writes into templates.
pub(super) fn install(environment: &mut Environment<'_>) {
    let left = Arc::new(AtomicUsize::new(KEPT_VALUES_MAX));
    environment.add_filter(FILTER, move |value: Value| kept(&value, 0, &left));
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

#[derive(Default)]
struct Guard {
    /// Tokens of the expressions that are open: one number for each open bracket, and one for the tag.
    open: Vec<usize>,
    /// Their sum.
    chain: usize,
    /// `elif`s of the `if`s that are open, and their sum.
    ifs: Vec<usize>,
    elifs: usize,
    /// The word that the block begins with; none outside of blocks.
    statement: Option<Statement>,
    kept_tokens: usize,
    /// What is to be written into the text, and where.
    inserted: Vec<(usize, &'static str)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statement {
    /// The word is still to come.
    Begins,
    If,
    Set(Target),
    Other,
}

/// What a `set` gives a value to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Variable,
    /// A field of a namespace, such as `ns.found`.
    Field,
    /// A field, whose value begins.
    FieldTo,
    /// A field that a block gives a value to, through filters.
    FieldFiltered,
    /// A variable, whose value begins.
    VariableTo,
}

impl Guard {
    fn token(&mut self, token: &Token<'_>, span: Span) -> Result<(), String> {
        match token {
            Token::TemplateData(_) | Token::VariableEnd => self.statement = None,
            Token::VariableStart | Token::BlockStart => {
                (self.open, self.chain) = (vec![0], 0);
                self.statement = matches!(token, Token::BlockStart).then_some(Statement::Begins);
            }
            Token::BlockEnd => self.block_end(span),
            Token::Comma => self.part(),
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                self.more()?;
                self.keep()?;
                self.open.push(0);
            }
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                self.chain -= self.open.pop().unwrap_or_default();
            }
            Token::Ident(word) if self.statement == Some(Statement::Begins) => self.begin(word)?,
            other => {
                self.target(other, span);
                self.more()?;
                if matches!(other, Token::Pipe) {
                    self.keep()?;
                }
            }
        }
        Ok(())
    }

    fn more(&mut self) -> Result<(), String> {
        if let Some(open) = self.open.last_mut() {
            *open += 1;
            self.chain += 1;
        }
        if CHAIN_TOKENS_MAX < self.chain {
            return Err(format!("an expression has more than {CHAIN_TOKENS_MAX} parts: `set` some of it before"));
        }
        Ok(())
    }

    fn part(&mut self) {
        if let Some(open) = self.open.last_mut() {
            self.chain -= std::mem::take(open);
        }
    }

    fn keep(&mut self) -> Result<(), String> {
        self.kept_tokens += usize::from(matches!(self.statement, Some(Statement::Set(_) | Statement::Other)));
        if KEPT_TOKENS_MAX < self.kept_tokens {
            return Err(format!("the template's statements have more than {KEPT_TOKENS_MAX} brackets and filters"));
        }
        Ok(())
    }

    fn begin(&mut self, word: &str) -> Result<(), String> {
        self.statement = Some(match word {
            "if" => {
                self.ifs.push(0);
                Statement::If
            }
            "elif" => {
                self.elifs += 1;
                if let Some(elifs) = self.ifs.last_mut() {
                    *elifs += 1;
                }
                Statement::If
            }
            "endif" => {
                self.elifs -= self.ifs.pop().unwrap_or_default().min(self.elifs);
                Statement::Other
            }
            "set" => Statement::Set(Target::Variable),
            _ => Statement::Other,
        });
        if ELIFS_MAX < self.elifs {
            return Err(format!("an `if` has more than {ELIFS_MAX} `elif`"));
        }
        Ok(())
    }

    /// Follows a `set` up to where its value begins.
    fn target(&mut self, token: &Token<'_>, span: Span) {
        let Some(Statement::Set(target)) = &mut self.statement else { return };
        *target = match (*target, token) {
            (Target::Variable, Token::Dot) => Target::Field,
            (Target::Variable, Token::Assign) => Target::VariableTo,
            (Target::Field, Token::Assign) => {
                self.inserted.push((span.end_offset as usize, "("));
                Target::FieldTo
            }
            (Target::Field, Token::Pipe) => Target::FieldFiltered,
            (target, _) => target,
        };
    }

    fn block_end(&mut self, span: Span) {
        let end = span.start_offset as usize;
        match self.statement.take() {
            Some(Statement::Set(Target::FieldTo)) => self.inserted.push((end, ")|sloth_kept")),
            Some(Statement::Set(Target::FieldFiltered)) => self.inserted.push((end, "|sloth_kept")),
            Some(
                Statement::Set(Target::Variable | Target::VariableTo | Target::Field)
                | Statement::Begins
                | Statement::If
                | Statement::Other,
            )
            | None => {}
        }
    }

    fn insert(self, text: &str) -> Cow<'_, str> {
        if self.inserted.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut whole = String::with_capacity(text.len() + self.inserted.len() * FILTER.len());
        let mut done = 0;
        for (at, inserted) in self.inserted {
            whole.push_str(&text[done..at]);
            whole.push_str(inserted);
            done = at;
        }
        whole.push_str(&text[done..]);
        Cow::Owned(whole)
    }
}

/// What a namespace keeps: plain values, so that nothing lies in itself or deeper than each `set` put it.
fn kept(value: &Value, depth: usize, left: &AtomicUsize) -> Result<Value, Error> {
    let spent = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if spent.is_err() {
        return Err(refused(format!("namespaces are given more than {KEPT_VALUES_MAX} values")));
    }
    if KEPT_DEPTH_MAX < depth {
        return Err(refused(format!("a namespace keeps lists and tables at most {KEPT_DEPTH_MAX} deep")));
    }
    match value.kind() {
        ValueKind::Undefined
        | ValueKind::None
        | ValueKind::Bool
        | ValueKind::Number
        | ValueKind::String
        | ValueKind::Bytes => Ok(value.clone()),
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.map(|item| kept(&item, depth + 1, left)).collect::<Result<Value, Error>>()
        }
        ValueKind::Map if !is_namespace(value) => {
            let pairs = value.try_iter()?.map(|key| {
                let field = kept(&value.get_item(&key)?, depth + 1, left)?;
                Ok((kept(&key, depth + 1, left)?, field))
            });
            Ok(Value::from_pairs(pairs.collect::<Result<Vec<_>, Error>>()?))
        }
        _ => Err(refused("a namespace keeps texts, numbers, lists and tables".to_owned())),
    }
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().contains("Namespace"))
}
