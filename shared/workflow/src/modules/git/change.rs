//! What changes a repository. Each looks first, and does nothing where nothing is to be done.

use mlua::{MultiValue, Value};

use super::{Git, arguments, name_of, reason, repo, required};
use crate::modules::{
    call::Call,
    options::Options,
    report::{Answer, Change, Report},
};

const ORIGIN: &str = "origin";

/// Makes an empty repository.
pub(super) async fn init(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let options = arguments(&call, &given, &["path", "branch", "bare", "timeout"], &["path"])?;
    let git = Git::new(&call, &options)?;
    let branch = name_of(&call, &options, "branch")?;
    let bare = options.flag("bare")?.unwrap_or(false);
    let path = git.path.display();
    if repo::is_there(&git.path) {
        return Ok(call.answer(Ok(Report::unchanged(format!("`{path}` is a git repository already")))));
    }
    let mut words = vec!["init".to_owned(), "--quiet".to_owned()];
    words.extend(branch.map(|branch| format!("--initial-branch={branch}")));
    words.extend(bare.then(|| "--bare".to_owned()));
    words.extend(["--".to_owned(), git.path.to_string_lossy().into_owned()]);
    let change =
        Change::new(format!("make a git repository in `{path}`"), format!("made a git repository in `{path}`"));
    Ok(call.answer(change.apply_async(&call, async { git.ask(&words).await.map(drop) }).await))
}

/// Gets what a remote has; the working tree stays.
pub(super) async fn fetch(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let options = arguments(&call, &given, &["path", "remote", "tags", "prune", "timeout"], &["path", "remote"])?;
    let git = Git::new(&call, &options)?;
    let remote = remote_of(&call, &options)?;
    let mut words = vec!["fetch".to_owned()];
    words.extend(options.flag("tags")?.unwrap_or(false).then(|| "--tags".to_owned()));
    words.extend(options.flag("prune")?.unwrap_or(false).then(|| "--prune".to_owned()));
    let change = Change::new(format!("fetch from `{remote}`"), format!("fetched from `{remote}`"));
    let outcome = async {
        if git.is_yet_to_come() {
            return change.apply(&call, || Ok(()));
        }
        git.is_repository()?;
        if call.checking() {
            // Even `git fetch --dry-run` brings what it finds.
            return if has_news(&git, &remote).await? {
                change.apply(&call, || Ok(()))
            } else {
                Ok(nothing_new(&remote))
            };
        }
        // What git fetches it says on its standard error; nothing is said when there is nothing.
        words.extend(["--".to_owned(), remote.clone()]);
        let output = git.run(&words).await?;
        if !output.success() {
            return Err(reason(&output));
        }
        if output.stderr.lines().any(|line| line.contains("->")) {
            return change.apply(&call, || Ok(()));
        }
        Ok(nothing_new(&remote))
    };
    Ok(call.answer(outcome.await))
}

/// Moves the branch to what its remote has. Commits that are only here make it fail, unless they are to be put on top.
pub(super) async fn pull(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let known = ["path", "remote", "branch", "rebase", "timeout"];
    let options = arguments(&call, &given, &known, &["path", "remote", "branch"])?;
    let git = Git::new(&call, &options)?;
    let (remote, branch) = (name_of(&call, &options, "remote")?, name_of(&call, &options, "branch")?);
    let rebase = options.flag("rebase")?.unwrap_or(false);
    let path = git.path.display();
    let change = Change::new(format!("pull to `{path}`"), format!("pulled to `{path}`"));
    let outcome = async {
        if git.is_yet_to_come() {
            return change.apply(&call, || Ok(()));
        }
        git.is_repository()?;
        let before = git.head().await;
        if call.checking() {
            let branch = match &branch {
                Some(branch) => branch.clone(),
                None => git.branch().await.ok_or_else(|| format!("`{path}` has no branch checked out"))?,
            };
            let there = remote_commit(&git, remote.as_deref().unwrap_or(ORIGIN), &branch).await?;
            if there == before {
                return Ok(Report::unchanged(format!("`{path}` is up to date")));
            }
            return change.apply(&call, || Ok(()));
        }
        let mut words = vec!["pull", "--quiet", if rebase { "--rebase" } else { "--ff-only" }];
        if let Some(branch) = &branch {
            words.extend(["--", remote.as_deref().unwrap_or(ORIGIN), branch]);
        } else if let Some(remote) = &remote {
            words.extend(["--", remote]);
        }
        git.ask(&words).await?;
        if git.head().await == before {
            return Ok(Report::unchanged(format!("`{path}` is up to date")));
        }
        change.apply(&call, || Ok(()))
    };
    Ok(call.answer(outcome.await))
}

