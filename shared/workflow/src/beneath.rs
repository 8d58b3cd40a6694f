//! Files beneath the directories that a bundle may touch.
//!
//! A path is walked part by part, each part opened in the directory before it and no link followed by the system. What
//! was found is held open: a [`Place`] has the path without links, and [`entry`] and [`inode`] lead from that path to what
//! is held, so that what was checked is what is used. Whoever swaps a directory for a link meanwhile changes nothing.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::Metadata,
    io,
    ops::Deref,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat},
    io::Errno,
};
use sloth_core::fs::{Access, Action, FsError, create_dir};

/// Most links that one path leads through, as the system has it.
const LINKS_MAX: usize = 40;
/// How this process reaches what it holds open.
const OPEN: &str = "/proc/self/fd";
/// What nothing that is open is called there.
const NOWHERE: &str = "-1";
/// How a directory is opened to go on from it.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The mode of directories that are made.
const NEW_DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// A path that may be used by whoever asked for it, as long as this lives.
#[derive(Clone)]
pub struct Place {
    path: PathBuf,
    _held: Option<Arc<Found>>,
}

/// The way to a file for the system. It is good as long as it lives.
pub(crate) struct Way {
    path: PathBuf,
    kind: WayKind,
    _held: Option<Arc<OwnedFd>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayKind {
    /// The path itself.
    Free,
    /// A name in a directory that is held open.
    Name,
    /// What is held open.
    Inode,
}

/// What becomes of a path's last part when it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It is followed: the file is meant.
    Followed,
    /// It stays: the name in its directory is meant.
    Itself,
}

/// Which links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    All,
    /// Those that another user cannot have made.
    Trusted,
}

/// Where a path leads.
struct Found {
    /// The directory that holds it.
    dir: Arc<OwnedFd>,
    /// What it is called there; more parts than one when directories are missing, none when it is `dir`.
    rest: PathBuf,
    /// The thing itself, when it is there.
    inode: Option<Arc<OwnedFd>>,
    /// Its place in the tree, without links.
    real: PathBuf,
}

/// What is held open for the places that live.
static HELD: Mutex<Vec<Weak<Found>>> = Mutex::new(Vec::new());

impl Place {
    /// A path that is bound to nothing.
    #[must_use]
    pub fn unbound(path: PathBuf) -> Self {
        Self { path, _held: None }
    }

    /// What `path` leads to, when that lies beneath one of `roots`; `None` = it lies elsewhere.
    ///
    /// # Errors
    ///
    /// When it cannot be looked for.
    pub fn beneath<'a>(path: &Path, last: Last, roots: impl IntoIterator<Item = &'a Path>) -> io::Result<Option<Self>> {
        let found = find(path, last, Links::All)?;
        if !is_beneath(&found.real, roots) {
            return Ok(None);
        }
        let found = Arc::new(found);
        let mut held = live();
        held.retain(|held| 0 < held.strong_count());
        held.push(Arc::downgrade(&found));
        Ok(Some(Self { path: found.real.clone(), _held: Some(found) }))
    }

    /// Where the path leads, links followed. One of which something is held open has none.
    pub(crate) fn led(self) -> Self {
        let led = if self.is_bound() { None } else { self.path.canonicalize().ok() };
        led.map_or(self, Self::unbound)
    }

    /// Whether what was found is held open, so that the path has no links.
    pub(crate) fn is_bound(&self) -> bool {
        self._held.is_some()
    }

    /// The path without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl From<Place> for PathBuf {
    fn from(place: Place) -> Self {
        place.path
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.path).finish()
    }
}

impl Deref for Way {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Way {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Way {
    /// Whether it is a name in a directory that is held open. Links were followed before, so that one there is not to
    /// be followed.
    pub(crate) fn is_name(&self) -> bool {
        self.kind == WayKind::Name
    }

    fn free(path: &Path) -> Self {
        Self { path: path.to_owned(), kind: WayKind::Free, _held: None }
    }

    /// To what is held open itself.
    fn to(inode: Arc<OwnedFd>) -> Self {
        Self { path: opened(&inode), kind: WayKind::Inode, _held: Some(inode) }
    }

    /// To the name at `rest` of the directory `dir`, whose path is `real`; no link above it is followed.
    fn through(dir: &Arc<OwnedFd>, rest: &Path, real: &Path) -> Self {
        let (above, Some(name)) = (rest.parent().unwrap_or(Path::new("")), rest.file_name()) else {
            return Self::to(Arc::clone(dir));
        };
        match down(dir, above) {
            Ok(dir) => Self { path: opened(&dir).join(name), kind: WayKind::Name, _held: Some(dir) },
            // A directory above it is not there, or is a link.
            Err(_) => Self::nowhere(real),
        }
    }

