//! `sloth-coord audit verify`.

use std::collections::BTreeSet;

use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{AgentId, Chain, Digest, RunId};
use sloth_protocol::wire::{HeadLine, ReceiptsAsked};
use sloth_trust::{Broken, BrokenHeads, ChainEnds, ChainLink, ChainWalk, HeadWalk};

use super::{
    super::{
        client::{note, with_client},
        printed,
    },
    VerifyArgs,
    source::{self, Agents, Layout},
};

/// Why the chains do not hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    /// An entry, or what is around it.
    #[error(transparent)]
    Receipt(#[from] Box<Broken>),
    /// A head, or what is around it.
    #[error(transparent)]
    Head(#[from] BrokenHeads),
    /// A receipt by a key that its agent does not have.
    #[error(
        "the chain of receipts breaks at receipt {number} of agent `{agent}` on run `{run}`: it is signed by another key than the one that the agent enrolled with"
    )]
    Key {
        /// Which entry.
        number: u64,
        /// Whose it says it is.
        agent: AgentId,
        /// Of which run.
        run: RunId,
    },
    /// A run's receipt by one agent, once more.
    #[error(
        "the chain of receipts breaks at receipt {number} of agent `{agent}` on run `{run}`: it is there once before, and was put in again"
    )]
    Twice {
        /// Which entry.
        number: u64,
        /// Whose it is.
        agent: AgentId,
        /// Of which run.
        run: RunId,
    },
    /// An entry that was noted is another one.
    #[error(
        "receipt {number} is not the one that was noted: its digest is `{found}`, so the chain was written anew since then"
    )]
    Anchor {
        /// Which entry.
        number: u64,
        /// Its digest.
        found: Digest,
    },
    /// An entry that was noted is not there.
    #[error("receipt {number}, which was noted, is not there: the chain has {}", kept(*.first, *.last))]
    AnchorMissing {
        /// Which entry.
        number: u64,
        /// The first that is there.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// What was found.
#[derive(Serialize)]
struct Report {
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
    receipts: u64,
    heads: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    /// Receipts that name a head which this coordinator does not have.
    receipts_of_unknown_heads: u64,
}

/// Goes through both chains.
pub(super) struct Auditor<'a> {
    heads: HeadWalk,
    versions: BTreeSet<u64>,
    receipts: Option<ChainWalk>,
    agents: Agents,
    /// Whose receipts of which runs there were: a run has one of each of its agents.
    jobs: BTreeSet<(RunId, AgentId)>,
    anchors: Vec<&'a ChainLink>,
    first: u64,
    unknown_heads: u64,
}

