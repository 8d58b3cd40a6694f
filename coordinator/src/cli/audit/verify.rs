//! `sloth-coord audit verify`.

use std::collections::BTreeSet;

use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{AgentId, Chain, Digest, RunId};
use sloth_protocol::wire::{HeadLine, ReceiptsAsked};
use sloth_trust::{Broken, BrokenHeads, ChainEnds, ChainLink, ChainWalk, HeadEnds, HeadWalk};

use super::{
    super::{
        client::{Client, note, with_client},
        printed,
    },
    VerifyArgs,
    results::{Counts, Differs, Results},
    source::{self, Agents, Ends, Layout},
};
use crate::store::{HEADS_MAX, RECEIPTS_MAX};

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
    /// A stored result that is another one.
    #[error(transparent)]
    Differs(#[from] Differs),
    /// A chain that begins late although there is room for what came before.
    #[error(
        "the chain of {what} is said to begin late because it was full, and only {kept} of {most} are here: what came before was taken off the beginning"
    )]
    Beheaded {
        /// Of what.
        what: &'static str,
        /// How many are here.
        kept: u64,
        /// How many are kept before the oldest goes.
        most: u64,
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
    /// Receipts whose results are kept, and are what was signed; none where there are only receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<u64>,
    /// Those of them of which not every task's end is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete_results: Option<u64>,
}

/// Goes through both chains.
pub(super) struct Auditor<'a> {
    heads: Option<HeadWalk>,
    versions: BTreeSet<u64>,
    receipts: Option<ChainWalk>,
    agents: Agents,
    /// What was signed of which runs: a run has one receipt of each of its agents.
    signed: Results,
    /// Whether that was compared with what is kept.
    compared: Option<Counts>,
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
            let heads = source::each_head(client, |ends, head| auditor.head(ends, &head)).await?;
            let asked = ReceiptsAsked { after: 0, agent: None, run: None };
            let receipts = source::each_receipt(client, asked, |ends, line| auditor.receipt(ends, &line)).await?;
            auditor.end(&Ends { receipts, heads })?;
            compare(&mut auditor, client).await
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

/// Holds what the coordinator keeps of runs against what was signed of them.
async fn compare(auditor: &mut Auditor<'_>, client: &Client) -> Result<(), Failure> {
    for run in auditor.signed.runs() {
        let kept = source::results(client, run).await?;
        auditor.signed.compare(run, &kept).map_err(|error| broken(error.into()))?;
    }
    auditor.compared = Some(auditor.signed.counts);
    Ok(())
}

fn offline(auditor: &mut Auditor<'_>, layout: &Layout) -> Result<(), Failure> {
    let ends = layout.read_ends()?;
    auditor.agents = layout.read_agents()?;
    layout.each_head(|head| auditor.head(&ends.heads, &head))?;
    layout.each_receipt(|line| auditor.receipt(&ends.receipts, &line))?;
    auditor.end(&ends)
}

impl<'a> Auditor<'a> {
    fn new(anchors: Vec<&'a ChainLink>) -> Self {
        Self {
            heads: None,
            versions: BTreeSet::new(),
            receipts: None,
            agents: Agents::new(),
            signed: Results::default(),
            compared: None,
            anchors,
            first: 1,
            unknown_heads: 0,
        }
    }

    fn head(&mut self, ends: &HeadEnds, head: &HeadLine) -> Result<(), Failure> {
        let walk = self.heads.get_or_insert_with(|| HeadWalk::after(ends.dropped));
        walk.take(head.version, &head.payload).map_err(|error| broken(error.into()))?;
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
        if !self.signed.note(number, &receipt) {
            return Err(broken(AuditError::Twice { number, agent, run }));
        }
        self.noted(ChainLink { number, digest: Digest::of(line) })?;
        let oldest = self.versions.first().copied().unwrap_or(u64::MAX);
        if oldest <= receipt.head && !self.versions.contains(&receipt.head) {
            self.unknown_heads += 1;
        }
        Ok(())
    }

    /// Whether both chains begin and end where they should, and what was noted is there.
    fn end(&self, ends: &Ends) -> Result<(), Failure> {
        let Ends { receipts: ends, heads } = ends;
        let no_heads = HeadWalk::after(heads.dropped);
        let head_walk = self.heads.as_ref().unwrap_or(&no_heads);
        head_walk.end(heads.newest).map_err(|error| broken(error.into()))?;
        full("heads", heads.dropped.is_some(), head_walk.heads(), HEADS_MAX)?;
        full("receipts", ends.dropped.is_some(), self.receipts.as_ref().map_or(0, ChainWalk::entries), RECEIPTS_MAX)?;
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
            heads: self.heads.as_ref().map_or(0, HeadWalk::heads),
            newest,
            receipts_of_unknown_heads: self.unknown_heads,
            results: self.compared.map(|counts| counts.compared),
            incomplete_results: self.compared.map(|counts| counts.incomplete),
        };
        if format == Format::Json {
            return printed(print_json(&report));
        }
        printed(print_line(&format!("receipts {receipts} hold")))?;
        printed(print_line(&format!("heads    {} hold", report.heads)))?;
        if let Some(Counts { compared, incomplete }) = self.compared {
            printed(print_line(&format!("results  {compared} are what was signed")))?;
            if 0 < incomplete {
                note(&format!("of {incomplete} results not every task's end is kept here, so these were not compared"));
            }
        }
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

/// Whether a chain of which the oldest went has as many as are kept before that happens.
fn full(what: &'static str, dropped: bool, kept: u64, most: u64) -> Result<(), Failure> {
    if dropped && kept < most { Err(broken(AuditError::Beheaded { what, kept, most })) } else { Ok(()) }
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
            auditor.end(&Ends { receipts: ends, heads: HeadEnds::default() })
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
