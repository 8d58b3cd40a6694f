//! Where chains are read from: a coordinator, or a directory that they were exported to.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sloth_cli::{Failure, Outcome};
use sloth_core::{
    AgentId, RunId,
    fs::{self, Action, FsError},
};
use sloth_protocol::wire::{HeadLine, JobResult, NewestReceipts, OperatorRequest, OperatorResponse, ReceiptsAsked};
use sloth_trust::{ChainEnds, Head, HeadEnds, PublicKey, chain::ENTRY_BYTES_MAX};

use super::super::{
    agents,
    client::{AskError, Client, expect_answer},
};

/// Most bytes of the small files of an export.
const SMALL_BYTES_MAX: u64 = 4096;

/// The agents that are known, with their names and their keys for receipts.
pub(super) type Agents = BTreeMap<AgentId, (String, PublicKey)>;

/// Where what is kept of both chains begins and ends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ends {
    pub(super) receipts: ChainEnds,
    pub(super) heads: HeadEnds,
}

/// The files of an export.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where what is kept of the chains begins and ends.
    pub(super) fn ends(&self) -> PathBuf {
        self.dir.join("chain.json")
    }

    /// The chain of receipts, an entry a line.
    pub(super) fn chain(&self) -> PathBuf {
        self.dir.join("receipts.jsonl")
    }

    /// The chain of heads, a head a line.
    pub(super) fn heads(&self) -> PathBuf {
        self.dir.join("heads.jsonl")
    }

    /// The agents' keys.
    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// One agent's key.
    pub(super) fn key(&self, agent: AgentId) -> PathBuf {
        self.keys().join(format!("{agent}.pub"))
    }

    /// Receipts with their signatures.
    pub(super) fn receipts(&self) -> PathBuf {
        self.dir.join("receipts")
    }

    /// One receipt.
    pub(super) fn receipt(&self, number: u64) -> PathBuf {
        self.receipts().join(format!("{number}.json"))
    }

    /// Its signature, where the stock program looks for it.
    pub(super) fn signature(&self, number: u64) -> PathBuf {
        self.receipts().join(format!("{number}.json.minisig"))
    }

    pub(super) fn read_ends(&self) -> Result<Ends, Failure> {
        let bytes = fs::read_capped(&self.ends(), SMALL_BYTES_MAX).map_err(Outcome::Usage.because())?;
        serde_json::from_slice(&bytes).map_err(|_| {
            let sentence = format!("`{}` says no beginning and end of a chain: export it again", self.ends().display());
            Failure::new(Outcome::Usage, sentence)
        })
    }

    pub(super) fn read_agents(&self) -> Result<Agents, Failure> {
        let mut agents = Agents::new();
        let dir = self.keys();
        let refuse = |error| Outcome::Usage.because()(FsError::of(Action::Read, &dir)(error));
        for entry in std::fs::read_dir(&dir).map_err(refuse)? {
            let path = entry.map_err(|error| Outcome::Usage.because()(FsError::of(Action::Read, &dir)(error)))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pub"));
            let Some(agent) = name.and_then(|name| name.parse::<AgentId>().ok()) else { continue };
            let bytes = fs::read_capped(&path, SMALL_BYTES_MAX).map_err(Outcome::Usage.because())?;
            let key = String::from_utf8_lossy(&bytes).parse::<PublicKey>().map_err(Outcome::Usage.because())?;
            agents.insert(agent, (agent.to_string(), key));
        }
        Ok(agents)
    }

    /// Shows every head to `look`. A line that is none has no version.
    pub(super) fn each_head(&self, mut look: impl FnMut(HeadLine) -> Result<(), Failure>) -> Result<(), Failure> {
        each_line(&self.heads(), |payload| {
            let version = serde_json::from_slice::<Head>(&payload).map_or(0, |head| head.version);
            look(HeadLine { version, payload })
        })
    }

    /// Shows every line of the chain of receipts to `look`.
    pub(super) fn each_receipt(&self, look: impl FnMut(Vec<u8>) -> Result<(), Failure>) -> Result<(), Failure> {
        each_line(&self.chain(), look)
    }
}

