//! The documentation's commands, run as they stand, and the JSON it shows.

#![allow(clippy::panic, clippy::expect_used, reason = "helpers of tests fail by panicking, with what they saw")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use sloth_core::fs::{Access, replace};
use sloth_e2e::{Fleet, Program, Ran, Site, binary};

/// Where the pages put everything.
const PAGE_DIR: &str = "/tmp/sloth";
/// Where the pages' coordinator listens.
const PAGE_ADDRESS: &str = "127.0.0.1";
/// The part of the README that is run.
const README_PART: &str = "## Ten minutes";
/// Builds the programs, which the test has.
const BUILD: &str = "cargo build";
/// How long all commands of the pages may take together.
const PAGES_LIMIT: Duration = Duration::from_secs(150);
/// Before a block of JSON: the command that prints such.
const SHAPE_MARK: &str = "<!-- shape: ";
/// Fewer would mean that they are not found any more.
const SHAPES_MIN: usize = 8;

/// A fenced block of a page.
struct Block {
    language: String,
    text: String,
    /// The line before the fence.
    before: String,
}

#[test]
fn the_commands_and_the_json_of_the_pages_are_real() {
    let site = Site::loopback();
    let address = site.address.to_string();
    let mut fleet = Fleet::prepare(site);
    // Whatever is started has this home, and so is found and ended with the fleet.
    let home = fleet.host("reader").home.clone();
    let dir = fleet.dir().join("page");
    let translate = |text: &str| {
        let here = text.replace(PAGE_DIR, &dir.display().to_string());
        let http = format!("--address {address}:7461 --http {address}:7462");
        here.replace(PAGE_ADDRESS, &address).replace(&format!("--address {address}:7461"), &http)
    };

    let readme = page("README.md");
    let readme = readme.split_once(README_PART).expect("the README has ten minutes").1;
    let guide = blocks(&page("docs/guide.md"));
    let commands = [blocks(readme), blocks(&page("docs/guide.md"))];
    let commands = commands.iter().flatten().filter(|block| block.language == "sh" && !block.text.contains(BUILD));
    let mut script = String::from("set -eu\n");
    commands.for_each(|block| script.push_str(&translate(&block.text)));

    // What follows needs the agents that the pages have started, so it is part of the same shell.
    let shapes: Vec<(String, &Block)> = guide.iter().filter_map(|block| Some((command_of(block)?, block))).collect();
    assert!(SHAPES_MIN <= shapes.len(), "only {} commands with JSON are found", shapes.len());
    for (at, (command, _)) in shapes.iter().enumerate() {
        script.push_str(&format!("{} > {}\n", translate(command), shape_file(fleet.dir(), at).display()));
    }
    script.push_str("kill $(jobs -p)\nwait\n");

    let file = fleet.dir().join("pages.sh");
    replace(&file, script.as_bytes(), Access::Owner).expect("written");
    Ran::within(shell(&file, &home), PAGES_LIMIT).expect(0).keeps_its_manners();
    for (at, (command, block)) in shapes.iter().enumerate() {
        let printed = std::fs::read_to_string(shape_file(fleet.dir(), at)).expect("printed");
        check_shape(command, &values(&block.text), &values(&printed));
    }
}

/// Each value that is shown has the keys of one that is printed: of the one with the same `event`, where it has one.
fn check_shape(command: &str, shown: &[Value], printed: &[Value]) {
    let printed: BTreeMap<_, _> = printed.iter().rev().map(|value| (kind(value), keys(value))).collect();
    for value in shown {
        let real = printed.get(&kind(value));
        assert_eq!(Some(&keys(value)), real, "`{command}` prints other keys than docs/guide.md shows for {value}");
    }
}

/// What tells the values of a stream apart: their event, or else their first key.
fn kind(value: &Value) -> String {
    let event = value["event"].as_str().map(str::to_owned);
    event.unwrap_or_else(|| keys(value).into_iter().next().unwrap_or_default())
}

/// The keys of an object, or of the first one in a list.
fn keys(value: &Value) -> BTreeSet<String> {
    let object = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    object.as_object().expect("an object").keys().cloned().collect()
}

fn values(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("not JSON: {error}\n{text}"))
}

fn command_of(block: &Block) -> Option<String> {
    Some(block.before.strip_prefix(SHAPE_MARK)?.strip_suffix(" -->")?.to_owned())
}

fn shape_file(dir: &Path, at: usize) -> PathBuf {
    dir.join(format!("shape-{at}.json"))
}

/// A shell that finds the programs and the examples, and nobody's settings.
fn shell(script: &Path, home: &Path) -> Command {
    let mut command = Command::new("bash");
    command.arg("-x").arg(script).current_dir(root());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLOTH_")) {
        command.env_remove(name);
    }
    let programs = binary(Program::Coordinator).parent().expect("a directory").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{programs}:{path}")).env("HOME", home).env("SLOTH_KEY_PASSPHRASE", "open sesame");
    assert!(binary(Program::Agent).starts_with(&programs), "both programs are in one directory");
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("cannot read `{name}`: {error}"))
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for line in page.lines() {
        match &mut open {
            Some(block) if line != "```" => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            Some(_) => blocks.extend(open.take()),
            None => {
                let language = line.strip_prefix("```").map(str::to_owned);
                open = language.map(|language| Block { language, text: String::new(), before: before.to_owned() });
                before = line;
            }
        }
    }
    blocks
}
