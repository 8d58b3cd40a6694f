//! What an archive holds, entry by entry, with bounds on all of it.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use tar::EntryType;
use zip::ZipArchive;

/// Most entries of an archive.
const ENTRIES_MAX: usize = 200_000;
/// Most bytes of what an archive holds.
const UNPACKED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// What an archive may hold whatever its own size is.
const UNPACKED_BYTES_FREE: u64 = 64 * 1024 * 1024;
/// How many times its own size an archive may hold beyond that.
const RATIO_MAX: u64 = 1_000;
/// How many directories deep an entry may lie.
const DEPTH_MAX: usize = 64;
/// Most bytes of a name, and of what a link leads to.
const NAME_BYTES_MAX: u64 = 4096;
/// Most bytes that stand ahead of one entry: its names and attributes.
const HEADER_BYTES_MAX: u64 = 1024 * 1024;
/// Most bytes of the list of a zip archive's entries.
const ZIP_LIST_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// How far from its end a zip archive's last record may begin.
const ZIP_END_BYTES_MAX: u64 = 22 + 65_535;
/// The bytes of a tar header, and where in it the mark stands that it is one.
const TAR_BLOCK_BYTES: usize = 512;
const TAR_MARK_AT: usize = 257;
/// The bits of a mode that an archive may set.
const ENTRY_MODE_BITS: u32 = 0o777;
const LINK_MODE: u32 = 0o120_000;
const KIND_MODE: u32 = 0o170_000;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// A link with this target, which stays in the archive's directory.
    Link(PathBuf),
    /// Another name of this entry.
    Hard(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Names only, without those that are stripped.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// Unix seconds, where the archive says so for sure.
    pub(super) changed: Option<i64>,
}

/// How an archive is read.
pub(super) struct Reading<'a> {
    /// What it is called in messages.
    pub(super) name: &'a Path,
    /// How many leading directories its entries lose.
    pub(super) strip: usize,
    pub(super) stop: &'a AtomicBool,
}

/// Is given each entry and its content.
pub(super) type Visit<'a> = dyn FnMut(&Entry, &mut dyn Read) -> Result<(), String> + 'a;

/// How an archive is packed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Zip,
    Gzip,
    Zstd,
    Xz,
    None,
}

impl Packing {
    fn of(start: &[u8]) -> Result<Self, String> {
        const UNKNOWN: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"7z\xbc\xaf", "7z"), (b"Rar!", "rar")];
        if let Some((_, name)) = UNKNOWN.iter().find(|(mark, _)| start.starts_with(mark)) {
            return Err(format!("it is packed by {name}, and only zip, tar, gzip, zstd and xz can be unpacked"));
        }
        Ok(match start {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        })
    }
}

/// Counts what is unpacked.
struct Budget<'a> {
    reading: &'a Reading<'a>,
    entries: usize,
    left: u64,
}

impl Budget<'_> {
    fn entry(&mut self) -> Result<(), String> {
        if self.reading.stop.load(Ordering::Relaxed) {
            return Err("it was stopped".to_owned());
        }
        self.entries += 1;
        if ENTRIES_MAX < self.entries {
            return Err(format!("it holds more than {ENTRIES_MAX} entries"));
        }
        Ok(())
    }
}

/// A content that may not be larger than what is left.
struct Bounded<'a, R> {
    inner: R,
    left: &'a mut u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        *self.left = self.left.checked_sub(count as u64).ok_or_else(too_large)?;
        Ok(count)
    }
}

/// The bytes of a tar archive, counted twice: all of them, and those of what comes ahead of the next entry.
struct Metered<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
    ahead: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        let less = |cell: &Cell<u64>| cell.get().checked_sub(count as u64).map(|left| cell.set(left));
        less(self.left).ok_or_else(too_large)?;
        less(self.ahead).ok_or_else(|| io::Error::other("it holds a name that is too long"))?;
        Ok(count)
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!(
        "it holds more than {UNPACKED_BYTES_MAX} bytes, or more than {RATIO_MAX} times its own size"
    ))
}

