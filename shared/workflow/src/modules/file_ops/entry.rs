//! `file`, `directory`, `touch`, `link` and `absent`: what is to be at a path, whatever it holds.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use mlua::MultiValue;

use super::{
    super::{
        attributes::Attributes,
        call::Call,
        files,
        foreseen::{self, Made, Seen},
        report::{Answer, Change, Report},
    },
    arguments::Arguments,
    place::beside,
};
use crate::beneath::{Place, create_dirs, create_dirs_above, entry, followed, inode};

const OPTIONS: [&str; 9] = ["path", "state", "src", "target", "mode", "owner", "group", "recurse", "force"];
const STATES: &str = "`file`, `present`, `directory`, `touch`, `link`, `hard` or `absent`";
/// Most files whose owner and mode one call changes.
const CHANGED_ENTRIES_MAX: usize = 100_000;
/// How deep directories are gone into.
const DEPTH_MAX: usize = 64;

/// What is to be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A file, which must be there.
    File,
    /// A file; an empty one is made.
    Present,
    Directory,
    /// A file with the times of now; an empty one is made.
    Touch,
    /// A symbolic link.
    Link,
    /// Another name of a file.
    Hard,
    Absent,
}

impl State {
    fn parse(call: &Call, text: &str) -> mlua::Result<Self> {
        Ok(match text {
            "file" => Self::File,
            "present" => Self::Present,
            "directory" | "dir" => Self::Directory,
            "touch" => Self::Touch,
            "link" | "symlink" => Self::Link,
            "hard" => Self::Hard,
            "absent" => Self::Absent,
            other => return Err(call.error(format_args!("`state` takes {STATES}, got `{other}`"))),
        })
    }
}

/// What one call asks for.
struct Wanted {
    path: Place,
    src: Option<String>,
    /// The file that gets another name.
    source: Option<Place>,
    attributes: Attributes,
    recurse: bool,
    force: bool,
}

pub(super) async fn file(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["path"], &OPTIONS)?;
    let state = arguments.text("state")?.map(|text| State::parse(&call, &text)).transpose()?;
    act(&call, &arguments, state.unwrap_or(State::File)).await
}

/// As [`file`], with a state of its own.
pub(super) async fn of(call: Call, values: MultiValue, state: State) -> mlua::Result<Answer> {
    let order: &[&str] = if state == State::Link { &["src", "path"] } else { &["path"] };
    let known: Vec<&str> = OPTIONS.into_iter().filter(|name| *name != "state").collect();
    let arguments = Arguments::read(&call, &values, order, &known)?;
    act(&call, &arguments, state).await
}

async fn act(call: &Call, arguments: &Arguments<'_>, state: State) -> mlua::Result<Answer> {
    let named = if arguments.value("src")?.is_nil() { "target" } else { "src" };
    let src = match state {
        State::Hard | State::Link => arguments.text(named)?,
        State::File | State::Present | State::Directory | State::Touch | State::Absent => None,
    };
    let path = match state {
        State::Link | State::Hard | State::Absent => arguments.movable("path")?,
        State::File | State::Present | State::Directory | State::Touch => arguments.writable("path")?,
    };
    let source = match state {
        // Whoever may write to a file by another name may write to it.
        State::Hard if !arguments.value(named)?.is_nil() => Some(arguments.movable(named)?),
        State::Hard | State::Link | State::File | State::Present => None,
        State::Directory | State::Touch | State::Absent => None,
    };
    let wanted = Wanted {
        path,
        src,
        source,
        attributes: Attributes::read(call, arguments.options())?,
        recurse: arguments.flag("recurse")?.unwrap_or(false),
        force: arguments.flag("force")?.unwrap_or(false),
    };
    if matches!(state, State::Link | State::Hard) && wanted.src.is_none() {
        return Err(arguments.missing("src"));
    }
    let shown = wanted.path.display().to_string();
    if let Err(reason) = wanted.attributes.check(call) {
        return Ok(call.answer(Err(reason)));
    }
    let outcome = match state {
        _ if foreseen::look(call, &wanted.path) != Seen::AsItIs => unseen(call, &wanted, state),
        State::File => existing(call, &wanted),
        State::Present | State::Touch => touched(call, &wanted, state),
        State::Directory => directory(call, wanted).await,
        State::Link => symlink(call, &wanted),
        State::Hard => hard_link(call, &wanted),
        State::Absent => absent(call, wanted.path).await,
    };
    Ok(call.answer(outcome.map(|report| report.with("path", shown))))
}

fn existing(call: &Call, wanted: &Wanted) -> Result<Report, String> {
    let path = &wanted.path;
    let Ok(found) = inode(path).metadata() else { return Err(nothing_at(path)) };
    attributed(call, wanted, &found)
}

fn nothing_at(path: &Path) -> String {
    format!(
        "there is no file `{}`: to have one made, say `state = \"present\"` or `state = \"directory\"`",
        path.display()
    )
}