    /// To nothing, in the place of what is at `real`.
    fn nowhere(real: &Path) -> Self {
        let below = real.strip_prefix("/").unwrap_or(real);
        Self { path: Path::new(OPEN).join(NOWHERE).join(below), kind: WayKind::Name, _held: None }
    }
}

fn opened(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("{OPEN}/{}", file.as_raw_fd()))
}

/// The directory at `rest` of `dir`, with no link followed.
fn down(dir: &Arc<OwnedFd>, rest: &Path) -> Result<Arc<OwnedFd>, Errno> {
    let mut dir = Arc::clone(dir);
    for name in rest {
        dir = Arc::new(openat(dir.as_ref(), name, DIRECTORY, Mode::empty())?);
    }
    Ok(dir)
}

/// The way to the name at `path`: to make, replace, move or remove it.
pub(crate) fn entry(path: &Path) -> Way {
    let Some((dir, rest)) = holder(path).and_then(|held| held.place_of(path)) else { return Way::free(path) };
    Way::through(&dir, &rest, path)
}

/// The way to what is at `path`: to read or to change it. A link there is followed, unless it was put there after the
/// path was checked, or lies deeper than what was.
pub(crate) fn inode(path: &Path) -> Way {
    let Some(held) = holder(path) else { return Way::free(path) };
    if held.real == path
        && let Some(inode) = &held.inode
    {
        return Way::to(Arc::clone(inode));
    }
    let way = entry(path);
    match openat(CWD, &*way, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(inode) if fstat(&inode).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) => {
            Way::nowhere(path)
        }
        Ok(inode) => Way::to(Arc::new(inode)),
        // It is still to be made.
        Err(_) => way,
    }
}

/// Makes the directory at `path` and those above it that are missing, with the mode of new ones. No link is followed
/// that was not followed when the path was checked.
pub(crate) fn create_dirs(path: &Path) -> Result<(), FsError> {
    match holder(path).and_then(|held| held.place_of(path)) {
        Some((dir, rest)) => make_all(dir, &rest, path),
        None => create_dir(path, Access::Everyone),
    }
}

/// As [`create_dirs`], of the directories above `path`.
pub(crate) fn create_dirs_above(path: &Path) -> Result<(), FsError> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    match (holder(path).and_then(|held| held.place_of(path)), above) {
        (Some((dir, rest)), _) => make_all(dir, rest.parent().unwrap_or(Path::new("")), path),
        (None, Some(above)) => create_dir(above, Access::Everyone),
        (None, None) => Ok(()),
    }
}

fn make_all(mut dir: Arc<OwnedFd>, rest: &Path, path: &Path) -> Result<(), FsError> {
    for name in rest {
        dir = make(&dir, name).map(Arc::new).map_err(|error| FsError::of(Action::Create, path)(error.into()))?;
    }
    Ok(())
}

