//! What happened in a simulation: to see that simulations reach what they are for.

use sloth_protocol::{
    agent::Write,
    coordinator::{RolloutHost, RolloutOrder},
    rollout::Standing,
    wire::RolloutStatus,
};

/// Counts of one simulation, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were handled.
    pub events: u64,
    /// Hosts that became agents.
    pub enrolled: u64,
    /// Jobs that agents ended.
    pub ended_jobs: u64,
    /// Records that the coordinator counted.
    pub counted: u64,
    /// Reports that arrived.
    pub reports: u64,
    /// Updates of agents that were confirmed.
    pub updates: u64,
    /// Updates of agents that were rolled back.
    pub rolled_back_updates: u64,
    /// Versions that were confirmed, and given up later.
    pub given_up_updates: u64,
    /// Workers that were started.
    pub workers: u64,
    /// Workers that died.
    pub worker_deaths: u64,
    /// Agents' processes that ended.
    pub host_crashes: u64,
    /// Coordinators' processes that ended.
    pub center_crashes: u64,
    /// Commits that the disk did not take.
    pub failed_commits: u64,
    /// Hosts that were cut off.
    pub partitions: u64,
    /// Requests that never arrived.
    pub lost_requests: u64,
    /// Answers that never arrived.
    pub lost_answers: u64,
    /// Answers that arrived when their connection was gone.
    pub late_answers: u64,
    /// Orders that were forged.
    pub forgeries: u64,
    /// Orders that agents refused.
    pub refused_orders: u64,
    /// Times that agents began nothing new for want of a head that counts.
    pub held_back: u64,
    /// Orders that came again.
    pub stale_orders: u64,
    /// Disks that became older ones.
    pub rollbacks: u64,
    /// Agents that noticed it.
    pub seen_rollbacks: u64,
    /// Times that an agent gave up records for want of space.
    pub sheds: u64,
    /// Certificates that were renewed.
    pub renewals: u64,
    /// Identities that were withdrawn.
    pub revocations: u64,
    /// Trust roots that agents took on after their first.
    pub new_roots: u64,
    /// Clocks of hosts that were set to another time.
    pub clock_jumps: u64,
    /// Hosts that rollouts proved.
    pub rollout_proofs: u64,
    /// Hosts that failed in rollouts, or fell silent.
    pub rollout_failures: u64,
    /// Hosts that rollouts gave up for want of a sign of life.
    pub rollout_silences: u64,
    /// Rollouts that halted.
    pub rollout_halts: u64,
    /// Rollouts that were completed.
    pub rollouts_done: u64,
    /// Hosts that rollouts of the agent proved.
    pub agents_proven: u64,
    /// Hosts that failed in rollouts of the agent.
    pub agents_failed: u64,
    /// Hosts that kept themselves out of one.
    pub agents_held: u64,
    /// Hosts that went back, or undid a bad version themselves.
    pub agents_returned: u64,
}

impl Tally {
    pub(super) fn note_agent_writes(&mut self, writes: &[Write]) {
        let shed = writes.iter().filter(|write| matches!(write, Write::DropRecords { .. })).count();
        self.sheds += u64::try_from(shed).unwrap_or(0);
    }

    pub(super) fn note_rollout(&mut self, status: RolloutStatus) {
        self.rollout_halts += u64::from(status == RolloutStatus::Halted);
        self.rollouts_done += u64::from(status == RolloutStatus::Complete);
    }

    pub(super) fn note_rollout_host(&mut self, row: &RolloutHost) {
        let standing = row.standing;
        if matches!(row.order, RolloutOrder::Update { .. }) {
            self.agents_proven += u64::from(standing == Standing::Proven);
            self.agents_failed += u64::from(standing == Standing::Failed);
            self.agents_held += u64::from(matches!(standing, Standing::Held { .. }));
            self.agents_returned += u64::from(standing == Standing::Returned);
        }
        self.rollout_proofs += u64::from(standing == Standing::Proven);
        self.rollout_silences += u64::from(matches!(standing, Standing::Silent { .. }));
        self.rollout_failures += u64::from(standing == Standing::Failed);
    }