/// In a run that only checks: what is to be done to something that an earlier step would have made or removed.
fn unseen(call: &Call, wanted: &Wanted, state: State) -> Result<Report, String> {
    let (path, shown) = (&wanted.path, wanted.path.display());
    let seen = foreseen::look(call, path);
    let there = matches!(seen, Seen::File(_) | Seen::Directory);
    let told = |would: &str, made: Option<Made>| {
        let report = Change::new(format!("{would} `{shown}`"), "").apply(call, || Ok(()))?;
        if let Some(made) = made {
            foreseen::note(call, path, made);
        }
        Ok(report)
    };
    let attributed = || {
        if wanted.attributes == Attributes::default() {
            Ok(Report::unchanged(format!("`{shown}` is as it should be")))
        } else {
            told("set mode and owner of", None)
        }
    };
    match state {
        State::File if there || seen == Seen::Perhaps => attributed(),
        State::File => Err(nothing_at(path)),
        State::Present if there => attributed(),
        State::Touch if there => told("touch", None),
        State::Present | State::Touch => told("create", Some(Made::File(Some(Vec::new())))),
        State::Directory if seen == Seen::Directory => attributed(),
        State::Directory if there => Err(format!("`{shown}` is there and no directory")),
        State::Directory => told("make the directory", Some(Made::Directory)),
        State::Link | State::Hard if seen == Seen::Directory => {
            Err(format!("`{shown}` is a directory: remove it first"))
        }
        State::Link | State::Hard => told("link", Some(Made::File(None))),
        State::Absent if there => told("remove", Some(Made::Gone)),
        State::Absent => Ok(Report::unchanged(format!("`{shown}` is not there"))),
    }
}

fn touched(call: &Call, wanted: &Wanted, state: State) -> Result<Report, String> {
    let path = &wanted.path;
    let found = inode(path).metadata().ok();
    if let (Some(found), State::Present) = (&found, state) {
        return attributed(call, wanted, found);
    }
    let (would, did) = if found.is_some() { ("touch", "touched") } else { ("create", "created") };
    let change = Change::new(format!("{would} `{}`", path.display()), format!("{did} `{}`", path.display()));
    let report = change.apply(call, || {
        create_dirs_above(path).map_err(files::told)?;
        files::touch(path)?;
        wanted.attributes.apply(&followed(path))
    })?;
    if found.is_none() {
        foreseen::note(call, path, Made::File(Some(Vec::new())));
    }
    Ok(report)
}

async fn directory(call: &Call, wanted: Wanted) -> Result<Report, String> {
    let path = wanted.path.clone();
    match inode(&path).metadata() {
        Ok(found) if !found.is_dir() => Err(format!("`{}` is there and no directory", path.display())),
        Ok(_) if wanted.recurse => below(call, wanted).await,
        Ok(found) => attributed(call, &wanted, &found),
        Err(_) => {
            let told = format!("the directory `{}`", path.display());
            let report = Change::new(format!("make {told}"), format!("made {told}")).apply(call, || {
                create_dirs(&path).map_err(files::told)?;
                wanted.attributes.apply(&path)
            })?;
            foreseen::note(call, &path, Made::Directory);
            Ok(report)
        }
    }
}

/// Gives a directory and all that is in it their attributes.
async fn below(call: &Call, wanted: Wanted) -> Result<Report, String> {
    let shown = wanted.path.display().to_string();
    let (path, attributes) = (wanted.path, wanted.attributes);
    let wish = attributes.clone();
    let differing = beside(move || {
        let mut differing = Vec::new();
        differ(&path, &wish, DEPTH_MAX, &mut differing)?;
        Ok(differing)
    });
    let differing = differing.await?;
    if differing.is_empty() {
        return Ok(Report::unchanged(format!("`{shown}` is as it should be")));
    }
    let count = differing.len();
    let told = format!("mode or owner of {count} files in `{shown}`");
    let change = Change::new(format!("change {told}"), format!("changed {told}"));
    let lines: Vec<&str> = differing.iter().map(|(_, told)| told.as_str()).collect();
    let change = change.diff(lines.join("\n"));
    change
        .apply_async(call, beside(move || differing.iter().try_for_each(|(path, _)| attributes.apply(path))))
        .await
        .map(|report| report.with("count", count))
}

fn differ(
    path: &Path,
    attributes: &Attributes,
    depth: usize,
    differing: &mut Vec<(PathBuf, String)>,
) -> Result<(), String> {
    if depth == 0 || differing.len() == CHANGED_ENTRIES_MAX {
        return Err(format!(
            "`{}` is too much: {CHANGED_ENTRIES_MAX} files can be changed, {DEPTH_MAX} directories deep",
            path.display()
        ));
    }
    let found = entry(path).symlink_metadata().map_err(files::said("look at", path))?;
    // A link has no mode of its own.
    let differences = if found.is_symlink() {
        Attributes { mode: None, ..attributes.clone() }.differences(&found)
    } else {
        attributes.differences(&found)
    };
    if !differences.is_empty() {
        differing.push((path.to_owned(), format!("{}: {}", path.display(), differences.join(", "))));
    }
    if found.is_dir() {
        for name in files::list(path)? {
            differ(&path.join(name), attributes, depth - 1, differing)?;
        }
    }
    Ok(())
}