fn make(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat(dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {}
        found => return found,
    }
    match mkdirat(dir, name, NEW_DIR_MODE) {
        // Another was faster.
        Ok(()) | Err(Errno::EXIST) => openat(dir, name, DIRECTORY, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// What `path` leads to, links followed. A path of which something is held open has none: whatever link is there was put
/// there since, and is not followed.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let led = if holder(path).is_some() { None } else { path.canonicalize().ok() };
    led.unwrap_or_else(|| path.to_owned())
}

impl Found {
    /// The directory that is held open nearest to `path`, which lies here, and where `path` is in it.
    fn place_of(&self, path: &Path) -> Option<(Arc<OwnedFd>, PathBuf)> {
        let below = path.strip_prefix(&self.real).ok()?;
        Some(match &self.inode {
            Some(inode) if !below.as_os_str().is_empty() => (Arc::clone(inode), below.to_owned()),
            // Joining nothing would end the path with a slash.
            _ if below.as_os_str().is_empty() => (Arc::clone(&self.dir), self.rest.clone()),
            Some(_) | None => (Arc::clone(&self.dir), self.rest.join(below)),
        })
    }
}

/// What is known of the file that is meant by a path that [`followed`] gave.
pub(crate) fn metadata(path: &Path) -> io::Result<Metadata> {
    let way = inode(path);
    if way.is_name() { way.symlink_metadata() } else { way.metadata() }
}

/// What is held open of `path`, or of a directory above it: the nearest.
fn holder(path: &Path) -> Option<Arc<Found>> {
    let held = live();
    let found = held.iter().filter_map(Weak::upgrade).filter(|found| path.starts_with(&found.real));
    found.max_by_key(|found| found.real.as_os_str().len())
}

fn live() -> MutexGuard<'static, Vec<Weak<Found>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `text` with the paths that people know.
pub(crate) fn plain_text(text: String) -> String {
    let Some(at) = text.find(OPEN) else { return text };
    let path = &text[at..];
    let end = path.find(['`', '\'', '"', '\n']).unwrap_or(path.len());
    let known = known_path(Path::new(&path[..end])).unwrap_or_else(|| PathBuf::from(&path[..end]));
    format!("{}{}{}", &text[..at], known.display(), plain_text(path[end..].to_owned()))
}

fn known_path(path: &Path) -> Option<PathBuf> {
    let mut parts = path.strip_prefix(OPEN).ok()?.components();
    let first = parts.next()?;
    let rest = parts.as_path();
    if first.as_os_str() == NOWHERE {
        return Some(Path::new("/").join(rest));
    }
    let real = std::fs::read_link(Path::new(OPEN).join(first)).ok()?;
    Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
}

fn is_beneath<'a>(real: &Path, roots: impl IntoIterator<Item = &'a Path>) -> bool {
    roots.into_iter().any(|root| {
        // A root may itself lead through links, such as `/bin`. One that another user can turn grants nothing.
        find(root, Last::Followed, Links::Trusted).is_ok_and(|root| real.starts_with(&root.real))
    })
}

fn find(path: &Path, last: Last, links: Links) -> io::Result<Found> {
    let mut walk = Walk::new(links)?;
    walk.add(path);
    while let Some(part) = walk.parts.pop() {
        if part == ".." {
            walk.up();
            continue;
        }
        let is_last = walk.parts.is_empty();
        let opened = match walk.open(&part) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return walk.missing(&part),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&opened)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_symlink() && !(is_last && last == Last::Itself) {
            walk.follow(&opened, stat.st_uid)?;
        } else if kind.is_dir() {
            walk.down(part, opened);
        } else if is_last {
            return Ok(walk.ended(&part, opened));
        } else {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    Ok(walk.ended_in_directory())
}

/// A walk down the tree from its root.
struct Walk {
    links: Links,
    links_left: usize,
    root: Arc<OwnedFd>,
    /// The directories on the way, with their names.
    way: Vec<(OsString, Arc<OwnedFd>)>,
    /// What is still to be walked, the next one last.
    parts: Vec<OsString>,
}

impl Walk {
    fn new(links: Links) -> io::Result<Self> {
        let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { links, links_left: LINKS_MAX, root: Arc::new(root), way: Vec::new(), parts: Vec::new() })
    }

    fn add(&mut self, path: &Path) {
        if path.is_absolute() {
            self.way.clear();
        }
        let part = |part: Component<'_>| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        };
        self.parts.extend(path.components().rev().filter_map(part));
    }

    fn open(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        openat(self.top().as_ref(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn top(&self) -> &Arc<OwnedFd> {
        self.way.last().map_or(&self.root, |(_, dir)| dir)
    }

    fn up(&mut self) {
        self.way.pop();
    }

    fn down(&mut self, name: OsString, dir: OwnedFd) {
        self.way.push((name, Arc::new(dir)));
    }

    fn follow(&mut self, link: &OwnedFd, owner: u32) -> io::Result<()> {
        let own = rustix::process::geteuid().as_raw();
        if self.links == Links::Trusted && owner != 0 && owner != own {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.links_left = self.links_left.checked_sub(1).ok_or(Errno::LOOP)?;
        let target = readlinkat(link, "", Vec::new())?.into_bytes();
        self.add(Path::new(&OsString::from_vec(target)));
        Ok(())
    }

    fn real(&self) -> PathBuf {
        Path::new("/").join(self.way.iter().map(|(name, _)| name).collect::<PathBuf>())
    }

    /// What is not there: it and all beneath it has no links.
    fn missing(mut self, name: &OsStr) -> io::Result<Found> {
        let mut rest = PathBuf::from(name);
        while let Some(part) = self.parts.pop() {
            if part == ".." {
                return Err(io::ErrorKind::NotFound.into());
            }
            rest.push(part);
        }
        Ok(Found { dir: Arc::clone(self.top()), real: self.real().join(&rest), rest, inode: None })
    }

    fn ended(&self, name: &OsStr, opened: OwnedFd) -> Found {
        let dir = Arc::clone(self.top());
        Found { dir, rest: name.into(), inode: Some(Arc::new(opened)), real: self.real().join(name) }
    }

    fn ended_in_directory(mut self) -> Found {
        let real = self.real();
        match self.way.pop() {
            Some((name, inode)) => Found { dir: Arc::clone(self.top()), rest: name.into(), inode: Some(inode), real },
            None => Found { dir: Arc::clone(&self.root), rest: PathBuf::new(), inode: Some(self.root), real },
        }
    }
}

#[cfg(test)]
mod tests;
