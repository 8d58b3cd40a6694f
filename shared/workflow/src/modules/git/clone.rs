//! Copies of repositories.

use mlua::MultiValue;

use super::{Alone, Git, arguments, name_of, reason, repo, required, without_secrets};
use crate::modules::{
    call::Call,
    files::{self, Depth},
    options::Options,
    report::{Change, Report},
};

const OPTIONS: [&str; 9] = ["url", "local_path", "path", "branch", "depth", "clean", "update", "submodules", "timeout"];
/// Most commits that a shallow copy has.
const DEPTH_MAX: u64 = 1_000_000;

/// What is to be cloned.
struct Wanted {
    url: String,
    branch: Option<String>,
    depth: Option<u64>,
    submodules: bool,
}

/// A clone that is there stays, unless it is to be made anew (`clean`) or brought up to date (`update`).
pub(super) async fn clone(call: Call, given: MultiValue) -> mlua::Result<Alone> {
    let options = arguments(&call, &given, &OPTIONS, &["url", "path"])?;
    let wanted = Wanted::read(&call, &options)?;
    let path = match (options.path("local_path")?, options.path("path")?) {
        (Some(path), None) | (None, Some(path)) => path,
        (None, None) => call.workdir().join(last_part(&wanted.url)),
        (Some(_), Some(_)) => return Err(call.error("`path` and `local_path` are two names of one option")),
    };
    let git = Git::at(&call, path, options.duration("timeout")?);
    let clean = options.flag("clean")?.unwrap_or(false);
    let update = options.flag("update")?.unwrap_or(false);
    let found = if clean { false } else { repo::is_there(&git.path) };
    let outcome = match (found, update) {
        (true, true) => bring_up(&git, &wanted).await,
        (true, false) => keep(&git, &wanted).await,
        (false, _) => make(&git, &wanted, clean).await,
    };
    let told = match outcome {
        Ok(report) => {
            let path = git.path.to_string_lossy().into_owned();
            let head = git.head().await;
            Ok(report
                .with("path", path.clone())
                .with("RepoPath", path)
                .with("url", wanted.url)
                .with("exists", found)
                .with("revision", head))
        }
        Err(reason) => Err(call.refusal(reason)),
    };
    Ok(Alone(told))
}

impl Wanted {
    fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Self> {
        let url = required(call, "url", name_of(call, options, "url")?)?;
        let depth = options.value("depth")?;
        let depth = if depth.is_nil() { None } else { Some(call.integer("depth", &depth, 1, DEPTH_MAX)?) };
        let branch = name_of(call, options, "branch")?;
        Ok(Self { url, branch, depth, submodules: options.flag("submodules")?.unwrap_or(false) })
    }

    fn words(&self, path: &std::path::Path) -> Vec<String> {
        let mut words = vec!["clone".to_owned()];
        if let Some(branch) = &self.branch {
            words.extend(["--branch".to_owned(), branch.clone()]);
        }
        if let Some(depth) = self.depth {
            words.extend(["--depth".to_owned(), depth.to_string()]);
        }
        if self.submodules {
            words.push("--recurse-submodules".to_owned());
        }
        words.extend(["--".to_owned(), self.url.clone(), path.to_string_lossy().into_owned()]);
        words
    }
}

async fn make(git: &Git<'_>, wanted: &Wanted, clean: bool) -> Result<Report, String> {
    let (path, url) = (git.path.display(), without_secrets(&wanted.url));
    let is_free = git.path.read_dir().map_or(true, |mut entries| entries.next().is_none());
    let in_the_way = git.path.symlink_metadata().is_ok() && (!git.path.is_dir() || !is_free);
    if in_the_way && !clean {
        return Err(format!("`{path}` is there and no git repository: `clean = true` replaces it"));
    }
    let change = Change::new(format!("clone `{url}` to `{path}`"), format!("cloned `{url}` to `{path}`"));
    change
        .apply_async(git.call, async {
            if in_the_way {
                files::remove(&git.path, Depth::All)?;
            }
            let output = git.run(&wanted.words(&git.path)).await?;
            if output.success() { Ok(()) } else { Err(reason(&output)) }
        })
        .await
}

async fn keep(git: &Git<'_>, wanted: &Wanted) -> Result<Report, String> {
    let origin = git.ask(&["config", "--get", "remote.origin.url"]).await.unwrap_or_default();
    if origin != wanted.url {
        let origin = if origin.is_empty() { "nothing".to_owned() } else { format!("`{}`", without_secrets(&origin)) };
        let path = git.path.display();
        git.call.context.warn(&format!("{}: `{path}` is there already, and is a clone of {origin}", git.call.name));
    }
    Ok(Report::unchanged(format!("`{}` is cloned already", git.path.display())))
}

/// Moves a clone to what its remote has, never over what is only here.
async fn bring_up(git: &Git<'_>, wanted: &Wanted) -> Result<Report, String> {
    let path = git.path.display();
    let before = git.head().await;
    let branch = match (&wanted.branch, git.branch().await) {
        (Some(branch), _) => branch.clone(),
        (None, Some(branch)) => branch,
        (None, None) => return Err(format!("`{path}` has no branch checked out: give `branch`")),
    };
    if git.call.checking() {
        let there = super::change::remote_commit(git, "origin", &branch).await?;
        if there.is_some() && there == before {
            return Ok(Report::unchanged(format!("`{path}` is up to date")));
        }
        return Change::new(format!("update `{path}`"), String::new()).apply(git.call, || Ok(()));
    }
    git.ask(&["fetch", "--quiet", "origin"]).await?;
    git.ask(&["checkout", "--quiet", &branch, "--"]).await?;
    // What was cloned by the name of a tag has nothing to follow.
    if git.branch().await.is_some() {
        git.ask(&["merge", "--quiet", "--ff-only", &format!("refs/remotes/origin/{branch}"), "--"]).await?;
    }
    if git.head().await == before {
        return Ok(Report::unchanged(format!("`{path}` is up to date")));
    }
    Change::new(String::new(), format!("updated `{path}`")).apply(git.call, || Ok(()))
}

/// What git itself would call the directory.
fn last_part(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let name = url.rsplit(['/', ':']).next().unwrap_or(url);
    name.trim_end_matches(".git").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_called_like_its_repository() {
        for url in ["https://host/team/tool.git", "git@host:team/tool.git", "/srv/tool/", "host:tool"] {
            assert_eq!(last_part(url), "tool", "{url}");
        }
    }
}
