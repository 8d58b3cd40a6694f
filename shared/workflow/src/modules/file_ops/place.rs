//! Puts a content at a path: looked at first, tried out if that is asked for, then there at once.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use mlua::Value;
use sloth_core::fs::{Access, create_temporary};

use super::{
    super::{
        attributes::Attributes,
        call::{Call, Gate},
        diff, files,
        foreseen::{self, Made, Seen},
        report::{Change, Report},
        tool::Tool,
    },
    arguments::Arguments,
};
use crate::{
    beneath::{Place, Way, create_dirs_above, entry, inode},
    capability::Capability,
};

/// The mode of a file that is made when nothing says another.
pub(super) const FILE_MODE: u32 = 0o644;
/// Most bytes of files whose lines are compared for people.
const SHOWN_BYTES_MAX: u64 = 512 * 1024;
/// What is read at a time where files are compared.
const CHUNK_BYTES: usize = 64 * 1024;
/// What stands for the file in the command that tries it out.
const PLACEHOLDER: &str = "%s";

/// How a file is put in its place.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) attributes: Attributes,
    backup: bool,
    validate: Option<Vec<String>>,
}

/// What a file is to hold.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// That of a file, which may be large.
    File(Place),
}

/// A file that is to be at a path.
#[derive(Debug, Clone)]
pub(super) struct Placing {
    pub(super) path: Place,
    pub(super) content: Content,
    /// The mode that it gets when its content is written and no other is asked for; `None` = that of the file that is
    /// there.
    pub(super) mode: Option<u32>,
    pub(super) settings: Settings,
}

impl Settings {
    /// From the options `mode`, `owner`, `group`, `backup` and `validate`.
    pub(super) fn read(call: &Call, arguments: &Arguments<'_>) -> mlua::Result<Self> {
        let asked = !arguments.value("validate")?.is_nil();
        let is_list = matches!(arguments.value("validate")?, Value::Table(_));
        let validate = if is_list { Some(arguments.list("validate")?) } else { None };
        let names_file = |command: &Vec<String>| command.iter().skip(1).any(|part| part.contains(PLACEHOLDER));
        if asked && !validate.as_ref().is_some_and(names_file) {
            return Err(call.error(
                "`validate` takes a list of a program and its arguments, where `%s` stands for the file: { \"visudo\", \"-cf\", \"%s\" }",
            ));
        }
        if asked {
            call.pass(Gate::Needs(Capability::Exec))?;
        }
        Ok(Self {
            attributes: Attributes::read(call, arguments.options())?,
            backup: arguments.flag("backup")?.unwrap_or(false),
            validate,
        })
    }
}

/// Does what takes a while beside the machine, which runs other tasks meanwhile.
pub(in crate::modules) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Puts a file at its path, unless it is there as it is to be.
pub(super) async fn put(call: &Call, placing: Placing) -> Result<Report, String> {
    let shown = placing.path.display().to_string();
    // A link keeps its place.
    let target = placing.path.clone().led();
    placing.settings.attributes.check(call)?;
    let seen = foreseen::look(call, &target);
    if seen != Seen::AsItIs {
        return put_unseen(call, &placing, &target, seen);
    }
    let found = inode(&target).metadata().ok();
    if found.as_ref().is_some_and(Metadata::is_dir) {
        return Err(format!("`{shown}` is a directory"));
    }
    files::openable(&target)?;
    let (path, content) = (target.clone(), placing.content.clone());
    let compared = beside(move || compare(&path, &content)).await?;
    let differences = found.as_ref().map_or_else(Vec::new, |found| placing.settings.attributes.differences(found));
    let (would, did) = match (&found, &compared) {
        (Some(_), None) if differences.is_empty() => {
            return Ok(Report::unchanged(format!("`{shown}` is as it should be")).with("path", shown));
        }
        (Some(_), None) => {
            let told = format!("{} of `{shown}`", differences.join(", "));
            let change = Change::new(format!("change {told}"), format!("changed {told}"));
            let applied = change.apply(call, || placing.settings.attributes.apply(&target))?;
            return Ok(applied.with("path", shown));
        }
        (Some(_), Some(_)) => ("change", "changed"),
        (None, _) => ("create", "created"),
    };
    let change = Change::new(format!("{would} `{shown}`"), format!("{did} `{shown}`"));
    let (mut backup, made) = (None, kept(call, &placing.content));
    let written = change.diff(compared.unwrap_or_default());
    let report = written.apply_async(call, async {
        backup = write(call, &target, placing, found).await?;
        Ok(())
    });
    let report = report.await?.with("path", shown);
    foreseen::note(call, &target, made);
    Ok(match backup {
        Some(backup) => report.with("backup_file", backup.display().to_string()),
        None => report,
    })
}

