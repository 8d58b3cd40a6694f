//! The trust root and the bundles that were published under it.

use sloth_core::error::{Chain, excerpt};
use sloth_trust::{BundleName, Envelope, Seen, Trusted, trusted::follows};

use super::{
    ManifestFacts, RELEASES_MAX, ROOTS_MAX, Release, Reply, Write,
    machine::{Coordinator, read_root},
    registry::invalid,
};
use crate::wire::{BundleView, Published, Refusal, RefusalCode, RolloutSubject};

impl Coordinator {
    /// Takes the first trust root, or the one after the newest; the same one again changes nothing.
    pub(super) fn put_root(&mut self, bytes: Vec<u8>) -> Result<Reply, Refusal> {
        let next = match &self.trusted {
            None => read_root(&bytes)?,
            Some(have) => {
                let envelope = Envelope::decode(&bytes).map_err(|error| invalid(&Chain(&error).to_string()))?;
                let next = have.accept_root(&envelope);
                next.map_err(|error| Refusal::new(RefusalCode::Conflict, Chain(&error).to_string()))?
            }
        };
        if self.root_pin() == Some(next.pin()) {
            return Ok(Reply::Done);
        }
        if ROOTS_MAX <= self.state.roots.len() {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                format!("{ROOTS_MAX} trust roots followed each other already"),
            ));
        }
        self.write(Write::PutRoot(next.root().version, bytes));
        let before = self.trusted.replace(next);
        self.drop_unsigned(before.as_ref());
        self.drop_unsigned_releases(before.as_ref());
        self.issue_head();
        self.offer_roots();
        Ok(Reply::Done)
    }

    /// Drops the releases whose signatures count no more. Agents would refuse them, and a number that a thief chose
    /// must not stand in the way of the next release.
    ///
    /// Only bundles whose signers changed are looked at: to verify every release takes long, and most roots only renew.
    fn drop_unsigned(&mut self, before: Option<&Trusted>) {
        let Some(trusted) = &self.trusted else { return };
        let counts = |release: &Release| {
            Envelope::decode(&release.envelope).is_ok_and(|envelope| trusted.verify_bundle(&envelope).is_ok())
        };
        let signers = |trusted: &Trusted, name: &BundleName| trusted.root().roles.bundle(name).cloned();
        let changed = |name: &BundleName| before.map(|before| signers(before, name)) != Some(signers(trusted, name));
        let bundles = self.state.bundles.iter().filter(|(name, _)| changed(name));
        let releases = bundles.flat_map(|(_, releases)| releases.values());
        let unsigned = releases.filter(|release| !counts(release));
        let unsigned: Vec<(BundleName, u64)> =
            unsigned.map(|release| (release.metadata.name.clone(), release.metadata.counter)).collect();
        for (name, counter) in unsigned {
            self.withdraw(&name, counter);
            self.write(Write::DropRelease(name, counter));
        }
    }

    /// Takes a release that publishers signed; the same one again changes nothing.
    pub(super) fn publish(&mut self, bytes: Vec<u8>, manifest: ManifestFacts) -> Result<Reply, Refusal> {
        let Some(trusted) = &self.trusted else {
            return Err(invalid(
                "there is no trust root yet: `sloth-coord publish` makes one of the key that it is given",
            ));
        };
        let envelope = Envelope::decode(&bytes).map_err(|error| invalid(&Chain(&error).to_string()))?;
        let metadata = trusted.verify_bundle(&envelope).map_err(|error| invalid(&Chain(&error).to_string()))?;
        if metadata.expires <= self.now {
            let reason = format!("the signature on `{}` expired on {}: sign it again", metadata.name, metadata.expires);
            return Err(invalid(&reason));
        }
        let newest = self.newest(&metadata.name).map(|release| (seen(release), release.metadata.version.clone()));
        let new = Seen::of(&envelope, &metadata);
        let what = || format!("bundle `{}`", metadata.name);
        let conflict = |error| Refusal::new(RefusalCode::Conflict, Chain(&error).to_string());
        follows(newest.as_ref().map(|(seen, _)| *seen), new, what).map_err(conflict)?;
        let (name, version, counter) = (metadata.name.to_string(), metadata.version.clone(), metadata.counter);
        let repeated = newest.is_some_and(|(seen, _)| seen == new);
        if !repeated {
            let bundle = metadata.name.clone();
            self.make_room(&metadata.name);
            let signers = envelope.signatures.iter().map(|signature| signature.key.to_string()).collect();
            let ManifestFacts { size, workflows } = manifest;
            self.write(Write::PutRelease(Box::new(Release { envelope: bytes, metadata, size, workflows, signers })));
            self.issue_head();
            self.rollouts_look_at(&RolloutSubject::Bundle(bundle));
        }
        Ok(Reply::Published(Published { name, version, counter, repeated }))
    }

    pub(super) fn newest_releases(&self) -> Vec<BundleView> {
        let newest = self.state.bundles.values().filter_map(|releases| releases.values().next_back());
        newest.map(release_view).collect()
    }

    pub(super) fn releases(&self, name: &str) -> Result<Vec<BundleView>, Refusal> {
        let releases = name.parse::<BundleName>().ok().and_then(|name| self.state.bundles.get(&name));
        let releases = releases.filter(|releases| !releases.is_empty()).ok_or_else(|| no_bundle(name))?;
        let mut views: Vec<BundleView> = releases.values().rev().map(release_view).collect();
        let newest = releases.values().next_back().and_then(|release| release.metadata.parameters.as_ref());
        if let (Some(view), Some(schema)) = (views.first_mut(), newest) {
            view.parameters = schema.source().to_string();
        }
        Ok(views)
    }

    pub(super) fn newest(&self, name: &BundleName) -> Option<&Release> {
        self.state.bundles.get(name)?.values().next_back()
    }

    /// The newest release of a bundle, which `version` has to be if it is said.
    pub(super) fn newest_as_meant(
        &self,
        bundle: &str,
        version: Option<&str>,
    ) -> Result<(BundleName, &Release), Refusal> {
        let name: BundleName = bundle.parse().map_err(|_| no_bundle(bundle))?;
        let release = self.newest(&name).ok_or_else(|| no_bundle(bundle))?;
        let newest = &release.metadata.version;
        if let Some(version) = version.filter(|version| *version != newest) {
            let version = excerpt(version);
            let reason = format!(
                "the newest release of `{name}` is {newest}, and agents take no older one: publish {version} again to go back to it"
            );
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        Ok((name, release))
    }

    fn make_room(&mut self, name: &BundleName) {
        let Some(releases) = self.state.bundles.get(name).filter(|releases| RELEASES_MAX <= releases.len()) else {
            return;
        };
        let runs = |counter: u64| self.state.runs.values().any(|run| run.bundle == *name && run.counter == counter);
        let is_of = |subject: &RolloutSubject| matches!(subject, RolloutSubject::Bundle(bundle) if bundle == name);
        let used = |counter: &u64| runs(*counter) || self.is_rolled_out(is_of, *counter);
        if let Some(oldest) = releases.keys().copied().find(|counter| !used(counter)) {
            self.write(Write::DropRelease(name.clone(), oldest));
        }
    }
}

