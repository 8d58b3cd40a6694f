//! `unarchive`: what an archive holds, as files.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata, Permissions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use glob::Pattern;
use mlua::MultiValue;
use sloth_core::fs::{Access, create_temporary};

use super::{
    super::{
        attributes::{Attributes, Mode},
        call::Call,
        files,
        foreseen::{self, Made, Seen},
        paths,
        report::{Answer, Change, Report},
    },
    arguments::Arguments,
    formats::{self, Entry, Kind, Reading},
    place::{self, beside},
    tree::{Missing, Spot, Tree},
};
use crate::beneath::{Place, create_dirs, inode};

const OPTIONS: [&str; 9] = ["src", "dest", "strip", "creates", "include", "exclude", "mode", "owner", "group"];
/// Most leading directories that entries lose.
const STRIP_MAX: u64 = 64;

/// What is to be unpacked, and how.
#[derive(Clone)]
struct Wanted {
    src: Place,
    dest: Place,
    strip: usize,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    attributes: Attributes,
}

/// Tells what works beside the machine that nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) async fn unarchive(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["src", "dest"], &OPTIONS)?;
    let creates = arguments.value("creates")?;
    let creates = if creates.is_nil() { None } else { Some(paths::readable(&call, "creates", &creates)?) };
    let strip = arguments.value("strip")?;
    let strip = if strip.is_nil() { 0 } else { call.integer("strip", &strip, 0, STRIP_MAX)? };
    let wanted = Wanted {
        src: paths::source(&call, "src", &arguments.required("src")?)?,
        dest: arguments.writable("dest")?,
        strip: usize::try_from(strip).unwrap_or(usize::MAX),
        include: patterns(&call, &arguments, "include")?,
        exclude: patterns(&call, &arguments, "exclude")?,
        attributes: Attributes::read(&call, arguments.options())?,
    };
    let outcome = match creates {
        Some(path) if inode(&path).symlink_metadata().is_ok() => {
            Ok(Report::unchanged(format!("`{}` is there already", path.display())))
        }
        Some(_) | None => unpack(&call, &wanted).await,
    };
    let (src, dest) = (wanted.src.display().to_string(), wanted.dest.display().to_string());
    Ok(call.answer(outcome.map(|report| report.with("src", src).with("dest", dest))))
}

pub(super) fn patterns(call: &Call, arguments: &Arguments<'_>, name: &str) -> mlua::Result<Vec<Pattern>> {
    let compiled = |text: &String| {
        Pattern::new(text).map_err(|error| call.error(format_args!("`{text}` is no pattern: {}", error.msg)))
    };
    arguments.list(name)?.iter().map(compiled).collect()
}

async fn unpack(call: &Call, wanted: &Wanted) -> Result<Report, String> {
    let told = format!("`{}` to `{}`", wanted.src.display(), wanted.dest.display());
    wanted.attributes.check(call)?;
    match foreseen::look(call, &wanted.src) {
        Seen::AsItIs => {}
        Seen::File(_) | Seen::Directory | Seen::Perhaps => {
            let report = Change::new(format!("unpack {told}"), "").apply(call, || Ok(()))?;
            foreseen::note(call, &wanted.dest, Made::Filled);
            return Ok(report);
        }
        Seen::Gone => {
            return Err(format!("cannot unpack `{}`: an earlier step would have removed it", wanted.src.display()));
        }
    }
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let (looking, stopped) = (wanted.clone(), Arc::clone(&stop.0));
    let differing = beside(move || look(&looking, &stopped)).await?;
    let names: Vec<String> = differing.iter().map(|path| format!("+ {}", path.display())).collect();
    if names.is_empty() {
        return Ok(Report::unchanged(format!("all of {told} is unpacked already")).with("count", 0));
    }
    let (writing, stopped, count) = (wanted.clone(), Arc::clone(&stop.0), names.len());
    let change =
        Change::new(format!("unpack {count} files from {told}"), format!("unpacked {count} files from {told}"));
    let work = beside(move || write(&writing, &differing, &stopped));
    let report = change.diff(names.join("\n")).apply_async(call, work).await?.with("count", count);
    foreseen::note(call, &wanted.dest, Made::Filled);
    Ok(report)
}

impl Wanted {
    fn open(&self) -> Result<File, String> {
        files::openable(&self.src)?;
        let file = File::open(inode(&self.src)).map_err(files::said("unpack", &self.src))?;
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(file),
            Ok(_) | Err(_) => Err(format!("cannot unpack `{}`: it is no plain file", self.src.display())),
        }
    }

    fn takes(&self, path: &Path) -> bool {
        let matches = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| path.ancestors().any(|above| pattern.matches_path(above)))
        };
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }

    fn mode(&self, entry: &Entry) -> u32 {
        let is_dir = entry.kind == Kind::Directory;
        match &self.attributes.mode {
            // Digits that are right for files would close directories.
            Some(Mode::Octal(_)) if is_dir => entry.mode,
            Some(mode) => mode.applied(entry.mode, is_dir),
            None => entry.mode,
        }
    }

    fn owners(&self) -> Attributes {
        Attributes { mode: None, ..self.attributes.clone() }
    }
}

