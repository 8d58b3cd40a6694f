//! Entries of a chain for tests.

use sloth_core::{AgentId, Digest, Millis, RepositoryId, RunId, Secret};
use sloth_trust::{ChainEntry, ChainLink, MachineKey, Receipt, ReceiptOutcome, SPEC, TaskSummary};

/// What the one agent of a sample signs of a run.
pub(super) fn receipt(run: u128) -> Receipt {
    let digest = Digest::of(b"");
    let tasks = TaskSummary {
        succeeded: 1,
        unchanged: 0,
        failed: 0,
        timed_out: 0,
        skipped: 0,
        cancelled: 0,
        interrupted: 0,
        digest,
    };
    Receipt {
        spec: SPEC,
        repository: RepositoryId::new(Millis::ZERO, 1),
        agent: AgentId::new(Millis::ZERO, 2),
        run: RunId::new(Millis::ZERO, run),
        order: 1,
        bundle: "web".parse().expect("a name"),
        counter: 1,
        manifest: digest,
        workflow: None,
        root: 1,
        head: 1,
        outcome: ReceiptOutcome::Succeeded,
        message: digest,
        outputs: digest,
        tasks,
        started: None,
        ended: Millis::ZERO,
        version: String::new(),
    }
}

/// The entry of a receipt that the key of `seed` signed, after `last`, and what names it.
pub(super) fn entry(last: Option<ChainLink>, receipt: &Receipt, seed: u8) -> (Vec<u8>, ChainLink) {
    let key = MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key");
    let text = serde_json::to_string(receipt).expect("a receipt");
    let signature = key.sign(text.as_bytes(), &receipt.domain()).minisig;
    let number = last.map_or(1, |last| last.number + 1);
    let previous = last.map(|last| last.digest);
    let received = Millis::from_u64(u64::MAX);
    let key = key.public().clone();
    let line = ChainEntry { number, previous, received, key, receipt: text, signature }.encode();
    let digest = Digest::of(&line);
    (line, ChainLink { number, digest })
}
