//! Receipts: what the agent signs of each run that ended on it. The machine has no key; the driver signs when it sends.

use sloth_core::{Digest, Millis, RunId};
use sloth_trust::{Assignment, BundleName, Receipt, SPEC};

use super::{Basis, Job, TaskState, machine::Agent};
use crate::{
    receipts::task_summary,
    wire::{NAME_BYTES_MAX, RecordBody, RunEnd},
};

/// What a receipt is about.
pub(super) struct About<'a> {
    run: RunId,
    bundle: &'a BundleName,
    manifest: Digest,
    workflow: Option<&'a str>,
    basis: Basis,
    begun: Option<Millis>,
}

impl<'a> About<'a> {
    /// A run that was taken on.
    pub(super) fn job(job: &'a Job) -> Self {
        let Job { run, bundle, manifest, workflow, basis, begun, .. } = job;
        let (run, manifest, workflow, basis, begun) = (*run, *manifest, workflow.as_deref(), *basis, *begun);
        Self { run, bundle, manifest, workflow, basis, begun }
    }

    /// A run that was not taken on.
    pub(super) fn refused(assigned: &'a Assignment, basis: Basis) -> Self {
        let Assignment { run, bundle, manifest, workflow, .. } = assigned;
        let (run, manifest, workflow) = (*run, *manifest, workflow.as_deref());
        Self { run, bundle, manifest, workflow, basis, begun: None }
    }
}

impl Agent {
    /// On what an order is taken on, or refused, at this moment.
    pub(super) fn basis(&self, order: u64, counter: u64) -> Basis {
        let head = self.head.as_ref().map_or(0, |head| head.reference().version);
        Basis { order, counter, root: self.trusted.root().version, head }
    }

    /// What there is to sign of a run that ends as `end`, which is as it is reported.
    pub(super) fn receipt(&self, about: &About<'_>, end: &RunEnd) -> Receipt {
        let ended = self.state.tasks.get(&about.run).into_iter().flatten().filter_map(|(_, state)| match state {
            TaskState::Ended(end) => Some(end),
            TaskState::Started { .. } => None,
        });
        Receipt {
            spec: SPEC,
            repository: self.trusted.root().repository,
            agent: self.config.id,
            run: about.run,
            order: about.basis.order,
            bundle: about.bundle.clone(),
            counter: about.basis.counter,
            manifest: about.manifest,
            workflow: about.workflow.map(|name| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned()),
            root: about.basis.root,
            head: about.basis.head,
            outcome: end.outcome.into(),
            message: Digest::of(end.message.as_bytes()),
            outputs: Digest::of(end.outputs.as_bytes()),
            tasks: task_summary(ended),
            started: about.begun,
            ended: self.wall(),
            version: self.config.version.clone(),
        }
    }

    /// Puts a receipt into the outbox, where it waits behind the end that it is of.
    pub(super) fn record_receipt(&mut self, receipt: &Receipt) {
        // None of its parts refuses to be written.
        let payload = serde_json::to_vec(receipt).unwrap_or_default();
        self.record(receipt.run, RecordBody::Receipt { payload, signature: String::new() });
    }
}