/// The entries that are not there, or are there otherwise.
fn look(wanted: &Wanted, stop: &AtomicBool) -> Result<Vec<PathBuf>, String> {
    let way = inode(&wanted.dest);
    let tree = match way.metadata() {
        Ok(found) if found.is_dir() => Some(Tree::open(&way, &wanted.dest)?),
        Ok(_) => return Err(format!("`{}` is there and no directory", wanted.dest.display())),
        Err(_) => None,
    };
    // The last of entries with one name is the one that stays.
    let mut differing = BTreeMap::new();
    let reading = Reading { name: &wanted.src, strip: wanted.strip, stop };
    formats::read(&mut wanted.open()?, &reading, &mut |entry, content| {
        if !wanted.takes(&entry.path) {
            return Ok(());
        }
        let differs = match &tree {
            Some(tree) => differs(wanted, tree, entry, content)?,
            None => true,
        };
        // All of it is counted, so that a bomb is known before anything is written.
        io::copy(content, &mut io::sink()).map_err(|error| error.to_string())?;
        differing.insert(entry.path.clone(), differs);
        Ok(())
    })?;
    Ok(differing.into_iter().filter(|(_, differs)| *differs).map(|(path, _)| path).collect())
}

fn differs(wanted: &Wanted, tree: &Tree, entry: &Entry, content: &mut dyn Read) -> Result<bool, String> {
    let Some(spot) = tree.spot(&entry.path, Missing::Left)? else { return Ok(true) };
    let Ok(found) = spot.path.symlink_metadata() else { return Ok(true) };
    let same_mode = || found.mode() & 0o7777 == wanted.mode(entry);
    let same = match &entry.kind {
        Kind::Directory => found.is_dir(),
        Kind::Link(target) => spot.path.read_link().is_ok_and(|there| there == *target),
        Kind::Hard(target) => match tree.spot(target, Missing::Left)? {
            Some(other) => other.path.symlink_metadata().is_ok_and(|other| same_file(&other, &found)),
            None => false,
        },
        Kind::File => {
            found.is_file() && same_mode() && place::same(&spot.path, content).map_err(|error| error.to_string())?
        }
    };
    Ok(!same || !wanted.owners().differences(&found).is_empty())
}

fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Writes the entries at `differing`.
fn write(wanted: &Wanted, differing: &[PathBuf], stop: &AtomicBool) -> Result<(), String> {
    create_dirs(&wanted.dest).map_err(files::told)?;
    let tree = Tree::open(&inode(&wanted.dest), &wanted.dest)?;
    let reading = Reading { name: &wanted.src, strip: wanted.strip, stop };
    // A directory that may not be written to is closed when all is in it.
    let mut directories = Vec::new();
    formats::read(&mut wanted.open()?, &reading, &mut |entry, content| {
        if differing.binary_search(&entry.path).is_err() {
            return Ok(());
        }
        let shown = tree.shown(&entry.path);
        let Some(spot) = tree.spot(&entry.path, Missing::Made)? else { return Ok(()) };
        put(&tree, &spot, wanted, entry, content).map_err(files::said("unpack", &shown))?;
        if entry.kind == Kind::Directory {
            directories.push((entry.path.clone(), wanted.mode(entry)));
        }
        wanted.owners().apply(&spot.path)
    })?;
    for (path, mode) in directories.into_iter().rev() {
        let Some(spot) = tree.spot(&path, Missing::Left)? else { continue };
        let set = std::fs::set_permissions(&spot.path, Permissions::from_mode(mode));
        set.map_err(files::said("change the mode of", &tree.shown(&path)))?;
    }
    Ok(())
}

fn put(tree: &Tree, spot: &Spot, wanted: &Wanted, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
    let found = spot.path.symlink_metadata().ok();
    if entry.kind == Kind::Directory {
        return match found {
            Some(found) if found.is_dir() => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => std::fs::create_dir(&spot.path),
        };
    }
    if found.as_ref().is_some_and(Metadata::is_dir) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    match &entry.kind {
        Kind::Directory => Ok(()),
        Kind::Link(target) => {
            if found.is_some() {
                std::fs::remove_file(&spot.path)?;
            }
            std::os::unix::fs::symlink(target, &spot.path)
        }
        Kind::Hard(target) => {
            let other = tree.spot(target, Missing::Left).map_err(io::Error::other)?;
            let Some(other) = other else { return Err(io::ErrorKind::NotFound.into()) };
            if !other.path.symlink_metadata()?.is_file() {
                return Err(io::Error::other("what it is another name of is no plain file"));
            }
            if found.is_some() {
                std::fs::remove_file(&spot.path)?;
            }
            std::fs::hard_link(&other.path, &spot.path)
        }
        Kind::File => {
            let dir = spot.path.parent().unwrap_or(Path::new("/"));
            let (temporary, mut file) = create_temporary(dir, Access::Owner).map_err(|error| error.source)?;
            let filled = io::copy(content, &mut file).and_then(|_| {
                file.set_permissions(Permissions::from_mode(wanted.mode(entry)))?;
                if let Some(changed) = entry.changed.and_then(|seconds| u64::try_from(seconds).ok()) {
                    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(changed))?;
                }
                std::fs::rename(&temporary, &spot.path)
            });
            if filled.is_err() {
                // The first error is the one worth telling.
                let _ = std::fs::remove_file(&temporary);
            }
            filled
        }
    }
}
