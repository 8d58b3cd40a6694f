//! `copy`, `fetch` and `template`: files that are to hold what others hold.

use std::{
    ffi::OsStr,
    fs::Metadata,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use mlua::{MultiValue, Value};

use super::{
    super::{
        attributes::Attributes,
        call::Call,
        files,
        foreseen::{self, Made, Seen},
        paths::{self, writable},
        report::{Answer, Change, Report},
        template,
    },
    arguments::Arguments,
    place::{self, Content, Placing, Settings, beside},
};
use crate::beneath::{Place, create_dirs, create_dirs_above, entry, followed, inode};

const COPY: [&str; 9] = ["src", "dest", "content", "force", "mode", "owner", "group", "backup", "validate"];
const FETCH: [&str; 6] = ["src", "dest", "mode", "owner", "group", "backup"];
const TEMPLATE: [&str; 10] =
    ["src", "dest", "vars", "content", "engine", "mode", "owner", "group", "backup", "validate"];
/// Most files and directories of one copy.
const COPIED_ENTRIES_MAX: usize = 100_000;
/// How deep directories are copied.
const COPIED_DEPTH_MAX: usize = 64;

/// A file, a directory or a link in a directory that is copied.
struct Entry {
    from: PathBuf,
    to: PathBuf,
    found: Metadata,
}

pub(super) async fn copy(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["src", "dest"], &COPY)?;
    let (dest, is_dir) = destination(&arguments)?;
    let settings = Settings::read(&call, &arguments)?;
    let force = arguments.flag("force")?.unwrap_or(true);
    let content = arguments.options().bytes("content")?;
    if content.is_some() && !arguments.value("src")?.is_nil() {
        return Err(call.error("takes `src` or `content`, not both"));
    }
    let outcome = if let Some(bytes) = content {
        let placing = Placing { path: dest, content: Content::Bytes(bytes), mode: None, settings };
        unless_there(&call, placing, force).await
    } else {
        let src = paths::source(&call, "src", &arguments.required("src")?)?;
        if foreseen::look(&call, &src) == Seen::AsItIs && inode(&src).is_dir() {
            copy_dir(&call, src, dest, settings.attributes).await
        } else {
            let path = if is_dir { within(&call, &dest, files::file_name(&src))? } else { dest };
            copy_file(&call, src, path, settings, force).await
        }
    };
    Ok(call.answer(outcome))
}

/// A copy of a file of this host: where steps run elsewhere, the task's directory comes back by itself.
pub(super) async fn fetch(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["src", "dest"], &FETCH)?;
    let (dest, is_dir) = destination(&arguments)?;
    let settings = Settings::read(&call, &arguments)?;
    let src = paths::readable(&call, "src", &arguments.required("src")?)?;
    let path = if is_dir { within(&call, &dest, files::file_name(&src))? } else { dest };
    Ok(call.answer(copy_file(&call, src, path, settings, true).await))
}

pub(super) async fn template(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["src", "dest", "vars"], &TEMPLATE)?;
    let (dest, is_dir) = destination(&arguments)?;
    let settings = Settings::read(&call, &arguments)?;
    let variables = template::variables(&call, "vars", &arguments.value("vars")?)?;
    let engine = arguments.text("engine")?.map(|name| template::Engine::parse(&call, &name)).transpose()?;
    let (name, text) = match arguments.text("content")? {
        Some(_) if !arguments.value("src")?.is_nil() => {
            return Err(call.error("takes `src` or `content`, not both"));
        }
        Some(content) => ("content".to_owned(), Ok(content)),
        None => {
            let name = arguments.required_text("src")?;
            let src = paths::source(&call, "src", &arguments.required("src")?)?;
            if let Some(report) = fill_untold(&call, &src, &dest, is_dir, &settings) {
                return Ok(call.answer(report));
            }
            let text = foreseen::read(&call, &src).and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| format!("the template `{name}` is not valid UTF-8"))
            });
            (name, text)
        }
    };
    let path = if is_dir { within(&call, &dest, files::file_name(Path::new(&name)))? } else { dest };
    let outcome = match text.and_then(|text| template::fill(&call.context, engine, &name, &text, variables)) {
        Ok(text) => {
            let content = Content::Bytes(text.into_bytes());
            place::put(&call, Placing { path, content, mode: None, settings }).await
        }
        Err(reason) => Err(reason),
    };
    Ok(call.answer(outcome))
}

