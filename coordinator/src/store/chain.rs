//! The chain of receipts, and the heads that were issued.

use redb::{ReadableTable as _, ReadableTableMetadata as _};
use sloth_core::{AgentId, Digest, RunId};
use sloth_protocol::{
    coordinator::ReceiptRow,
    wire::{HeadLine, HeadsPage, NewestReceipts, PAGE_ROWS_MAX, ReceiptsAsked, ReceiptsPage},
};
use sloth_trust::{ChainEnds, ChainEntry, ChainLink};

use super::{
    RowError,
    apply::{Bytes, drop_row, put, put_bytes},
    codec,
    database::Fault,
    reads::{ANSWER_BYTES_MAX, Go, Reader, Room, row},
    tables::{self, beginning_with, job_key, number_of},
};

/// Most receipts that are kept, which are about 2 GiB; the oldest goes first, and its digest stays.
pub const RECEIPTS_MAX: u64 = 1_000_000;
/// Most receipts that one look passes over in search of one agent's.
const SCANNED_MAX: usize = 10_000;

/// What a receipt's place among the tables is.
pub(super) struct ChainTables<'a, 't> {
    pub(super) meta: &'a mut Bytes<'t>,
    pub(super) jobs: &'a mut Bytes<'t>,
    pub(super) receipts: &'a mut Bytes<'t>,
    pub(super) receipt_of: &'a mut Bytes<'t>,
    /// Most receipts that are kept.
    pub(super) max: u64,
}

impl ChainTables<'_, '_> {
    /// Puts a receipt at the end of the chain. One of a run that was never its agent's, and a second one of the same job,
    /// are left out: whoever would fill the chain has nothing else to fill it with. Says whether it was put in.
    pub(super) fn put(&mut self, receipt: &ReceiptRow) -> Result<bool, Fault> {
        let job = job_key(receipt.run, receipt.agent);
        let known = self.jobs.get(job.as_slice()).map_err(Fault::of)?.is_some();
        if !known || self.receipt_of.get(job.as_slice()).map_err(Fault::of)?.is_some() {
            return Ok(false);
        }
        let mut ends = self.ends()?;
        let entry = ChainEntry {
            number: ends.newest.map_or(1, |newest| newest.number + 1),
            previous: ends.newest.map(|newest| newest.digest),
            received: receipt.received,
            key: receipt.key.clone(),
            receipt: receipt.payload.clone(),
            signature: receipt.signature.clone(),
        };
        let line = entry.encode();
        put_bytes(self.receipts, &entry.number.to_be_bytes(), &line)?;
        put_bytes(self.receipt_of, &job, &entry.number.to_be_bytes())?;
        ends.newest = Some(ChainLink { number: entry.number, digest: Digest::of(&line) });
        if self.max < self.receipts.len().map_err(Fault::of)? {
            ends.dropped = self.drop_first()?.or(ends.dropped);
        }
        put(self.meta, "meta", tables::META_RECEIPTS, &ends)?;
        Ok(true)
    }

    /// Drops the oldest receipt, and says what names it.
    fn drop_first(&mut self) -> Result<Option<ChainLink>, Fault> {
        let first = self.receipts.pop_first().map_err(Fault::of)?;
        let Some((number, line)) = first.map(|(key, line)| (number_of(key.value()), line.value().to_vec())) else {
            return Ok(None);
        };
        let number = number.map_err(Fault::row("receipts"))?;
        if let Some(receipt) = ChainEntry::decode(&line).ok().and_then(|entry| entry.claimed()) {
            drop_row(self.receipt_of, &job_key(receipt.run, receipt.agent))?;
        }
        Ok(Some(ChainLink { number, digest: Digest::of(&line) }))
    }

    fn ends(&self) -> Result<ChainEnds, Fault> {
        let row = self.meta.get(tables::META_RECEIPTS).map_err(Fault::of)?;
        let ends = row.map(|row| codec::decode(row.value())).transpose().map_err(Fault::row("meta"))?;
        Ok(ends.unwrap_or_default())
    }
}

pub(super) fn receipts(reader: &Reader, asked: ReceiptsAsked) -> Result<ReceiptsPage, Fault> {
    let ends = row(&reader.meta, tables::META_RECEIPTS, |value| Ok(codec::decode(value)?), "meta")?;
    let page = ReceiptsPage { ends: ends.unwrap_or_default(), lines: Vec::new(), through: asked.after, more: false };
    match asked.run {
        Some(run) => of_run(reader, run, asked, page),
        None => in_order(reader, asked, page),
    }
}

