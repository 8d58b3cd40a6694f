//! What a bundle must be granted, as far as the texts of its files tell.

use std::{collections::BTreeSet, path::Path};

use crate::{
    Capability, Limits, describe,
    source::{Source, SourceError, Sources, Token, tokens},
};

/// Most files that are followed from the workflow file.
const FILES_MAX: usize = 1_000;
/// What the workflow file `file` of a bundle and the files that it requires or imports need, by the functions that they
/// name. A name that is made while the file runs is not seen.
///
/// # Errors
///
/// When the workflow file cannot be read. Others that cannot be read are passed over: loading the file tells of them.
pub fn needs(bundle_dir: &Path, file: &Path) -> Result<BTreeSet<Capability>, SourceError> {
    let sources = Sources::open(bundle_dir, file, Limits::default().script_bytes)?;
    let (mut left, mut seen, mut needed) = (vec![sources.main(file)?], BTreeSet::new(), BTreeSet::new());
    while let Some(source) = left.pop() {
        if seen.len() == FILES_MAX || !seen.insert(source.name.clone()) {
            continue;
        }
        needed.extend(describe::needed(&source.text));
        left.extend(loaded(&sources, &source.text));
    }
    Ok(needed)
}

/// The files that a text loads by a name that stands in it.
fn loaded(sources: &Sources, text: &str) -> Vec<Source> {
    let read = |token: &Token<'_>| match (token.text, quoted(&text[token.start + token.text.len()..])) {
        ("require", Some(name)) => sources.module(name).ok(),
        ("import", Some(name)) => sources.import(name).ok(),
        (_, Some(_) | None) => None,
    };
    tokens(text).iter().filter_map(read).collect()
}

/// The text in quotes that comes next, with or without a parenthesis before it.
fn quoted(after: &str) -> Option<&str> {
    let after = after.trim_start();
    let after = after.strip_prefix('(').map_or(after, str::trim_start);
    if let Some(long) = after.strip_prefix("[[") {
        return long.split_once("]]").map(|(text, _)| text);
    }
    let quote = after.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    after[1..].split_once(quote).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use sloth_core::fs::{Access, replace};

    use super::*;

    #[test]
    fn what_files_name_is_found_also_in_those_they_load() {
        let lib = "local m = {} function m.f() return fs.write('x', 'y') end return m";
        for (text, expected) in [
            ("task('a'):command(function() return true end)", ""),
            ("task('a'):command(function() return exec.run('x').success end)", "exec"),
            ("task('a'):command('make')", "exec"),
            ("workflow.define('w', { tasks = { { name = 'a', command = \"make\" } } })", "exec"),
            ("task('a'):command(function() end):run_if('test -e x')", "exec"),
            ("task('a'):command(function() cron.remove('b') end)", "cron"),
            ("-- exec.run('x')\nlocal s = \"fs.write()\"", ""),
            ("local lib = require('lib') task('a'):command(lib.f)", "fs:write"),
            ("import \"lib.lua\"", "fs:write"),
            ("require('none')", ""),
            ("require('main')", ""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in [("main.lua", text), ("lib.lua", lib)] {
                replace(&dir.path().join(name), text.as_bytes(), Access::Everyone).unwrap();
            }
            let found = needs(dir.path(), Path::new("main.lua")).unwrap();
            let found: Vec<&str> = found.into_iter().map(Capability::as_str).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }
}
