//! What lets a coordinator that was killed tell its peers so when it is back.
//!
//! A peer of a process that is gone goes on sending to it. The next process on that port knows nothing of the
//! connection and answers with a stateless reset (RFC 9000, 10.3), which the peer believes when it carries the token that
//! the first process gave it. Tokens and connection identifiers are therefore made with keys that every process of one
//! coordinator derives alike; otherwise peers would find out by silence only, after [`crate::settings::IDLE_TIMEOUT_MS`].

use std::{fmt, sync::Arc};

use quinn::{
    EndpointConfig,
    crypto::{CryptoError, HmacKey},
};
use quinn_proto::HashedConnectionIdGenerator;

use crate::settings::RESET_INTERVAL_MIN;

const KEY_BYTES: usize = 32;
const CONTEXT_RESETS: &str = "sloth 2026 coordinator: stateless reset tokens";
const CONTEXT_IDS: &str = "sloth 2026 coordinator: connection identifiers";

/// The keys that every process of one coordinator has alike.
#[derive(Clone)]
pub struct Continuity {
    resets: ResetKey,
    ids: u64,
}

#[derive(Clone)]
struct ResetKey([u8; KEY_BYTES]);

impl Continuity {
    /// From something that the coordinator keeps secret and never changes.
    pub(crate) fn derive(secret: &[u8]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key(CONTEXT_IDS, secret);
        let resets = ResetKey(blake3::derive_key(CONTEXT_RESETS, secret));
        Self { resets, ids: u64::from_be_bytes([a, b, c, d, e, f, g, h]) }
    }

    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(self.resets.clone()));
        let ids = self.ids;
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config.min_reset_interval(RESET_INTERVAL_MIN);
        config
    }
}

impl fmt::Debug for Continuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        KEY_BYTES
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // The comparison of hashes takes the same time whatever is in them.
        let given: [u8; KEY_BYTES] = signature.try_into().map_err(|_| CryptoError)?;
        if blake3::keyed_hash(&self.0, data) == blake3::Hash::from(given) { Ok(()) } else { Err(CryptoError) }
    }
}