/// The receipts of one run, by the agents' ids: they are named by an index, and a run's are all looked at.
fn of_run(reader: &Reader, run: RunId, asked: ReceiptsAsked, mut page: ReceiptsPage) -> Result<ReceiptsPage, Fault> {
    let mut numbers = Vec::new();
    reader.receipt_of.each_in("receipt_of", beginning_with::<32>(&run.to_bytes()), |key, value| {
        let agent = key.last_chunk::<16>().ok_or(RowError::Key { bytes: key.len() })?;
        let number = number_of(value)?;
        if asked.after < number && asked.agent.is_none_or(|wanted| wanted == AgentId::from_bytes(*agent)) {
            numbers.push(number);
        }
        Ok(())
    })?;
    numbers.sort_unstable();
    let mut room = Room::of(ANSWER_BYTES_MAX);
    for number in numbers {
        let line = row(&reader.receipts, &number.to_be_bytes(), |line| Ok(line.to_vec()), "receipts")?;
        let line = line.unwrap_or_default();
        if !page.lines.is_empty() && !room.fits(line.len()) {
            page.more = true;
            break;
        }
        room.take(line.len());
        page.through = number;
        page.lines.push(line);
    }
    Ok(page)
}

fn in_order(reader: &Reader, asked: ReceiptsAsked, mut page: ReceiptsPage) -> Result<ReceiptsPage, Fault> {
    let (mut room, mut scanned) = (Room::of(ANSWER_BYTES_MAX), 0);
    let range = asked.after.saturating_add(1).to_be_bytes()..=u64::MAX.to_be_bytes();
    reader.receipts.until("receipts", range, |key, line| {
        if SCANNED_MAX <= scanned || (!page.lines.is_empty() && !room.fits(line.len())) {
            page.more = true;
            return Ok(Go::Stop);
        }
        scanned += 1;
        // A line that cannot be read is everybody's: who looks shall see it.
        let of = |line: &[u8]| ChainEntry::decode(line).ok().and_then(|entry| entry.claimed()).map(|of| of.agent);
        if asked.agent.is_none_or(|wanted| of(line).is_none_or(|agent| agent == wanted)) {
            room.take(line.len());
            page.lines.push(line.to_vec());
        }
        page.through = number_of(key)?;
        Ok(Go::On)
    })?;
    Ok(page)
}

pub(super) fn newest_receipts(reader: &Reader, asked: NewestReceipts) -> Result<ReceiptsPage, Fault> {
    let ends = row(&reader.meta, tables::META_RECEIPTS, |value| Ok(codec::decode(value)?), "meta")?;
    let before = asked.before.unwrap_or(u64::MAX);
    let mut page = ReceiptsPage { ends: ends.unwrap_or_default(), lines: Vec::new(), through: before, more: false };
    let rows = usize::try_from(asked.rows.min(PAGE_ROWS_MAX)).unwrap_or(usize::MAX);
    let (mut room, mut scanned) = (Room::of(ANSWER_BYTES_MAX), 0);
    let wanted = |line: &[u8]| {
        // A line that cannot be read is everybody's: who looks shall see it.
        let claimed = ChainEntry::decode(line).ok().and_then(|entry| entry.claimed());
        claimed.is_none_or(|of| {
            asked.agent.is_none_or(|agent| agent == of.agent) && asked.run.is_none_or(|run| run == of.run)
        })
    };
    let range = 0_u64.to_be_bytes()..=before.saturating_sub(1).to_be_bytes();
    reader.receipts.until_back("receipts", range, |key, line| {
        let full = rows <= page.lines.len() || (!page.lines.is_empty() && !room.fits(line.len()));
        if full || SCANNED_MAX <= scanned {
            page.more = true;
            return Ok(Go::Stop);
        }
        scanned += 1;
        if wanted(line) {
            room.take(line.len());
            page.lines.push(line.to_vec());
        }
        page.through = number_of(key)?;
        Ok(Go::On)
    })?;
    Ok(page)
}

pub(super) fn heads(reader: &Reader, after: u64) -> Result<HeadsPage, Fault> {
    let ends = row(&reader.meta, tables::META_HEADS, |value| Ok(codec::decode(value)?), "meta")?;
    let mut page = HeadsPage { ends: ends.unwrap_or_default(), heads: Vec::new(), more: false };
    let mut room = Room::of(ANSWER_BYTES_MAX);
    let range = after.saturating_add(1).to_be_bytes()..=u64::MAX.to_be_bytes();
    reader.heads.until("heads", range, |key, payload| {
        if !page.heads.is_empty() && !room.fits(payload.len()) {
            page.more = true;
            return Ok(Go::Stop);
        }
        room.take(payload.len());
        page.heads.push(HeadLine { version: number_of(key)?, payload: payload.to_vec() });
        Ok(Go::On)
    })?;
    Ok(page)
}
