//! Telling whoever started the supervisor how it is: sd_notify(3), a datagram.

use std::{
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sloth_core::Millis;

/// Names the socket; a name that begins with `@` is in no file system.
pub(super) const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Says within how many microseconds there must be a sign of life.
pub(super) const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// Says whose sign of life that is.
pub(super) const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";

/// Whoever started the supervisor, if it wants to know.
#[derive(Debug, Default)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often a sign of life is sent: twice as often as it must.
    pub(super) watchdog: Option<Millis>,
}

impl Notify {
    pub(super) fn from_environment() -> Self {
        let named = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let socket = named(SOCKET_VARIABLE).and_then(|name| open(&name).ok());
        let number = |name| named(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number(WATCHDOG_PID_VARIABLE).is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number(WATCHDOG_VARIABLE).filter(|_| is_ours).map(|span| Duration::from_micros(span) / 2);
        Self { socket, watchdog: watchdog.map(Millis::from) }
    }

    /// Says something, like `READY=1`. Nothing depends on whether it is heard.
    pub(super) fn say(&self, what: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}

fn open(name: &OsString) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A receiver that is stuck must not hold the supervisor up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