/// Gives what is there its attributes.
fn attributed(call: &Call, wanted: &Wanted, found: &Metadata) -> Result<Report, String> {
    let shown = wanted.path.display();
    let differences = wanted.attributes.differences(found);
    if differences.is_empty() {
        return Ok(Report::unchanged(format!("`{shown}` is as it should be")));
    }
    let told = format!("{} of `{shown}`", differences.join(", "));
    Change::new(format!("change {told}"), format!("changed {told}"))
        .apply(call, || wanted.attributes.apply(&followed(&wanted.path)))
}

fn symlink(call: &Call, wanted: &Wanted) -> Result<Report, String> {
    let (path, target) = (&wanted.path, wanted.src.clone().unwrap_or_default());
    let found = entry(path).symlink_metadata().ok();
    if entry(path).read_link().is_ok_and(|there| there.as_os_str() == target.as_str()) {
        let owners = Attributes { mode: None, ..wanted.attributes.clone() };
        return match found.map(|found| owners.differences(&found)) {
            Some(differences) if !differences.is_empty() => {
                let told = format!("{} of `{}`", differences.join(", "), path.display());
                Change::new(format!("change {told}"), format!("changed {told}")).apply(call, || owners.apply(path))
            }
            Some(_) | None => Ok(Report::unchanged(format!("`{}` leads to `{target}` already", path.display()))),
        };
    }
    refuse_to_replace(wanted, found.as_ref())?;
    let told = format!("`{}` to `{target}`", path.display());
    let report = Change::new(format!("link {told}"), format!("linked {told}")).apply(call, || {
        replace_by(path, found.as_ref(), |new| std::os::unix::fs::symlink(&target, new))?;
        Attributes { mode: None, ..wanted.attributes.clone() }.apply(path)
    })?;
    foreseen::note(call, path, Made::File(None));
    Ok(report)
}

fn hard_link(call: &Call, wanted: &Wanted) -> Result<Report, String> {
    let path = &wanted.path;
    let Some(source) = &wanted.source else { return Err("no file is named to link to".to_owned()) };
    let found = entry(path).symlink_metadata().ok();
    let told = format!("`{}` to the same file as `{}`", path.display(), source.display());
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (entry(source).symlink_metadata(), &found) {
        (Ok(linked), Some(found)) if same(&linked, found) => {
            return Ok(Report::unchanged(format!("`{}` is the same file already", path.display())));
        }
        (Err(error), _) if matches!(foreseen::look(call, source), Seen::AsItIs | Seen::Gone) => {
            return Err(files::said("link to", source)(error));
        }
        (Ok(_) | Err(_), _) => refuse_to_replace(wanted, found.as_ref())?,
    }
    let report = Change::new(format!("link {told}"), format!("linked {told}"))
        .apply(call, || replace_by(path, found.as_ref(), |new| std::fs::hard_link(entry(source), new)))?;
    foreseen::note(call, path, Made::File(None));
    Ok(report)
}

/// A link may take the place of another; of a file only when that is asked for, and never of a directory.
fn refuse_to_replace(wanted: &Wanted, found: Option<&Metadata>) -> Result<(), String> {
    let shown = wanted.path.display();
    match found {
        Some(found) if found.is_dir() => Err(format!("`{shown}` is a directory: remove it first")),
        Some(found) if !found.is_symlink() && !wanted.force => {
            Err(format!("`{shown}` is there and no link: say `force = true` to have it replaced"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes a link beside its place and gives it its name, so that there is always one.
fn replace_by(
    path: &Path,
    found: Option<&Metadata>,
    make: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), String> {
    create_dirs_above(path).map_err(files::told)?;
    let way = entry(path);
    let dir = way.parent().unwrap_or(Path::new("/"));
    if found.is_none() {
        return make(&way).map_err(files::said("make the link", path));
    }
    let temporary = sloth_core::fs::temporary_name(dir);
    make(&temporary).map_err(files::said("make the link", path))?;
    let renamed = sloth_core::fs::rename(&temporary, &way);
    if renamed.is_err() {
        // The first error is the one worth telling.
        let _ = std::fs::remove_file(&temporary);
    }
    renamed.map_err(files::told)
}

async fn absent(call: &Call, path: Place) -> Result<Report, String> {
    if entry(&path).symlink_metadata().is_err() {
        return Ok(Report::unchanged(format!("`{}` is not there", path.display())));
    }
    let told = format!("`{}`", path.display());
    let change = Change::new(format!("remove {told}"), format!("removed {told}"));
    let gone = path.clone();
    let report = change.apply_async(call, beside(move || files::remove(&path, files::Depth::All))).await?;
    foreseen::note(call, &gone, Made::Gone);
    Ok(report)
}