pub(super) fn run(args: &VerifyArgs, format: Format) -> Result<Outcome, Failure> {
    let anchors = args.anchors.iter().map(|anchor| &anchor.0).collect();
    let mut auditor = Auditor::new(anchors);
    let walked = match &args.export {
        Some(dir) => offline(&mut auditor, &Layout::new(dir)),
        None => with_client(&args.credential, async |client| {
            auditor.agents = source::agents(client).await?;
            source::each_head(client, |head| auditor.head(&head)).await?;
            let asked = ReceiptsAsked { after: 0, agent: None, run: None };
            let ends = source::each_receipt(client, asked, |ends, line| auditor.receipt(ends, &line)).await?;
            auditor.end(&ends)
        }),
    };
    match walked {
        Ok(()) => {
            auditor.print(None, format)?;
            Ok(Outcome::Done)
        }
        // Anything else is no word on the chains.
        Err(failure) if failure.error.is::<AuditError>() => {
            if format == Format::Json {
                auditor.print(Some(Chain(failure.error.as_ref()).to_string()), format)?;
            }
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

fn offline(auditor: &mut Auditor<'_>, layout: &Layout) -> Result<(), Failure> {
    let ends = layout.read_ends()?;
    auditor.agents = layout.read_agents()?;
    layout.each_head(|head| auditor.head(&head))?;
    layout.each_receipt(|line| auditor.receipt(&ends, &line))?;
    auditor.end(&ends)
}

impl<'a> Auditor<'a> {
    fn new(anchors: Vec<&'a ChainLink>) -> Self {
        Self {
            heads: HeadWalk::default(),
            versions: BTreeSet::new(),
            receipts: None,
            agents: Agents::new(),
            jobs: BTreeSet::new(),
            anchors,
            first: 1,
            unknown_heads: 0,
        }
    }

    fn head(&mut self, head: &HeadLine) -> Result<(), Failure> {
        self.heads.take(head.version, &head.payload).map_err(|error| broken(error.into()))?;
        self.versions.insert(head.version);
        Ok(())
    }

    fn receipt(&mut self, ends: &ChainEnds, line: &[u8]) -> Result<(), Failure> {
        let dropped = ends.dropped;
        self.first = dropped.map_or(1, |dropped| dropped.number.saturating_add(1));
        let walk = self.receipts.get_or_insert_with(|| ChainWalk::after(dropped));
        let (entry, receipt) = walk.take(line).map_err(|error| broken(error.into()))?;
        let (number, agent, run) = (entry.number, receipt.agent, receipt.run);
        // Of an agent that is known no more, its first receipt says what its key was.
        let (_, key) = self.agents.entry(agent).or_insert_with(|| (agent.to_string(), entry.key.clone()));
        if *key != entry.key {
            return Err(broken(AuditError::Key { number, agent, run }));
        }
        if !self.jobs.insert((run, agent)) {
            return Err(broken(AuditError::Twice { number, agent, run }));
        }
        self.noted(ChainLink { number, digest: Digest::of(line) })?;
        let oldest = self.versions.first().copied().unwrap_or(u64::MAX);
        if oldest <= receipt.head && !self.versions.contains(&receipt.head) {
            self.unknown_heads += 1;
        }
        Ok(())
    }

    /// Whether the chain of receipts ends where it should, and what was noted is there.
    fn end(&self, ends: &ChainEnds) -> Result<(), Failure> {
        let empty = ChainWalk::after(ends.dropped);
        let walk = self.receipts.as_ref().unwrap_or(&empty);
        walk.end(ends.newest).map_err(|error| broken(error.into()))?;
        let last = walk.newest().map_or(0, |newest| newest.number);
        // The digest of the last one that was dropped is still known.
        let known_from = ends.dropped.map_or(self.first, |dropped| dropped.number);
        ends.dropped.map_or(Ok(()), |dropped| self.noted(dropped))?;
        let gone = |anchor: &&&ChainLink| anchor.number < known_from || last < anchor.number;
        match self.anchors.iter().find(gone) {
            Some(anchor) => Err(broken(AuditError::AnchorMissing { number: anchor.number, first: self.first, last })),
            None => Ok(()),
        }
    }

    /// Whether an entry is what was noted of it, however often that was.
    fn noted(&self, entry: ChainLink) -> Result<(), Failure> {
        let other = |anchor: &&ChainLink| anchor.number == entry.number && anchor.digest != entry.digest;
        if self.anchors.iter().any(other) {
            return Err(broken(AuditError::Anchor { number: entry.number, found: entry.digest }));
        }
        Ok(())
    }

    fn print(&self, broken: Option<String>, format: Format) -> Result<(), Failure> {
        let walk = self.receipts.as_ref();
        let newest = walk.and_then(ChainWalk::newest).map(|newest| format!("{}:{}", newest.number, newest.digest));
        let receipts = walk.map_or(0, ChainWalk::entries);
        let report = Report {
            holds: broken.is_none(),
            broken,
            receipts,
            heads: self.heads.heads(),
            newest,
            receipts_of_unknown_heads: self.unknown_heads,
        };
        if format == Format::Json {
            return printed(print_json(&report));
        }
        printed(print_line(&format!("receipts {receipts} hold")))?;
        printed(print_line(&format!("heads    {} hold", report.heads)))?;
        if let Some(newest) = &report.newest {
            printed(print_line(&format!("newest   {newest}")))?;
        }
        if 0 < self.unknown_heads {
            let count = self.unknown_heads;
            note(&format!(
                "{count} receipts name heads that are not here, as after an old copy of the store was brought back"
            ));
        }
        Ok(())
    }
}

fn broken(error: AuditError) -> Failure {
    Failure { outcome: Outcome::Failed, error: error.into() }
}

fn kept(first: u64, last: u64) -> String {
    if last < first { "none".to_owned() } else { format!("{first} to {last}") }
}

#[cfg(test)]
mod tests {
    use sloth_trust::Receipt;

    use super::{super::sample, *};

    /// What an operator who noted `anchors` is told of a chain of these receipts, each with the number of the key that
    /// signed it.
    fn audited(anchors: &[ChainLink], receipts: &[(Receipt, u8)]) -> Result<(), String> {
        let mut auditor = Auditor::new(anchors.iter().collect());
        let mut ends = ChainEnds::default();
        let mut walk = || {
            for (receipt, key) in receipts {
                let (line, link) = sample::entry(ends.newest, receipt, *key);
                auditor.receipt(&ends, &line)?;
                ends.newest = Some(link);
            }
            auditor.end(&ends)
        };
        walk().map_err(|failure| Chain(failure.error.as_ref()).to_string())
    }

    #[test]
    fn a_chain_that_links_and_is_not_what_it_was_is_refused() {
        let good = [(sample::receipt(1), 7), (sample::receipt(2), 7)];
        assert_eq!(audited(&[], &good), Ok(()));
        let again = [good[0].clone(), good[1].clone(), good[0].clone()];
        let error = audited(&[], &again).expect_err("a receipt was put in again");
        assert!(error.contains("receipt 3 of agent") && error.contains("put in again"), "{error}");
        // Whoever has the disk can sign with a key of his own, for an agent that is known no more.
        let other = [good[0].clone(), (sample::receipt(2), 8)];
        let error = audited(&[], &other).expect_err("another key");
        assert!(error.contains("receipt 2 of agent") && error.contains("another key"), "{error}");
    }

    #[test]
    fn each_entry_that_was_noted_is_looked_for() {
        let good = [(sample::receipt(1), 7), (sample::receipt(2), 7)];
        let (_, first) = sample::entry(None, &good[0].0, 7);
        let changed = ChainLink { digest: Digest::of(b"another"), ..first };
        assert_eq!(audited(&[first, first], &good), Ok(()));
        for anchors in [[first, changed], [changed, first]] {
            let error = audited(&anchors, &good).expect_err("one is another");
            assert!(error.contains("receipt 1 is not the one that was noted"), "{error}");
        }
        let later = ChainLink { number: 3, ..first };
        let error = audited(&[first, later], &good).expect_err("one is not there");
        assert!(error.contains("receipt 3, which was noted, is not there: the chain has 1 to 2"), "{error}");
    }
}
