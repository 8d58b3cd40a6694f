//! From the text of a definition file to what it says. Strict: whatever is not of the form is an error with its line.

use super::{
    Field, Function, Module, NO_MODULES, Type,
    cursor::{Cursor, Kind, Token},
    docs::{Doc, Told, first_sentence},
};

/// A definition file that is not of the form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct DefinitionError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl DefinitionError {
    pub(super) fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: format!("{file}.d.luau"), line, message: message.into() }
    }
}

type Parsed<T> = Result<T, DefinitionError>;

/// Reads the text of the definition file called `name`, without the ending.
///
/// # Errors
///
/// When it is not of the form: the first place where it is not.
pub fn parse(name: &str, text: &str) -> Parsed<Module> {
    let mut parser = Parser { cursor: Cursor::new(text), file: name, module: empty(name) };
    parser.file()?;
    parser.check()?;
    Ok(parser.module)
}

fn empty(name: &str) -> Module {
    Module {
        name: name.to_owned(),
        summary: String::new(),
        text: String::new(),
        functions: Vec::new(),
        values: Vec::new(),
        types: Vec::new(),
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    file: &'a str,
    module: Module,
}

/// One `name: type` of a table.
struct Entry<'a> {
    doc: Doc,
    name: Token<'a>,
    /// The type, on one line.
    kind: String,
    inner: Vec<Entry<'a>>,
}

impl<'a> Parser<'a> {
    fn error<T>(&self, line: usize, message: impl Into<String>) -> Parsed<T> {
        Err(DefinitionError::new(self.file, line, message))
    }

    fn file(&mut self) -> Parsed<()> {
        let head = self.doc();
        if head.is_empty() || self.is_next_to(&head) {
            return self.error(1, "begin with a comment `--- …` on what the file describes, and an empty line");
        }
        let told = head.read(self.file)?;
        let (summary, text) = told.text.split_once("\n\n").unwrap_or((&told.text, ""));
        self.module.summary = summary.replace('\n', " ");
        self.module.text = text.trim().to_owned();
        loop {
            let doc = self.doc();
            let token = self.cursor.peek();
            if token.kind == Kind::End {
                return if doc.is_empty() { Ok(()) } else { self.error(doc.line, "this comment is about nothing") };
            }
            self.attached(&doc, token)?;
            if self.cursor.takes_word("export") || token.text == "type" {
                self.type_of(&doc)?;
            } else if self.cursor.takes_word("declare") {
                self.declaration(&doc)?;
            } else {
                return self.error(token.line, format!("expected `export type` or `declare`, got `{}`", token.text));
            }
        }
    }

    /// The lines of documentation that come next and follow one another.
    fn doc(&mut self) -> Doc {
        let mut doc = Doc::default();
        while self.cursor.peek().kind == Kind::Doc && (doc.is_empty() || self.is_next_to(&doc)) {
            let token = self.cursor.next();
            doc.push(token.line, token.text);
        }
        doc
    }

    fn is_next_to(&self, doc: &Doc) -> bool {
        self.cursor.peek().line == doc.last + 1 && self.cursor.peek().kind != Kind::End
    }

    fn attached(&self, doc: &Doc, to: Token<'_>) -> Parsed<()> {
        if doc.is_empty() || to.line == doc.last + 1 {
            return Ok(());
        }
        self.error(doc.line, "this comment is about nothing: write it directly above what it is about")
    }

