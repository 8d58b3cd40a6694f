//! `stow`: packages of files, such as dotfiles, linked into another directory.

mod apply;
mod ignore;
mod look;
mod plan;
mod tree;
mod wanted;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::json;

use self::{
    plan::Conflict,
    tree::{Node, Step},
    wanted::{Wanted, directory, expanded, owner},
};
use super::{
    Context,
    attributes::Attributes,
    call::{Builder, Call, Gate},
    file_ops::beside,
    options::Options,
    paths::readable_path,
    report::{Answer, Change, Report},
};
use crate::{
    beneath::{Last, inode},
    capability::Capability,
    vm::convert,
};

/// What becomes of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Link,
    Unlink,
    /// Unlinked and linked as one change.
    Restow,
}

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Within(Capability::FsWrite);
    let seen = Gate::Within(Capability::FsRead);
    let table = Builder::new(lua, context, "stow")?
        .asynchronous("stow", gate, |call, values| act(call, values, Action::Link, true))?
        .asynchronous("unstow", gate, |call, values| act(call, values, Action::Unlink, true))?
        .asynchronous("restow", gate, |call, values| act(call, values, Action::Restow, true))?
        .asynchronous("adopt", gate, adopt)?
        .asynchronous("link", gate, |call, values| act(call, values, Action::Link, false))?
        .asynchronous("unlink", gate, |call, values| act(call, values, Action::Unlink, false))?
        .function("ensure_target", gate, ensure_target)?
        .asynchronous("check", seen, check)?
        .alias("simulate", "check")?
        .asynchronous("is_stowed", seen, is_stowed)?
        .asynchronous("get_links", seen, get_links)?
        .asynchronous("verify", seen, verify)?
        .asynchronous("list_packages", seen, list_packages)?
        .finish();
    Ok(table)
}

async fn adopt(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let mut wanted = Wanted::read(&call, &values, Capability::FsWrite, true)?;
    wanted.rules.adopt = true;
    wanted.writes_packages(&call)?;
    perform(&call, wanted, Action::Link).await
}

async fn act(call: Call, values: MultiValue, action: Action, has_error: bool) -> mlua::Result<MultiValue> {
    let wanted = Wanted::read(&call, &values, Capability::FsWrite, has_error)?;
    if wanted.rules.adopt {
        wanted.writes_packages(&call)?;
    }
    perform(&call, wanted, action).await
}

async fn perform(call: &Call, wanted: Wanted, action: Action) -> mlua::Result<MultiValue> {
    let has_error = wanted.has_error;
    if wanted.simulate {
        return simulated(call, wanted, action).await;
    }
    match (changed(call, wanted, action).await, has_error) {
        (Ok(report), true) => (report, Value::Nil).into_lua_multi(&call.lua),
        (outcome, _) => call.answer(outcome).into_lua_multi(&call.lua),
    }
}

async fn changed(call: &Call, wanted: Wanted, action: Action) -> Result<Report, String> {
    let names = wanted.names();
    let target = wanted.target.display().to_string();
    let missing = if call.checking() { wanted.missing() } else { None };
    if let Some(package) = missing {
        // A step before this one may be what makes it.
        let told = format!("{} `{}` in `{target}`, once it is there", action.verb(), package.display());
        return Change::new(told, String::new()).apply(call, || Ok(()));
    }
    let (wanted, steps) = beside(move || {
        let steps = wanted.plan(action)?;
        Ok((wanted, steps))
    })
    .await?;
    let links: Vec<String> = steps.iter().filter_map(|step| step.link(&wanted.target)).collect();
    let count = links.len();
    let finished = |report: Report, status: &str| {
        report.with("package", names.clone()).with("target", target.clone()).with("status", status).with("links", links)
    };
    if steps.is_empty() {
        let (told, status) = action.nothing();
        return Ok(finished(Report::unchanged(format!("{told}: `{names}` in `{target}`")), status));
    }
    let counted = format!("`{names}` in `{target}` ({})", counted(&steps));
    let mut change = Change::new(format!("{} {counted}", action.verb()), format!("{} {counted}", action.past()));
    if wanted.verbose || call.checking() {
        change = change.diff(steps.iter().map(Step::told).collect::<Vec<_>>().join("\n"));
    }
    let applied = change.apply_async(
        call,
        beside(move || {
            let package = wanted.packages.first().filter(|_| wanted.rules.adopt).map(|name| wanted.stow.join(name));
            apply::apply(&wanted.target, package.as_deref(), &steps, wanted.owner)
        }),
    );
    Ok(finished(applied.await?, action.status()).with("count", count))
}

/// What would become of packages. Nothing is changed.
async fn check(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let wanted = Wanted::read(&call, &values, Capability::FsRead, true)?;
    simulated(&call, wanted, Action::Link).await
}

async fn simulated(call: &Call, wanted: Wanted, action: Action) -> mlua::Result<MultiValue> {
    let (package, target) = (wanted.names(), wanted.target.display().to_string());
    let planned = beside(move || {
        let (mut plan, missing) = wanted.prepare(action)?;
        if let Some(reason) = missing {
            return Ok((Vec::new(), Vec::new(), reason));
        }
        let lines: Vec<String> = plan.tree.steps()?.iter().map(Step::told).collect();
        Ok((plan.conflicts.iter().map(Conflict::told).collect::<Vec<_>>(), lines, String::new()))
    })
    .await;
    let (conflicts, lines, reason) = planned.unwrap_or_else(|reason| (Vec::new(), Vec::new(), reason));
    let would_succeed = conflicts.is_empty() && reason.is_empty();
    let output = if would_succeed { lines.join("\n") } else { [conflicts.join("\n"), reason].concat() };
    let told = json!({
        "package": package, "target": target, "would_succeed": would_succeed, "output": output,
        "conflicts": conflicts, "changed": would_succeed && !lines.is_empty(),
    });
    convert::to_lua(&call.lua, &told)?.into_lua_multi(&call.lua)
}