/// Gives every entry of the archive to `visit`.
pub(super) fn read(file: &mut File, reading: &Reading<'_>, visit: &mut Visit<'_>) -> Result<(), String> {
    let told = |reason: String| format!("cannot unpack `{}`: {reason}", reading.name.display());
    entries(file, reading, visit).map_err(told)
}

fn entries(file: &mut File, reading: &Reading<'_>, visit: &mut Visit<'_>) -> Result<(), String> {
    let size = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let mut start = [0; 8];
    rewind(file)?;
    let count = file.read(&mut start).map_err(|error| error.to_string())?;
    rewind(file)?;
    let packing = Packing::of(&start[..count])?;
    let left = UNPACKED_BYTES_MAX.min(UNPACKED_BYTES_FREE.max(size.saturating_mul(RATIO_MAX)));
    let mut budget = Budget { reading, entries: 0, left };
    let buffered = BufReader::new(&*file);
    match packing {
        Packing::Zip => zip(file, &mut budget, visit),
        Packing::Gzip => stream(&mut MultiGzDecoder::new(buffered), packing, &mut budget, visit),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered).map_err(|error| error.to_string())?;
            stream(&mut decoder, packing, &mut budget, visit)
        }
        Packing::Xz => stream(&mut XzReader::new(buffered, true), packing, &mut budget, visit),
        Packing::None => stream(&mut { buffered }, packing, &mut budget, visit),
    }
}

fn rewind(file: &mut File) -> Result<(), String> {
    file.rewind().map_err(|error| error.to_string())
}

/// A tar archive, or one file that is packed alone.
fn stream(from: &mut dyn Read, packing: Packing, budget: &mut Budget<'_>, visit: &mut Visit<'_>) -> Result<(), String> {
    let mut start = Vec::new();
    from.take(TAR_BLOCK_BYTES as u64).read_to_end(&mut start).map_err(|error| error.to_string())?;
    let is_tar = start.get(TAR_MARK_AT..).is_some_and(|rest| rest.starts_with(b"ustar"))
        || (start.len() == TAR_BLOCK_BYTES && start.iter().all(|byte| *byte == 0));
    let whole = io::Cursor::new(start).chain(from);
    if is_tar {
        return tar(whole, budget, visit);
    }
    if packing == Packing::None {
        return Err("it is no archive: zip, tar, gzip, zstd and xz can be unpacked".to_owned());
    }
    let name = budget.reading.name.with_extension("");
    let path = PathBuf::from(name.file_name().ok_or("it has no name")?);
    let entry = Entry { path, kind: Kind::File, mode: 0o644, changed: None };
    visit(&entry, &mut Bounded { inner: whole, left: &mut budget.left })
}

fn tar(from: impl Read, budget: &mut Budget<'_>, visit: &mut Visit<'_>) -> Result<(), String> {
    let wrong = |error: io::Error| error.to_string();
    let (left, ahead) = (Cell::new(budget.left), Cell::new(HEADER_BYTES_MAX));
    let mut archive = tar::Archive::new(Metered { inner: from, left: &left, ahead: &ahead });
    let mut entries = archive.entries().map_err(wrong)?;
    loop {
        // Names of any length may stand between the entries, and are read whole.
        ahead.set(HEADER_BYTES_MAX);
        let Some(entry) = entries.next() else { return Ok(()) };
        ahead.set(u64::MAX);
        budget.entry()?;
        let mut entry = entry.map_err(wrong)?;
        let header = entry.header();
        let (mode, changed) = (header.mode().map_err(wrong)? & ENTRY_MODE_BITS, header.mtime().ok());
        let name = entry.path().map_err(wrong)?.into_owned();
        let Some(path) = stripped(&name, budget.reading.strip)? else {
            io::copy(&mut entry, &mut io::sink()).map_err(wrong)?;
            continue;
        };
        let target = entry.link_name().map_err(wrong)?.map(std::borrow::Cow::into_owned);
        let kind = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Link(inside(&path, &target.unwrap_or_default())?),
            EntryType::Link => match stripped(&target.unwrap_or_default(), budget.reading.strip)? {
                Some(target) => Kind::Hard(target),
                None => return Err(format!("`{}` is another name of what is stripped", name.display())),
            },
            EntryType::XGlobalHeader => continue,
            other @ (EntryType::Char
            | EntryType::Block
            | EntryType::Fifo
            | EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | _) => {
                let kind = char::from(other.as_byte());
                return Err(format!("`{}` is a device, a pipe or of an unknown kind, `{kind}`", name.display()));
            }
        };
        let changed = changed.and_then(|seconds| i64::try_from(seconds).ok());
        visit(&Entry { path, kind, mode, changed }, &mut entry)?;
        // What is left of it is no part of what comes next.
        io::copy(&mut entry, &mut io::sink()).map_err(wrong)?;
    }
}

