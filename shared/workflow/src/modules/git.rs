//! `git`: repositories, by the host's own git.
//!
//! Git runs the hooks and filters of a repository, so that whoever may call it may run commands: it takes the capability
//! `exec`. It never asks anybody for a password, and what a script gives is never taken for one of its options.

mod change;
mod clone;
mod look;
mod repo;

use std::{path::PathBuf, rc::Rc, time::Duration};

use mlua::{Lua, MultiValue, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    options::Options,
    report::Report,
    tool::{Output, Tool},
};
use crate::{capability::Capability, vm::Builtin};

/// How long a call of git may take when the script does not say: a large repository takes a while.
const GIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Gives what `clone` and `repo` return the methods of a repository.
static OBJECT: Builtin = Builtin::new(include_str!("git/object.luau"));

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Needs(Capability::Exec);
    let table = Builder::new(lua, context, "git")?
        .asynchronous("clone", gate, clone::clone)?
        .function("repo", gate, repo::open)?
        .function("is_repo", gate, |call, path: &MultiValue| {
            Ok(repo::is_there(&path_of(call, &arguments(call, path, &["path"], &["path"])?)?))
        })?
        .function("ensure_clean", gate, repo::ensure_clean)?
        .asynchronous("init", gate, change::init)?
        .asynchronous("fetch", gate, change::fetch)?
        .asynchronous("pull", gate, change::pull)?
        .asynchronous("checkout", gate, change::checkout)?
        .asynchronous("add", gate, change::add)?
        .asynchronous("commit", gate, change::commit)?
        .asynchronous("tag", gate, change::tag)?
        .asynchronous("push", gate, change::push)?
        .asynchronous("status", gate, look::status)?
        .asynchronous("branch", gate, look::branch)?
        .asynchronous("head", gate, look::head)?
        .asynchronous("rev_parse", gate, look::rev_parse)?
        .asynchronous("tags", gate, look::tags)?
        .asynchronous("log", gate, look::log)?
        .asynchronous("diff", gate, look::diff)?
        .asynchronous("remote_url", gate, look::remote_url)?
        .unfinished();
    OBJECT.function(lua)?.call::<()>(&table)?;
    table.set_readonly(true);
    Ok(table)
}

/// A value, or nothing and why.
type Answer<T> = mlua::Result<Result<T, String>>;

/// A report alone, or nothing and why: where old files take a second value for an error.
struct Alone(Result<Report, String>);

impl mlua::IntoLuaMulti for Alone {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        match self.0 {
            Ok(report) => report.into_lua_multi(lua),
            Err(reason) => (Value::Nil, reason).into_lua_multi(lua),
        }
    }
}

/// The options of a call: one table, or some of them as values in the order of `places`, and then perhaps a table.
fn arguments<'a>(call: &'a Call, given: &MultiValue, known: &[&str], places: &[&str]) -> mlua::Result<Options<'a>> {
    let also: Vec<&str> = known.iter().filter(|name| !places.contains(name)).copied().collect();
    Options::named(call, given, places, &also)
}

/// The directory that a call is about; the task's own unless it says.
fn path_of(call: &Call, options: &Options<'_>) -> mlua::Result<PathBuf> {
    Ok(options.path("path")?.unwrap_or_else(|| call.workdir()))
}

/// A name that git must not take for an option.
fn name_of(call: &Call, options: &Options<'_>, option: &str) -> mlua::Result<Option<String>> {
    let name = options.text(option)?;
    match &name {
        Some(name) if name.is_empty() || name.starts_with('-') || name.contains('\0') => {
            Err(call.error(format_args!("`{option}` cannot be empty or begin with `-`, got `{name}`")))
        }
        Some(_) | None => Ok(name),
    }
}

fn required(call: &Call, option: &str, value: Option<String>) -> mlua::Result<String> {
    value.ok_or_else(|| call.error(format_args!("`{option}` is missing")))
}

/// Git at work in a directory.
struct Git<'a> {
    call: &'a Call,
    path: PathBuf,
    timeout: Duration,
    /// Who commits, where the script says.
    env: Vec<(&'static str, String)>,
}

impl<'a> Git<'a> {
    fn new(call: &'a Call, options: &Options<'_>) -> mlua::Result<Self> {
        Ok(Self::at(call, path_of(call, options)?, options.duration("timeout")?))
    }

    fn at(call: &'a Call, path: PathBuf, timeout: Option<Duration>) -> Self {
        Self { call, path, timeout: timeout.unwrap_or(GIT_TIMEOUT), env: Vec::new() }
    }

    /// Runs it with `words` to its end.
    async fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<Output, String> {
        self.feed(words, None).await
    }

    async fn feed<S: AsRef<str>>(&self, words: &[S], stdin: Option<&str>) -> Result<Output, String> {
        let dir = if self.path.is_dir() { self.path.clone() } else { self.call.workdir() };
        // Nobody is there to answer: neither git nor ssh asks, both fail.
        let mut tool = Tool::new(self.call, "git")
            .args(words.iter().map(AsRef::as_ref))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .env("GIT_MERGE_AUTOEDIT", "no")
            .env("GIT_EDITOR", "true")
            .workdir(dir)
            .timeout(self.timeout)
            .by_task_user();
        for (name, value) in &self.env {
            tool = tool.env(name, value);
        }
        if let Some(stdin) = stdin {
            tool = tool.stdin(stdin.as_bytes().to_vec());
        }
        tool.run().await
    }

    /// What it prints, or why it failed.
    async fn ask<S: AsRef<str>>(&self, words: &[S]) -> Result<String, String> {
        let output = self.run(words).await?;
        if output.success() { Ok(output.stdout.trim_end().to_owned()) } else { Err(reason(&output)) }
    }

    /// The commit that is checked out; none in a repository without one.
    async fn head(&self) -> Option<String> {
        self.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await.ok()
    }

    /// The branch that is checked out; none when a commit is.
    async fn branch(&self) -> Option<String> {
        self.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]).await.ok()
    }

    /// Refuses a directory that is no repository.
    fn is_repository(&self) -> Result<(), String> {
        if repo::is_there(&self.path) {
            return Ok(());
        }
        Err(format!("`{}` is no git repository", self.path.display()))
    }

    /// Whether all that can be done is to believe: in a run that only checks, the repository would be cloned first.
    fn is_yet_to_come(&self) -> bool {
        self.call.checking() && !repo::is_there(&self.path)
    }
}

/// Why git failed: what it calls fatal or an error, and not the advice after it.
fn reason(output: &Output) -> String {
    let told = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ") || line.starts_with(" ! ");
    match output.stderr.lines().chain(output.stdout.lines()).find(told) {
        Some(line) => without_secrets(line.trim()),
        None => without_secrets(&output.reason()),
    }
}

/// A text with every name and password in its addresses hidden.
fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        shown.push_str(before);
        let end = after.find(|char: char| char == '/' || char.is_whitespace() || char == '\'').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                shown.push('…');
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_hidden() {
        for (text, expected) in [
            ("https://host/a.git", "https://host/a.git"),
            ("fatal: 'https://me:pw@host/a' and ssh://x@h", "fatal: 'https://…@host/a' and ssh://…@h"),
            ("git@host:a/b", "git@host:a/b"),
            ("https://t@k@host/p@q", "https://…@host/p@q"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }
}
