//! Which links are to be made and removed: the rules of GNU stow.
//!
//! A directory that only one package has is linked as a whole ("folded"). When another package needs it too, it becomes
//! a directory with a link for each file ("unfolded"), and when that package goes it is folded again.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use super::{
    ignore::{Ignore, Pattern},
    tree::{Node, Tree, beneath, look, read_names},
};
use crate::beneath::Place;

/// How deep packages are gone into.
const DEPTH_MAX: usize = 64;

/// How packages are linked.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// Directories are made, not linked.
    pub(super) no_folding: bool,
    /// Files that are in the way move into the package.
    pub(super) adopt: bool,
    pub(super) ignore: Vec<Pattern>,
    /// Links of other packages at these paths are replaced.
    pub(super) replaced: Vec<Pattern>,
    /// Links of other packages at these paths stay.
    pub(super) left: Vec<Pattern>,
    /// What the user's own file of patterns holds.
    pub(super) global: Option<String>,
}

/// What is in the way of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The path beneath the target.
    pub(super) path: PathBuf,
    /// Completes a sentence that begins with the path.
    pub(super) reason: String,
}

/// Where a link of a package leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) package: OsString,
    /// Its path beneath the package.
    pub(super) path: PathBuf,
}

/// What is planned for a target.
pub(super) struct Plan {
    pub(super) tree: Tree,
    pub(super) conflicts: Vec<Conflict>,
    stow: PathBuf,
    /// The way from the target to the directory of the packages.
    up: PathBuf,
    /// The only package that may be looked into; `None` = all that are there.
    only: Option<OsString>,
    rules: Rules,
    ignored: BTreeMap<OsString, Ignore>,
}

impl Plan {
    /// Both directories without links in their paths.
    pub(super) fn new(stow: PathBuf, only: Option<OsString>, target: Place, rules: Rules) -> Self {
        let up = relative(&target, &stow);
        Self { tree: Tree::new(target), conflicts: Vec::new(), stow, up, only, rules, ignored: BTreeMap::new() }
    }

    /// Plans the links of a package.
    pub(super) fn link(&mut self, package: &OsStr) -> Result<(), String> {
        self.link_contents(package, Path::new(""))
    }

    /// Plans that the links of a package go.
    pub(super) fn unlink(&mut self, package: &OsStr) -> Result<(), String> {
        self.unlink_contents(package, Path::new(""))
    }

    /// What the package has at `path`.
    pub(super) fn source(&self, package: &OsStr, path: &Path) -> Result<Node, String> {
        look(&self.source_path(package, path))
    }

    /// The paths beneath `path` in the package, without what is left out.
    pub(super) fn sources(&mut self, package: &OsStr, path: &Path) -> Result<Vec<PathBuf>, String> {
        if DEPTH_MAX <= path.components().count() {
            return Err(format!(
                "`{}` is deeper than the {DEPTH_MAX} directories that can be gone into",
                path.display()
            ));
        }
        let dir = self.source_path(package, path);
        let ignore = match self.ignored.get(package) {
            Some(known) => known.clone(),
            None => {
                let root = beneath(&self.stow, Path::new(package));
                let read = Ignore::of(&root, &self.rules.ignore, self.rules.global.as_deref())?;
                self.ignored.insert(package.to_owned(), read.clone());
                read
            }
        };
        let paths = read_names(&dir)?.into_iter().map(|name| path.join(name));
        Ok(paths.filter(|path| !ignore.takes(path)).collect())
    }