    fn word(&mut self, what: &str) -> Parsed<Token<'a>> {
        let token = self.cursor.next();
        if token.kind == Kind::Word { Ok(token) } else { self.unexpected(what, token) }
    }

    fn symbol(&mut self, symbol: u8) -> Parsed<()> {
        let token = self.cursor.next();
        if token.is(symbol) { Ok(()) } else { self.unexpected(&format!("`{}`", char::from(symbol)), token) }
    }

    fn unexpected<T>(&self, what: &str, got: Token<'_>) -> Parsed<T> {
        let shown = if got.kind == Kind::End { "the end of the file".to_owned() } else { format!("`{}`", got.text) };
        self.error(got.line, format!("expected {what}, got {shown}"))
    }

    /// `type Name = …`.
    fn type_of(&mut self, doc: &Doc) -> Parsed<()> {
        if !self.cursor.takes_word("type") {
            let token = self.cursor.peek();
            return self.unexpected("`type`", token);
        }
        let name = self.word("a name")?;
        if self.cursor.peek().is(b'<') {
            self.balanced()?;
        }
        self.symbol(b'=')?;
        let (definition, entries) = self.whole_type()?;
        let fields = entries.into_iter().map(|entry| self.field("", entry)).collect::<Parsed<Vec<_>>>()?;
        let text = doc.read(self.file)?.text;
        let fields = fields.into_iter().flatten().collect();
        self.module.types.push(Type { name: name.text.to_owned(), definition, text, fields });
        Ok(())
    }

    /// `declare name: …` and `declare function name(…): …`.
    fn declaration(&mut self, doc: &Doc) -> Parsed<()> {
        if self.cursor.takes_word("function") {
            return self.declared_function(doc);
        }
        let name = self.word("a name")?;
        self.symbol(b':')?;
        let is_module = !NO_MODULES.contains(&self.file);
        if is_module && name.text != self.file {
            return self.error(name.line, format!("this file describes `{}`, not `{}`", self.file, name.text));
        }
        let prefix = if is_module { String::new() } else { format!("{}.", name.text) };
        let (definition, entries) = self.whole_type()?;
        if entries.is_empty() {
            let entry = Entry { doc: doc.clone(), name, kind: definition, inner: Vec::new() };
            return self.add("", entry);
        }
        // A table that can be called as well.
        if let Some((_, call)) = definition.rsplit_once("} & ") {
            let kind = call.strip_prefix('(').and_then(|call| call.strip_suffix(')')).unwrap_or(call).to_owned();
            let told = self.documented(doc, name.line, name.text)?;
            let at = if is_module { "" } else { name.text };
            let function = self.function(at, &kind, told);
            self.module.functions.push(function);
        }
        entries.into_iter().try_for_each(|entry| self.add(&prefix, entry))
    }

    fn declared_function(&mut self, doc: &Doc) -> Parsed<()> {
        let name = self.word("a name")?;
        if !NO_MODULES.contains(&self.file) {
            return self.error(name.line, format!("write `declare {}: {{ … }}` with all functions inside", self.file));
        }
        let start = self.cursor.peek().start;
        if self.cursor.peek().is(b'<') {
            self.balanced()?;
        }
        let arguments = self.balanced()?;
        let head = flat(&self.cursor.text[start..arguments]);
        self.symbol(b':')?;
        let (returned, _) = self.whole_type()?;
        let kind = format!("{head} -> {returned}");
        self.add("", Entry { doc: doc.clone(), name, kind, inner: Vec::new() })
    }

    /// A type on one line, and its entries where it begins with a table. It ends before the next statement.
    fn whole_type(&mut self) -> Parsed<(String, Vec<Entry<'a>>)> {
        let start = self.cursor.peek().start;
        let entries = if self.begins_table() { self.table()? } else { Vec::new() };
        let mut end = self.cursor.peek().start;
        loop {
            let token = self.cursor.peek();
            let ends = match token.kind {
                Kind::End | Kind::Doc => true,
                Kind::Word => matches!(token.text, "export" | "declare") || token.text == "type",
                Kind::Number | Kind::Text | Kind::Arrow | Kind::Dots | Kind::Symbol(_) => false,
            };
            if ends {
                let text = self.cursor.text[start..end.max(start)].trim_end();
                if text.is_empty() {
                    return self.unexpected("a type", token);
                }
                return Ok((flat(text), entries));
            }
            end = if opens(token) { self.balanced()? } else { self.cursor.next().end() };
        }
    }

    /// Whether a table with named fields comes next.
    fn begins_table(&self) -> bool {
        let after = self.cursor.ahead(1);
        let named = after.kind == Kind::Word && self.cursor.ahead(2).is(b':');
        self.cursor.peek().is(b'{') && (named || after.kind == Kind::Doc || after.is(b'}'))
    }

    /// The entries of a table, with its braces.
    fn table(&mut self) -> Parsed<Vec<Entry<'a>>> {
        self.symbol(b'{')?;
        let mut entries = Vec::new();
        loop {
            let doc = self.doc();
            let token = self.cursor.peek();
            if token.is(b'}') {
                self.cursor.next();
                return if doc.is_empty() {
                    Ok(entries)
                } else {
                    self.error(doc.line, "this comment is about nothing")
                };
            }
            self.attached(&doc, token)?;
            if token.is(b'[') {
                self.balanced()?;
                self.symbol(b':')?;
                self.entry_type()?;
            } else {
                let name = self.word("the name of a field")?;
                self.symbol(b':')?;
                let (kind, inner) = self.entry_type()?;
                entries.push(Entry { doc, name, kind, inner });
            }
            let next = self.cursor.peek();
            if !self.cursor.takes(b',') && !self.cursor.takes(b';') && !next.is(b'}') {
                return self.unexpected("`,`", next);
            }
        }
    }

    /// The type of a table's field, up to its comma.
    fn entry_type(&mut self) -> Parsed<(String, Vec<Entry<'a>>)> {
        let first = self.cursor.peek();
        let inner = if self.begins_table() { self.table()? } else { Vec::new() };
        let mut end = self.cursor.peek().start;
        loop {
            let token = self.cursor.peek();
            if token.is(b',') || token.is(b';') || token.is(b'}') {
                let text = self.cursor.text[first.start..end].trim_end();
                return if text.is_empty() { self.unexpected("a type", token) } else { Ok((flat(text), inner)) };
            }
            if matches!(token.kind, Kind::End | Kind::Doc) {
                return self.unexpected("`,`", token);
            }
            end = if opens(token) { self.balanced()? } else { self.cursor.next().end() };
        }
    }

    /// Passes over brackets and what is in them; where they end.
    fn balanced(&mut self) -> Parsed<usize> {
        let first = self.cursor.peek();
        let mut depth = 0_usize;
        loop {
            let token = self.cursor.next();
            if token.kind == Kind::End {
                return self.error(first.line, format!("`{}` is not closed", first.text));
            }
            if opens(token) {
                depth += 1;
            } else if matches!(token.kind, Kind::Symbol(b')' | b'}' | b']' | b'>')) {
                depth = depth.saturating_sub(1);
            }
            if depth == 0 {
                return Ok(token.end());
            }
        }
    }

    /// Adds a field of the module, or those of the table that it is.
    fn add(&mut self, prefix: &str, entry: Entry<'a>) -> Parsed<()> {
        let name = format!("{prefix}{}", entry.name.text);
        if is_function(&entry.kind) {
            let told = self.documented(&entry.doc, entry.name.line, &name)?;
            let function = self.function(&name, &entry.kind, told);
            self.module.functions.push(function);
            return Ok(());
        }
        if entry.inner.is_empty() || !entry.inner.iter().any(|inner| is_function(&inner.kind)) {
            let told = self.documented(&entry.doc, entry.name.line, &name)?;
            self.module.values.push(Field { name, kind: entry.kind, text: told.text });
            return Ok(());
        }
        let prefix = format!("{name}.");
        entry.inner.into_iter().try_for_each(|inner| self.add(&prefix, inner))
    }

    /// What the documentation of a field says; there must be some, but where the field is another's other name.
    fn documented(&self, doc: &Doc, line: usize, name: &str) -> Parsed<Told> {
        let mut told = doc.read(self.file)?;
        match (&told.alias_of, told.text.is_empty() || told.text.starts_with("```")) {
            (Some(of), true) => told.text = format!("The same as `{}`.", self.call(of)),
            (None, true) => return self.error(line, format!("`{name}` has no documentation: write `--- …` above it")),
            (Some(_) | None, false) => {}
        }
        Ok(told)
    }

    fn call(&self, name: &str) -> String {
        match (NO_MODULES.contains(&self.file), name) {
            (true, name) => name.to_owned(),
            (false, "") => self.file.to_owned(),
            (false, name) => format!("{}.{name}", self.file),
        }
    }

    fn function(&self, name: &str, kind: &str, told: Told) -> Function {
        let call = self.call(name);
        let signature = overloads(kind).iter().map(|way| format!("{call}{way}")).collect::<Vec<_>>().join("\n");
        let Told { text, capabilities, alias_of, deprecated, examples } = told;
        Function { name: name.to_owned(), call, signature, text, capabilities, examples, alias_of, deprecated }
    }

    /// The fields of a type, those of tables inside by their paths.
    fn field(&self, prefix: &str, entry: Entry<'a>) -> Parsed<Vec<Field>> {
        let name = format!("{prefix}{}", entry.name.text);
        let inner_prefix = format!("{name}.");
        let mut fields = vec![Field { name, kind: entry.kind, text: entry.doc.read(self.file)?.text }];
        for inner in entry.inner {
            fields.extend(self.field(&inner_prefix, inner)?);
        }
        Ok(fields)
    }

    /// What only all of it together shows.
    fn check(&mut self) -> Parsed<()> {
        if first_sentence(&self.module.summary).is_empty() {
            return self.error(1, "the first comment says nothing");
        }
        let names: Vec<String> = self.module.functions.iter().map(|function| function.name.clone()).collect();
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return self.error(1, format!("`{name}` is described twice"));
            }
        }
        for (at, name) in names.iter().enumerate() {
            let Some(of) = self.module.functions[at].alias_of.clone() else { continue };
            let Some(original) = self.module.functions.iter().find(|function| function.name == of) else {
                return self.error(1, format!("there is no `{of}` that `{name}` could be an alias of"));
            };
            // What the original needs, its other names need too.
            if self.module.functions[at].capabilities.is_empty() {
                self.module.functions[at].capabilities = original.capabilities.clone();
            }
        }
        Ok(())
    }
}

