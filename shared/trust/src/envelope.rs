//! A payload with its signatures.

use serde::{Deserialize, Serialize};

use crate::{Domain, KeyId, domain::InvalidDomain};

/// Most bytes of an envelope.
pub const ENVELOPE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a root's payload.
pub const ROOT_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a bundle's metadata.
pub const BUNDLE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of an assignment.
pub const ASSIGNMENT_BYTES_MAX: usize = 512 * 1024;
/// Most bytes of a head, which has about 600.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a receipt, which has about 1000.
pub const RECEIPT_BYTES_MAX: usize = 4 * 1024;
/// Most bytes of a release of the agent.
pub const RELEASE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of an update's assignment, which has about 400.
pub const UPDATE_BYTES_MAX: usize = 4 * 1024;
/// Most signatures of one envelope.
pub const SIGNATURES_MAX: usize = 16;
/// Most bytes of one signature's text.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

/// The first byte of an encoded envelope.
const FORMAT: u8 = 1;

/// What a payload is. The number of a variant is on the wire and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum PayloadKind {
    /// 0: a [`Root`](crate::Root).
    Root,
    /// 1: a [`BundleMetadata`](crate::BundleMetadata).
    Bundle,
    /// 2: an [`Assignment`](crate::Assignment).
    Assignment,
    /// 3: a [`Head`](crate::Head).
    Head,
    /// 4: a [`Receipt`](crate::Receipt).
    Receipt,
    /// 5: an [`AgentRelease`](crate::AgentRelease).
    Release,
    /// 6: an [`UpdateAssignment`](crate::UpdateAssignment).
    Update,
}

/// A number that no kind of payload has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind of payload with the number {number}")]
pub struct UnknownKind {
    /// The number.
    pub number: u8,
}

impl PayloadKind {
    /// Most bytes of a payload of this kind.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Root => ROOT_BYTES_MAX,
            Self::Bundle => BUNDLE_BYTES_MAX,
            Self::Assignment => ASSIGNMENT_BYTES_MAX,
            Self::Head => HEAD_BYTES_MAX,
            Self::Receipt => RECEIPT_BYTES_MAX,
            Self::Release => RELEASE_BYTES_MAX,
            Self::Update => UPDATE_BYTES_MAX,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "a root",
            Self::Bundle => "a bundle's metadata",
            Self::Assignment => "an assignment",
            Self::Head => "a head",
            Self::Receipt => "a receipt",
            Self::Release => "a release of the agent",
            Self::Update => "an update's assignment",
        }
    }
}

impl From<PayloadKind> for u8 {
    fn from(kind: PayloadKind) -> Self {
        match kind {
            PayloadKind::Root => 0,
            PayloadKind::Bundle => 1,
            PayloadKind::Assignment => 2,
            PayloadKind::Head => 3,
            PayloadKind::Receipt => 4,
            PayloadKind::Release => 5,
            PayloadKind::Update => 6,
        }
    }
}

impl TryFrom<u8> for PayloadKind {
    type Error = UnknownKind;

    fn try_from(number: u8) -> Result<Self, UnknownKind> {
        Ok(match number {
            0 => Self::Root,
            1 => Self::Bundle,
            2 => Self::Assignment,
            3 => Self::Head,
            4 => Self::Receipt,
            5 => Self::Release,
            6 => Self::Update,
            _ => return Err(UnknownKind { number }),
        })
    }
}

/// A payload and who signed it. Nothing in it is verified by being here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload claims to be.
    pub kind: PayloadKind,
    /// The signed bytes: JSON.
    pub payload: Vec<u8>,
    /// Signatures over the payload.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose it claims to be.
    pub key: KeyId,
    /// The four lines of a `.minisig` file.
    pub minisig: String,
}

/// Bytes that are not an envelope, or one that is too large to be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More bytes than any envelope has.
    #[error("an envelope takes {ENVELOPE_BYTES_MAX} bytes at most, this has {bytes}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// A later format.
    #[error("the envelope's format is {format}, this program reads format {FORMAT}: upgrade it")]
    Format {
        /// The first byte.
        format: u8,
    },
    /// Cut short, followed by something, or not an envelope at all.
    #[error("this is not an envelope, or it was cut short")]
    Malformed,
    /// The payload is over its bound.
    #[error("{} takes {} bytes at most, this has {bytes}", kind.name(), kind.bytes_max())]
    PayloadTooLarge {
        /// What it claims to be.
        kind: PayloadKind,
        /// How many bytes it has.
        bytes: usize,
    },
    /// Too many signatures.
    #[error("an envelope takes {SIGNATURES_MAX} signatures at most, this has {count}")]
    TooManySignatures {
        /// How many it claims to have.
        count: usize,
    },
    /// A signature that is too long.
    #[error("a signature takes {SIGNATURE_BYTES_MAX} bytes at most, this has {bytes}")]
    SignatureTooLarge {
        /// How many it has.
        bytes: usize,
    },
}

/// Why an envelope does not say what it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is no signature.
    #[error("it carries no signature")]
    Unsigned,
    /// A signature that is not one.
    #[error("a signature is not in minisign's format")]
    Signature,
    /// A signature that is not for a thing of ours.
    #[error("a signature is for something else")]
    Domain {
        /// What it says.
        source: InvalidDomain,
    },
    /// Two signatures for two things.
    #[error("its signatures are for different things, `{first}` and `{other}`")]
    Mixed {
        /// What the first is for.
        first: String,
        /// What another is for.
        other: String,
    },
}

impl Envelope {
    /// The envelope of `payload` without a signature.
    #[must_use]
    pub const fn unsigned(kind: PayloadKind, payload: Vec<u8>) -> Self {
        Self { kind, payload, signatures: Vec::new() }
    }

