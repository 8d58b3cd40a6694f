//! `archive`: files packed into one. The same files give the same bytes.

use std::{
    fs::{File, Metadata},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use glob::Pattern;
use mlua::{MultiValue, Value};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{
    super::{
        call::Call,
        files,
        foreseen::{self, Made, Seen},
        paths::readable,
        report::{Answer, Change, Report},
    },
    arguments::Arguments,
    place::{self, FILE_MODE, Settings, beside},
    unpack::patterns,
};
use crate::beneath::{Place, entry, inode};

const OPTIONS: [&str; 8] = ["src", "paths", "dest", "format", "exclude", "mode", "owner", "group"];
const FORMATS: &str = "`zip`, `tar`, `tar.gz` or `tar.zst`";
/// Most files and directories of one archive.
const ENTRIES_MAX: usize = 200_000;
/// How deep directories are packed.
const DEPTH_MAX: usize = 64;
/// How hard zstd tries: its own choice.
const ZSTD_LEVEL: i32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Zip,
    Tar,
    TarGz,
    TarZst,
}

/// A file that is packed, and its name in the archive.
struct Item {
    path: PathBuf,
    name: PathBuf,
    found: Metadata,
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "zip" => Self::Zip,
            "tar" => Self::Tar,
            "tar.gz" | "tgz" | "gz" => Self::TarGz,
            "tar.zst" | "zst" => Self::TarZst,
            _ => return None,
        })
    }

    /// What the ending of a name says.
    fn of(path: &Path) -> Option<Self> {
        let name = files::file_name(path).to_string_lossy().to_lowercase();
        ["tar.gz", "tar.zst", "tgz", "tar", "zip"]
            .into_iter()
            .find(|ending| name.ends_with(&format!(".{ending}")))
            .and_then(Self::parse)
    }
}

pub(super) async fn archive(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["src", "dest"], &OPTIONS)?;
    let dest = arguments.writable("dest")?;
    let mut names = arguments.list("paths")?;
    names.extend(arguments.list("src")?);
    if names.is_empty() {
        return Err(arguments.missing("src"));
    }
    let mut sources = Vec::new();
    for name in names {
        sources.push(readable(&call, "src", &Value::String(call.lua.create_string(name)?))?);
    }
    let format = match arguments.text("format")? {
        Some(text) => {
            Format::parse(&text).ok_or_else(|| call.error(format_args!("`format` takes {FORMATS}, got `{text}`")))?
        }
        None => Format::of(&dest).ok_or_else(|| {
            call.error(format_args!("`{}` says no format by its ending: say `format`: {FORMATS}", dest.display()))
        })?,
    };
    let exclude = patterns(&call, &arguments, "exclude")?;
    let settings = Settings::read(&call, &arguments)?;
    let outcome = pack(&call, sources, &dest, format, exclude, settings).await;
    Ok(call.answer(outcome.map(|report| report.with("dest", dest.display().to_string()))))
}

async fn pack(
    call: &Call,
    sources: Vec<Place>,
    dest: &Place,
    format: Format,
    exclude: Vec<Pattern>,
    settings: Settings,
) -> Result<Report, String> {
    let shown = dest.display().to_string();
    settings.attributes.check(call)?;
    let unseen =
        |source: &Place| matches!(foreseen::look(call, source), Seen::File(_) | Seen::Directory | Seen::Perhaps);
    if sources.iter().any(unseen) {
        let report = Change::new(format!("pack `{shown}`"), "").apply(call, || Ok(()))?;
        foreseen::note(call, dest, Made::File(None));
        return Ok(report);
    }
    let target = dest.clone();
    let looked = beside(move || {
        let mut items = Vec::new();
        for source in &sources {
            let name = PathBuf::from(files::file_name(source));
            gather(source, &name, &target, &exclude, DEPTH_MAX, &mut items)?;
        }
        let same = match File::open(inode(&target)) {
            Ok(file) => {
                let mut compared = Compared { file: BufReader::new(file), same: true };
                write(&items, format, &mut compared)?;
                compared.is_whole()
            }
            Err(_) => false,
        };
        Ok((sources, items, same))
    });
    let (sources, items, same) = looked.await?;
    let (count, found) = (items.len(), inode(dest).metadata().ok());
    let differences = found.as_ref().map_or_else(Vec::new, |found| settings.attributes.differences(found));
    if same && differences.is_empty() {
        return Ok(Report::unchanged(format!("`{shown}` is as it should be")).with("count", count));
    }
    let target = dest.clone();
    let change =
        Change::new(format!("pack {count} files into `{shown}`"), format!("packed {count} files into `{shown}`"));
    let report = change.apply_async(
        call,
        beside(move || {
            let made = place::prepare(&target, &settings, Some(FILE_MODE), found.as_ref(), |file| {
                let mut buffered = BufWriter::new(file);
                write(&items, format, &mut buffered).map_err(io::Error::other)?;
                buffered.flush()
            });
            // They keep open what the items are reached by.
            drop(sources);
            made?.settle(&target)
        }),
    );
    let report = report.await?.with("count", count);
    foreseen::note(call, dest, Made::File(None));
    Ok(report)
}