/// Every agent that a coordinator knows.
pub(super) async fn agents(client: &Client) -> Result<Agents, AskError> {
    let views = agents::list(client, "*").await?;
    Ok(views.into_iter().map(|view| (view.id, (view.name, view.receipt_key))).collect())
}

/// Shows every head that a coordinator has to `look`, and says where what was shown begins, and where it has to end.
pub(super) async fn each_head(
    client: &Client,
    mut look: impl FnMut(&HeadEnds, HeadLine) -> Result<(), Failure>,
) -> Result<HeadEnds, Failure> {
    let (mut after, mut dropped) = (0, None);
    loop {
        let page = expect_answer!(client.ask(OperatorRequest::Heads { after }).await?, Heads)?;
        // As with receipts.
        let ends = HeadEnds { dropped: *dropped.get_or_insert(page.ends.dropped), ..page.ends };
        let last = page.heads.last().map(|head| head.version);
        page.heads.into_iter().try_for_each(|head| look(&ends, head))?;
        match last {
            Some(last) if page.more => after = last,
            Some(_) | None => return Ok(ends),
        }
    }
}

/// Shows the newest receipts that a coordinator has to `look`, the newest first, as many as were asked for.
pub(super) async fn newest_receipts(
    client: &Client,
    mut asked: NewestReceipts,
    mut look: impl FnMut(Vec<u8>),
) -> Result<(), Failure> {
    loop {
        let page = expect_answer!(client.ask(OperatorRequest::NewestReceipts(asked)).await?, Receipts)?;
        asked.rows = asked.rows.saturating_sub(u32::try_from(page.lines.len()).unwrap_or(u32::MAX));
        page.lines.into_iter().for_each(&mut look);
        let got_on = asked.before.is_none_or(|before| page.through < before);
        if !page.more || asked.rows == 0 || !got_on {
            return Ok(());
        }
        asked.before = Some(page.through);
    }
}

/// What a coordinator keeps of a run's ends.
pub(super) async fn results(client: &Client, run: RunId) -> Result<Vec<JobResult>, AskError> {
    let mut results: Vec<JobResult> = Vec::new();
    loop {
        let after = results.last().map(|result| result.agent);
        let mut page = expect_answer!(client.ask(OperatorRequest::Results { run, after }).await?, Results)?;
        let more = page.more && !page.results.is_empty();
        results.append(&mut page.results);
        if !more {
            return Ok(results);
        }
    }
}

/// Shows every line that a coordinator has of the chain of receipts to `look`, with those that come in meanwhile, and says
/// where what was shown begins, and where it has to end.
pub(super) async fn each_receipt(
    client: &Client,
    mut asked: ReceiptsAsked,
    mut look: impl FnMut(&ChainEnds, Vec<u8>) -> Result<(), Failure>,
) -> Result<ChainEnds, Failure> {
    let mut dropped = None;
    loop {
        let page = expect_answer!(client.ask(OperatorRequest::Receipts(asked)).await?, Receipts)?;
        // The oldest may go while this looks. A page is of one moment: the last one ends where its end says.
        let ends = ChainEnds { dropped: *dropped.get_or_insert(page.ends.dropped), ..page.ends };
        page.lines.into_iter().try_for_each(|line| look(&ends, line))?;
        if !page.more || page.through <= asked.after {
            return Ok(ends);
        }
        asked.after = page.through;
    }
}

fn each_line(path: &Path, mut look: impl FnMut(Vec<u8>) -> Result<(), Failure>) -> Result<(), Failure> {
    let refuse = |error| Outcome::Usage.because()(FsError::of(Action::Read, path)(error));
    let mut file = BufReader::new(File::open(path).map_err(refuse)?);
    let most = u64::try_from(ENTRY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    loop {
        let mut line = Vec::new();
        let refuse = |error| Outcome::Usage.because()(FsError::of(Action::Read, path)(error));
        if file.by_ref().take(most).read_until(b'\n', &mut line).map_err(refuse)? == 0 {
            return Ok(());
        }
        line.pop_if(|last| *last == b'\n');
        look(line)?;
    }
}
