//! A coordinator with its operator, real agents, and agents that are only connections.

mod agent;
mod coordinator;
mod member;
mod operator;
mod signs;

pub(crate) use agent::Agent;
pub(crate) use coordinator::Coordinator;
pub(crate) use member::{Held, Member, enrol, hold};
pub(crate) use operator::Operator;
pub(crate) use signs::Signs;

/// 128 random bits.
pub(crate) fn random() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(u128::from_ne_bytes(bytes))
}
