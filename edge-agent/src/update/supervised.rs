//! The daemon's side of its supervisor: it says how far it is, and hears when to end.

use std::{
    io::Write as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use sloth_protocol::update::{FromDaemon, LINE_BYTES_MAX, ToDaemon};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::child::SUPERVISOR_VARIABLE;

/// The supervisor of this process.
#[derive(Debug)]
pub struct Supervised {
    words: UnixStream,
}

impl Supervised {
    /// The supervisor that started this process, if one did. A process that one of its daemons started has none, though
    /// it has their environment.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let named: i32 = std::env::var(SUPERVISOR_VARIABLE).ok()?.parse().ok()?;
        if rustix::process::getppid()?.as_raw_nonzero().get() != named {
            return None;
        }
        let words = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
        words.set_nonblocking(true).ok()?;
        Some(Self { words })
    }

    /// Says something. A supervisor that does not listen is no reason to stop.
    pub fn say(&self, word: FromDaemon) {
        let _ = (&self.words).write_all(format!("{word}\n").as_bytes());
    }

    /// Resolves when the daemon is to end once its work is done, or the supervisor is gone.
    pub async fn ends(&self) {
        let Ok(Ok(words)) = self.words.try_clone().map(tokio::net::UnixStream::from_std) else {
            return std::future::pending().await;
        };
        let mut words = BufReader::new(words);
        loop {
            let mut line = String::new();
            let bytes_max = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
            match (&mut words).take(bytes_max).read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if ToDaemon::parse(line.trim_end()) == Some(ToDaemon::End) => return,
                Ok(_) => {}
            }
        }
    }
}
