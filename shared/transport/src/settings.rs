//! Every setting of the transport, with its reason.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, IdleTimeout, SendStream, TransportConfig, VarInt};

/// Longest that connecting to one address may take, name resolution included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that the coordinator waits for a handshake to end. For the driver's `accept`.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that the coordinator waits for the first frame on a stream that was opened.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a client waits for an answer, but for requests that are held open.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client that leaves lets its goodbye go out. Waiting longer helps nobody: nothing answers a goodbye, and
/// without it the coordinator lets go after [`IDLE_TIMEOUT_MS`].
pub const GOODBYE_TIMEOUT: Duration = Duration::from_millis(10);

/// How often a client says that it is there: under the 30 s after which common NATs forget a UDP flow. Only the client
/// does, which halves the packets; the coordinator's answers keep its own side alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// After how long without a packet a connection is lost: two keep-alives may be.
pub const IDLE_TIMEOUT_MS: u32 = 60_000;
/// What a peer may send on one stream before it is read. 256 KiB carry 20 Mbit/s over 100 ms.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What a peer that showed a certificate may send on all its streams before it is read. See [`widen`].
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What a peer may send to the coordinator on all its streams before it is known: one request to enrol, and the next.
pub const STRANGER_WINDOW_BYTES: u32 = 32 * 1024;
/// What is kept for one peer until it acknowledges it: a slow reader costs this much and not more.
pub const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// How often at most a packet of a connection that nobody knows is answered with a reset: often enough that a large
/// fleet learns of a restart before its next poll, seldom enough that garbage costs nothing.
pub const RESET_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Requests that one peer may have open at once.
pub const STREAMS_MAX: u32 = 16;
/// Connections that wait for the driver to accept them.
pub const INCOMING_MAX: usize = 1024;
/// Bytes that are kept for each of them.
pub const INCOMING_BYTES_MAX: u64 = 16 * 1024;
/// Bytes that are kept for all of them.
pub const INCOMING_TOTAL_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// From this many handshakes under way on, a peer has to prove its address first: forged senders then cost nothing.
pub const HANDSHAKES_VALIDATE_FROM: usize = 256;
/// From this many handshakes under way on, peers are refused.
pub const HANDSHAKES_MAX: usize = 2048;
/// What the system may queue for the coordinator's socket, if it allows it: a fleet that comes back sends at once.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What the coordinator takes on. The default is the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`INCOMING_MAX`].
    pub incoming_max: usize,
    /// See [`HANDSHAKES_VALIDATE_FROM`].
    pub handshakes_validate_from: usize,
    /// See [`HANDSHAKES_MAX`].
    pub handshakes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            incoming_max: INCOMING_MAX,
            handshakes_validate_from: HANDSHAKES_VALIDATE_FROM,
            handshakes_max: HANDSHAKES_MAX,
        }
    }
}

/// Which streams go first when the network is the bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Blobs can wait for everything.
    Blobs,
    /// What tasks print.
    Logs,
    /// How tasks and runs end.
    Results,
    /// Hello, polls, renewals, an operator's questions.
    Control,
}

impl Priority {
    /// Gives `stream` this priority. Both sides set it, each for what it sends.
    pub fn apply(self, stream: &SendStream) {
        // A stream that is closed has nothing left to send.
        let _ = stream.set_priority(self.value());
    }

    const fn value(self) -> i32 {
        match self {
            Self::Blobs => 0,
            Self::Logs => 10,
            Self::Results => 20,
            Self::Control => 30,
        }
    }
}

/// Lets a peer that turned out to be an agent or an operator send as much as they may. Before, a crowd of strangers
/// could make the coordinator hold [`CONNECTION_WINDOW_BYTES`] for each of them.
pub fn widen(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
}

/// For the coordinator: agents and operators open streams to it.
pub(crate) fn server_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config.receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES));
    config.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX));
    Arc::new(config)
}

/// For agents and operators: the coordinator never opens a stream to them.
pub(crate) fn client_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config.max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}

fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    config.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    config.receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    config.send_window(SEND_WINDOW_BYTES);
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.datagram_receive_buffer_size(None);
    config
}
