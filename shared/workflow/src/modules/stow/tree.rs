//! The directory that packages are linked into, as it is and as it would be: what is planned is seen by what is planned
//! next.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::super::files;
use crate::beneath::{Place, entry, inode};

/// Most files that one call looks at.
const LOOKED_AT_MAX: usize = 200_000;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Absent,
    /// A link with this text.
    Link(PathBuf),
    Directory,
    /// A file, or whatever else there is.
    Other,
}

/// One thing to be done. Paths are those beneath the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The file moves into the package that it is to be linked to.
    Adopt(PathBuf),
    Unlink(PathBuf),
    RemoveDirectory(PathBuf),
    MakeDirectory(PathBuf),
    Link {
        at: PathBuf,
        to: PathBuf,
        /// Whether it takes the place of another link.
        replaces: bool,
    },
}

/// A directory with what is planned for it.
pub(super) struct Tree {
    root: Place,
    changed: BTreeMap<PathBuf, Node>,
    looked_at: usize,
}

impl Tree {
    pub(super) fn new(root: Place) -> Self {
        Self { root, changed: BTreeMap::new(), looked_at: 0 }
    }

    pub(super) fn root(&self) -> &Place {
        &self.root
    }

    /// What will be at `path`.
    pub(super) fn node(&mut self, path: &Path) -> Result<Node, String> {
        if let Some(node) = self.changed.get(path) {
            return Ok(node.clone());
        }
        // What stands beneath something new has been planned too, or is not there.
        if path.ancestors().skip(1).any(|above| self.changed.contains_key(above)) {
            return Ok(Node::Absent);
        }
        self.found(path)
    }

    /// The names that will be in the directory at `path`.
    pub(super) fn names(&mut self, path: &Path) -> Result<Vec<OsString>, String> {
        let mut names = BTreeSet::new();
        let is_new = path.ancestors().any(|above| self.changed.contains_key(above));
        if !is_new && self.found(path)? == Node::Directory {
            names.extend(read_names(&beneath(&self.root, path))?);
        }
        let planned = self.changed.keys().filter(|key| key.parent() == Some(path));
        names.extend(planned.filter_map(|key| key.file_name()).map(ToOwned::to_owned));
        let mut left = Vec::new();
        for name in names {
            if self.node(&path.join(&name))? != Node::Absent {
                left.push(name);
            }
        }
        Ok(left)
    }

    pub(super) fn set(&mut self, path: &Path, node: Node) {
        self.changed.insert(path.to_owned(), node);
    }

    /// What is to be done for all that was planned, in an order in which it can be.
    pub(super) fn steps(&mut self) -> Result<Vec<Step>, String> {
        let (mut adopted, mut unlinked, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut made, mut linked) = (Vec::new(), Vec::new());
        for (path, wanted) in self.changed.clone() {
            let found = self.found(&path)?;
            if found == wanted {
                continue;
            }
            let replaces = matches!((&found, &wanted), (Node::Link(_), Node::Link(_)));
            match found {
                Node::Absent => {}
                Node::Link(_) if replaces => {}
                Node::Link(_) => unlinked.push(Step::Unlink(path.clone())),
                Node::Directory => removed.push(Step::RemoveDirectory(path.clone())),
                Node::Other => adopted.push(Step::Adopt(path.clone())),
            }
            match wanted {
                Node::Absent | Node::Other => {}
                Node::Directory => made.push(Step::MakeDirectory(path)),
                Node::Link(to) => linked.push(Step::Link { at: path, to, replaces }),
            }
        }
        // The deepest first.
        removed.reverse();
        Ok([adopted, unlinked, removed, made, linked].concat())
    }

    /// What is at `path` now. No link on the way is followed.
    fn found(&mut self, path: &Path) -> Result<Node, String> {
        self.looked_at += 1;
        if self.looked_at == LOOKED_AT_MAX {
            return Err(format!("that is too much: {LOOKED_AT_MAX} files can be looked at"));
        }
        let mut way = PathBuf::new();
        for part in path.components() {
            let node = look(&beneath(&self.root, &way))?;
            if node != Node::Directory {
                return Ok(Node::Absent);
            }
            way.push(part);
        }
        look(&beneath(&self.root, path))
    }
}

/// `path` in `root`, which may be empty.
pub(super) fn beneath(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

/// What is at `path`; the last part is not followed.
pub(super) fn look(path: &Path) -> Result<Node, String> {
    let way = entry(path);
    match way.symlink_metadata() {
        Ok(found) if found.is_symlink() => way.read_link().map(Node::Link).map_err(files::said("read the link", path)),
        Ok(found) if found.is_dir() => Ok(Node::Directory),
        Ok(_) => Ok(Node::Other),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Node::Absent)
        }
        Err(error) => Err(files::said("look at", path)(error)),
    }
}

/// The names in a directory, in order.
pub(super) fn read_names(path: &Path) -> Result<Vec<OsString>, String> {
    let mut names = Vec::new();
    for found in std::fs::read_dir(inode(path)).map_err(files::said("list", path))? {
        if names.len() == LOOKED_AT_MAX {
            return Err(format!("`{}` has more than {LOOKED_AT_MAX} names", path.display()));
        }
        names.push(found.map_err(files::said("list", path))?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}
