//! The definition files beside the code: each is well formed and valid Luau, and describes exactly what is there at run
//! time.

#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Lua, Table, Value};
use sloth_workflow::{
    Capabilities, Capability, Limits, MemoryHost, TaskName,
    describe::{self, FILES, Module},
    load,
    modules::{self, Context, Phase, Scope, ScopeId},
};

/// The page that is made from the definitions.
const PAGE: &str = "../../docs/modules.md";
/// Set to make the page anew.
const RENEW: &str = "SLOTH_RENEW";
/// How long a function without arguments may take.
const CALL_TIMEOUT: Duration = Duration::from_millis(200);

#[test]
fn every_file_is_of_the_form() {
    let errors = FILES.iter().filter_map(|(name, text)| describe::parse(name, text).err());
    none(errors.map(|error| error.to_string()));
}

/// The compiler reads types and forgets them, so it can say whether they are written right. It takes no declarations:
/// those become types, on the same lines.
#[test]
fn every_file_is_valid_luau() {
    let lua = Lua::new();
    none(FILES.iter().filter_map(|(name, text)| {
        let lines: Vec<String> = text.lines().map(as_type).collect();
        let chunk = lua.load(lines.join("\n")).set_name(format!("={name}.d.luau")).into_function();
        chunk.err().map(|error| error.to_string())
    }));
}

fn as_type(line: &str) -> String {
    let Some(declared) = line.strip_prefix("declare ") else { return line.to_owned() };
    if let Some(function) = declared.strip_prefix("function ") {
        let at = function.find(['(', '<']).expect("its arguments");
        let (head, returned) = function.rsplit_once("): ").expect("what it returns, on the same line");
        return format!("type {} = {}) -> {returned}", &function[..at], &head[at..]);
    }
    declared.replacen(':', " =", 1).replacen("", "type ", 1)
}

#[test]
fn every_type_that_is_named_is_declared_once() {
    let all: Vec<&str> = describe::all().iter().flat_map(|module| &module.types).map(|kind| &*kind.name).collect();
    let known: BTreeSet<&str> = all.iter().copied().collect();
    none(
        all.iter()
            .filter(|name| 1 < all.iter().filter(|other| other == name).count())
            .map(|name| format!("the type `{name}` is declared twice: names of types are global")),
    );
    let used = |module: &Module| {
        let functions = module.functions.iter().map(|function| function.signature.clone());
        let values = module.values.iter().map(|value| value.kind.clone());
        let types = module.types.iter().map(|kind| kind.definition.clone());
        functions.chain(values).chain(types).collect::<Vec<_>>()
    };
    none(describe::all().iter().flat_map(|module| {
        let texts = used(module);
        let missing = |text: &String| {
            let unknown = types_of(text).into_iter().filter(|name| !known.contains(name.as_str()));
            unknown.map(|name| format!("{}: there is no type `{name}`", module.name)).collect::<Vec<_>>()
        };
        texts.iter().flat_map(missing).collect::<Vec<_>>()
    }));
}

/// The names in a type that begin with a capital and name no field; a single letter is a parameter.
fn types_of(text: &str) -> Vec<String> {
    let bare: String = text.split('"').step_by(2).collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, word) in bare.split(|c| !is_part(c)).scan(0, |at, word| {
        let start = *at;
        *at += word.len() + 1;
        Some((start, word))
    }) {
        let after = bare[at + word.len()..].trim_start();
        let before = bare[..at].trim_end();
        let is_type = word.starts_with(|c: char| c.is_ascii_uppercase()) && 1 < word.len();
        if is_type && !after.starts_with(':') && !before.ends_with('.') && !after.starts_with("...") {
            found.push(word.to_owned());
        }
    }
    found
}