/// What is packed of `path`, in order; directories before what is in them.
fn gather(
    path: &Path,
    name: &Path,
    dest: &Path,
    exclude: &[Pattern],
    depth: usize,
    items: &mut Vec<Item>,
) -> Result<(), String> {
    let found = entry(path).symlink_metadata().map_err(files::said("pack", path))?;
    let excluded =
        |pattern: &Pattern| pattern.matches_path(name) || pattern.matches(&files::file_name(name).to_string_lossy());
    // An archive that lies in what it packs does not hold itself.
    if path == dest || exclude.iter().any(excluded) {
        return Ok(());
    }
    if depth == 0 || items.len() == ENTRIES_MAX {
        return Err(format!(
            "`{}` is too much: {ENTRIES_MAX} files can be packed, {DEPTH_MAX} directories deep",
            path.display()
        ));
    }
    if !(found.is_file() || found.is_dir() || found.is_symlink()) {
        return Err(format!("cannot pack `{}`: it is no file, directory or link", path.display()));
    }
    let names = if found.is_dir() { files::list(path)? } else { Vec::new() };
    items.push(Item { path: path.to_owned(), name: name.to_owned(), found });
    names.iter().try_for_each(|below| gather(&path.join(below), &name.join(below), dest, exclude, depth - 1, items))
}

fn write(items: &[Item], format: Format, into: &mut dyn Write) -> Result<(), String> {
    let wrong = |error: io::Error| format!("cannot pack: {error}");
    match format {
        Format::Zip => zip(items, into),
        Format::Tar => tar(items, into).map(drop),
        Format::TarGz => tar(items, GzEncoder::new(into, Compression::default()))?.finish().map(drop).map_err(wrong),
        Format::TarZst => {
            let encoder = zstd::stream::write::Encoder::new(into, ZSTD_LEVEL).map_err(wrong)?;
            tar(items, encoder)?.finish().map(drop).map_err(wrong)
        }
    }
}

fn tar<W: Write>(items: &[Item], into: W) -> Result<W, String> {
    let mut builder = tar::Builder::new(into);
    builder.follow_symlinks(false);
    for item in items {
        let packed = if item.found.is_dir() {
            // Its own time changes with whatever is made in it, such as the archive.
            let mut header = tar::Header::new_gnu();
            header.set_metadata(&item.found);
            header.set_mtime(0);
            builder.append_data(&mut header, item.name.join(""), io::empty())
        } else {
            builder.append_path_with_name(entry(&item.path), &item.name)
        };
        packed.map_err(files::said("pack", &item.path))?;
    }
    builder.into_inner().map_err(|error| format!("cannot pack: {error}"))
}

fn zip(items: &[Item], into: &mut dyn Write) -> Result<(), String> {
    const LARGE_BYTES: u64 = u32::MAX as u64;
    let mut writer = ZipWriter::new_stream(into);
    for item in items {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .large_file(LARGE_BYTES <= item.found.len())
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(item.found.mode() & 0o777);
        let name = item.name.to_string_lossy();
        let packed = if item.found.is_dir() {
            writer.add_directory(name, options).map_err(io::Error::from)
        } else if item.found.is_symlink() {
            let target = entry(&item.path).read_link();
            target
                .and_then(|target| writer.add_symlink(name, target.to_string_lossy(), options).map_err(io::Error::from))
        } else {
            writer.start_file(name, options).map_err(io::Error::from).and_then(|()| {
                let file = File::open(inode(&item.path))?;
                io::copy(&mut file.take(item.found.len()), &mut writer).map(drop)
            })
        };
        packed.map_err(files::said("pack", &item.path))?;
    }
    writer.finish().map(drop).map_err(|error| format!("cannot pack: {error}"))
}

/// Compares what is written with a file.
struct Compared {
    file: BufReader<File>,
    same: bool,
}

impl Compared {
    /// Whether nothing is left of the file.
    fn is_whole(&mut self) -> bool {
        self.same && self.file.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

impl Write for Compared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.same {
            let mut there = vec![0; bytes.len()];
            self.same = self.file.read_exact(&mut there).is_ok() && there == bytes;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