    /// Every count with its name.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 37] {
        [
            ("events", self.events),
            ("enrolled", self.enrolled),
            ("ended_jobs", self.ended_jobs),
            ("counted", self.counted),
            ("reports", self.reports),
            ("updates", self.updates),
            ("rolled_back_updates", self.rolled_back_updates),
            ("given_up_updates", self.given_up_updates),
            ("agents_proven", self.agents_proven),
            ("agents_failed", self.agents_failed),
            ("agents_held", self.agents_held),
            ("agents_returned", self.agents_returned),
            ("workers", self.workers),
            ("worker_deaths", self.worker_deaths),
            ("host_crashes", self.host_crashes),
            ("center_crashes", self.center_crashes),
            ("failed_commits", self.failed_commits),
            ("partitions", self.partitions),
            ("lost_requests", self.lost_requests),
            ("lost_answers", self.lost_answers),
            ("late_answers", self.late_answers),
            ("forgeries", self.forgeries),
            ("refused_orders", self.refused_orders),
            ("held_back", self.held_back),
            ("stale_orders", self.stale_orders),
            ("rollbacks", self.rollbacks),
            ("seen_rollbacks", self.seen_rollbacks),
            ("sheds", self.sheds),
            ("renewals", self.renewals),
            ("revocations", self.revocations),
            ("new_roots", self.new_roots),
            ("clock_jumps", self.clock_jumps),
            ("rollout_proofs", self.rollout_proofs),
            ("rollout_failures", self.rollout_failures),
            ("rollout_silences", self.rollout_silences),
            ("rollout_halts", self.rollout_halts),
            ("rollouts_done", self.rollouts_done),
        ]
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.enrolled += other.enrolled;
        self.updates += other.updates;
        self.rolled_back_updates += other.rolled_back_updates;
        self.ended_jobs += other.ended_jobs;
        self.counted += other.counted;
        self.reports += other.reports;
        self.workers += other.workers;
        self.worker_deaths += other.worker_deaths;
        self.host_crashes += other.host_crashes;
        self.center_crashes += other.center_crashes;
        self.failed_commits += other.failed_commits;
        self.partitions += other.partitions;
        self.lost_requests += other.lost_requests;
        self.lost_answers += other.lost_answers;
        self.late_answers += other.late_answers;
        self.forgeries += other.forgeries;
        self.refused_orders += other.refused_orders;
        self.held_back += other.held_back;
        self.stale_orders += other.stale_orders;
        self.rollbacks += other.rollbacks;
        self.seen_rollbacks += other.seen_rollbacks;
        self.sheds += other.sheds;
        self.renewals += other.renewals;
        self.revocations += other.revocations;
        self.new_roots += other.new_roots;
        self.clock_jumps += other.clock_jumps;
        self.rollout_proofs += other.rollout_proofs;
        self.rollout_failures += other.rollout_failures;
        self.rollout_silences += other.rollout_silences;
        self.rollout_halts += other.rollout_halts;
        self.rollouts_done += other.rollouts_done;
        self.given_up_updates += other.given_up_updates;
        self.agents_proven += other.agents_proven;
        self.agents_failed += other.agents_failed;
        self.agents_held += other.agents_held;
        self.agents_returned += other.agents_returned;
    }
}

/// A line without the bytes in it: `[1, 2, 3]` becomes `[…]`.
pub(super) fn without_bytes(line: &str) -> String {
    let mut shown = String::with_capacity(line.len().min(400));
    for (place, part) in line.split('[').enumerate() {
        if place != 0 {
            shown.push('[');
        }
        match part.split_once(']') {
            Some((list, rest))
                if 8 < list.len() && list.chars().all(|c| c.is_ascii_digit() || c == ',' || c == ' ') =>
            {
                shown.push('…');
                shown.push(']');
                shown.push_str(rest);
            }
            Some(_) | None => shown.push_str(part),
        }
    }
    shown
}
