//! The outbox: every record gets the lane's next number, and when space runs out the cheapest ones go first.

use sloth_core::{Millis, RunId};

use super::{LOGS_PATIENCE, Note, Write, machine::Agent};
use crate::wire::{Class, Lane, REPORT_BYTES_MAX, REPORT_RECORDS_MAX, Record, RecordBody};

/// When a lane is full, records go until this share of its space is free, so that giving up is rare and in bulk.
const FREED_SHARE: usize = 16;

/// A run's end that is not sent before the logs up to a number are counted, or a time has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunEndHold {
    logs_through: u64,
    until: Millis,
}

impl Agent {
    /// Puts a record into the outbox, giving up cheaper or older ones when there is no space.
    pub(super) fn record(&mut self, run: RunId, body: RecordBody) {
        let body = body.fitted();
        let lane = body.lane();
        if !self.make_room(lane, body.class(), body.weight()) {
            self.write(Write::DropRecords { lane, class: body.class(), seqs: vec![0] });
            return;
        }
        let seq = self.state.lanes[lane.index()].next_seq;
        if let RecordBody::RunEnded(_) = &body {
            let logs_through = self.state.lanes[Lane::Logs.index()].next_seq - 1;
            self.run_ends.insert(seq, RunEndHold { logs_through, until: self.now + LOGS_PATIENCE });
        }
        self.write(Write::PutRecord { lane, record: Record { seq, at: self.wall(), run, body } });
    }

    /// The numbers of the next report of a lane; empty when nothing waits.
    pub(super) fn next_batch(&self, lane: Lane) -> Vec<u64> {
        let mut bytes = 0;
        self.state.lanes[lane.index()]
            .entries
            .iter()
            .take(REPORT_RECORDS_MAX)
            .take_while(|(seq, _)| lane == Lane::Logs || !self.waits_for_logs(**seq))
            .take_while(|(_, entry)| {
                let first = bytes == 0;
                bytes += entry.bytes;
                first || bytes <= REPORT_BYTES_MAX
            })
            .map(|(seq, _)| *seq)
            .collect()
    }

    /// When a run's end that waits for its logs is sent without them.
    pub(super) fn outbox_wake(&self) -> Option<Millis> {
        self.run_ends.values().map(|hold| hold.until).filter(|until| self.now < *until).min()
    }

    /// Forgets what was held back, of records that are gone.
    pub(super) fn forget_run_ends(&mut self) {
        let waiting = &self.state.lanes[Lane::Results.index()].entries;
        self.run_ends.retain(|seq, _| waiting.contains_key(seq));
    }

    fn waits_for_logs(&self, seq: u64) -> bool {
        let Some(hold) = self.run_ends.get(&seq) else { return false };
        let logs = self.state.lanes[Lane::Logs.index()].entries.first_key_value();
        self.now < hold.until && logs.is_some_and(|(first, _)| *first <= hold.logs_through)
    }

    /// Makes room for a record of `class`; false when everything that waits is dearer.
    fn make_room(&mut self, lane: Lane, class: Class, bytes: usize) -> bool {
        let cap = self.config.outbox_bytes_max[lane.index()];
        let have = self.state.lanes[lane.index()].bytes;
        if have + bytes <= cap {
            return true;
        }
        let mut excess = have + bytes - cap + cap / FREED_SHARE;
        for given_up in [Class::Log, Class::Progress, Class::Task, Class::Run] {
            if excess == 0 || class < given_up {
                break;
            }
            excess = self.give_up(lane, given_up, excess);
        }
        self.note(Note::Dropped { lane, total: self.state.lanes[lane.index()].dropped });
        self.state.lanes[lane.index()].bytes + bytes <= cap
    }

    /// Gives up the oldest records of one class until `excess` bytes are free, and says how many are still missing.
    fn give_up(&mut self, lane: Lane, class: Class, mut excess: usize) -> usize {
        let in_flight = self.session.in_flight(lane);
        let seqs: Vec<u64> = self.state.lanes[lane.index()]
            .entries
            .iter()
            // A record under way may have been counted already: it is neither dropped nor lost.
            .filter(|(seq, entry)| entry.class == class && in_flight.is_none_or(|through| through < **seq))
            .take_while(|(_, entry)| {
                let wanted = 0 < excess;
                excess = excess.saturating_sub(entry.bytes);
                wanted
            })
            .map(|(seq, _)| *seq)
            .collect();
        if !seqs.is_empty() {
            self.write(Write::DropRecords { lane, class, seqs });
        }
        excess
    }
}