/// As [`put`], in a run that only checks, of a file that an earlier step would have made, changed or removed.
fn put_unseen(call: &Call, placing: &Placing, target: &Place, seen: Seen) -> Result<Report, String> {
    let shown = placing.path.display().to_string();
    let made = kept(call, &placing.content);
    let (would, before) = match seen {
        Seen::Directory => return Err(format!("`{shown}` is a directory")),
        Seen::File(before) => ("change", before),
        Seen::AsItIs | Seen::Gone | Seen::Perhaps => ("create", Some(Vec::new())),
    };
    let diff = match (&before, &made) {
        (Some(before), Made::File(Some(after))) if would == "change" && before == after => {
            return Ok(Report::unchanged(format!("`{shown}` is as it should be")).with("path", shown));
        }
        (Some(before), Made::File(Some(after))) => diff::unified(&shown, before, after),
        (_, Made::File(_) | Made::Directory | Made::Filled | Made::Gone) => String::new(),
    };
    let report = Change::new(format!("{would} `{shown}`"), "").diff(diff).apply(call, || Ok(()))?;
    foreseen::note(call, target, made);
    Ok(report.with("path", shown))
}

/// What a later step of a run that only checks finds of `content`.
fn kept(call: &Call, content: &Content) -> Made {
    Made::File(match content {
        Content::Bytes(bytes) if call.checking() => Some(bytes.clone()),
        Content::File(source) if call.checking() => {
            let small = inode(source).metadata().is_ok_and(|found| found.len() <= SHOWN_BYTES_MAX);
            if small { files::read(source).ok() } else { None }
        }
        Content::Bytes(_) | Content::File(_) => None,
    })
}

/// The lines that differ; `None` when the file holds `content` already.
fn compare(path: &Path, content: &Content) -> Result<Option<String>, String> {
    let name = path.display().to_string();
    let found = inode(path).metadata().ok().filter(Metadata::is_file);
    let (len, small) = match content {
        Content::Bytes(bytes) => (bytes.len() as u64, bytes.len() as u64 <= SHOWN_BYTES_MAX),
        Content::File(source) => {
            let len = inode(source).metadata().map_err(files::said("read", source))?.len();
            (len, len <= SHOWN_BYTES_MAX)
        }
    };
    let small = small && found.as_ref().is_none_or(|found| found.len() <= SHOWN_BYTES_MAX);
    if small {
        let before = if found.is_some() { files::read(path)? } else { Vec::new() };
        let after = match content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::File(source) => files::read(source)?,
        };
        let same = found.is_some() && before == after;
        return Ok((!same).then(|| diff::unified(&name, &before, &after)));
    }
    let same = match &found {
        Some(found) if found.len() == len => match content {
            Content::Bytes(bytes) => same(path, &mut &bytes[..]).map_err(files::said("read", path))?,
            Content::File(source) => alike(source, path)?,
        },
        Some(_) | None => false,
    };
    let before = found.map_or(0, |found| found.len());
    Ok((!same).then(|| format!("file {name} differs: {before} bytes before, {len} after")))
}

/// Whether two files hold the same.
pub(super) fn alike(one: &Path, other: &Path) -> Result<bool, String> {
    let size = |path: &Path| inode(path).metadata().map(|found| found.len()).map_err(files::said("read", path));
    if size(one)? != size(other)? {
        return Ok(false);
    }
    let mut file = File::open(inode(other)).map_err(files::said("read", other))?;
    same(one, &mut file).map_err(files::said("read", one))
}