    /// Which package the link at `path` with the text `to` leads into.
    pub(super) fn owner(&self, path: &Path, to: &Path) -> Option<Owner> {
        // A package could not be moved with its links if they were absolute, so those are never ours.
        if to.is_absolute() {
            return None;
        }
        let mut led = beneath(self.tree.root(), path.parent().unwrap_or(Path::new("")));
        for part in to.components() {
            match part {
                Component::Normal(name) => led.push(name),
                Component::ParentDir => drop(led.pop()),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        let mut parts = led.strip_prefix(&self.stow).ok()?.components();
        let package = parts.next()?.as_os_str().to_owned();
        if self.only.as_ref().is_some_and(|only| *only != package) {
            return None;
        }
        Some(Owner { package, path: parts.as_path().to_owned() })
    }

    /// Whether there is what a link of a package leads to.
    pub(super) fn leads_somewhere(&self, owner: &Owner) -> Result<bool, String> {
        Ok(self.source(&owner.package, &owner.path)? != Node::Absent)
    }

    /// Whether nothing of a package goes to this directory: the packages themselves are there, or another's.
    pub(super) fn is_protected(&mut self, path: &Path) -> Result<bool, String> {
        if beneath(self.tree.root(), path) == self.stow {
            return Ok(true);
        }
        for mark in [".stow", ".nonstow"] {
            if self.tree.node(&path.join(mark))? != Node::Absent {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn link_contents(&mut self, package: &OsStr, path: &Path) -> Result<(), String> {
        if self.is_protected(path)? {
            return Ok(());
        }
        for path in self.sources(package, path)? {
            self.link_one(package, &path)?;
        }
        Ok(())
    }

    fn link_one(&mut self, package: &OsStr, path: &Path) -> Result<(), String> {
        let source = self.source(package, path)?;
        if let Node::Link(to) = &source
            && to.is_absolute()
        {
            // It could not be told from a foreign link when the package goes.
            self.conflict(path, format!("is a link to the absolute path `{}` in the package", to.display()));
            return Ok(());
        }
        let is_dir = source == Node::Directory;
        match self.tree.node(path)? {
            Node::Absent if is_dir && self.rules.no_folding => {
                self.tree.set(path, Node::Directory);
                self.link_contents(package, path)?;
            }
            Node::Absent => self.set_link(package, path),
            Node::Directory if is_dir => self.link_contents(package, path)?,
            Node::Directory => self.conflict(path, "is a directory, and no directory in the package".to_owned()),
            Node::Other if self.rules.adopt && !is_dir => self.set_link(package, path),
            Node::Other => self.conflict(path, "is there and no link".to_owned()),
            Node::Link(to) => match self.owner(path, &to) {
                None => self.conflict(path, format!("is a link to `{}`, outside the packages", to.display())),
                Some(owner) if !self.leads_somewhere(&owner)? => self.set_link(package, path),
                Some(owner) if owner.package == package && owner.path == path => {}
                Some(owner) => self.link_beside(package, path, &owner, &source)?,
            },
        }
        Ok(())
    }

    /// Plans a link where one of another package is.
    fn link_beside(&mut self, package: &OsStr, path: &Path, other: &Owner, source: &Node) -> Result<(), String> {
        let takes = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.takes(path));
        let is_shared = *source == Node::Directory
            && other.path == path
            && self.source(&other.package, &other.path)? == Node::Directory;
        if takes(&self.rules.left) {
            return Ok(());
        }
        if takes(&self.rules.replaced) {
            self.set_link(package, path);
        } else if is_shared {
            self.tree.set(path, Node::Directory);
            self.link_contents(&other.package, path)?;
            self.link_contents(package, path)?;
        } else {
            self.conflict(path, format!("is a link of the package `{}`", other.package.display()));
        }
        Ok(())
    }

    fn unlink_contents(&mut self, package: &OsStr, path: &Path) -> Result<(), String> {
        if self.is_protected(path)? {
            return Ok(());
        }
        for path in self.sources(package, path)? {
            self.unlink_one(package, &path)?;
        }
        self.remove_dangling(path)
    }

    fn unlink_one(&mut self, package: &OsStr, path: &Path) -> Result<(), String> {
        match self.tree.node(path)? {
            Node::Link(to) => {
                let Some(owner) = self.owner(path, &to) else { return Ok(()) };
                let is_own = owner.package == package && owner.path == path;
                if is_own || !self.leads_somewhere(&owner)? {
                    self.tree.set(path, Node::Absent);
                }
            }
            Node::Directory if self.source(package, path)? == Node::Directory => {
                self.unlink_contents(package, path)?;
                self.fold(path)?;
            }
            // What others put there is theirs.
            Node::Directory | Node::Other | Node::Absent => {}
        }
        Ok(())
    }

    /// Links into the packages that lead nowhere go: their files went before.
    fn remove_dangling(&mut self, path: &Path) -> Result<(), String> {
        if self.tree.node(path)? != Node::Directory {
            return Ok(());
        }
        for name in self.tree.names(path)? {
            let path = path.join(name);
            if let Node::Link(to) = self.tree.node(&path)?
                && let Some(owner) = self.owner(&path, &to)
                && !self.leads_somewhere(&owner)?
            {
                self.tree.set(&path, Node::Absent);
            }
        }
        Ok(())
    }

    /// Makes one link of a directory in which there are links of one package only.
    fn fold(&mut self, path: &Path) -> Result<(), String> {
        let names = if self.rules.no_folding { Vec::new() } else { self.tree.names(path)? };
        let mut package: Option<OsString> = None;
        for name in &names {
            let child = path.join(name);
            let Node::Link(to) = self.tree.node(&child)? else { return Ok(()) };
            let owner = self.owner(&child, &to).filter(|owner| owner.path == child);
            match (owner, &package) {
                (Some(owner), None) => package = Some(owner.package),
                (Some(owner), Some(known)) if owner.package == *known => {}
                (Some(_) | None, _) => return Ok(()),
            }
        }
        if let Some(package) = package {
            for name in names {
                self.tree.set(&path.join(name), Node::Absent);
            }
            self.set_link(&package, path);
        }
        Ok(())
    }

    fn set_link(&mut self, package: &OsStr, path: &Path) {
        let depth = path.components().count().saturating_sub(1);
        let to = std::iter::repeat_n("..", depth).collect::<PathBuf>().join(&self.up).join(package).join(path);
        self.tree.set(path, Node::Link(to));
    }

    fn conflict(&mut self, path: &Path, reason: String) {
        self.conflicts.push(Conflict { path: path.to_owned(), reason });
    }

    pub(super) fn source_path(&self, package: &OsStr, path: &Path) -> PathBuf {
        beneath(&beneath(&self.stow, Path::new(package)), path)
    }
}

/// The way from one directory to another; both absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_directories() {
        for (from, to, expected) in [
            ("/home/x", "/home/x/.dotfiles", ".dotfiles"),
            ("/home/x/.config", "/home/x/dots", "../dots"),
            ("/usr/local", "/usr/local/stow", "stow"),
            ("/a/b", "/c", "../../c"),
            ("/", "/opt/stow", "opt/stow"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected), "{from} {to}");
        }
    }
}
