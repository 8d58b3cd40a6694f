//! How a package is linked now.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{
    plan::{Owner, Plan},
    tree::Node,
};

/// What is linked of a package. Paths are those beneath the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The files of the package, without what is left out.
    pub(super) files: usize,
    /// Those of them that a link leads to, itself or a directory above.
    pub(super) linked_files: usize,
    pub(super) links: Vec<PathBuf>,
    /// Links into the package where it has nothing any more.
    pub(super) broken: Vec<PathBuf>,
}

/// Looks at every file of `package`.
pub(super) fn look(plan: &mut Plan, package: &OsStr) -> Result<Found, String> {
    let mut found = Found::default();
    go(plan, package, Path::new(""), false, &mut found)?;
    Ok(found)
}

fn go(plan: &mut Plan, package: &OsStr, dir: &Path, is_linked: bool, found: &mut Found) -> Result<(), String> {
    for path in plan.sources(package, dir)? {
        let is_own = |owner: &Owner| owner.package == package && owner.path == path;
        let is_here = match plan.tree.node(&path)? {
            Node::Link(to) => plan.owner(&path, &to).as_ref().is_some_and(is_own),
            Node::Absent | Node::Directory | Node::Other => false,
        };
        if is_here {
            found.links.push(path.clone());
        }
        let is_linked = is_linked || is_here;
        if plan.source(package, &path)? == Node::Directory {
            go(plan, package, &path, is_linked, found)?;
        } else {
            found.files += 1;
            found.linked_files += usize::from(is_linked);
        }
    }
    if plan.tree.node(dir)? == Node::Directory {
        for name in plan.tree.names(dir)? {
            let path = dir.join(name);
            if let Node::Link(to) = plan.tree.node(&path)?
                && let Some(owner) = plan.owner(&path, &to)
                && owner.package == package
                && !plan.leads_somewhere(&owner)?
            {
                found.broken.push(path);
            }
        }
    }
    Ok(())
}
