//! Rules of the house that no compiler keeps.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// Most lines of a file, and most characters of a line without the texts in it, which cannot be broken.
const LINES_MAX: usize = 600;
const LINE_CHARS_MAX: usize = 160;
/// Directories that hold no source of ours.
const SKIPPED: [&str; 6] = ["target", ".git", "node_modules", "corpus", "artifacts", "coverage"];

/// Who may use whom. What only tests use (`sloth-tests` and its like) may use everything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sloth-core", &[]),
    ("sloth-trust", &["sloth-core"]),
    ("sloth-bundle", &["sloth-core", "sloth-trust"]),
    ("sloth-workflow", &["sloth-core", "sloth-trust", "sloth-bundle"]),
    ("sloth-protocol", &["sloth-core", "sloth-trust", "sloth-bundle"]),
    ("sloth-transport", &["sloth-core", "sloth-protocol"]),
    // What both command lines show of a run is what the wire says of it.
    ("sloth-cli", &["sloth-core", "sloth-protocol", "sloth-trust"]),
    ("sloth-coord", LIBRARIES),
    ("sloth-agent", LIBRARIES),
    // Writes down the arguments of both programs.
    ("sloth-packaging", &["sloth-core", "sloth-agent", "sloth-coord"]),
];
const LIBRARIES: &[&str] =
    &["sloth-core", "sloth-cli", "sloth-trust", "sloth-bundle", "sloth-workflow", "sloth-protocol", "sloth-transport"];
/// What unfinished work and left-behind tools look like.
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore"), concat!("db", "g!(")];
/// What a machine of `sloth-protocol` must not know of.
const IMPURE: [&str; 10] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
    "tokio",
    "HashMap",
    "HashSet",
    "async fn",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// The files below a directory that end so, with their text and their path from the root.
fn files(below: &Path, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![below.to_path_buf()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
                open.push(path);
            } else if path.extension().is_some_and(|have| have == extension) {
                let text = std::fs::read_to_string(&path).expect("a readable file");
                let path = path.strip_prefix(root()).expect("it is below the root").display().to_string();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// The lines of source files for which `wrong` says what is wrong.
fn lines(files: &[(String, String)], wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let numbered = files.iter().flat_map(|(path, text)| text.lines().zip(1..).map(move |line| (path, line)));
    numbered
        .filter(|(_, (line, _))| wrong(line))
        .map(|(path, (line, number))| format!("{path}:{number}: {}", line.trim()))
        .collect()
}

/// The packages of the workspace: by name, what each is made of.
fn packages() -> BTreeMap<String, serde_json::Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages").clone();
    packages.into_iter().map(|package| (package["name"].as_str().expect("a name").to_owned(), package)).collect()
}

#[test]
fn crates_use_only_what_they_may() {
    let mut wrong = Vec::new();
    let packages = packages();
    for (name, allowed) in MAY_USE {
        let Some(package) = packages.get(*name) else {
            wrong.push(format!("there is no crate `{name}`"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let (used, kind) = (dependency["name"].as_str().unwrap_or_default(), dependency["kind"].as_str());
            if used.starts_with("sloth-") && kind != Some("dev") && !allowed.contains(&used) {
                wrong.push(format!("`{name}` may not use `{used}`"));
            }
        }
    }
    for (name, package) in &packages {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default()).to_path_buf();
        let of_tests = manifest.starts_with(root().join("tests"));
        if !of_tests && !MAY_USE.iter().any(|(known, _)| known == name) {
            wrong.push(format!("`{name}` is not in the table of who may use whom"));
        }
    }
    none("the order of the crates is not kept", &wrong);
}

#[test]
fn every_crate_is_described_and_linted() {
    let mut wrong = Vec::new();
    for (name, package) in packages() {
        if package["description"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("`{name}` has no description"));
        }
        let manifest = package["manifest_path"].as_str().expect("a path");
        let text = std::fs::read_to_string(manifest).expect("a manifest");
        if !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("`{name}` does not take the lints of the workspace"));
        }
    }
    none("manifests are not complete", &wrong);
}

#[test]
fn only_the_command_line_of_the_coordinator_knows_workflows() {
    let sources = files(&root().join("coordinator/src"), "rs");
    let outside: Vec<_> = sources.into_iter().filter(|(path, _)| !path.starts_with("coordinator/src/cli")).collect();
    none("the coordinator runs no workflow", &lines(&outside, |line| line.contains("sloth_workflow")));
}

#[test]
fn machines_touch_nothing() {
    let sources = files(&root().join("protocol/src"), "rs");
    assert!(!sources.is_empty());
    let code = |line: &str| !line.trim_start().starts_with("//");
    let impure = lines(&sources, |line| code(line) && IMPURE.iter().any(|word| line.contains(word)));
    none("machines take everything as arguments", &impure);
}

#[test]
fn files_are_short_and_lines_too() {
    let sources = files(&root(), "rs");
    assert!(sources.len() > 100, "the sources are found");
    let long = |(path, text): &(String, String)| {
        let lines = text.lines().count();
        (LINES_MAX < lines).then(|| format!("{path}: {lines} lines"))
    };
    none("files are too long", &sources.iter().filter_map(long).collect::<Vec<_>>());
    none("lines are too long", &lines(&sources, |line| LINE_CHARS_MAX < chars_outside_texts(line)));
    none("tabs", &lines(&sources, |line| line.contains('\t')));
}

/// Characters outside double quotes and of words shorter than keys are.
fn chars_outside_texts(line: &str) -> usize {
    const WORD_CHARS_MAX: usize = 100;
    let outside = line.replace("\\\"", "").split('"').step_by(2).collect::<String>();
    outside.split(' ').map(|word| word.chars().count() + 1).filter(|chars| *chars <= WORD_CHARS_MAX).sum()
}

/// A module that has parts is `name.rs` beside `name/`. What tests share is `tests/common/mod.rs`: Cargo takes each file in
/// `tests` for a test of its own.
#[test]
fn modules_are_called_like_their_files() {
    let sources = files(&root(), "rs");
    let wrong = |path: &&String| path.ends_with("/mod.rs") && !path.ends_with("tests/common/mod.rs");
    let found: Vec<_> = sources.iter().map(|(path, _)| path).filter(wrong).cloned().collect();
    none("write `name.rs` for `name/mod.rs`", &found);
}

#[test]
fn nothing_is_left_unfinished() {
    let sources = files(&root(), "rs");
    none("unfinished", &lines(&sources, |line| UNFINISHED.iter().any(|word| line.contains(word))));
}

#[test]
fn the_code_map_shows_what_is_there() {
    let Ok(readme) = std::fs::read_to_string(root().join("README.md")) else { return };
    let missing: Vec<String> = code_map(&readme).filter(|path| !root().join(path).exists()).collect();
    none("the code map of README.md shows what is not there", &missing);
}

/// The paths that begin the lines of fenced blocks and end in `/`.
fn code_map(text: &str) -> impl Iterator<Item = String> {
    let fenced = text.split("```").skip(1).step_by(2);
    let path = |line: &str| {
        let word = line.split_whitespace().next()?;
        let plain = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '_' | '/');
        (word.ends_with('/') && word.chars().all(plain) && !word.starts_with('/')).then(|| word.to_owned())
    };
    let found: Vec<String> = fenced.flat_map(str::lines).filter_map(path).collect();
    found.into_iter()
}

#[test]
fn a_code_map_is_read() {
    let text = "words\n```text\nprotocol/   decides\nshared/core/  ids\n$ cd /var/\n```\nbin/ outside";
    assert_eq!(code_map(text).collect::<Vec<_>>(), ["protocol/", "shared/core/"]);
}