    /// The envelope as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let signatures: Vec<_> = self.signatures.iter().map(|s| (s.key.as_bytes(), &s.minisig)).collect();
        let head = vec![FORMAT];
        // Writing to a vector cannot fail, and none of these types refuses to be written.
        postcard::to_extend(&(self.kind, self.payload.as_slice(), signatures), head).unwrap_or_default()
    }

    /// Reads what [`Envelope::encode`] wrote. Every count and length is checked before anything is allocated
    /// for it.
    ///
    /// # Errors
    ///
    /// When the bytes are not one whole envelope, or anything in it is over its bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if ENVELOPE_BYTES_MAX < bytes.len() {
            return Err(EnvelopeError::TooLarge { bytes: bytes.len() });
        }
        let (format, rest) = bytes.split_first().ok_or(EnvelopeError::Malformed)?;
        if *format != FORMAT {
            return Err(EnvelopeError::Format { format: *format });
        }
        let ((kind, payload), rest) = take::<(PayloadKind, &[u8])>(rest)?;
        let (count, mut rest) = take::<usize>(rest)?;
        if SIGNATURES_MAX < count {
            return Err(EnvelopeError::TooManySignatures { count });
        }
        let mut signatures = Vec::with_capacity(count);
        for _ in 0..count {
            let ((key, minisig), after) = take::<([u8; 32], &str)>(rest)?;
            signatures.push(Signature { key: KeyId(key), minisig: minisig.to_owned() });
            rest = after;
        }
        if !rest.is_empty() {
            return Err(EnvelopeError::Malformed);
        }
        let envelope = Self { kind, payload: payload.to_vec(), signatures };
        envelope.check_bounds()?;
        Ok(envelope)
    }

    /// Whether everything is within its bounds, as it is in any envelope that was decoded.
    ///
    /// # Errors
    ///
    /// Names the first thing that is not.
    pub fn check_bounds(&self) -> Result<(), EnvelopeError> {
        if self.kind.bytes_max() < self.payload.len() {
            return Err(EnvelopeError::PayloadTooLarge { kind: self.kind, bytes: self.payload.len() });
        }
        if SIGNATURES_MAX < self.signatures.len() {
            return Err(EnvelopeError::TooManySignatures { count: self.signatures.len() });
        }
        match self.signatures.iter().map(|s| s.minisig.len()).find(|bytes| SIGNATURE_BYTES_MAX < *bytes) {
            Some(bytes) => Err(EnvelopeError::SignatureTooLarge { bytes }),
            None => Ok(()),
        }
    }

    /// What the signatures say they are for. **Not verified**: it chooses the role whose keys are asked, and
    /// [`verify_threshold`](crate::verify_threshold) then holds every signature to it.
    ///
    /// # Errors
    ///
    /// When there is no signature, or they do not agree.
    pub fn claimed_domain(&self) -> Result<Domain, ClaimError> {
        let mut first: Option<String> = None;
        for signature in &self.signatures {
            let decoded = minisign_verify::Signature::decode(&signature.minisig).map_err(|_| ClaimError::Signature)?;
            let comment = decoded.trusted_comment();
            match &first {
                None => first = Some(comment.to_owned()),
                Some(first) if first == comment => {}
                Some(first) => return Err(ClaimError::Mixed { first: first.clone(), other: comment.to_owned() }),
            }
        }
        first.ok_or(ClaimError::Unsigned)?.parse().map_err(|source| ClaimError::Domain { source })
    }
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), EnvelopeError> {
    postcard::take_from_bytes(bytes).map_err(|_| EnvelopeError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope() -> Envelope {
        let signature = Signature { key: KeyId([7; 32]), minisig: "abc".to_owned() };
        Envelope { kind: PayloadKind::Bundle, payload: b"{}".to_vec(), signatures: vec![signature] }
    }

    #[test]
    fn bytes_are_frozen() {
        let mut expected = vec![1, 1, 2, b'{', b'}', 1];
        expected.extend([7; 32]);
        expected.extend([3, b'a', b'b', b'c']);
        assert_eq!(envelope().encode(), expected);
        assert_eq!(Envelope::decode(&expected), Ok(envelope()));
    }

    #[test]
    fn what_is_cut_continued_or_oversized_is_refused() {
        let bytes = envelope().encode();
        for cut in 0..bytes.len() {
            assert!(Envelope::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Envelope::decode(&longer), Err(EnvelopeError::Malformed));
        let huge = vec![1; ENVELOPE_BYTES_MAX + 1];
        assert!(matches!(Envelope::decode(&huge), Err(EnvelopeError::TooLarge { .. })));
        assert_eq!(Envelope::decode(&[2, 0]), Err(EnvelopeError::Format { format: 2 }));
        // A count that no memory could hold.
        let counts = [1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(matches!(Envelope::decode(&counts), Err(EnvelopeError::TooManySignatures { .. })));

        let mut large = envelope();
        large.payload = vec![b' '; BUNDLE_BYTES_MAX + 1];
        assert!(matches!(Envelope::decode(&large.encode()), Err(EnvelopeError::PayloadTooLarge { .. })));
        let mut long = envelope();
        long.signatures[0].minisig = "x".repeat(SIGNATURE_BYTES_MAX + 1);
        assert!(matches!(Envelope::decode(&long.encode()), Err(EnvelopeError::SignatureTooLarge { .. })));
        let mut many = envelope();
        many.signatures = vec![many.signatures[0].clone(); SIGNATURES_MAX + 1];
        assert!(matches!(Envelope::decode(&many.encode()), Err(EnvelopeError::TooManySignatures { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope.clone()));
                let _ = envelope.claimed_domain();
            }
        }
    }
}
