//! Join tokens: what a host needs to find, believe and convince its coordinator.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sloth_core::{Digest, TokenId};
use sloth_trust::RootPin;

/// Most characters of a token's text.
pub const TOKEN_CHARS_MAX: usize = 2048;
/// Most addresses of one coordinator: in its settings, a token or an operator's credential.
pub const ADDRESSES_MAX: usize = 8;
/// Most characters of an address.
const ADDRESS_CHARS_MAX: usize = 253 + 6;
const PREFIX: &str = "sloth-join-1.";
const CHECKSUM_BYTES: usize = 4;

/// The half of a token that proves it. Shown by nothing but the token's own text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSecret([u8; 32]);

/// A join token. Its text form is one word that survives being pasted, and tells when it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Which token.
    pub id: TokenId,
    /// Its proof.
    pub secret: TokenSecret,
    /// Where the coordinator listens, as `host:port`, tried in order. At least one.
    pub addresses: Vec<String>,
    /// SHA-256 of the certificate of the coordinator's authority, in DER.
    pub authority: [u8; 32],
    /// The trust root that the agent starts from.
    pub root: RootPin,
}

/// A text that is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error("this is not a join token: one begins with `{PREFIX}`; make one with `sloth-coord token create`")]
    NotAToken,
    /// It is longer than any token.
    #[error("this is not a join token: one takes {TOKEN_CHARS_MAX} characters at most")]
    TooLong,
    /// Its checksum is wrong.
    #[error("the join token is damaged: copy the whole of it, in one line")]
    Damaged,
    /// It was made by a later version, or by somebody else.
    #[error("the join token cannot be read: make one with the coordinator that it is for")]
    Unreadable,
}

impl TokenSecret {
    /// The secret made of `bytes`, which must come from a cryptographic source.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What the coordinator keeps instead of the secret.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = postcard::to_stdvec(self).map_err(|_| fmt::Error)?;
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        if TOKEN_CHARS_MAX < text.len() {
            return Err(TokenError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenError::Damaged)?;
        if *sum != checksum(content) {
            return Err(TokenError::Damaged);
        }
        let (token, rest): (Self, _) = postcard::take_from_bytes(content).map_err(|_| TokenError::Unreadable)?;
        let plausible = rest.is_empty()
            && (1..=ADDRESSES_MAX).contains(&token.addresses.len())
            && token.addresses.iter().all(|address| address.len() <= ADDRESS_CHARS_MAX);
        if plausible { Ok(token) } else { Err(TokenError::Unreadable) }
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Digest::of(bytes);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use sloth_core::Millis;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: TokenId::new(Millis::from_secs(1_700_000_000), 7),
            secret: TokenSecret::from_bytes([3; 32]),
            addresses: vec!["coord.example.org:7461".into()],
            authority: [1; 32],
            root: RootPin::of(b"root"),
        }
    }

    #[test]
    fn a_token_survives_its_text() {
        let text = token().to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
    }

    #[test]
    fn what_is_not_a_whole_token_is_refused() {
        let text = token().to_string();
        let cut = &text[..text.len() - 3];
        let (head, last) = text.split_at(text.len() - 12);
        let changed = format!("{head}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, &last[1..]);
        let long = format!("{text}{}", "A".repeat(TOKEN_CHARS_MAX));
        for (text, expected) in [
            ("", TokenError::NotAToken),
            ("hello", TokenError::NotAToken),
            (PREFIX, TokenError::Damaged),
            (cut, TokenError::Damaged),
            (changed.as_str(), TokenError::Damaged),
            (long.as_str(), TokenError::TooLong),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn debug_output_does_not_show_the_secret() {
        assert!(format!("{:?}", token()).contains("(secret)"));
    }
}
