//! What a call asks for, and what is to be done for it.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use mlua::{MultiValue, Value};

use super::{
    super::{
        account::{self, at_home},
        call::Call,
        files,
        options::Options,
        paths::readable_path,
    },
    Action,
    apply::Ids,
    ignore::{Anchor, GLOBAL, Pattern},
    look::{self, Found},
    plan::{Conflict, Plan, Rules},
    tree::{self, Node, Step},
};
use crate::{
    beneath::{Last, Place, inode},
    capability::Capability,
};

/// The options of the functions that are about packages.
const OPTIONS: [&str; 13] = [
    "packages",
    "dir",
    "stow_dir",
    "source_dir",
    "target_dir",
    "create_target",
    "no_folding",
    "verbose",
    "ignore",
    "override",
    "defer",
    "adopt",
    "simulate",
];
/// Where packages are when the caller does not say, in the home directory.
const DIR: &str = ".dotfiles";
/// Most conflicts that a message names.
const SHOWN_CONFLICTS_MAX: usize = 10;

/// What one call asks for.
pub(super) struct Wanted {
    pub(super) packages: Vec<OsString>,
    /// The directory of the packages.
    pub(super) stow: PathBuf,
    /// What is held of it, or of the only package.
    held: Place,
    /// The only package that may be looked into; `None` = all that are there.
    only: Option<OsString>,
    pub(super) target: Place,
    create_target: bool,
    pub(super) rules: Rules,
    pub(super) verbose: bool,
    pub(super) simulate: bool,
    pub(super) owner: Option<Ids>,
    /// Whether the answer is a result and an error, not a result and a message.
    pub(super) has_error: bool,
}

impl Wanted {
    /// `capability` is what the target is wanted for.
    pub(super) fn read(
        call: &Call,
        values: &MultiValue,
        capability: Capability,
        has_error: bool,
    ) -> mlua::Result<Self> {
        let options = Options::named(call, values, &["package", "target"], &OPTIONS)?;
        let mut packages = options.list("package")?.unwrap_or_default();
        packages.extend(options.list("packages")?.unwrap_or_default());
        let mut dir = directory(call, &options)?;
        if let [path] = &packages[..]
            && path.trim_end_matches('/').contains('/')
            && ["dir", "stow_dir", "source_dir"].iter().all(|name| options.value(name).is_ok_and(|it| it.is_nil()))
        {
            (dir, packages) = (expanded(call, path)?, vec![".".to_owned()]);
        }
        let names = ["target", "target_dir"];
        let target = first(call, &options, &names)?.map_or_else(|| home(call), Ok)?;
        let target = real(call.context.place(capability, &target, Last::Followed, &call.name)?);
        let held = real(readable_path(call, &dir)?);
        let (stow, only, packages) = names_of(call, &held, packages)?;
        let patterns = |name: &str, anchor| -> mlua::Result<Vec<Pattern>> {
            let given = options.list(name)?.unwrap_or_default();
            let parsed = given.iter().map(|text| Pattern::parse(text, anchor));
            parsed.collect::<Result<_, _>>().map_err(|reason| call.error(format_args!("`{name}`: {reason}")))
        };
        let rules = Rules {
            no_folding: options.flag("no_folding")?.unwrap_or(false),
            adopt: options.flag("adopt")?.unwrap_or(false),
            ignore: patterns("ignore", Anchor::End)?,
            replaced: patterns("override", Anchor::Start)?,
            left: patterns("defer", Anchor::Start)?,
            global: global(call)?,
        };
        let named_as = |name| options.value(name).is_ok_and(|value| !value.is_nil());
        Ok(Self {
            packages,
            stow,
            held,
            only,
            target,
            create_target: options.flag("create_target")?.unwrap_or(true),
            rules,
            verbose: options.flag("verbose")?.unwrap_or(false),
            simulate: options.flag("simulate")?.unwrap_or(false),
            owner: owner(call)?,
            has_error: has_error && !named_as("source_dir") && !named_as("target_dir"),
        })
    }

    /// Checks that files may be moved into the packages.
    pub(super) fn writes_packages(&self, call: &Call) -> mlua::Result<()> {
        if 1 < self.packages.len() {
            return Err(call.error("files are adopted by one package at a time"));
        }
        call.context.may_write(&self.held, Last::Followed, &call.name).map(drop)
    }

    pub(super) fn names(&self) -> String {
        self.packages.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("`, `")
    }

    fn empty_plan(&self) -> Plan {
        Plan::new(self.stow.clone(), self.only.clone(), self.target.clone(), self.rules.clone())
    }

    /// The first package that is not there.
    pub(super) fn missing(&self) -> Option<&OsString> {
        let is_there = |name: &&OsString| matches!(tree::look(&self.stow.join(name)), Ok(Node::Directory));
        self.packages.iter().find(|name| !is_there(name))
    }

    /// The plan, or why there can be none.
    pub(super) fn prepare(&self, action: Action) -> Result<(Plan, Option<String>), String> {
        let mut plan = self.empty_plan();
        if let Some(name) = self.missing() {
            let reason = format!("there is no package `{}` in `{}`", name.display(), self.stow.display());
            return Ok((plan, Some(reason)));
        }
        let target = self.target.display();
        match (inode(&self.target).metadata(), action) {
            (Ok(found), _) if found.is_dir() => {}
            (Ok(_), _) => return Ok((plan, Some(format!("`{target}` is no directory")))),
            (Err(error), _) if error.kind() != io::ErrorKind::NotFound => {
                return Err(files::said("look at", &self.target)(error));
            }
            (Err(_), Action::Unlink) => {}
            (Err(_), Action::Link | Action::Restow) if self.create_target => {}
            (Err(_), Action::Link | Action::Restow) => {
                return Ok((
                    plan,
                    Some(format!("there is no directory `{target}`: make it, or say `create_target = true`")),
                ));
            }
        }
        if action != Action::Link {
            self.packages.iter().try_for_each(|package| plan.unlink(package))?;
        }
        if action != Action::Unlink {
            self.packages.iter().try_for_each(|package| plan.link(package))?;
        }
        Ok((plan, None))
    }

