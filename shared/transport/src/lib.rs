//! How agents, operators and the coordinator reach and recognise each other: QUIC with TLS 1.3, certificates of the
//! coordinator's own authority, and one message a frame on streams.
//!
//! Who a peer is stands in its certificate and nowhere else, see [`Peer`]. What peers say is `sloth_protocol::wire`;
//! nothing here knows what a message means. Time limits on requests are the callers'; the constants are here.

mod authority;
mod certificate;
mod close;
mod connector;
mod continuity;
mod credential;
mod endpoint;
mod identity;
mod peer;
mod pem;
pub mod settings;
mod stream;
mod tls;

pub use authority::{AUTHORITY_VALIDITY, Authority, AuthorityError, BACKDATE, IssueError, Issued, requested_key};
pub use certificate::{CertificateError, Subject, fingerprint};
pub use close::{CloseCode, Lost};
pub use connector::{ConnectError, Connector, Link};
pub use continuity::Continuity;
pub use credential::{Credential, CredentialError};
pub use endpoint::{Admission, ListenError, Proof, admit, decide, listen};
pub use identity::{Identity, IdentityError, KeyRequest};
pub use peer::{Peer, PeerError};
pub use pem::PemError;
pub use settings::{Limits, Priority};
pub use stream::{RecvError, RequestError, SendError, recv, request, send};
pub use tls::{RENEW_GRACE, SERVER_NAME, TlsError, server};
