//! `copy`, `fetch` and `template`: files that are to hold what others hold.

use std::{
    fs::Metadata,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use mlua::MultiValue;
use sloth_core::{error::Chain, fs::Access};

use super::{
    super::{
        attributes::{Attributes, MODE_BITS},
        call::Call,
        files, paths,
        report::{Answer, Change, Report},
        template,
    },
    arguments::Arguments,
    place::{self, Content, Placing, Settings, beside},
};

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
        if src.is_dir() {
            copy_dir(&call, src, dest, settings.attributes).await
        } else {
            copy_file(&call, &src, dest, is_dir, settings, force).await
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
    Ok(call.answer(copy_file(&call, &src, dest, is_dir, settings, true).await))
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
            let text = files::read(&paths::source(&call, "src", &arguments.required("src")?)?);
            let text = text.and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| format!("the template `{name}` is not valid UTF-8"))
            });
            (name, text)
        }
    };
    let path = if is_dir { dest.join(files::file_name(Path::new(&name))) } else { dest };
    let outcome = match text.and_then(|text| template::fill(&call.context, engine, &name, &text, variables)) {
        Ok(text) => {
            let content = Content::Bytes(text.into_bytes());
            place::put(&call, Placing { path, content, mode: None, settings }).await
        }
        Err(reason) => Err(reason),
    };
    Ok(call.answer(outcome))
}

/// Where the copy goes, and whether that is a directory that gets it by its name.
fn destination(arguments: &Arguments<'_>) -> mlua::Result<(PathBuf, bool)> {
    let is_dir = arguments.required_text("dest")?.ends_with('/');
    let dest = arguments.writable("dest")?;
    let is_dir = is_dir || dest.is_dir();
    Ok((dest, is_dir))
}

async fn copy_file(
    call: &Call,
    src: &Path,
    dest: PathBuf,
    is_dir: bool,
    settings: Settings,
    force: bool,
) -> Result<Report, String> {
    let path = if is_dir { dest.join(files::file_name(src)) } else { dest };
    let found = match src.metadata() {
        Ok(found) if found.is_file() => found,
        Ok(_) => return Err(format!("cannot copy `{}`: it is no plain file", src.display())),
        // An earlier step, which this run only told, may be what makes it.
        Err(_) if call.checking() => {
            let told = format!("`{}` to `{}`", src.display(), path.display());
            return Change::new(format!("copy {told}"), String::new()).apply(call, || Ok(()));
        }
        Err(error) => return Err(files::said("copy", src)(error)),
    };
    let content = Content::File(src.to_owned());
    let placing = Placing { path, content, mode: Some(found.mode() & MODE_BITS), settings };
    let report = unless_there(call, placing, force).await?;
    Ok(report.with("src", src.display().to_string()).with("size", found.len()))
}

async fn unless_there(call: &Call, placing: Placing, force: bool) -> Result<Report, String> {
    let shown = placing.path.display().to_string();
    if !force && placing.path.symlink_metadata().is_ok() {
        return Ok(Report::unchanged(format!("`{shown}` is there already")).with("dest", shown));
    }
    Ok(place::put(call, placing).await?.with("dest", shown))
}

/// Copies a directory with all that is in it; what else is in the copy stays.
async fn copy_dir(call: &Call, src: PathBuf, dest: PathBuf, attributes: Attributes) -> Result<Report, String> {
    let told = format!("`{}` to `{}`", src.display(), dest.display());
    let (from, to, wanted) = (src.clone(), dest.clone(), attributes.clone());
    let entries = beside(move || {
        let mut entries = Vec::new();
        differing(&from, &to, &wanted, COPIED_DEPTH_MAX, &mut entries)?;
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
        applied.await?
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
    let found = src.symlink_metadata().map_err(files::said("copy", src))?;
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
    let Ok(there) = dest.symlink_metadata() else { return Ok(true) };
    if found.is_symlink() {
        return Ok(src.read_link().ok() != dest.read_link().ok());
    }
    let wanted = Attributes { mode: attributes.mode.clone().filter(|_| found.is_file()), ..attributes.clone() };
    if there.is_dir() != found.is_dir() || !wanted.differences(&there).is_empty() {
        return Ok(true);
    }
    Ok(found.is_file() && !place::alike(src, dest)?)
}

fn make(entry: &Entry, attributes: &Attributes) -> Result<(), String> {
    let to = &entry.to;
    if entry.found.is_dir() {
        sloth_core::fs::create_dir(to, Access::Everyone).map_err(|error| Chain(&error).to_string())?;
        let mode = std::fs::Permissions::from_mode(entry.found.mode() & MODE_BITS);
        std::fs::set_permissions(to, mode).map_err(files::said("change the mode of", to))?;
        return Attributes { mode: None, ..attributes.clone() }.apply(to);
    }
    if entry.found.is_symlink() {
        let target = entry.from.read_link().map_err(files::said("read the link", &entry.from))?;
        if to.symlink_metadata().is_ok() {
            files::remove(to, files::Depth::One)?;
        }
        std::os::unix::fs::symlink(target, to).map_err(files::said("make the link", to))?;
        return Attributes { mode: None, ..attributes.clone() }.apply(to);
    }
    if to.is_symlink() {
        files::remove(to, files::Depth::One)?;
    }
    if to.is_dir() {
        return Err(format!("cannot copy to `{}`: there is a directory", to.display()));
    }
    if !to.exists() || !place::alike(&entry.from, to)? {
        files::copy(&entry.from, to)?;
    }
    attributes.apply(to)
}