    /// What is to be done. Whatever is in the way, nothing is.
    pub(super) fn plan(&self, action: Action) -> Result<Vec<Step>, String> {
        let (mut plan, reason) = self.prepare(action)?;
        if let Some(reason) = reason {
            return Err(reason);
        }
        if plan.conflicts.is_empty() {
            return plan.tree.steps();
        }
        let told: Vec<String> = plan.conflicts.iter().take(SHOWN_CONFLICTS_MAX).map(Conflict::told).collect();
        let rest = plan.conflicts.len() - told.len();
        let rest = if rest == 0 { String::new() } else { format!("; and {rest} more") };
        Err(format!(
            "nothing was changed in `{}`: {}{rest}; `stow.adopt` moves files that are in the way into the package",
            self.target.display(),
            told.join("; ")
        ))
    }

    pub(super) fn look(&self) -> Result<Found, String> {
        let (mut plan, missing) = (self.empty_plan(), self.missing());
        if let Some(name) = missing {
            return Err(format!("there is no package `{}` in `{}`", name.display(), self.stow.display()));
        }
        let mut whole = Found::default();
        for package in &self.packages {
            let found = look::look(&mut plan, package)?;
            whole.files += found.files;
            whole.linked_files += found.linked_files;
            whole.links.extend(found.links);
            whole.broken.extend(found.broken);
        }
        Ok(whole)
    }
}

/// The packages by name and the directory that they are in. The package `.` is that directory itself.
fn names_of(call: &Call, held: &Place, given: Vec<String>) -> mlua::Result<(PathBuf, Option<OsString>, Vec<OsString>)> {
    if given.is_empty() {
        return Err(call.error("`package` is missing: name a package or a list of packages"));
    }
    if let [only] = &given[..]
        && only.trim_end_matches('/') == "."
    {
        let name = files::file_name(held).to_owned();
        let above = held.parent().unwrap_or(held).to_owned();
        return Ok((above, Some(name.clone()), vec![name]));
    }
    let mut packages = Vec::new();
    for name in given {
        let name = name.trim_end_matches('/');
        if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(call.error(format_args!("`{name}` cannot be the name of a package: it is that of a directory")));
        }
        if !packages.iter().any(|known| known == name) {
            packages.push(OsString::from(name));
        }
    }
    Ok((held.to_path_buf(), None, packages))
}

/// The directory of the packages.
pub(super) fn directory(call: &Call, options: &Options<'_>) -> mlua::Result<PathBuf> {
    match first(call, options, &["dir", "stow_dir", "source_dir"])? {
        Some(dir) => Ok(dir),
        None => Ok(home(call)?.join(DIR)),
    }
}

/// The path under the first of these names that is given.
fn first(call: &Call, options: &Options<'_>, names: &[&str]) -> mlua::Result<Option<PathBuf>> {
    for name in names {
        if let Some(text) = options.text(name)? {
            return expanded(call, &text).map(Some);
        }
    }
    Ok(None)
}

/// A path, in which `~` at the start stands for the home directory of the user that the task runs as.
pub(super) fn expanded(call: &Call, text: &str) -> mlua::Result<PathBuf> {
    match at_home(text, user(call).as_deref()) {
        Some(path) => Ok(path),
        None => call.path("path", &Value::String(call.lua.create_string(text)?)),
    }
}

fn home(call: &Call) -> mlua::Result<PathBuf> {
    let home = at_home("~", user(call).as_deref()).filter(|home| home.is_absolute());
    home.ok_or_else(|| call.error("the home directory is not known: name `dir` and `target`"))
}

/// The user that the task runs as, when it says one.
fn user(call: &Call) -> Option<String> {
    call.context.current.get().and_then(|scope| scope.user.clone())
}

/// Whom what is made belongs to, when that is not the user of this process.
pub(super) fn owner(call: &Call) -> mlua::Result<Option<Ids>> {
    let Some(name) = user(call) else { return Ok(None) };
    let account = account::named(&name).ok_or_else(|| call.error(format_args!("there is no user `{name}`")))?;
    Ok((rustix::process::geteuid().as_raw() != account.uid).then_some((account.uid, account.gid)))
}

/// What the user's own file of patterns holds, where it may be read.
fn global(call: &Call) -> mlua::Result<Option<String>> {
    let Ok(place) = call.context.may_read(&home(call)?.join(GLOBAL), Last::Followed, &call.name) else {
        return Ok(None);
    };
    let bytes =
        if inode(&place).metadata().is_ok_and(|found| found.is_file()) { files::read(&place).ok() } else { None };
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

/// The place with the path that has no links. What is not there yet has none.
fn real(place: Place) -> Place {
    if place.is_bound() {
        return place;
    }
    for above in place.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let rest = place.strip_prefix(above).unwrap_or(Path::new(""));
            return Place::unbound(tree::beneath(&real, rest));
        }
    }
    place
}
