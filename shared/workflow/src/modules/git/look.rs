//! What a repository holds; nothing is changed.

use mlua::{MultiValue, Table};

use super::{Answer, Git, arguments, name_of};
use crate::modules::call::Call;

/// Commits that a log has unless said.
const LOG_COUNT: u64 = 10;
const LOG_COUNT_MAX: u64 = 10_000;
/// What is told of a commit, in the order that git is asked for it.
const PARTS: [&str; 7] = ["hash", "short", "author", "email", "time", "message", "body"];

/// The changes in the working tree, a line each as `git status --porcelain` has them; empty when there is none.
pub(super) async fn status(call: Call, given: MultiValue) -> Answer<String> {
    answer(&call, &given, &[], &["status", "--porcelain"]).await
}

/// The branch that is checked out; `nil` when a commit is.
pub(super) async fn branch(call: Call, given: MultiValue) -> Answer<Option<String>> {
    let options = arguments(&call, &given, &["path", "timeout"], &["path"])?;
    let git = Git::new(&call, &options)?;
    Ok(match git.is_repository() {
        Ok(()) => Ok(git.branch().await),
        Err(reason) => Err(call.refusal(reason)),
    })
}

pub(super) async fn head(call: Call, given: MultiValue) -> Answer<String> {
    answer(&call, &given, &[], &["rev-parse", "--verify", "HEAD^{commit}"]).await
}

pub(super) async fn rev_parse(call: Call, given: MultiValue) -> Answer<String> {
    let options = arguments(&call, &given, &["path", "ref", "timeout"], &["path", "ref"])?;
    let reference = name_of(&call, &options, "ref")?.unwrap_or_else(|| "HEAD".to_owned());
    ask(&call, &Git::new(&call, &options)?, &["rev-parse", "--verify", &reference]).await
}

pub(super) async fn tags(call: Call, given: MultiValue) -> Answer<Vec<String>> {
    let tags = answer(&call, &given, &[], &["tag", "--list", "--sort=version:refname"]).await?;
    Ok(tags.map(|tags| tags.lines().map(str::to_owned).collect()))
}

/// The changes in the working tree against the index, or what is staged, as lines.
pub(super) async fn diff(call: Call, given: MultiValue) -> Answer<String> {
    let options = arguments(&call, &given, &["path", "staged", "timeout"], &["path"])?;
    let mut words = vec!["diff", "--no-color", "--no-ext-diff"];
    words.extend(options.flag("staged")?.unwrap_or(false).then_some("--cached"));
    ask(&call, &Git::new(&call, &options)?, &words).await
}

pub(super) async fn remote_url(call: Call, given: MultiValue) -> Answer<String> {
    let options = arguments(&call, &given, &["path", "remote", "timeout"], &["path", "remote"])?;
    let remote = name_of(&call, &options, "remote")?.unwrap_or_else(|| "origin".to_owned());
    ask(&call, &Git::new(&call, &options)?, &["remote", "get-url", "--", &remote]).await
}

/// The commits, newest first.
pub(super) async fn log(call: Call, given: MultiValue) -> Answer<Vec<Table>> {
    let options = arguments(&call, &given, &["path", "count", "ref", "timeout"], &["path", "count"])?;
    let count = options.value("count")?;
    let count = if count.is_nil() { LOG_COUNT } else { call.integer("count", &count, 1, LOG_COUNT_MAX)? };
    let reference = name_of(&call, &options, "ref")?.unwrap_or_else(|| "HEAD".to_owned());
    // No part of a commit can hold a zero byte.
    let format = "--format=%H%x00%h%x00%an%x00%ae%x00%at%x00%s%x00%b%x00";
    let words = ["log", &format!("--max-count={count}"), format, &reference, "--"];
    let text = match ask(&call, &Git::new(&call, &options)?, &words).await? {
        Ok(text) => text,
        Err(reason) => return Ok(Err(reason)),
    };
    let parts: Vec<&str> = text.split('\0').collect();
    let commits = parts.chunks_exact(PARTS.len()).map(|parts| entry(&call, parts));
    Ok(Ok(commits.collect::<mlua::Result<Vec<_>>>()?))
}

fn entry(call: &Call, parts: &[&str]) -> mlua::Result<Table> {
    let table = call.lua.create_table()?;
    for (name, text) in PARTS.into_iter().zip(parts) {
        let text = text.trim();
        match text.parse::<f64>() {
            Ok(time) if name == "time" => table.raw_set(name, time)?,
            Ok(_) | Err(_) => table.raw_set(name, text)?,
        }
    }
    Ok(table)
}

async fn answer(call: &Call, given: &MultiValue, more: &[&str], words: &[&str]) -> Answer<String> {
    let known: Vec<&str> = ["path", "timeout"].iter().chain(more).copied().collect();
    let options = arguments(call, given, &known, &["path"])?;
    ask(call, &Git::new(call, &options)?, words).await
}

async fn ask(call: &Call, git: &Git<'_>, words: &[&str]) -> Answer<String> {
    let asked = match git.is_repository() {
        Ok(()) => git.ask(words).await,
        Err(reason) => Err(reason),
    };
    Ok(asked.map_err(|reason| call.refusal(reason)))
}
