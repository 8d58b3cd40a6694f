//! How a host becomes an agent.

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Labels, Millis, TokenId};
use sloth_trust::PublicKey;

use super::{Platform, ProtoVersion, Refusal, TokenSecret};

/// Most bytes of a certificate signing request.
pub const CSR_BYTES_MAX: usize = 4096;

/// What a peer without a certificate may ask. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollRequest {
    /// Make me an agent.
    Enroll(Enroll),
}

/// The answers. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollResponse {
    /// You are one.
    Enrolled(Enrolled),
    /// You are not.
    Refused(Refusal),
}

/// Asks for an identity with a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// The oldest version of the protocol it speaks.
    pub proto_min: ProtoVersion,
    /// The newest.
    pub proto_max: ProtoVersion,
    /// The token's public half.
    pub token: TokenId,
    /// Its secret half.
    pub secret: TokenSecret,
    /// A PKCS#10 request in DER, at most [`CSR_BYTES_MAX`] bytes. Only its key is used; a repeated enrolment with
    /// the same key gives the same agent.
    pub csr: Vec<u8>,
    /// The name the agent would go by, unique in the fleet.
    pub name: String,
    /// Its release.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// Labels from the host's own configuration.
    pub labels: Labels,
    /// What verifies the receipts that it will sign.
    pub receipt_key: PublicKey,
}

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Who the agent is from now on.
    pub agent: AgentId,
    /// Its certificate in DER.
    pub certificate: Vec<u8>,
    /// When the certificate begins to count.
    pub not_before: Millis,
    /// When it stops.
    pub not_after: Millis,
    /// The labels that the token gives. The agent keeps them; a later answer cannot change them.
    pub labels: Labels,
    /// The bytes of the trust root's envelope, whose digest the token names.
    pub root: Vec<u8>,
}