/// Checks out a branch, a tag or a commit.
pub(super) async fn checkout(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let known = ["path", "branch", "ref", "create", "force", "timeout"];
    let options = arguments(&call, &given, &known, &["path", "branch"])?;
    let git = Git::new(&call, &options)?;
    let wanted = name_of(&call, &options, "branch")?.or(name_of(&call, &options, "ref")?);
    let wanted = required(&call, "branch", wanted)?;
    let (create, force) = (options.flag("create")?.unwrap_or(false), options.flag("force")?.unwrap_or(false));
    let change = Change::new(format!("check out `{wanted}`"), format!("checked out `{wanted}`"));
    let outcome = async {
        if git.is_yet_to_come() {
            return change.apply(&call, || Ok(()));
        }
        git.is_repository()?;
        if is_checked_out(&git, &wanted).await {
            return Ok(Report::unchanged(format!("`{wanted}` is checked out")));
        }
        let local = format!("refs/heads/{wanted}");
        let is_new = create && git.ask(&["rev-parse", "--verify", "--quiet", &local]).await.is_err();
        let mut words = vec!["checkout", "--quiet"];
        words.extend(force.then_some("--force"));
        words.extend(is_new.then_some("-b"));
        words.push(&wanted);
        words.extend((!is_new).then_some("--"));
        change.apply_async(&call, async { git.ask(&words).await.map(drop) }).await
    };
    Ok(call.answer(outcome.await))
}

/// Stages files.
pub(super) async fn add(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let options = arguments(&call, &given, &["path", "files", "timeout"], &["path", "files"])?;
    let git = Git::new(&call, &options)?;
    let files = texts(&call, "files", &options.value("files")?)?;
    let outcome = stage(&git, &files).await;
    Ok(call.answer(outcome))
}

/// Commits what is staged, or with `add_all` everything.
pub(super) async fn commit(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let known = ["path", "message", "add_all", "name", "email", "allow_empty", "timeout"];
    let options = arguments(&call, &given, &known, &["path", "message"])?;
    let mut git = Git::new(&call, &options)?;
    let message = required(&call, "message", options.text("message")?.filter(|message| !message.trim().is_empty()))?;
    let add_all = options.flag("add_all")?.unwrap_or(false);
    let allow_empty = options.flag("allow_empty")?.unwrap_or(false);
    if let Some(name) = options.text("name")? {
        git.env.extend([("GIT_AUTHOR_NAME", name.clone()), ("GIT_COMMITTER_NAME", name)]);
    }
    if let Some(email) = options.text("email")? {
        git.env.extend([("GIT_AUTHOR_EMAIL", email.clone()), ("GIT_COMMITTER_EMAIL", email)]);
    }
    let title = message.lines().next().unwrap_or_default();
    let change = Change::new(format!("commit `{title}`"), format!("committed `{title}`"));
    let outcome = async {
        if git.is_yet_to_come() {
            return change.apply(&call, || Ok(()));
        }
        git.is_repository()?;
        if !allow_empty && !has_changes(&git, add_all).await? {
            return Ok(Report::unchanged("there is nothing to commit"));
        }
        let report = change.apply_async(&call, async {
            if add_all {
                git.ask(&["add", "--all"]).await?;
            }
            let mut words = vec!["commit", "--quiet", "--file=-", "--cleanup=verbatim"];
            words.extend(allow_empty.then_some("--allow-empty"));
            let output = git.feed(&words, Some(&message)).await?;
            if output.success() { Ok(()) } else { Err(reason(&output)) }
        });
        let report = report.await?;
        Ok(report.with("commit", git.head().await))
    };
    Ok(call.answer(outcome.await))
}

/// Gives a commit a name.
pub(super) async fn tag(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let known = ["path", "name", "message", "ref", "force", "timeout"];
    let options = arguments(&call, &given, &known, &["path", "name", "message"])?;
    let git = Git::new(&call, &options)?;
    let name = required(&call, "name", name_of(&call, &options, "name")?)?;
    let message = options.text("message")?;
    let target = name_of(&call, &options, "ref")?.unwrap_or_else(|| "HEAD".to_owned());
    let force = options.flag("force")?.unwrap_or(false);
    let change = Change::new(format!("make the tag `{name}`"), format!("made the tag `{name}`"));
    let outcome = async {
        if git.is_yet_to_come() {
            return change.apply(&call, || Ok(()));
        }
        git.is_repository()?;
        let commit = git.ask(&["rev-parse", "--verify", &format!("{target}^{{commit}}")]).await?;
        let there = git.ask(&["rev-parse", "--verify", "--quiet", &format!("refs/tags/{name}^{{commit}}")]).await;
        match there {
            Ok(there) if there == commit => return Ok(Report::unchanged(format!("the tag `{name}` is there"))),
            Ok(_) if !force => return Err(format!("the tag `{name}` is another commit's: `force = true` moves it")),
            Ok(_) | Err(_) => {}
        }
        let mut words = vec!["tag"];
        words.extend(force.then_some("--force"));
        words.extend(message.as_ref().map(|_| "--file=-"));
        words.extend(["--", &name, &commit]);
        change
            .apply_async(&call, async {
                let output = git.feed(&words, message.as_deref()).await?;
                if output.success() { Ok(()) } else { Err(reason(&output)) }
            })
            .await
    };
    Ok(call.answer(outcome.await))
}