#[test]
fn modules_are_described_as_they_are() {
    let bench = Bench::new(Capabilities::none());
    let mut wrong = Vec::new();
    for name in modules::names() {
        let Some(module) = describe::find(name) else {
            wrong.push(format!("`{name}` has no file in modules/definitions"));
            continue;
        };
        let table = modules::find(&bench.lua, name).expect("a machine").expect("it is a module");
        let described = module.functions.iter().map(|function| (function.name.clone(), true));
        let described = described.chain(module.values.iter().map(|value| (value.name.clone(), false)));
        let mut described: BTreeMap<String, bool> = described.collect();
        // That a table can be called is said by its metatable.
        let is_called = described.remove("").is_some();
        let can_be_called = table.metatable().is_some_and(|metatable| metatable.contains_key("__call").expect("a key"));
        if is_called != can_be_called {
            wrong.push(format!("`{name}` can be called: {can_be_called}, its description says {is_called}"));
        }
        for (field, is_function) in fields(&table, "", &described) {
            match described.remove(&field) {
                Some(said) if said == is_function => {}
                Some(_) => wrong.push(format!("`{name}.{field}` is a function here and none there")),
                None => wrong.push(format!("`{name}.{field}` is not described")),
            }
        }
        wrong.extend(described.keys().map(|field| format!("`{name}.{field}` is described and not there")));
    }
    let unknown = describe::modules().filter(|module| !modules::names().any(|name| name == module.name));
    wrong.extend(unknown.map(|module| format!("`{}` is described and no module", module.name)));
    none(wrong.into_iter());
}

/// The fields of a table with whether each is a function, and those of tables inside where their fields are described.
fn fields(table: &Table, prefix: &str, described: &BTreeMap<String, bool>) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for pair in table.pairs::<String, Value>() {
        let Ok((key, value)) = pair else { continue };
        let name = format!("{prefix}{key}");
        let inner = format!("{name}.");
        let table = value.as_table();
        if let Some(table) = table.filter(|_| described.keys().any(|known| known.starts_with(&inner))) {
            found.extend(fields(table, &inner, described));
            continue;
        }
        // Some can be called although they are tables.
        let metatable = table.and_then(Table::metatable);
        let is_called = metatable.is_some_and(|metatable| metatable.contains_key("__call").expect("a key"));
        found.push((name, value.is_function() || is_called));
    }
    found
}

/// Called without arguments and without any capability, a function that asks for one before it looks at its arguments
/// names it.
#[test]
fn capabilities_are_described_as_they_are_asked_for() {
    let bench = Bench::new(Capabilities::none());
    let mut wrong = Vec::new();
    for module in describe::modules() {
        for function in module.functions.iter().filter(|function| !function.name.is_empty()) {
            let Some(asked) = bench.asks_for(&function.call) else { continue };
            if !function.capabilities.contains(&asked) {
                wrong.push(format!("`{}` asks for `{asked}`: write `--- @capability {asked}`", function.call));
            }
        }
    }
    none(wrong.into_iter());
}

#[test]
fn the_language_is_described_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = |script: &str| {
        let file = dir.path().join("main.sloth");
        sloth_core::fs::replace(&file, script.as_bytes(), sloth_core::fs::Access::Owner).expect("written");
        let loaded = load(dir.path(), Path::new("main.sloth"), &serde_json::Value::Null, &Limits::default());
        loaded.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let language = describe::find("language").expect("it is described");
    for (name, known) in describe::builders() {
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let described = language.types.iter().find(|kind| kind.name == name).expect("a type");
        let described: BTreeSet<&str> = described.fields.iter().map(|field| &*field.name).collect();
        assert_eq!(described, known, "the type `{name}` of language.d.luau, and the methods that there are");
    }
    for function in &language.functions {
        let script =
            format!("if type({0}) ~= 'function' and not getmetatable({0}).__call then error('no') end", function.call);
        let error = told(&script);
        assert!(error.contains("defines no workflow"), "`{}` is described: {error}", function.call);
    }
}

