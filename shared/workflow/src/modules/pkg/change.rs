//! What changes the packages of the host.

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use mlua::MultiValue;

use super::{
    ASK_TIMEOUT, CHANGE_TIMEOUT, Line,
    manager::Manager,
    names::{self, Package},
    reason,
    state::{self, Versions},
};
use crate::modules::{
    call::Call,
    options::Options,
    report::{Answer, Change, Report},
};

/// Where apt keeps what it downloaded.
const APT_ARCHIVES: &str = "/var/cache/apt/archives";
const INSTALL: [&str; 6] = ["state", "version", "update_cache", "cache_valid_time", "purge", "timeout"];

/// Whether packages are to be kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    On,
    Off,
}

/// How packages are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Present,
    Latest,
    Absent,
}

pub(super) async fn install(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let (mut packages, options) = names::read(&call, &arguments, &INSTALL)?;
    let wanted = match options.text("state")?.as_deref() {
        None | Some("present" | "installed") => Wanted::Present,
        Some("latest") => Wanted::Latest,
        Some("absent" | "removed") => Wanted::Absent,
        Some(state) => {
            return Err(call.error(format_args!("there is no state `{state}`: it takes `present`, `latest`, `absent`")));
        }
    };
    if let Some(version) = options.text("version")? {
        let is_word = version.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.:~^*_".contains(letter));
        match &mut packages[..] {
            [package] if is_word && !version.is_empty() => package.version = Some(version),
            [_] => return Err(call.error(format_args!("`{version}` cannot be a version"))),
            _ => return Err(call.error("`version` is that of one package: write `name=version` in a list")),
        }
    }
    let purge = options.flag("purge")?.unwrap_or(false);
    let refresh = options.flag("update_cache")?.unwrap_or(false);
    let (valid, timeout) = (options.duration("cache_valid_time")?, timeout(&options)?);
    let outcome = async {
        let manager = Manager::detect(&call)?;
        if refresh && wanted != Wanted::Absent {
            refresh_index(&call, manager, valid, timeout).await?;
        }
        match wanted {
            Wanted::Absent => take(&call, manager, &packages, purge, timeout).await,
            Wanted::Present | Wanted::Latest => put(&call, manager, &packages, wanted, timeout).await,
        }
    };
    Ok(call.answer(outcome.await))
}

pub(super) async fn remove(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let (packages, options) = names::read(&call, &arguments, &["purge", "timeout"])?;
    let (purge, timeout) = (options.flag("purge")?.unwrap_or(false), timeout(&options)?);
    let outcome = async { take(&call, Manager::detect(&call)?, &packages, purge, timeout).await };
    Ok(call.answer(outcome.await))
}

/// Reads the index of packages again, unless it is young enough.
pub(super) async fn update(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &[], &["cache_valid_time", "timeout"])?;
    let (valid, timeout) = (options.duration("cache_valid_time")?, timeout(&options)?);
    let outcome = async { refresh_index(&call, Manager::detect(&call)?, valid, timeout).await };
    Ok(call.answer(outcome.await))
}

pub(super) async fn upgrade(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &[], &["update_cache", "cache_valid_time", "timeout"])?;
    let refresh = options.flag("update_cache")?.unwrap_or(false);
    let (valid, timeout) = (options.duration("cache_valid_time")?, timeout(&options)?);
    let outcome = async {
        let manager = Manager::detect(&call)?;
        if refresh {
            refresh_index(&call, manager, valid, timeout).await?;
        }
        let newer = state::outdated(&call, manager, &[]).await?;
        if newer.is_empty() {
            return Ok(Report::unchanged("every package is up to date already"));
        }
        let report = act(&call, manager, ("upgrade", "upgraded", &newer), manager.upgrade(), timeout).await?;
        Ok(report.with("packages", newer))
    };
    Ok(call.answer(outcome.await))
}

/// Removes what the manager downloaded.
pub(super) async fn clean(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    Options::named(&call, &arguments, &[], &[])?;
    let outcome = async {
        let manager = Manager::detect(&call)?;
        if manager == Manager::Apt && !has_archives() {
            return Ok(Report::unchanged("there is nothing to clean"));
        }
        let change = Change::new("clean the cache of packages", "cleaned the cache of packages");
        change.apply_async(&call, async { done(&call, &manager.clean(), CHANGE_TIMEOUT).await.map(drop) }).await
    };
    Ok(call.answer(outcome.await))
}

