//! The supervisor's socket: commands of this host ask there for a switch, for the way back, and the like. A line each way.

use std::{
    fs::Permissions,
    io::{self, Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sloth_protocol::update::{LINE_BYTES_MAX, Request};

/// How long a question may take to come, and an answer to be taken: so long the supervisor does nothing else.
const LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the answer may take, which waits for the disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Only the owner connects.
const SOCKET_MODE: u32 = 0o600;
const YES: &str = "yes ";
const NO: &str = "no ";

/// Why a supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no supervisor answers at `{}`: the agent was not started with `sloth-agent supervise`", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It listens and says nothing that can be read.
    #[error("the supervisor at `{}` gives no answer: ask again", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// It refuses, and says why.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
}

/// Asks the supervisor whose socket is at `path`. Blocks until it has answered.
///
/// # Errors
///
/// When there is none, it says nothing, or it refuses.
pub fn ask(path: &Path, request: &Request) -> Result<String, ControlError> {
    let nobody = |source| ControlError::Nobody { path: path.to_owned(), source };
    let mut socket = UnixStream::connect(path).map_err(nobody)?;
    let mut answer = String::new();
    let exchanged = socket
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and_then(|()| writeln!(socket, "{request}"))
        .and_then(|()| (&socket).take(ANSWER_BYTES_MAX).read_to_string(&mut answer));
    let silent = || ControlError::Silent { path: path.to_owned() };
    exchanged.map_err(|_| silent())?;
    let answer = answer.trim_end();
    match (answer.strip_prefix(YES), answer.strip_prefix(NO)) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(why)) => Err(ControlError::Refused { why: why.to_owned() }),
        (None, None) => Err(silent()),
    }
}

/// Listens at `path`, where only an earlier supervisor can have listened.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next question, if there is one that means something.
pub(super) fn next(listener: &UnixListener) -> Option<(UnixStream, Request)> {
    let (socket, _) = listener.accept().ok()?;
    let own = rustix::process::geteuid();
    // Somebody may have connected before the socket had its mode.
    let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    if peer.uid != own && !peer.uid.is_root() {
        return None;
    }
    socket.set_nonblocking(false).ok()?;
    socket.set_write_timeout(Some(LINE_TIMEOUT)).ok()?;
    let line = question(&socket)?;
    match Request::parse(line.trim_end()) {
        Some(request) => Some((socket, request)),
        None => {
            answer(&socket, &Err("the supervisor does not understand the request, for it is of another release than this command: restart the agent's service".to_owned()));
            None
        }
    }
}

/// A line, if it comes in time as a whole.
fn question(mut socket: &UnixStream) -> Option<String> {
    let until = Instant::now() + LINE_TIMEOUT;
    let mut line = [0; LINE_BYTES_MAX];
    let mut filled = 0;
    while !line[..filled].contains(&b'\n') && filled < LINE_BYTES_MAX {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        match socket.read(line.get_mut(filled..)?).ok()? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    String::from_utf8(line.get(..filled)?.to_vec()).ok()
}

/// Answers a question. Whoever asked may have gone.
pub(super) fn answer(mut socket: &UnixStream, answer: &Result<String, String>) {
    let (word, text) = match answer {
        Ok(text) => (YES, text),
        Err(why) => (NO, why),
    };
    let _ = socket.write_all(format!("{word}{}\n", text.replace('\n', " ")).as_bytes());
}