/// In a run that only checks: a template that an earlier step makes is to be filled in, and nobody knows what is in it.
fn fill_untold(
    call: &Call,
    src: &Place,
    dest: &Place,
    is_dir: bool,
    settings: &Settings,
) -> Option<Result<Report, String>> {
    if !matches!(foreseen::look(call, src), Seen::File(None) | Seen::Perhaps) {
        return None;
    }
    let dest = if is_dir { dest.join(files::file_name(src)) } else { dest.to_path_buf() };
    Some(settings.attributes.check(call).and_then(|()| told_only(call, "fill in", src, &dest)))
}

/// Tells that `dest` is made of `src`, which nobody can look into yet.
fn told_only(call: &Call, action: &str, src: &Path, dest: &Path) -> Result<Report, String> {
    let told = format!("`{}` to `{}`", src.display(), dest.display());
    let report = Change::new(format!("{action} {told}"), "").apply(call, || Ok(()))?;
    foreseen::note(call, dest, Made::File(None));
    Ok(report)
}

/// Where the copy goes, and whether that is a directory that gets it by its name.
fn destination(arguments: &Arguments<'_>) -> mlua::Result<(Place, bool)> {
    let dest = arguments.writable("dest")?;
    let is_dir = arguments.required_text("dest")?.ends_with('/') || inode(&dest).is_dir();
    let is_dir = is_dir || foreseen::look(arguments.call(), &dest) == Seen::Directory;
    Ok((dest, is_dir))
}

/// The place of a file called `name` in the directory at `dest`.
fn within(call: &Call, dest: &Place, name: &OsStr) -> mlua::Result<Place> {
    let path = call.lua.create_string(dest.join(name).as_os_str().as_encoded_bytes())?;
    writable(call, "dest", &Value::String(path))
}

async fn copy_file(call: &Call, src: Place, path: Place, settings: Settings, force: bool) -> Result<Report, String> {
    match foreseen::look(call, &src) {
        Seen::AsItIs => {}
        Seen::File(Some(content)) => {
            let size = content.len();
            let placing = Placing { path, content: Content::Bytes(content), mode: None, settings };
            let report = unless_there(call, placing, force).await?;
            return Ok(report.with("src", src.display().to_string()).with("size", size));
        }
        Seen::File(None) | Seen::Directory | Seen::Perhaps => {
            settings.attributes.check(call)?;
            return told_only(call, "copy", &src, &path);
        }
        Seen::Gone => return Err(format!("cannot copy `{}`: an earlier step would have removed it", src.display())),
    }
    let found = match inode(&src).metadata() {
        Ok(found) if found.is_file() => found,
        Ok(_) => return Err(format!("cannot copy `{}`: it is no plain file", src.display())),
        Err(error) => return Err(files::said("copy", &src)(error)),
    };
    let content = Content::File(src.clone());
    let placing = Placing { path, content, mode: Some(found.mode() & files::MODE_BITS), settings };
    let report = unless_there(call, placing, force).await?;
    Ok(report.with("src", src.display().to_string()).with("size", found.len()))
}

async fn unless_there(call: &Call, placing: Placing, force: bool) -> Result<Report, String> {
    let shown = placing.path.display().to_string();
    let there = match foreseen::look(call, &placing.path) {
        Seen::AsItIs => entry(&placing.path).symlink_metadata().is_ok(),
        Seen::File(_) | Seen::Directory => true,
        Seen::Gone | Seen::Perhaps => false,
    };
    if !force && there {
        return Ok(Report::unchanged(format!("`{shown}` is there already")).with("dest", shown));
    }
    Ok(place::put(call, placing).await?.with("dest", shown))
}

