//! The licences of everything that a program is built from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{compress, write};

/// What packages are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How the names of files begin that hold the terms of a licence.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
const RULE: &str = "--------------------------------------------------------------------------------";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Writes into `path`, compressed, what `program` is built from, under which terms, and those terms.
///
/// # Errors
///
/// When Cargo does not tell, a crate says nothing of its licence, or the file cannot be written.
pub(crate) fn write_all(path: &Path, program: &str) -> anyhow::Result<()> {
    let metadata = metadata()?;
    let built_in = built_in(&metadata, program)?;
    let crates = metadata.packages.iter().filter(|package| built_in.contains(package.id.as_str()));
    let mut crates: Vec<&Package> = crates.filter(|package| package.source.is_some()).collect();
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    write(path, &compress(text(program, &crates)?.as_bytes())?)
}

fn metadata() -> anyhow::Result<Metadata> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot ask Cargo for the dependencies")?;
    ensure!(
        output.status.success(),
        "Cargo does not tell the dependencies: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("cannot read what Cargo tells of the dependencies")
}

/// The packages whose code ends up in `program`: not those that only build or test it.
fn built_in<'a>(metadata: &'a Metadata, program: &str) -> anyhow::Result<BTreeSet<&'a str>> {
    let nodes: BTreeMap<&str, &Node> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let first = metadata.packages.iter().find(|package| package.name == program);
    let mut open = vec![first.with_context(|| format!("there is no package `{program}`"))?.id.as_str()];
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let linked = dependencies.filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        open.extend(linked.map(|dependency| dependency.pkg.as_str()));
    }
    Ok(found)
}

fn text(program: &str, crates: &[&Package]) -> anyhow::Result<String> {
    let mut text = format!("{program} is built from these crates, each under its own terms:\n\n");
    let mut terms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in crates {
        let named = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().with_context(|| format!("`{named}` does not name its licence"))?;
        writeln!(text, "{named}: {licence}")?;
        for found in files(package)? {
            terms.entry(found).or_default().push(named.clone());
        }
    }
    for (found, who) in terms {
        write!(text, "\n{RULE}\n{}\n{RULE}\n\n{}\n", who.join(", "), found.trim())?;
    }
    Ok(text)
}

/// The terms that a crate brings with it.
fn files(package: &Package) -> anyhow::Result<Vec<String>> {
    let directory = Path::new(&package.manifest_path).parent().context("a manifest lies in a directory")?;
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot look into `{}`", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|begin| name.starts_with(begin)) && entry.file_type()?.is_file() {
            found.push(String::from_utf8_lossy(&std::fs::read(entry.path())?).replace("\r\n", "\n"));
        }
    }
    found.sort();
    Ok(found)
}