pub(super) fn no_bundle(name: &str) -> Refusal {
    let name = excerpt(name);
    let reason = format!("there is no bundle `{name}`: `sloth-coord bundles list` shows them all");
    Refusal::new(RefusalCode::NotFound, reason)
}

/// Whether a release has the workflow, if one is said.
pub(super) fn check_workflow(release: &Release, workflow: Option<&str>) -> Result<(), Refusal> {
    let Some(workflow) = workflow.filter(|workflow| !release.workflows.contains(*workflow)) else { return Ok(()) };
    let known: Vec<_> = release.workflows.iter().map(String::as_str).collect();
    let (name, workflow) = (&release.metadata.name, excerpt(workflow));
    Err(invalid(&format!("`{name}` has no workflow `{workflow}`; it has {}", known.join(", "))))
}

fn seen(release: &Release) -> Seen {
    // The envelope was decoded when it was published.
    let payload = Envelope::decode(&release.envelope).map(|envelope| envelope.payload).unwrap_or_default();
    Seen { counter: release.metadata.counter, payload: sloth_core::Digest::of(&payload) }
}

fn release_view(release: &Release) -> BundleView {
    let metadata = &release.metadata;
    BundleView {
        name: metadata.name.to_string(),
        version: metadata.version.clone(),
        counter: metadata.counter,
        manifest: metadata.manifest.digest,
        size: release.size,
        audience: metadata.audience.to_string(),
        capabilities: metadata.capabilities.clone(),
        triggers: metadata.triggers.clone(),
        published: metadata.published,
        expires: metadata.expires,
        signers: release.signers.clone(),
        plan: String::new(),
        parameters: String::new(),
    }
}