/// Removes packages that nothing needs any more.
pub(super) async fn autoremove(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &[], &["timeout"])?;
    let timeout = timeout(&options)?;
    let outcome = async {
        let manager = Manager::detect(&call)?;
        let unneeded = state::unneeded(&call, manager).await?;
        let names = unneeded.clone().unwrap_or_default();
        let line = manager.autoremove(&names)?;
        match line {
            Some(line) if unneeded.is_none() || !names.is_empty() => {
                let shown = if names.is_empty() { vec!["what nothing needs".to_owned()] } else { names };
                act(&call, manager, ("remove", "removed", &shown), line, timeout).await
            }
            Some(_) | None => Ok(Report::unchanged("there is no package that nothing needs")),
        }
    };
    Ok(call.answer(outcome.await))
}

/// Installs a package from its file.
pub(super) async fn install_local(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["file"], &["path", "timeout"])?;
    let path = match options.path("file")? {
        Some(path) => path,
        None => options.path("path")?.ok_or_else(|| call.error("`file` is missing"))?,
    };
    let timeout = timeout(&options)?;
    let outcome = async {
        let manager = Manager::detect(&call)?;
        let file = path.display().to_string();
        if !path.is_file() {
            return Err(format!("there is no file `{file}`"));
        }
        if let Some(line) = manager.identify(&file) {
            let told = done(&call, &line, ASK_TIMEOUT).await?;
            let (name, version) = told
                .trim()
                .split_once(['\t', ' '])
                .ok_or_else(|| format!("`{file}` is not a package of {}", manager.name()))?;
            let now = state::installed(&call, manager, &[name.to_owned()]).await?;
            if now.get(name).is_some_and(|now| now == version) {
                return Ok(Report::unchanged(format!("`{name}` {version} is installed already")));
            }
        }
        act(
            &call,
            manager,
            ("install", "installed", std::slice::from_ref(&file)),
            manager.install_local(&file),
            timeout,
        )
        .await
    };
    Ok(call.answer(outcome.await))
}

pub(super) async fn hold(call: Call, arguments: MultiValue, hold: Hold) -> mlua::Result<Answer> {
    let (packages, _) = names::read(&call, &arguments, &[])?;
    let (would, did) = match hold {
        Hold::On => ("hold", "held"),
        Hold::Off => ("stop holding", "no longer held"),
    };
    let outcome = async {
        let manager = Manager::detect(&call)?;
        let held = done(&call, &manager.held()?, ASK_TIMEOUT).await?;
        let is_held = |name: &str| held.lines().any(|line| locks(manager, line, name));
        let names: Vec<_> = packages.iter().map(|package| package.name.clone()).collect();
        let other: Vec<_> = names.into_iter().filter(|name| is_held(name) != (hold == Hold::On)).collect();
        if other.is_empty() {
            return Ok(Report::unchanged(format!("every package is {did} already")));
        }
        let line = manager.hold(&other, hold == Hold::On)?;
        let shown = quoted(&other);
        Change::new(format!("{would} {shown}"), format!("{did}: {shown}"))
            .apply_async(&call, async { done(&call, &line, ASK_TIMEOUT).await.map(drop) })
            .await
    };
    Ok(call.answer(outcome.await))
}

async fn put(
    call: &Call,
    manager: Manager,
    packages: &[Package],
    wanted: Wanted,
    timeout: Duration,
) -> Result<Report, String> {
    let names: Vec<_> = packages.iter().map(|package| package.name.clone()).collect();
    if names.is_empty() {
        return Ok(Report::unchanged("no package is named"));
    }
    let now = state::installed(call, manager, &names).await?;
    let mut missing: Vec<_> = packages.iter().filter(|package| !state::is_there(&now, package)).cloned().collect();
    if wanted == Wanted::Latest {
        let known: Vec<_> = names.iter().filter(|name| now.contains_key(*name)).cloned().collect();
        let newer = if known.is_empty() { Vec::new() } else { state::outdated(call, manager, &known).await? };
        let is_newer = |name: &str| newer.iter().any(|line| line.split(' ').next() == Some(name));
        let outdated = packages.iter().filter(|package| now.contains_key(&package.name) && is_newer(&package.name));
        missing.extend(outdated.filter(|package| state::is_there(&now, package)).cloned().collect::<Vec<_>>());
    }
    if missing.is_empty() {
        return Ok(Report::unchanged("all packages already installed"));
    }
    let shown: Vec<_> = missing.iter().map(Package::shown).collect();
    let line = manager.install(&missing, wanted == Wanted::Latest)?;
    let report = act(call, manager, ("install", "installed", &shown), line, timeout).await?;
    Ok(report.with("installed", shown.join(", ")))
}