/// Sends commits and tags to a remote.
pub(super) async fn push(call: Call, given: MultiValue) -> mlua::Result<Answer> {
    let known = ["path", "remote", "branch", "tags", "follow_tags", "set_upstream", "force", "timeout"];
    let options = arguments(&call, &given, &known, &["path", "remote", "branch"])?;
    let git = Git::new(&call, &options)?;
    let (remote, branch) = (remote_of(&call, &options)?, name_of(&call, &options, "branch")?);
    let mut words = vec!["push".to_owned(), "--porcelain".to_owned()];
    for (option, word) in [
        ("tags", "--tags"),
        ("follow_tags", "--follow-tags"),
        ("set_upstream", "--set-upstream"),
        // Refuses to overwrite what this clone has not seen.
        ("force", "--force-with-lease"),
    ] {
        words.extend(options.flag(option)?.unwrap_or(false).then(|| word.to_owned()));
    }
    let change = Change::new(format!("push to `{remote}`"), format!("pushed to `{remote}`"));
    let outcome = async {
        if git.is_yet_to_come() {
            return change.apply(&call, || Ok(()));
        }
        git.is_repository()?;
        let branch = match branch {
            Some(branch) => branch,
            None => git.branch().await.ok_or("no branch is checked out: give `branch`")?,
        };
        words.extend(call.checking().then(|| "--dry-run".to_owned()));
        words.extend(["--".to_owned(), remote.clone(), branch]);
        let output = git.run(&words).await?;
        if !output.success() {
            return Err(reason(&output));
        }
        // A line a reference: `=` where the remote has it already.
        if output.stdout.lines().any(|line| line.contains('\t') && !line.starts_with('=')) {
            return change.apply(&call, || Ok(()));
        }
        Ok(Report::unchanged(format!("`{remote}` has everything already")))
    };
    Ok(call.answer(outcome.await))
}

/// The commit that a branch or a tag has at a remote; none when there is no such.
pub(super) async fn remote_commit(git: &Git<'_>, remote: &str, branch: &str) -> Result<Option<String>, String> {
    let heads = git.ask(&["ls-remote", "--", remote, branch]).await?;
    Ok(heads.split_whitespace().next().map(str::to_owned))
}

/// Whether a branch at the remote is elsewhere than the clone last saw it.
async fn has_news(git: &Git<'_>, remote: &str) -> Result<bool, String> {
    let there = git.ask(&["ls-remote", "--heads", "--", remote]).await?;
    let seen =
        git.ask(&["for-each-ref", "--format=%(objectname) %(refname)", &format!("refs/remotes/{remote}")]).await?;
    let is_seen = |head: &str| {
        let (commit, branch) = head.split_once("\trefs/heads/").unwrap_or((head, ""));
        seen.lines().any(|line| line == format!("{commit} refs/remotes/{remote}/{branch}"))
    };
    Ok(!there.lines().all(is_seen))
}

fn nothing_new(remote: &str) -> Report {
    Report::unchanged(format!("`{remote}` has nothing new"))
}

fn remote_of(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    Ok(name_of(call, options, "remote")?.unwrap_or_else(|| ORIGIN.to_owned()))
}

/// A branch by its name; another reference by its commit, when no branch is.
async fn is_checked_out(git: &Git<'_>, wanted: &str) -> bool {
    if let Some(branch) = git.branch().await {
        return branch == wanted;
    }
    let is_branch = git.ask(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{wanted}")]).await.is_ok();
    let commit = git.ask(&["rev-parse", "--verify", "--quiet", &format!("{wanted}^{{commit}}")]).await.ok();
    !is_branch && commit.is_some() && commit == git.head().await
}

async fn has_changes(git: &Git<'_>, add_all: bool) -> Result<bool, String> {
    if add_all {
        return Ok(!git.ask(&["status", "--porcelain"]).await?.is_empty());
    }
    let output = git.run(&["diff", "--cached", "--quiet"]).await?;
    match output.exit_code {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reason(&output)),
    }
}

async fn stage(git: &Git<'_>, files: &[String]) -> Result<Report, String> {
    let list = files.join("`, `");
    let change = Change::new(format!("stage `{list}`"), format!("staged `{list}`"));
    if git.is_yet_to_come() {
        return change.apply(git.call, || Ok(()));
    }
    git.is_repository()?;
    let with = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).chain(files.iter().cloned()).collect();
    let dry: Vec<String> = with(&["add", "--dry-run", "--"]);
    if git.ask(&dry).await?.is_empty() {
        return Ok(Report::unchanged("there is nothing to stage"));
    }
    let add: Vec<String> = with(&["add", "--"]);
    change.apply_async(git.call, async { git.ask(&add).await.map(drop) }).await
}

/// One text or a list of them; all of the directory when there is none.
fn texts(call: &Call, option: &str, value: &Value) -> mlua::Result<Vec<String>> {
    if value.is_nil() {
        return Ok(vec![".".to_owned()]);
    }
    let Some(list) = value.as_table().filter(|table| !table.has_metatable()) else {
        return Ok(vec![call.text(option, value)?]);
    };
    list.sequence_values::<Value>().map(|file| call.text(option, &file?)).collect()
}