#[test]
fn the_page_of_the_modules_is_made_from_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let wanted = describe::markdown();
    if std::env::var_os(RENEW).is_some() {
        sloth_core::fs::replace(&path, wanted.as_bytes(), sloth_core::fs::Access::Everyone).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = wanted.lines().zip(found.lines()).position(|(wanted, found)| wanted != found);
    assert!(
        wanted == found,
        "docs/modules.md is not what the definitions say (line {}): {RENEW}=1 cargo test -p sloth-workflow --test definitions",
        differs.map_or(found.lines().count(), |at| at + 1)
    );
}

/// A machine with the modules of a bundle that may do nothing.
struct Bench {
    lua: Lua,
    context: Rc<Context>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(capabilities: Capabilities) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let context = Rc::new(Context {
            capabilities: Rc::new(capabilities),
            limits: Rc::new(Limits::default()),
            bundle_dir: dir.path().to_owned(),
            workdir: dir.path().to_owned(),
            run_id: "01JD5Z3V9QK7T2M4X8R6WBCY0N".to_owned(),
            search_path: "/nowhere".to_owned(),
            ..Context::new(Rc::new(MemoryHost::new()), Phase::Run)
        });
        let lua = Lua::new();
        modules::install(&lua, &context).expect("modules");
        Self { lua, context, _dir: dir }
    }

    /// The capability that a call without arguments says it lacks.
    fn asks_for(&self, call: &str) -> Option<Capability> {
        let task = TaskName { workflow: "test".to_owned(), task: "script".to_owned() };
        let dir = self.context.workdir.clone();
        let scope = Rc::new(Scope::new(ScopeId(1), Some(task), dir, Instant::now() + CALL_TIMEOUT));
        let chunk = self.lua.load(format!("{call}()")).into_function().expect("a call");
        let running = self.context.current.enter(Rc::clone(&scope), chunk.call_async::<()>(()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ended = tokio::task::LocalSet::new()
            .block_on(&runtime, async { tokio::time::timeout(CALL_TIMEOUT, running).await });
        scope.stop();
        let error = ended.ok()?.err()?.to_string();
        let (_, rest) = error.split_once("capability `")?;
        let name = rest.split_once("` is not granted")?.0;
        Some(name.parse().unwrap_or_else(|error| panic!("{call}: {error}")))
    }
}

fn none(wrong: impl Iterator<Item = String>) {
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the module's own tests and the examples of the definitions call.
#[test]
fn every_function_is_called_by_a_test() {
    let mut text = String::new();
    for dir in ["lua/modules", "tests", "tests/language", "tests/modules", "tests/engine"] {
        for entry in std::fs::read_dir(dir).expect("a directory").flatten().filter(|entry| entry.path().is_file()) {
            // What is here is what asks.
            if entry.path().file_name().is_some_and(|name| name != "definitions.rs") {
                text.push_str(&std::fs::read_to_string(entry.path()).expect("text"));
            }
        }
    }
    for function in describe::all().iter().flat_map(|module| &module.functions) {
        let run = function.examples.iter().filter(|example| example.is_run);
        run.for_each(|example| text.push_str(&example.code));
    }
    let named = |name: &str| {
        text.match_indices(name).any(|(at, _)| {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let before = text[..at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            let is_key = text[at + name.len()..].starts_with(" = ") && before == Some(' ');
            is_key || matches!(before, Some('.' | ':' | '"' | '\'')) && !after.is_some_and(word)
        })
    };
    let functions =
        describe::modules().flat_map(|module| module.functions.iter().map(move |function| (module, function)));
    let original = functions.filter(|(_, function)| function.alias_of.is_none());
    let last = |name: &str| name.rsplit(['.', ':']).next().unwrap_or(name).to_owned();
    none(
        original
            .filter(|(_, function)| !named(&last(&function.name)))
            .map(|(module, function)| format!("no test calls `{}` of `{}`", function.name, module.name)),
    );
}
