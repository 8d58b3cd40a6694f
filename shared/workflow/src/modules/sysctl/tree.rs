//! What is below `/proc/sys`, and the files that say what should be.

use std::{
    collections::BTreeMap,
    fs::read_dir,
    path::{Path, PathBuf},
};

use super::key::Key;
use crate::modules::star;

/// Where the kernel shows its settings.
pub(super) const ROOT: &str = "/proc/sys";
/// Most settings that are listed.
const LISTED_MAX: usize = 20_000;

/// Every setting that can be read and whose name is wanted, in the order of their names.
pub(super) fn all(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut found = BTreeMap::new();
    let mut open = vec![Vec::new()];
    while let Some(parts) = open.pop() {
        for part in children(&parts) {
            let key = Key::of_parts([&parts[..], &[part]].concat());
            if key.path().is_dir() {
                open.push(key.parts().to_vec());
                continue;
            }
            let name = key.to_string();
            if LISTED_MAX <= found.len() || !wanted(&name) {
                continue;
            }
            // Some settings can only be written.
            if let Ok(value) = key.read() {
                found.insert(name, value);
            }
        }
    }
    found.into_iter().collect()
}

/// The settings that a pattern means: each part may hold `*`.
pub(super) fn matching(pattern: &Key) -> Vec<Key> {
    let mut found = vec![Vec::new()];
    for wanted in pattern.parts() {
        let below = |parts: &Vec<String>| {
            let children = if wanted.contains('*') { children(parts) } else { vec![wanted.clone()] };
            let taken = children.into_iter().filter(|child| star::fits(wanted, child));
            taken.map(|child| [&parts[..], &[child]].concat()).collect::<Vec<_>>()
        };
        found = found.iter().flat_map(below).collect();
    }
    found.into_iter().map(Key::of_parts).collect()
}

/// The files of settings in the order in which they count. Of files of one name that of the first directory counts.
pub(super) fn files(dirs: &[&str], last: &str) -> Result<Vec<PathBuf>, String> {
    let mut named = BTreeMap::new();
    for dir in dirs {
        for name in names(Path::new(dir)) {
            if name.ends_with(".conf") {
                let path = Path::new(dir).join(&name);
                named.entry(name).or_insert(path);
            }
        }
    }
    let mut files: Vec<_> = named.into_values().collect();
    files.push(last.into());
    // A link to the last one, as Debian has it, or to nothing.
    files.dedup_by_key(|path| path.canonicalize().unwrap_or_default());
    Ok(files)
}

fn children(parts: &[String]) -> Vec<String> {
    let mut path = PathBuf::from(ROOT);
    path.extend(parts);
    names(&path)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_kernel_are_found() {
        let pattern = Key::parse("kernel.ost*").expect("a name");
        assert_eq!(matching(&pattern), [Key::parse("kernel.ostype").expect("a name")]);
        assert_eq!(all(|name| name == "kernel.ostype"), [("kernel.ostype".to_owned(), "Linux".to_owned())]);
    }
}