async fn is_stowed(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let wanted = Wanted::read(&call, &values, Capability::FsRead, true)?;
    let found = beside(move || {
        let found = wanted.look()?;
        let steps = wanted.prepare(Action::Link)?.0;
        Ok(!found.links.is_empty() && steps.conflicts.is_empty() && { steps }.tree.steps()?.is_empty())
    });
    match found.await {
        Ok(is_stowed) => is_stowed.into_lua_multi(&call.lua),
        Err(reason) => (false, call.refusal(reason)).into_lua_multi(&call.lua),
    }
}

async fn get_links(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let wanted = Wanted::read(&call, &values, Capability::FsRead, true)?;
    let target = wanted.target.clone();
    call.shown(beside(move || wanted.look()).await, |found| Ok(shown(&target, &found.links)))
}

async fn verify(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let wanted = Wanted::read(&call, &values, Capability::FsRead, true)?;
    let (target, package) = (wanted.target.clone(), wanted.names());
    call.shown(beside(move || wanted.look()).await, |found| {
        let told = json!({
            "package": package, "total_files": found.files, "stowed_files": found.linked_files,
            "stowed_links": found.links.len(), "is_complete": found.files == found.linked_files,
            "is_valid": found.broken.is_empty(), "broken_links": shown(&target, &found.broken),
        });
        convert::to_lua(&call.lua, &told)
    })
}

/// The directories in the directory of packages; hidden ones are no packages.
async fn list_packages(call: Call, values: MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(&call, &values, &["dir"], &["stow_dir", "source_dir"])?;
    let dir = readable_path(&call, &directory(&call, &options)?)?;
    let listed = beside(move || {
        let mut names = Vec::new();
        for name in tree::read_names(&dir)? {
            let text = name.to_string_lossy().into_owned();
            if !text.starts_with('.') && tree::look(&dir.join(&name))? == Node::Directory {
                names.push(text);
            }
        }
        Ok(names)
    });
    call.said(listed.await).into_lua_multi(&call.lua)
}

/// Makes the directory that packages are to be linked into.
fn ensure_target(call: &Call, values: &MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(call, values, &["path"], &["owner", "group", "mode"])?;
    let path = expanded(call, &options.required("path")?)?;
    let path = call.context.may_write(&path, Last::Followed, &call.name)?;
    let attributes = Attributes::read(call, &options)?;
    let owner = if attributes.owner.is_none() { owner(call)? } else { None };
    let shown = path.display().to_string();
    let outcome = match inode(&path).metadata() {
        Ok(found) if !found.is_dir() => Err(format!("`{shown}` is there and no directory")),
        Ok(found) => match attributes.differences(&found) {
            same if same.is_empty() => Ok(Report::unchanged(format!("`{shown}` is as it should be"))),
            differences => {
                let told = format!("{} of `{shown}`", differences.join(", "));
                Change::new(format!("change {told}"), format!("changed {told}")).apply(call, || attributes.apply(&path))
            }
        },
        Err(_) => {
            let told = format!("the directory `{shown}`");
            Change::new(format!("make {told}"), format!("made {told}")).apply(call, || {
                apply::make_directories(&path, owner)?;
                attributes.apply(&path)
            })
        }
    };
    Ok(call.answer(outcome.map(|report| report.with("path", shown))))
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Restow => "link anew",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Link => "linked",
            Self::Unlink => "unlinked",
            Self::Restow => "linked anew",
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Link => "stowed",
            Self::Unlink => "unstowed",
            Self::Restow => "restowed",
        }
    }

    /// The message and the status when there is nothing to do.
    fn nothing(self) -> (&'static str, &'static str) {
        match self {
            Self::Link | Self::Restow => ("package already stowed", "already_stowed"),
            Self::Unlink => ("package is not stowed", "not_stowed"),
        }
    }
}

impl Step {
    /// The link that it makes.
    fn link(&self, target: &Path) -> Option<String> {
        match self {
            Self::Link { at, .. } => Some(target.join(at).display().to_string()),
            Self::Adopt(_) | Self::Unlink(_) | Self::RemoveDirectory(_) | Self::MakeDirectory(_) => None,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Adopt(path) => format!("adopt {}", path.display()),
            Self::Unlink(path) => format!("unlink {}", path.display()),
            Self::RemoveDirectory(path) => format!("remove the directory {}", path.display()),
            Self::MakeDirectory(path) => format!("make the directory {}", path.display()),
            Self::Link { at, to, .. } => format!("link {} to {}", at.display(), to.display()),
        }
    }
}

impl Conflict {
    fn told(&self) -> String {
        format!("`{}` {}", self.path.display(), self.reason)
    }
}

fn counted(steps: &[Step]) -> String {
    let (mut made, mut removed) = (0, 0);
    for step in steps {
        match step {
            Step::Link { .. } => made += 1,
            Step::Unlink(_) => removed += 1,
            Step::Adopt(_) | Step::RemoveDirectory(_) | Step::MakeDirectory(_) => {}
        }
    }
    format!("{made} links made, {removed} removed")
}

/// Paths beneath the target as scripts get them.
fn shown(target: &Path, paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| target.join(path).display().to_string()).collect()
}
