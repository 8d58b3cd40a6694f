//! Being asked to end.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// SIGINT and SIGTERM, from when this is made on.
#[derive(Debug)]
pub(super) struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves at the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The first signal that asks to end. The second is not left to whoever listens, who may be kept by work that nothing
/// can stop: a thread of its own hears it, calls `kill` and ends the process at once.
#[derive(Debug)]
pub(super) struct FirstEnd {
    first: mpsc::Receiver<()>,
    is_killing: Arc<AtomicBool>,
}

impl FirstEnd {
    /// Listens from now on. The first one is answered with `cancelling`; `kill` ends what must not outlive the process,
    /// and says the code to exit with.
    pub(super) fn listen(cancelling: &'static str, kill: impl FnOnce() -> i32 + Send + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Listened to before this returns: no signal ends the process by itself any more.
        let mut ends = {
            let _entered = runtime.enter();
            Ends::listen()?
        };
        let (told, first) = mpsc::channel(1);
        let is_killing = Arc::new(AtomicBool::new(false));
        let kills = Arc::clone(&is_killing);
        let hear = move || {
            runtime.block_on(async {
                ends.next().await;
                // Without a terminal nobody misses it.
                let _ = writeln!(io::stderr(), "{cancelling}");
                // Whoever listened may have ended.
                let _ = told.send(()).await;
                ends.next().await;
            });
            kills.store(true, Ordering::SeqCst);
            std::process::exit(kill());
        };
        thread::Builder::new().name("signals".to_owned()).spawn(hear)?;
        Ok(Self { first, is_killing })
    }

    /// Resolves when it comes, and never again.
    pub(super) async fn come(&mut self) {
        if self.first.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// What has come to its end, for the caller to tell; but never again, once the second signal has come. What `kill`
    /// ends may look like an end of its own, which must not be told in place of the kill.
    pub(super) async fn unless_killed<T>(&self, ended: T) -> T {
        if self.is_killing.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn no_end_is_told_once_a_kill_began() {
        let end = FirstEnd { first: mpsc::channel(1).1, is_killing: Arc::new(AtomicBool::new(false)) };
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(pin!(end.unless_killed(1)).poll(&mut context), Poll::Ready(1));
        end.is_killing.store(true, Ordering::SeqCst);
        assert_eq!(pin!(end.unless_killed(1)).poll(&mut context), Poll::Pending);
    }
}