/// Whether the file at `path` holds what `other` gives.
pub(super) fn same(path: &Path, other: &mut dyn Read) -> io::Result<bool> {
    let mut file = File::open(inode(path))?;
    let (mut ours, mut theirs) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        let count = fill(&mut file, &mut ours)?;
        if fill(other, &mut theirs)? != count || ours[..count] != theirs[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// As many bytes as there are and fit.
fn fill(from: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < into.len() {
        match from.read(&mut into[count..]) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// A file beside its place; it goes when it does not come to stand there.
pub(super) struct Temporary {
    /// The way to it for this process.
    path: PathBuf,
    /// Keeps the way open.
    _place: Way,
}

impl Temporary {
    /// Gives the file its name. A file that is mounted alone, as in containers, can only be written into.
    pub(super) fn settle(self, path: &Path) -> Result<(), String> {
        let way = entry(path);
        match sloth_core::fs::rename(&self.path, &way) {
            Err(error) if error.source.kind() == io::ErrorKind::ResourceBusy => {
                let copied = File::open(&self.path).and_then(|mut from| {
                    let mut to = std::fs::OpenOptions::new().write(true).truncate(true).open(&way)?;
                    io::copy(&mut from, &mut to)?;
                    to.sync_all()
                });
                copied.map_err(files::said("write", path))
            }
            renamed => renamed.map_err(files::told),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there any more when it has been given its name.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes the file, and gives the path of the copy of the old one if one is asked for.
async fn write(
    call: &Call,
    target: &Place,
    placing: Placing,
    found: Option<Metadata>,
) -> Result<Option<PathBuf>, String> {
    let time = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + call.context.host.now().as_duration());
    let backup = match &found {
        Some(found) if placing.settings.backup && found.is_file() => Some(unused(target, &time.to_string())),
        Some(_) | None => None,
    };
    if found.as_ref().is_some_and(|found| !found.is_file()) || files::is_kernel(target) {
        let Content::Bytes(bytes) = placing.content else {
            return Err(format!("cannot copy to `{}`: it is no plain file", target.display()));
        };
        files::replace(target, &bytes)?;
        return Ok(None);
    }
    let validate = placing.settings.validate.clone();
    let path = target.clone();
    let temporary = beside(move || {
        let Placing { content, mode, settings, .. } = &placing;
        prepare(&path, settings, *mode, found.as_ref(), |file| match content {
            Content::Bytes(bytes) => file.write_all(bytes),
            Content::File(source) => {
                File::open(inode(source)).and_then(|mut source| io::copy(&mut source, file)).map(drop)
            }
        })
    })
    .await?;
    if let Some(command) = validate {
        // The way by what is held open is this process's own.
        let plain = target.with_file_name(files::file_name(&temporary.path));
        try_out(call, target, &plain, &command).await?;
    }
    let (path, kept) = (target.clone(), backup.clone());
    beside(move || {
        if let Some(kept) = kept {
            files::copy(&path, &kept)?;
        }
        temporary.settle(&path)
    })
    .await?;
    Ok(backup)
}

/// Makes the file beside its place, whole and on the disk. It gets `mode` when no other is asked for; `None` = that of the
/// file that is there.
pub(super) fn prepare(
    path: &Place,
    settings: &Settings,
    mode: Option<u32>,
    found: Option<&Metadata>,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<Temporary, String> {
    create_dirs_above(path).map_err(files::told)?;
    let way = entry(path);
    let dir = way.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (uid, gid) = settings.attributes.ids()?;
    let (temporary, mut file) =
        create_temporary(dir, Access::Owner).map_err(|error| files::said("write", path)(error.source))?;
    let temporary = Temporary { path: temporary, _place: way };
    let made = fill(&mut file).and_then(|()| file.metadata()).map_err(files::said("write", path))?;
    let keep = |wanted: Option<u32>, had: Option<u32>, has: u32| wanted.or(had).filter(|id| *id != has);
    let ids = (keep(uid, found.map(Metadata::uid), made.uid()), keep(gid, found.map(Metadata::gid), made.gid()));
    let mode = mode.or(found.map(|found| found.mode() & files::MODE_BITS)).unwrap_or(FILE_MODE);
    let set = settings.attributes.apply_to_new(&file, mode, ids).and_then(|()| file.sync_all());
    set.map_err(files::said("write", path))?;
    Ok(temporary)
}

/// Asks a program whether the file is good.
async fn try_out(call: &Call, target: &Path, temporary: &Path, command: &[String]) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let place = temporary.to_string_lossy();
    let arguments = arguments.iter().map(|argument| argument.replace(PLACEHOLDER, &place));
    let output = Tool::new(call, program).args(arguments).run().await?;
    if output.success() {
        return Ok(());
    }
    Err(format!("`{}` stays as it was, since the new one is not valid: {}", target.display(), output.reason()))
}

/// A name for the old file that nothing has.
fn unused(path: &Path, time: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut backup = path.with_file_name(format!("{name}.{time}~"));
    let mut number = 1;
    while entry(&backup).symlink_metadata().is_ok() {
        number += 1;
        backup = path.with_file_name(format!("{name}.{time}.{number}~"));
    }
    backup
}
