//! The documentation beside the code: limits, configuration keys, metrics, links.

#![allow(clippy::panic, clippy::expect_used, reason = "helpers of tests fail by panicking, with what they saw")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use sloth_workflow::{Capabilities, Capability, capability::ScopeKind};

const OPERATIONS: &str = "docs/operations.md";
/// Fewer would mean that the table is not found any more.
const LIMITS_MIN: usize = 50;

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let page = read(OPERATIONS);
    let rows = rows(section(&page, "## Limits"));
    assert!(LIMITS_MIN <= rows.len(), "only {} limits are found", rows.len());
    let mut told = BTreeSet::new();
    let again = rows.iter().find(|row| !told.insert(&row[2..]));
    assert!(again.is_none(), "{OPERATIONS} tells of a limit twice: {again:?}");
    for row in rows {
        let [limit, value, name, file] = row.as_slice() else { panic!("a row of limits has four cells: {row:?}") };
        let (name, file) = (name.trim_matches('`'), file.trim_matches('`'));
        let code = read(file);
        let line = declaration(&code, name).unwrap_or_else(|| panic!("`{file}` has no constant `{name}`"));
        let (told, real) = (quantity(value), expression(name, line));
        assert_eq!(told, real, "{OPERATIONS} says `{value}` for {limit}, and `{file}` says `{line}`");
    }
}

#[test]
fn the_table_of_capabilities_is_that_of_the_code() {
    let page = read("docs/security.md");
    let told: Vec<(String, String)> =
        rows(section(&page, "## Capabilities")).into_iter().map(|row| (row[0].clone(), row[2].clone())).collect();
    let scope = |capability: Capability| match capability.scope_kind() {
        ScopeKind::None => "–",
        ScopeKind::Path => "a path",
        ScopeKind::Host => "a host",
        ScopeKind::Name => "a name",
    };
    let real = Capability::ALL.map(|capability| (format!("`{capability}`"), scope(capability).to_owned()));
    assert_eq!(told, real);
    // What the page shows as an example can be granted.
    let example = page.split("capabilities = [").nth(1).and_then(|text| text.split_once(']')).expect("an example").0;
    let grants: Vec<&str> = example.split(',').map(|grant| grant.trim().trim_matches('"')).collect();
    Capabilities::parse(&grants).expect("grants");
}

#[test]
fn the_configuration_keys_are_those_of_the_code() {
    for (title, file, name) in [
        ("## The coordinator's configuration", "coordinator/src/config.rs", "pub struct Config {"),
        ("## The agent's configuration", "edge-agent/src/config.rs", "pub struct Settings {"),
    ] {
        let page = read(OPERATIONS);
        let told: BTreeSet<String> =
            rows(section(&page, title)).iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
        let code = read(file);
        let body = code.split_once(name).and_then(|(_, rest)| rest.split_once("\n}")).expect("a struct").0;
        let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
        let real: BTreeSet<String> = fields.map(|(field, _)| field.to_owned()).collect();
        assert_eq!(told, real, "{title}");
    }
}

#[test]
fn the_metrics_are_those_of_the_code() {
    let quoted = |text: &str, quote: char| -> BTreeSet<String> {
        text.split(quote).filter(|word| is_metric(word)).map(str::to_owned).collect()
    };
    let page = read(OPERATIONS);
    let table: String = rows(section(&page, "## Metrics")).into_iter().map(|row| row[0].clone()).collect();
    let code = read("coordinator/src/events.rs");
    assert_eq!(quoted(&table, '`'), quoted(&code, '"'));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut links = 0;
    for page in [
        "README.md",
        "docs/guide.md",
        "docs/language.md",
        "docs/modules.md",
        OPERATIONS,
        "docs/performance.md",
        "docs/security.md",
        "docs/protocol.md",
    ] {
        let text = read(page);
        let dir = Path::new(page).parent().expect("a directory");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            links += 1;
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let path = if path.is_empty() { PathBuf::from(page) } else { dir.join(path) };
            assert!(root().join(&path).exists(), "{page}: `{target}` leads nowhere");
            let Some(anchor) = anchor else { continue };
            let known = anchors(&read(&path.display().to_string()));
            assert!(known.contains(anchor), "{page}: `{target}` leads to no heading; there are {known:?}");
        }
    }
    assert!(0 < links, "no link is found");
}

/// The line that declares a constant, from its name to its end.
fn declaration<'a>(code: &'a str, name: &str) -> Option<&'a str> {
    let from = code.find(&format!("const {name}:"))?;
    code[from..].split_once(';').map(|(line, _)| line)
}

/// The number that a constant's expression gives: milliseconds, bytes, or a count.
fn expression(name: &str, line: &str) -> u64 {
    let (_, text) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` has no value"));
    let text = text.trim();
    let call = |function: &str| text.strip_prefix(function).and_then(|rest| rest.strip_suffix(')'));
    for (function, factor) in [
        ("Millis::from_secs(", 1_000),
        ("Duration::from_secs(", 1_000),
        ("Millis::from_u64(", 1),
        ("Duration::from_millis(", 1),
    ] {
        if let Some(inner) = call(function) {
            return arithmetic(inner) * factor;
        }
    }
    assert!(!name.ends_with("_SECS"), "give `{name}` in milliseconds");
    arithmetic(text)
}

/// A product, or a shifted number.
fn arithmetic(text: &str) -> u64 {
    let number = |text: &str| {
        let digits = text.trim().replace('_', "");
        digits.parse::<u64>().unwrap_or_else(|_| panic!("`{text}` is no number"))
    };
    match text.split_once("<<") {
        Some((left, right)) => number(left) << number(right),
        None => text.split('*').map(number).product(),
    }
}

/// What a cell like `16 KiB` or `90 d` means: milliseconds, bytes, or a count.
fn quantity(cell: &str) -> u64 {
    let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let factor = match unit {
        "" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => panic!("`{other}` is no unit"),
    };
    arithmetic(number) * factor
}

fn is_metric(word: &str) -> bool {
    word.starts_with("sloth_") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// From a heading to the next one.
fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("{title}\n")).unwrap_or_else(|| panic!("there is no heading `{title}`"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The rows of the tables in a section, without their heads.
fn rows(section: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in section.lines() {
        if !line.starts_with('|') {
            inside = false;
        } else if line.starts_with("|--") {
            inside = true;
        } else if inside {
            rows.push(line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// The anchors of a page's headings, as they are made of their words.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in page.lines() {
        fenced ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if !fenced && title.len() < line.len() && title.starts_with(' ') {
            let kept = title.trim().to_lowercase();
            let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
            anchors.insert(kept.replace(' ', "-"));
        }
    }
    anchors
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("cannot read `{file}`: {error}"))
}