fn opens(token: Token<'_>) -> bool {
    matches!(token.kind, Kind::Symbol(b'(' | b'{' | b'[' | b'<'))
}

/// Whether a type is one of functions.
fn is_function(kind: &str) -> bool {
    let begins = kind.starts_with('(') || kind.starts_with('<');
    begins && overloads(kind).iter().all(|way| way.contains("->"))
}

/// The ways to call a function: those of `(…) & (…)`, without the brackets around them.
fn overloads(kind: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut parts = vec![String::new()];
    let mut before = ' ';
    for c in kind.chars() {
        match c {
            '(' | '{' | '[' | '<' => depth += 1,
            '>' if before == '-' => {}
            ')' | '}' | ']' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = c;
        if c == '&' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let count = parts.len();
    let bare = |part: String| {
        let part = part.trim();
        let inner = part.strip_prefix('(').and_then(|part| part.strip_suffix(')'));
        inner.filter(|_| 1 < count).unwrap_or(part).to_owned()
    };
    parts.into_iter().map(bare).collect()
}

/// A type on one line, without its comments.
fn flat(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default().trim());
    let lines = lines.filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" ");
    joined.replace(", }", " }").replace("( ", "(").replace(" )", ")")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capability;

    const CRON: &str = r#"--- Jobs of cron.
---
--- Longer text.

--- One job.
export type CronJob = {
    --- Its name.
    name: string,
    [string]: any,
}

declare cron: {
    --- Adds a job. Or not.
    ---
    --- ```lua
    --- cron.add({ name = "b" })
    --- ```
    --- @capability cron
    add: (options: { name: string, user: string? }) -> (Change, Change | string),
    --- @alias_of add
    put: (
        options: any -- whatever
    ) -> boolean,
    register: {
        --- A file. ```x``` stays.
        file: ((path: string) -> string) & ((options: { path: string }) -> string),
    },
    --- How many.
    count: number,
}
"#;

    #[test]
    fn a_module_is_read() {
        let module = parse("cron", CRON).expect("it is of the form");
        assert_eq!((module.summary.as_str(), module.text.as_str()), ("Jobs of cron.", "Longer text."));
        let [add, put, file] = &module.functions[..] else { panic!("three functions: {:?}", module.functions) };
        assert_eq!(add.signature, "cron.add(options: { name: string, user: string? }) -> (Change, Change | string)");
        assert_eq!((add.summary(), add.capabilities.as_slice()), ("Adds a job", &[Capability::Cron][..]));
        assert_eq!((add.examples[0].code.as_str(), add.examples[0].line), ("cron.add({ name = \"b\" })\n", 16));
        assert_eq!(
            (put.text.as_str(), put.capabilities.as_slice()),
            ("The same as `cron.add`.", &[Capability::Cron][..])
        );
        assert_eq!(
            file.signature,
            "cron.register.file(path: string) -> string\ncron.register.file(options: { path: string }) -> string"
        );
        assert_eq!((module.values[0].name.as_str(), module.values[0].kind.as_str()), ("count", "number"));
        assert_eq!((module.types[0].name.as_str(), module.types[0].fields[0].text.as_str()), ("CronJob", "Its name."));
    }

    #[test]
    fn what_is_not_of_the_form_is_named_with_its_line() {
        for (from, to, expected) in [
            ("    --- Adds a job. Or not.\n    ---\n", "", "cron.d.luau:17: `add` has no documentation"),
            ("@capability cron", "@capability corn", "cron.d.luau:18: there is no capability `corn`"),
            ("@alias_of add", "@alias_of ad", "there is no `ad` that `put`"),
            ("@alias_of add", "@aliasof add", "cron.d.luau:20: there is no tag `@aliasof`"),
            ("declare cron", "declare corn", "cron.d.luau:12: this file describes `cron`, not `corn`"),
            ("--- Its name.\n", "--- Its name.\n\n", "cron.d.luau:7: this comment is about nothing"),
            ("count: number,\n}", "count: number,", "cron.d.luau:30: expected"),
            ("    --- ```\n", "", "a fence in this comment is not closed"),
            ("--- Jobs of cron.", "x", "cron.d.luau:1: begin with a comment"),
            ("    count: number,", "    add: () -> (),", "`add` is described twice"),
        ] {
            let text = CRON.replacen(from, to, 1);
            let error = parse("cron", &text).expect_err(to).to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
    }
}
