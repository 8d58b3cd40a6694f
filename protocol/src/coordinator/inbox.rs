//! Reports: each record is counted once, whatever is sent twice.

use sloth_core::AgentId;

use super::{
    Answer, CheckedReport, Inbox, JOB_RESULT_BYTES_MAX, JobEnd, JobUpdate, LAST_SEEN_STEP, RUN_LOG_BYTES_MAX, Ticket,
    Write, machine::Coordinator,
};
use crate::wire::{
    Acked, AgentResponse, JobState, Lane, NUMBER_MAX, REPORT_RECORDS_MAX, Record, RecordBody, Refusal, RefusalCode,
    Report,
};

impl Coordinator {
    pub(super) fn report(&mut self, agent: AgentId, ticket: Ticket, checked: CheckedReport) {
        let CheckedReport { report, mut rejected } = checked;
        let lane = report.lane;
        if let Err(refusal) = check(&report) {
            return self.answer(ticket, Answer::Refused(refusal));
        }
        self.seen(agent, LAST_SEEN_STEP);
        let before = self.state.inboxes.get(&agent).map_or_else(Inbox::default, |inbox| inbox[lane.index()]);
        let mut inbox = Inbox { dropped: report.dropped, ..before };
        for record in report.records {
            if inbox.through < record.seq {
                inbox.through = record.seq;
                let rejected = rejected.remove(&record.seq);
                match record.body {
                    RecordBody::Receipt { payload, signature } => {
                        self.count_receipt(agent, record.run, (payload, signature), rejected);
                    }
                    body @ RecordBody::Update(_) => {
                        if let RecordBody::Update(report) = body.fitted() {
                            self.count_update(agent, report);
                        }
                    }
                    body @ (RecordBody::RunStarted
                    | RecordBody::TaskStarted { .. }
                    | RecordBody::TaskEnded(_)
                    | RecordBody::RunEnded(_)
                    | RecordBody::Log { .. }) => self.count(agent, Record { body, ..record }),
                }
            }
        }
        if inbox != before {
            self.write(Write::PutInbox(agent, lane, inbox));
        }
        self.answer(ticket, Answer::Agent(AgentResponse::Acked(Acked { lane, through: inbox.through })));
    }

    /// Takes in a record that was never seen before.
    fn count(&mut self, agent: AgentId, record: Record) {
        let run = record.run;
        let job = self.state.jobs.get(&run).and_then(|jobs| jobs.get(&agent)).copied();
        // A run that has ended is on the disk alone, and so is whether it was ever this agent's.
        if job.is_none() && !self.state.ended.contains(&run) {
            return;
        }
        let record = Record { body: record.body.fitted(), ..record };
        let is_kept = self.has_room(agent, &record);
        let update = match &record.body {
            RecordBody::RunStarted => Some((JobState::Running, JobEnd::default())),
            RecordBody::RunEnded(end) => {
                Some((end.outcome.into(), JobEnd { message: end.message.clone(), outputs: end.outputs.clone() }))
            }
            RecordBody::TaskStarted { .. }
            | RecordBody::TaskEnded(_)
            | RecordBody::Log { .. }
            | RecordBody::Receipt { .. }
            | RecordBody::Update(_) => None,
        };
        if is_kept {
            self.out.touched.insert(run);
            self.write(Write::Append(agent, record));
        }
        let Some((state, end)) = update else { return };
        // Jobs of ended runs are final, whatever an agent that was away tells of their course.
        let has_ended = job.is_none_or(|job| job.state.is_final());
        if has_ended && !state.is_final() {
            return;
        }
        let mut job = job.unwrap_or(super::Job { state, generation: 0 });
        job.state = state;
        self.out.touched.insert(run);
        self.write(Write::PutJob(run, agent, JobUpdate { job, end }));
        self.note_evidence(run, agent, state);
        self.settle_run(run);
    }

    /// Whether a record is kept among its run's events: who tells without end fills no disk.
    fn has_room(&mut self, agent: AgentId, record: &Record) -> bool {
        let (used, max) = match record.body.lane() {
            Lane::Logs => (self.log_bytes.entry(record.run).or_default(), RUN_LOG_BYTES_MAX),
            Lane::Results => {
                let run = self.result_bytes.entry(record.run).or_default();
                (run.entry(agent).or_default(), JOB_RESULT_BYTES_MAX)
            }
        };
        *used = used.saturating_add(record.weight());
        *used <= max
    }
}

fn check(report: &Report) -> Result<(), Refusal> {
    if REPORT_RECORDS_MAX < report.records.len() {
        let reason = format!("a report takes {REPORT_RECORDS_MAX} records at most");
        return Err(Refusal::new(RefusalCode::TooLarge, reason));
    }
    let lane = |record: &Record| record.body.lane();
    let rising = report.records.is_sorted_by(|a, b| a.seq < b.seq);
    if !rising
        || report.records.iter().any(|record| lane(record) != report.lane || record.seq == 0 || NUMBER_MAX < record.seq)
    {
        let lane = match report.lane {
            Lane::Results => "results",
            Lane::Logs => "logs",
        };
        let reason = format!("a report of {lane} takes records of that lane in rising order");
        return Err(Refusal::new(RefusalCode::Invalid, reason));
    }
    Ok(())
}