fn zip(file: &mut File, budget: &mut Budget<'_>, visit: &mut Visit<'_>) -> Result<(), String> {
    check_zip_list(file)?;
    let wrong = |error: zip::result::ZipError| error.to_string();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(wrong)?;
    for at in 0..archive.len() {
        budget.entry()?;
        let mut entry = archive.by_index(at).map_err(wrong)?;
        // Programs of another system write its separators.
        let name = PathBuf::from(entry.name().replace('\\', "/"));
        let is_dir = entry.is_dir();
        let Some(path) = stripped(&name, budget.reading.strip)? else { continue };
        let mode = entry.unix_mode();
        let kind = match mode.map(|mode| mode & KIND_MODE) {
            _ if is_dir => Kind::Directory,
            Some(LINK_MODE) => {
                let mut target = String::new();
                entry.by_ref().take(NAME_BYTES_MAX).read_to_string(&mut target).map_err(|error| error.to_string())?;
                Kind::Link(inside(&path, Path::new(&target))?)
            }
            Some(_) | None => Kind::File,
        };
        let usual = if is_dir { 0o755 } else { 0o644 };
        let mode = mode.map_or(usual, |mode| mode & ENTRY_MODE_BITS);
        let entry_of = Entry { path, kind, mode, changed: None };
        visit(&entry_of, &mut Bounded { inner: &mut entry, left: &mut budget.left })?;
    }
    Ok(())
}

/// Refuses an archive whose list of entries would take too much memory.
fn check_zip_list(file: &mut File) -> Result<(), String> {
    let wrong = |error: io::Error| error.to_string();
    let size = file.seek(SeekFrom::End(0)).map_err(wrong)?;
    file.seek(SeekFrom::Start(size.saturating_sub(ZIP_END_BYTES_MAX))).map_err(wrong)?;
    let mut end = Vec::new();
    file.take(ZIP_END_BYTES_MAX).read_to_end(&mut end).map_err(wrong)?;
    rewind(file)?;
    let at = end.windows(4).rposition(|window| window == b"PK\x05\x06").ok_or("its end is missing")?;
    let list = end.get(at + 12..at + 16).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    if list.is_none_or(|bytes| ZIP_LIST_BYTES_MAX < bytes) {
        return Err(format!("the list of its entries is larger than {ZIP_LIST_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// The names of a path without the first `strip`; `None` = nothing is left.
fn stripped(name: &Path, strip: usize) -> Result<Option<PathBuf>, String> {
    let shown = name.display();
    if NAME_BYTES_MAX < name.as_os_str().len() as u64 {
        return Err("it holds a name that is too long".to_owned());
    }
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(format!("`{shown}` in it leads out of the directory"));
            }
        }
    }
    if DEPTH_MAX < parts.len() {
        return Err(format!("`{shown}` in it lies more than {DEPTH_MAX} directories deep"));
    }
    let left: PathBuf = parts.into_iter().skip(strip).collect();
    Ok(Some(left).filter(|left| !left.as_os_str().is_empty()))
}

/// The target of the link at `path`, if that stays in the archive's directory.
fn inside(path: &Path, target: &Path) -> Result<PathBuf, String> {
    let mut depth = path.components().count().saturating_sub(1);
    let out = || format!("the link `{}` in it leads out of the directory, to `{}`", path.display(), target.display());
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth = depth.checked_sub(1).ok_or_else(out)?,
            Component::RootDir | Component::Prefix(_) => return Err(out()),
        }
    }
    if target.as_os_str().is_empty() { Err(out()) } else { Ok(target.to_owned()) }
}
