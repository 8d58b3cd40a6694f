//! Receipts and the chain that they are kept in: whatever is changed is refused, and the first break is named.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

use sloth_core::{AgentId, Digest, Millis, RepositoryId, RunId, Secret, error::Chain};
use sloth_trust::{
    ChainEntry, ChainLink, ChainWalk, Domain, DomainSubject, MachineKey, Receipt, ReceiptOutcome, Refusal, SPEC,
    TaskSummary, envelope::RECEIPT_BYTES_MAX, receipt_envelope, verify_receipt,
};

fn key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn receipt(order: u64) -> Receipt {
    let digest = Digest::from_bytes([0xab; 32]);
    let tasks = TaskSummary {
        succeeded: 3,
        unchanged: 2,
        failed: 0,
        timed_out: 0,
        skipped: 1,
        cancelled: 0,
        interrupted: 0,
        digest,
    };
    Receipt {
        spec: SPEC,
        repository: RepositoryId::new(Millis::from_u64(1), 1),
        agent: AgentId::new(Millis::from_u64(2), 2),
        run: RunId::new(Millis::from_u64(3), u128::from(order)),
        order,
        bundle: "web".parse().expect("a name"),
        counter: 7,
        manifest: digest,
        workflow: Some("site".to_owned()),
        root: 2,
        head: 1_700_000_000_000,
        outcome: ReceiptOutcome::Succeeded,
        message: Digest::of(b""),
        outputs: Digest::of(b"{}"),
        tasks,
        started: Some(Millis::from_u64(10)),
        ended: Millis::from_u64(20),
        version: "0.1.0".to_owned(),
    }
}

fn signed(receipt: &Receipt, key: &MachineKey) -> (Vec<u8>, String) {
    let payload = serde_json::to_vec(receipt).expect("a receipt");
    let signature = key.sign(&payload, &receipt.domain()).minisig;
    (payload, signature)
}

/// A chain of so many entries as lines.
fn chain(count: u64) -> Vec<Vec<u8>> {
    let key = key(7);
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for number in 1..=count {
        let (payload, signature) = signed(&receipt(number), &key);
        let entry = ChainEntry {
            number,
            previous: lines.last().map(|line| Digest::of(line)),
            received: Millis::from_u64(100 + number),
            key: key.public().clone(),
            receipt: String::from_utf8(payload).expect("a text"),
            signature,
        };
        lines.push(entry.encode());
    }
    lines
}

fn link(lines: &[Vec<u8>], number: usize) -> ChainLink {
    ChainLink { number: u64::try_from(number).expect("small"), digest: Digest::of(&lines[number - 1]) }
}

/// Walks over all lines to `newest`, and says where the chain breaks and why.
fn walk(lines: &[Vec<u8>], newest: Option<ChainLink>) -> Result<u64, (u64, String)> {
    let mut walk = ChainWalk::default();
    let taken = lines.iter().try_for_each(|line| walk.take(line).map(drop));
    let ended = taken.and_then(|()| walk.end(newest));
    ended.map(|()| walk.entries()).map_err(|broken| (broken.number, Chain(&*broken).to_string()))
}

#[test]
fn the_bytes_of_a_receipt_are_frozen() {
    let (payload, _) = signed(&receipt(5), &key(7));
    let abab = "ab".repeat(32);
    let text = format!(
        r#"{{"spec":1,"repository":"00000000010000000000000001","agent":"00000000020000000000000002","run":"00000000030000000000000005","order":5,"bundle":"web","counter":7,"manifest":"{abab}","workflow":"site","root":2,"head":1700000000000,"outcome":"succeeded","message":"{}","outputs":"{}","tasks":{{"succeeded":3,"unchanged":2,"failed":0,"timed_out":0,"skipped":1,"cancelled":0,"interrupted":0,"digest":"{abab}"}},"started":10,"ended":20,"version":"0.1.0"}}"#,
        Digest::of(b""),
        Digest::of(b"{}"),
    );
    assert_eq!(String::from_utf8(payload).expect("a text"), text);
    let domain = receipt(5).domain().to_string();
    assert_eq!(domain, format!("sloth:receipt:{}:5", receipt(5).repository));
}

