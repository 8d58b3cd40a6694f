//! A request to end a run, from any thread.

use tokio::sync::watch;

/// Asks a run to end. Dropping it asks nothing.
#[derive(Debug)]
pub struct Canceller(watch::Sender<bool>);

/// Hears whether a run was asked to end.
#[derive(Debug, Clone)]
pub struct CancelSignal(watch::Receiver<bool>);

/// A canceller and the signal that hears it.
#[must_use]
pub fn cancel_pair() -> (Canceller, CancelSignal) {
    let (sender, receiver) = watch::channel(false);
    (Canceller(sender), CancelSignal(receiver))
}

impl Canceller {
    /// Ends the run: what runs is stopped, nothing more is started.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl CancelSignal {
    /// A signal that never comes.
    #[must_use]
    pub fn never() -> Self {
        cancel_pair().1
    }

    /// Whether it came.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it comes.
    pub async fn cancelled(&mut self) {
        if self.0.wait_for(|cancelled| *cancelled).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}
