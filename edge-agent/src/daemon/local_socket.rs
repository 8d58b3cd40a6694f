//! The socket on which the daemon answers questions of its own host. Who connects gets one line of JSON.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sloth_core::Chain;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::Status;

/// How long a question and its answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait after the system refused a connection, so that it is not asked in a circle.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// Only the owner connects.
const SOCKET_MODE: u32 = 0o600;

/// A question that waits for the loop.
pub(super) type Question = oneshot::Sender<Status>;

/// Why there is no answer of a daemon.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no daemon answers at `{}`: start one with `sloth-agent daemon --dir {}`",
        path.display(),
        path.parent().unwrap_or(path).display()
    )]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It listens and says nothing.
    #[error("the daemon at `{}` gives no answer", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// It says something else.
    #[error("the daemon at `{}` gives an answer that cannot be read: it may be of another version", path.display())]
    Malformed {
        /// The socket.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Asks the daemon at the socket `path` how it is.
///
/// # Errors
///
/// When there is no daemon, or it gives no answer.
pub async fn ask(path: &Path) -> Result<Status, AskError> {
    let nobody = |source| AskError::Nobody { path: path.to_owned(), source };
    let socket = UnixStream::connect(path).await.map_err(nobody)?;
    let mut answer = Vec::new();
    let mut bounded = socket.take(ANSWER_BYTES_MAX);
    match timeout(ANSWER_TIMEOUT, bounded.read_to_end(&mut answer)).await {
        Ok(Ok(1..)) => {}
        Ok(Ok(_) | Err(_)) | Err(_) => return Err(AskError::Silent { path: path.to_owned() }),
    }
    serde_json::from_slice(&answer).map_err(|source| AskError::Malformed { path: path.to_owned(), source })
}

/// A socket that is listened on. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Listening {
    path: PathBuf,
    task: JoinHandle<()>,
}

/// Listens on the socket `path`. A daemon without it works, so a failure is only logged.
pub(super) fn listen(path: &Path, asking: mpsc::Sender<Question>) -> Option<Listening> {
    match bind(path) {
        Ok(listener) => {
            let task = tokio::spawn(serve(listener, asking));
            Some(Listening { path: path.to_owned(), task })
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot listen for `sloth-agent status`");
            None
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        // The next daemon removes it as well.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    // Whoever holds the directory's lock is the only daemon: what is there is a leftover.
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, asking: mpsc::Sender<Question>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                if !is_owner(&socket) {
                    continue;
                }
                // One at a time: the answer is there at once.
                if let Ok(Err(error)) = timeout(ANSWER_TIMEOUT, answer(socket, &asking)).await {
                    tracing::debug!(error = %Chain(&error), "cannot answer a question of this host");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a question of this host");
                tokio::time::sleep(REFUSED_WAIT).await;
            }
        }
    }
}

/// Somebody may have connected before the socket had its mode.
fn is_owner(socket: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    socket.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(mut socket: UnixStream, asking: &mpsc::Sender<Question>) -> io::Result<()> {
    let (done, status) = oneshot::channel();
    asking.send(done).await.map_err(io::Error::other)?;
    let status = status.await.map_err(io::Error::other)?;
    let mut line = serde_json::to_vec(&status)?;
    line.push(b'\n');
    socket.write_all(&line).await?;
    socket.shutdown().await
}