async fn take(
    call: &Call,
    manager: Manager,
    packages: &[Package],
    purge: bool,
    timeout: Duration,
) -> Result<Report, String> {
    let names: Vec<_> = packages.iter().map(|package| package.name.clone()).collect();
    let now = if names.is_empty() { Versions::new() } else { state::installed(call, manager, &names).await? };
    let there: Vec<_> = names.into_iter().filter(|name| now.contains_key(name)).collect();
    if there.is_empty() {
        return Ok(Report::unchanged("packages already not installed"));
    }
    let line = manager.remove(&there, purge);
    let report = act(call, manager, ("remove", "removed", &there), line, timeout).await?;
    Ok(report.with("removed", there.join(", ")))
}

/// Runs a line and says what it changed, by what is installed before and after.
async fn act(
    call: &Call,
    manager: Manager,
    (would, did, shown): (&str, &str, &[String]),
    line: Line,
    timeout: Duration,
) -> Result<Report, String> {
    let shown = quoted(shown);
    let change = Change::new(format!("{would} {shown}"), format!("{did} {shown}"));
    if call.checking() {
        return change.apply(call, || Ok(()));
    }
    let before = state::installed(call, manager, &[]).await?;
    let output = done(call, &line, timeout).await?;
    let after = state::installed(call, manager, &[]).await?;
    if before == after {
        return Ok(Report::unchanged(format!("{} found nothing to change for {shown}", manager.name())));
    }
    Ok(change.diff(difference(&before, &after)).apply(call, || Ok(()))?.with("output", output))
}

async fn refresh_index(
    call: &Call,
    manager: Manager,
    valid: Option<Duration>,
    timeout: Duration,
) -> Result<Report, String> {
    let now = Duration::from_millis(call.context.host.now().as_u64());
    let changed = manager.index().iter().filter_map(|path| std::fs::metadata(path).ok()?.modified().ok());
    let newest = changed.filter_map(|time| time.duration_since(UNIX_EPOCH).ok()).max();
    let age = newest.map(|newest| now.saturating_sub(newest));
    if let (Some(age), Some(valid)) = (age, valid)
        && age < valid
    {
        return Ok(Report::unchanged("the index of packages is young enough"));
    }
    let change = Change::new("refresh the index of packages", "refreshed the index of packages");
    if call.checking() {
        return change.apply(call, || Ok(()));
    }
    let output = done(call, &manager.update(), timeout).await?;
    // apt says of each source whether it had to be fetched.
    if manager == Manager::Apt && !output.lines().any(|line| line.starts_with("Get:")) {
        return Ok(Report::unchanged("the index of packages is up to date already").with("output", output));
    }
    Ok(change.apply(call, || Ok(()))?.with("output", output))
}

/// What it printed, or why it failed.
async fn done(call: &Call, line: &Line, timeout: Duration) -> Result<String, String> {
    let output = line.run(call, timeout).await?;
    if output.success() { Ok(output.stdout) } else { Err(reason(&output)) }
}

/// What was installed, removed and replaced, as a diff has it.
fn difference(before: &Versions, after: &Versions) -> String {
    let lines = |versions: &Versions| {
        let lines = versions.iter().filter(|(name, _)| !name.contains(':'));
        lines.map(|(name, version)| format!("{name} {version}\n")).collect::<String>()
    };
    let text = super::super::diff::unified("packages", lines(before).as_bytes(), lines(after).as_bytes());
    let changed = text.lines().filter(|line| line.starts_with(['+', '-']) && !line.ends_with(" packages"));
    changed.collect::<Vec<_>>().join("\n")
}

fn has_archives() -> bool {
    let entries = std::fs::read_dir(Path::new(APT_ARCHIVES)).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "deb"))
}

/// Whether a line of the list of held packages is about this one.
fn locks(manager: Manager, line: &str, name: &str) -> bool {
    match manager {
        Manager::Apt | Manager::Pacman | Manager::Apk => line.trim() == name,
        // Such as `nginx-1:1.20.1-1.el9.*`.
        Manager::Dnf | Manager::Yum => line
            .trim()
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())),
        Manager::Zypper => line.split('|').nth(1).is_some_and(|cell| cell.trim() == name),
    }
}

fn timeout(options: &Options<'_>) -> mlua::Result<Duration> {
    Ok(options.duration("timeout")?.unwrap_or(CHANGE_TIMEOUT))
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Package {
    fn shown(&self) -> String {
        self.version.as_ref().map_or_else(|| self.name.clone(), |version| format!("{}={version}", self.name))
    }
}