#[test]
fn only_the_agents_own_signature_over_these_very_bytes_counts() {
    let (own, other) = (key(7), key(8));
    let receipt = receipt(5);
    let (payload, signature) = signed(&receipt, &own);
    let verify = |payload: &[u8], signature: &str| {
        verify_receipt(&receipt_envelope(payload.to_vec(), signature.to_owned(), own.public()), own.public())
    };
    assert_eq!(verify(&payload, &signature).expect("verified"), receipt);
    assert_eq!(signed(&receipt, &own).1, signature, "signing twice gives the same bytes");
    for place in 0..payload.len() {
        let mut changed = payload.clone();
        changed[place] ^= 1;
        assert!(verify(&changed, &signature).is_err(), "byte {place} of the payload");
    }
    // The first line is a comment that nobody signs.
    let from = signature.find('\n').expect("lines") + 1;
    for place in from..signature.trim_end().len() {
        let mut changed = signature.clone().into_bytes();
        changed[place] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        assert!(verify(&payload, &changed).is_err(), "byte {place} of the signature");
    }
    assert!(verify(&payload, &signed(&receipt, &other).1).is_err(), "another agent's key");
    let as_head = Domain { subject: DomainSubject::Head, ..receipt.domain() };
    let error = verify(&payload, &own.sign(&payload, &as_head).minisig).expect_err("for a head");
    assert!(matches!(error, Refusal::Kind { .. }), "{error}");
    let other_order = Domain { version: 6, ..receipt.domain() };
    let error = verify(&payload, &own.sign(&payload, &other_order).minisig).expect_err("for another order");
    assert!(matches!(error, Refusal::Disagrees { .. }), "{error}");
    let long = vec![b' '; RECEIPT_BYTES_MAX + 1];
    let error = verify(&long, &own.sign(&long, &receipt.domain()).minisig).expect_err("too long");
    assert!(matches!(error, Refusal::Bounds { .. }), "{error}");
}

#[test]
fn a_whole_chain_holds_from_its_beginning_or_from_what_was_dropped() {
    let lines = chain(5);
    assert_eq!(walk(&lines, Some(link(&lines, 5))), Ok(5));
    assert_eq!(walk(&[], None), Ok(0));
    let mut walk = ChainWalk::after(Some(link(&lines, 2)));
    for line in &lines[2..] {
        walk.take(line).expect("it follows");
    }
    walk.end(Some(link(&lines, 5))).expect("to the end");
    assert_eq!((walk.entries(), walk.newest()), (3, Some(link(&lines, 5))));
}

#[test]
fn every_changed_byte_of_a_chain_is_found_where_it_is() {
    let lines = chain(3);
    let newest = Some(link(&lines, 3));
    for (index, line) in lines.iter().enumerate() {
        for place in 0..line.len() {
            let mut changed = lines.clone();
            changed[index][place] ^= 1;
            let number = u64::try_from(index).expect("small") + 1;
            let (found, what) = walk(&changed, newest).expect_err("changed");
            // What names the entry before it may be what was changed: then it cannot be told which of the two it was.
            assert!(found == number || found + 1 == number, "byte {place} of {number}: found at {found}, {what}");
        }
    }
}

#[test]
fn what_is_taken_out_put_in_or_cut_off_is_named() {
    let lines = chain(4);
    let newest = Some(link(&lines, 4));
    let without = |index: usize| {
        let mut lines = lines.clone();
        lines.remove(index);
        lines
    };
    let (number, what) = walk(&without(1), newest).expect_err("one is missing");
    assert_eq!(number, 2);
    assert!(what.contains("entries were taken out"), "{what}");
    let (number, what) = walk(&without(3), newest).expect_err("the last is missing");
    assert_eq!(number, 4);
    assert!(what.contains("off the end"), "{what}");
    let (number, _) = walk(&without(0), newest).expect_err("the first is missing");
    assert_eq!(number, 1);
    // A receipt of another time in the place of one, with everything else as it was.
    let mut swapped = lines.clone();
    let mut entry = ChainEntry::decode(&swapped[1]).expect("an entry");
    let other = ChainEntry::decode(&chain(9)[8]).expect("an entry");
    (entry.receipt, entry.signature) = (other.receipt, other.signature);
    swapped[1] = entry.encode();
    let (number, what) = walk(&swapped, newest).expect_err("another receipt");
    assert_eq!(number, 2);
    assert!(what.contains("what follows it names another digest"), "{what}");
    // The last one, which nothing follows but the end of the chain.
    let mut last = lines.clone();
    let entry = ChainEntry { received: Millis::ZERO, ..ChainEntry::decode(&last[3]).expect("an entry") };
    last[3] = entry.encode();
    assert_eq!(walk(&last, newest).expect_err("changed").0, 4);
    // The end was set back, or taken away, and what it hides is still there.
    for (end, hidden) in [(Some(link(&lines, 2)), 3), (None, 1)] {
        let (number, what) = walk(&lines, end).expect_err("there is more");
        assert_eq!(number, hidden);
        assert!(what.contains("is said to end before it"), "{what}");
    }
}
