//! How connections end.

use quinn::{Connection, ConnectionError, TransportErrorCode, VarInt};

/// Why a peer closed a connection. The numbers are the wire's and only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// All was said.
    Normal,
    /// The peer's identity was withdrawn.
    Revoked,
    /// The same agent connected again; the newer connection counts.
    Superseded,
    /// This side is going down, and may come back.
    Shutdown,
    /// The peer broke the protocol.
    Misbehaved,
}

/// Why a connection is no more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// The peer closed it and said why.
    #[error("the peer closed the connection: {}", code.reason())]
    Closed {
        /// Why.
        code: CloseCode,
    },
    /// The peer closed it with a number that this version does not know.
    #[error("the peer closed the connection with the unknown code {code}")]
    ClosedUnknown {
        /// The number.
        code: u64,
    },
    /// The peer does not accept the certificate that this side showed.
    ///
    /// A client learns this from its first request: with TLS 1.3 it is connected before the server has judged.
    #[error("the peer refused our certificate (TLS alert {alert}): enrol again, or get a new credential")]
    CertificateRefused {
        /// The alert's number.
        alert: u64,
    },
    /// Nothing came for too long.
    #[error("the peer has not answered for too long: the network or the peer is down")]
    TimedOut,
    /// The peer has forgotten the connection.
    #[error("the peer does not know this connection any more: it was restarted")]
    Reset,
    /// This side closed it.
    #[error("the connection was closed on this side")]
    Local,
    /// Something else.
    #[error("the connection failed")]
    Failed {
        /// What QUIC said.
        source: ConnectionError,
    },
}

impl CloseCode {
    /// Every code, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Normal, Self::Revoked, Self::Superseded, Self::Shutdown, Self::Misbehaved];

    /// Closes `connection` with this code.
    pub fn close(self, connection: &Connection) {
        connection.close(self.code(), self.reason().as_bytes());
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Normal => 0,
            Self::Revoked => 1,
            Self::Superseded => 2,
            Self::Shutdown => 3,
            Self::Misbehaved => 4,
        })
    }

    /// For people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "done",
            Self::Revoked => "the identity was revoked",
            Self::Superseded => "the same agent connected again",
            Self::Shutdown => "shutting down",
            Self::Misbehaved => "the protocol was broken",
        }
    }

    /// The code of a number on the wire.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code().into_inner() == code)
    }
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                CloseCode::from_code(code).map_or(Self::ClosedUnknown { code }, |code| Self::Closed { code })
            }
            ConnectionError::ConnectionClosed(close) => match alert_of(close.error_code) {
                Some(alert) if is_about_certificate(alert) => Self::CertificateRefused { alert },
                Some(_) | None => Self::Failed { source: ConnectionError::ConnectionClosed(close) },
            },
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::LocallyClosed => Self::Local,
            source @ (ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::CidsExhausted) => Self::Failed { source },
        }
    }
}

/// The TLS alert that a QUIC error code carries (RFC 9001, 4.8).
pub(crate) fn alert_of(code: TransportErrorCode) -> Option<u64> {
    u64::from(code).checked_sub(0x100).filter(|alert| *alert < 0x100)
}

/// The alerts of RFC 8446, 6.2 that a certificate can cause: bad, unsupported, revoked, expired and unknown ones,
/// an unknown authority, denied access, a wrong signature, a certificate that is missing.
fn is_about_certificate(alert: u64) -> bool {
    matches!(alert, 42..=46 | 48 | 49 | 51 | 116)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_keep_their_numbers() {
        for (index, code) in CloseCode::ALL.into_iter().enumerate() {
            assert_eq!(u64::try_from(index).expect("small"), code.code().into_inner());
            assert_eq!(CloseCode::from_code(code.code().into_inner()), Some(code));
        }
        assert_eq!(CloseCode::from_code(5), None);
    }

    #[test]
    fn only_crypto_errors_carry_alerts() {
        assert_eq!(alert_of(TransportErrorCode::crypto(48)), Some(48));
        for code in [TransportErrorCode::NO_ERROR, TransportErrorCode::CONNECTION_REFUSED] {
            assert_eq!(alert_of(code), None);
        }
    }
}