/// Copies a directory with all that is in it; what else is in the copy stays.
async fn copy_dir(call: &Call, src: Place, dest: Place, attributes: Attributes) -> Result<Report, String> {
    attributes.check(call)?;
    let told = format!("`{}` to `{}`", src.display(), dest.display());
    let (from, to, wanted) = (src.clone(), dest.clone(), attributes.clone());
    let entries = beside(move || {
        let mut entries = Vec::new();
        // A link that leads to a directory means the directory.
        differing(&followed(&from), &to, &wanted, COPIED_DEPTH_MAX, &mut entries)?;
        Ok(entries)
    });
    let entries = entries.await?;
    let count = entries.len();
    let report = if count == 0 {
        Report::unchanged(format!("`{}` is as it should be", dest.display()))
    } else {
        let names: Vec<String> = entries.iter().map(|entry| format!("+ {}", entry.to.display())).collect();
        let change =
            Change::new(format!("copy {count} files from {told}"), format!("copied {count} files from {told}"));
        let applied = change
            .diff(names.join("\n"))
            .apply_async(call, beside(move || entries.iter().try_for_each(|entry| make(entry, &attributes))));
        let applied = applied.await?;
        foreseen::note(call, &dest, Made::Filled);
        applied
    };
    Ok(report.with("src", src.display().to_string()).with("dest", dest.display().to_string()).with("count", count))
}

/// What of `src` the copy at `dest` has not, or has otherwise; directories before what is in them.
fn differing(
    src: &Path,
    dest: &Path,
    attributes: &Attributes,
    depth: usize,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("`{}` lies more than {COPIED_DEPTH_MAX} directories deep", src.display()));
    }
    if entries.len() == COPIED_ENTRIES_MAX {
        return Err(format!("there are more than {COPIED_ENTRIES_MAX} files to copy"));
    }
    let found = entry(src).symlink_metadata().map_err(files::said("copy", src))?;
    if !(found.is_file() || found.is_dir() || found.is_symlink()) {
        return Err(format!("cannot copy `{}`: it is no file, directory or link", src.display()));
    }
    let names = if found.is_dir() { files::list(src)? } else { Vec::new() };
    if differs(src, dest, &found, attributes)? {
        entries.push(Entry { from: src.to_owned(), to: dest.to_owned(), found });
    }
    names.iter().try_for_each(|name| differing(&src.join(name), &dest.join(name), attributes, depth - 1, entries))
}

fn differs(src: &Path, dest: &Path, found: &Metadata, attributes: &Attributes) -> Result<bool, String> {
    let Ok(there) = entry(dest).symlink_metadata() else { return Ok(true) };
    if found.is_symlink() {
        return Ok(entry(src).read_link().ok() != entry(dest).read_link().ok());
    }
    if found.is_dir() && !there.is_dir() {
        return Err(format!("`{}` is there and no directory", dest.display()));
    }
    let wanted = Attributes { mode: attributes.mode.clone().filter(|_| found.is_file()), ..attributes.clone() };
    if there.is_dir() != found.is_dir() || !wanted.differences(&there).is_empty() {
        return Ok(true);
    }
    Ok(found.is_file() && !place::alike(src, dest)?)
}

fn make(copied: &Entry, attributes: &Attributes) -> Result<(), String> {
    let to = &copied.to;
    create_dirs_above(to).map_err(files::told)?;
    let way = entry(to);
    let owners = Attributes { mode: None, ..attributes.clone() };
    let there = way.symlink_metadata().ok();
    if copied.found.is_dir() {
        create_dirs(to).map_err(files::told)?;
        let mode = std::fs::Permissions::from_mode(copied.found.mode() & files::MODE_BITS);
        std::fs::set_permissions(inode(to), mode).map_err(files::said("change the mode of", to))?;
        return owners.apply(to);
    }
    if there.as_ref().is_some_and(Metadata::is_dir) {
        return Err(format!("cannot copy to `{}`: there is a directory", to.display()));
    }
    // Nothing is written through a link that lies in the copy.
    if there.is_some_and(|there| there.is_symlink() || copied.found.is_symlink()) {
        files::remove(to, files::Depth::One)?;
    }
    if copied.found.is_symlink() {
        let target = entry(&copied.from).read_link().map_err(files::said("read the link", &copied.from))?;
        std::os::unix::fs::symlink(target, &way).map_err(files::said("make the link", to))?;
        return owners.apply(to);
    }
    if way.symlink_metadata().is_err() || !place::alike(&copied.from, to)? {
        files::copy(&copied.from, to)?;
    }
    attributes.apply(to)
}
