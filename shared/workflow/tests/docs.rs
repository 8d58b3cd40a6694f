//! The examples of the documentation: each is a whole file that loads, and those marked `<!-- run -->` run to a good end.
//!
//! Those of the definitions of modules are bodies of tasks. They run too: for real where they stay in their directory, and
//! as a check where they would change the host.

#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test fails")]

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use serde_json::Value;
use sloth_core::fs::{Access, replace};
use sloth_workflow::{
    CancelSignal, Capabilities, Capability, Host, Limits, MemoryHost, Outcome, RunInput, describe, load, run,
};

/// Before the fence of an example that is to be run.
const RUN_MARK: &str = "<!-- run -->";
/// Fewer would mean that they are not found any more.
const EXAMPLES_MIN: usize = 15;

/// The page whose examples are those of the definitions.
const MODULES_PAGE: &str = "modules.md";
/// What may change the host: examples of functions that need one of them only say what they would do.
const CHECKED: [Capability; 5] =
    [Capability::Pkg, Capability::Service, Capability::User, Capability::Cron, Capability::Sysctl];

/// A fenced block of Lua.
struct Example {
    /// The page and the line of the fence.
    place: String,
    text: String,
    is_run: bool,
}

#[test]
fn every_example_loads_and_those_that_are_marked_run() {
    let examples: Vec<Example> = pages().iter().flat_map(|page| examples(page)).collect();
    assert!(EXAMPLES_MIN <= examples.len(), "only {} examples are found", examples.len());
    assert!(examples.iter().any(|example| example.is_run), "no example is run");
    for example in &examples {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("main.sloth");
        replace(&file, example.text.as_bytes(), Access::Owner).expect("written");
        let loaded = load(dir.path(), Path::new("main.sloth"), &Value::Null, &Limits::default());
        if let Err(error) = loaded {
            panic!("{}: {error}", example.place);
        }
        if example.is_run {
            run_example(&example.place, dir.path(), false);
        }
    }
}

#[test]
fn the_examples_of_the_modules_run() {
    for module in describe::all() {
        for function in &module.functions {
            for example in &function.examples {
                let place = format!("{}.d.luau:{}", module.name, example.line);
                run_body(&place, &example.code, example.is_run);
            }
        }
    }
}

/// Runs the body of a task. Where it needs the network, or is not to be run, it is only compiled.
fn run_body(place: &str, body: &str, is_run: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!(
        "task('example'):command(function(this, params, deps) local ok, reason = (function() {body}\nend)()\n\
         return ok ~= false, ok == false and tostring(reason) or nil end)"
    );
    replace(&dir.path().join("main.sloth"), text.as_bytes(), Access::Owner).expect("written");
    if let Err(error) = load(dir.path(), Path::new("main.sloth"), &Value::Null, &Limits::default()) {
        panic!("{place}: {error}");
    }
    let needed = describe::needed(body);
    if is_run && !needed.contains(&Capability::Net) {
        run_example(place, dir.path(), CHECKED.iter().any(|capability| needed.contains(capability)));
    }
}

fn run_example(place: &str, dir: &Path, check: bool) {
    let workdir = dir.join("work");
    std::fs::create_dir(&workdir).expect("a directory");
    let host = Rc::new(MemoryHost::new());
    let input = RunInput {
        bundle_dir: dir.to_owned(),
        file: "main.sloth".into(),
        capabilities: Capabilities::all(),
        run_id: "01JD5Z3V9QK7T2M4X8R6WBCY0N".into(),
        workdir,
        check,
        ..RunInput::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ran = runtime.block_on(run(input, Rc::clone(&host) as Rc<dyn Host>, CancelSignal::never()));
    let end = ran.unwrap_or_else(|error| panic!("{place}: {error}"));
    let log = host.texts().join("\n");
    assert_eq!(end.outcome, Outcome::Succeeded, "{place}: {}\n{log}", end.message);
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).expect("a directory") {
        pages.push(entry.expect("an entry").path());
    }
    pages.retain(|page| page.extension().is_some_and(|ending| ending == "md") && !page.ends_with(MODULES_PAGE));
    pages.sort();
    pages
}

fn examples(page: &Path) -> Vec<Example> {
    let text = std::fs::read_to_string(page).expect("a page");
    let mut examples = Vec::new();
    let (mut open, mut is_run) = (None::<Example>, false);
    for (at, line) in text.lines().enumerate() {
        match &mut open {
            Some(example) if line != "```" => {
                example.text.push_str(line);
                example.text.push('\n');
            }
            Some(_) => examples.extend(open.take()),
            None if line == "```lua" => {
                let place = format!("{}:{}", page.display(), at + 1);
                open = Some(Example { place, text: String::new(), is_run });
            }
            None => is_run = line == RUN_MARK,
        }
    }
    examples
}
