//! The state store of runs without a daemon. Several of them may run at once, and only one process can have the file
//! open: each opens it for what it asks, and closes it when it asks nothing for a moment.

use std::{
    cell::{Cell, RefCell},
    os::unix::fs::MetadataExt,
    path::Path,
    rc::Rc,
    time::Duration,
};

use sloth_core::{
    Chain, Clock,
    fs::{self, Access},
};
use sloth_workflow::{StateError, StateOperation, StateReply};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{
    paths::Paths,
    store::{Store, StoreError},
};

/// The namespace of runs without a bundle of a name.
const NAMESPACE: &str = "local";
/// How long one that others have is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const RETRY: Duration = Duration::from_millis(5);
/// How long it stays open when nothing is asked.
const IDLE: Duration = Duration::from_millis(20);
/// How long it stays open when something is asked all the time.
const HELD_MAX: Duration = Duration::from_millis(300);
/// How long it then stays closed, for others who try.
const GAP: Duration = Duration::from_millis(30);

pub(super) struct LocalState {
    paths: Paths,
    /// Held while the file is opened or closed.
    door: Mutex<()>,
    inside: Rc<Inside>,
}

#[derive(Default)]
struct Inside {
    open: RefCell<Option<Open>>,
    /// How many questions are under way.
    asking: Cell<usize>,
    /// When it may be opened again.
    closed_until: Cell<Option<Instant>>,
}

struct Open {
    store: Store,
    since: Instant,
    used: Instant,
}

impl LocalState {
    pub(super) fn new(paths: Paths) -> Self {
        Self { paths, door: Mutex::default(), inside: Rc::default() }
    }

    pub(super) async fn ask(&self, operation: StateOperation, clock: &Clock) -> Result<StateReply, StateError> {
        let (store, _asking) = self.enter(clock).await?;
        store.state(NAMESPACE, operation, clock.now()).await
    }

    /// Closes the file, if it is open.
    pub(super) async fn close(&self) {
        self.inside.close().await;
    }

    async fn enter(&self, clock: &Clock) -> Result<(Store, Asking), StateError> {
        let _door = self.door.lock().await;
        if let Some(store) = self.inside.use_open() {
            return Ok((store, Asking::new(&self.inside)));
        }
        // One that was held too long is closed by who watches it, as soon as its last question is answered.
        while self.inside.open.borrow().is_some() {
            sleep(RETRY).await;
        }
        if let Some(until) = self.inside.closed_until.take() {
            tokio::time::sleep_until(until).await;
        }
        let store = self.open(clock).await?;
        let now = Instant::now();
        *self.inside.open.borrow_mut() = Some(Open { store: store.clone(), since: now, used: now });
        tokio::task::spawn_local(watch(Rc::clone(&self.inside)));
        Ok((store, Asking::new(&self.inside)))
    }

    /// Opens the file, waiting for others who have it.
    async fn open(&self, clock: &Clock) -> Result<Store, StateError> {
        let failed = |error: &dyn std::error::Error| StateError { message: Chain(error).to_string() };
        fs::create_dir(self.paths.dir(), Access::Owner).map_err(|error| failed(&error))?;
        let path = self.paths.local_state();
        let began = Instant::now();
        loop {
            let (file, now) = (path.clone(), clock.now());
            let opened = tokio::task::spawn_blocking(move || Store::open(&file, now)).await;
            match opened.map_err(|error| failed(&error))? {
                Ok(store) => return Ok(store),
                Err(StoreError::Locked { .. }) if began.elapsed() < PATIENCE => sleep(RETRY).await,
                Err(StoreError::Locked { .. }) => {
                    let who = holder(&path).map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
                    let (path, waited) = (path.display(), PATIENCE.as_secs());
                    let message = format!(
                        "{who} has had the state `{path}` open for more than {waited} s: end it, or use another `--dir`"
                    );
                    return Err(StateError { message });
                }
                Err(
                    error @ (StoreError::Fs(_)
                    | StoreError::Newer { .. }
                    | StoreError::Database { .. }
                    | StoreError::Value { .. }
                    | StoreError::Key { .. }
                    | StoreError::Closed),
                ) => return Err(failed(&error)),
            }
        }
    }
}

/// While it lives, a question is under way.
struct Asking(Rc<Inside>);

impl Asking {
    fn new(inside: &Rc<Inside>) -> Self {
        inside.asking.set(inside.asking.get() + 1);
        Self(Rc::clone(inside))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.set(self.0.asking.get() - 1);
        if let Some(open) = &mut *self.0.open.borrow_mut() {
            open.used = Instant::now();
        }
    }
}

impl Inside {
    /// The store when it is open and may stay so.
    fn use_open(&self) -> Option<Store> {
        let open = self.open.borrow();
        open.as_ref().filter(|open| open.since.elapsed() < HELD_MAX).map(|open| open.store.clone())
    }

    async fn close(&self) {
        let open = self.open.borrow_mut().take();
        if let Some(open) = open {
            open.store.close().await;
        }
    }
}

/// Closes the file when nothing was asked for a moment, or it was held for long.
async fn watch(inside: Rc<Inside>) {
    loop {
        sleep(IDLE / 2).await;
        let (idle, long) = match &*inside.open.borrow() {
            Some(open) => (IDLE <= open.used.elapsed(), HELD_MAX <= open.since.elapsed()),
            None => return,
        };
        if inside.asking.get() == 0 && (idle || long) {
            inside.closed_until.set(long.then(|| Instant::now() + GAP));
            inside.close().await;
            return;
        }
    }
}

/// The process that has a file locked, where the system says it.
fn holder(path: &Path) -> Option<u32> {
    let inode = std::fs::metadata(path).ok()?.ino().to_string();
    locker(&std::fs::read_to_string("/proc/locks").ok()?, &inode)
}

/// The process that a line like `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF` names.
fn locker(locks: &str, inode: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(4);
        let process = fields.next()?.parse().ok()?;
        (fields.next()?.rsplit(':').next() == Some(inode)).then_some(process)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_file_is_read_from_the_kernel() {
        let locks = "1: POSIX  ADVISORY  READ  9 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF\n";
        assert_eq!(locker(locks, "1234"), Some(4711));
        assert_eq!(locker(locks, "123"), None);
    }

    /// Two runs that ask all the time: both have their turns, and none is refused.
    #[test]
    fn two_runs_share_the_state() {
        const STEPS: u32 = 150;
        let dir = tempfile::tempdir().expect("a directory");
        let runs: Vec<_> = (0..2)
            .map(|_| {
                let path = dir.path().to_owned();
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                    tokio::task::LocalSet::new().block_on(&runtime, async {
                        let (state, clock) = (LocalState::new(Paths::new(path)), Clock::new());
                        for _ in 0..STEPS {
                            let add = StateOperation::Increment { key: "n".to_owned(), by: 1.0 };
                            state.ask(add, &clock).await.expect("added");
                        }
                        state.close().await;
                    });
                })
            })
            .collect();
        for run in runs {
            run.join().expect("it ended well");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = tokio::task::LocalSet::new().block_on(&runtime, async {
            let state = LocalState::new(Paths::new(dir.path()));
            let found = state.ask(StateOperation::Get { key: "n".to_owned() }, &Clock::new()).await;
            state.close().await;
            found
        });
        assert_eq!(found, Ok(StateReply::Value(Some((2 * STEPS).into()))));
    }
}
