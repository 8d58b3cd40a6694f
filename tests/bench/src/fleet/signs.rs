//! When tasks begin, seen from outside: a task's first act is to make a directory, which the kernel tells.

use std::{
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long a task may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the kernel's events that are read at once.
const EVENTS_BYTES: usize = 4096;

/// A directory in which tasks make signs.
#[derive(Debug)]
pub(crate) struct Signs {
    dir: PathBuf,
    seen: UnboundedReceiver<(String, Instant)>,
}

impl Signs {
    /// Watches `dir`, which must be there.
    pub(crate) fn watch(dir: &Path) -> Result<Self> {
        let watch = init(CreateFlags::CLOEXEC)?;
        add_watch(&watch, dir, WatchFlags::CREATE).with_context(|| format!("cannot watch `{}`", dir.display()))?;
        let (tell, seen) = unbounded_channel();
        std::thread::spawn(move || read(watch, &tell));
        Ok(Self { dir: dir.to_owned(), seen })
    }

    /// What a task has to make.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// When the sign `name` was made; waits for it.
    pub(crate) async fn when(&mut self, name: &str) -> Result<Instant> {
        loop {
            match tokio::time::timeout(PATIENCE, self.seen.recv()).await {
                Ok(Some((seen, at))) if seen == name => return Ok(at),
                Ok(Some(_)) => {}
                Ok(None) => bail!("the kernel tells nothing of `{}`", self.dir.display()),
                Err(_elapsed) => bail!("no task made the sign `{name}`"),
            }
        }
    }
}

fn read(watch: OwnedFd, tell: &UnboundedSender<(String, Instant)>) {
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = Reader::new(watch, &mut buffer);
    while let Ok(event) = reader.next() {
        let at = Instant::now();
        let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if tell.send((name, at)).is_err() {
            break;
        }
    }
}
