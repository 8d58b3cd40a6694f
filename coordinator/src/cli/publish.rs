//! `sloth-coord publish`: checks a directory, signs what it found, and hands both over.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use sloth_bundle::{DESCRIPTION_FILE, Description, Limits, Manifest, Packed, Parts, pack, parameters};
use sloth_cli::{Failure, Format, Outcome, parameters::check_own_values, print_json, print_line};
use sloth_core::{Chain, Clock, Digest, Millis, Selector, config::Span};
use sloth_protocol::wire::{BundleView, OperatorRequest, OperatorResponse, Published};
use sloth_trust::{
    BundleMetadata, BundleName, ManifestRef, RootPin, SPEC, Schema, Trusted,
    sign::{SecretKey, sign},
};
use sloth_workflow::{Capabilities, Capability, Grant, Plan, needs};

use super::{
    CredentialArgs,
    bundles::releases,
    client::{AskError, Client, note, with_client},
    plan, printed, show,
    sign::{Signer, open},
    trust::{ROOT_LIFE, current, first_root, online_keys, warnings},
    upload::{self, Upload},
};

/// A release that is not changed is signed again when less than one part in so many of its life is left.
const RENEW_DIVISOR: u64 = 3;

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The bundle's directory, with its `bundle.toml`
    dir: PathBuf,
    /// A publisher's secret key; give as many as must sign
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Another name than the one in `bundle.toml`
    #[arg(long)]
    name: Option<BundleName>,
    /// Another release than the one in `bundle.toml`
    #[arg(long)]
    release: Option<String>,
    /// Which hosts may run it, instead of what `bundle.toml` says
    #[arg(long, value_name = "SELECTOR")]
    audience: Option<Selector>,
    /// How long it is good for new work, instead of what `bundle.toml` says
    #[arg(long)]
    expires: Option<Span>,
    /// Check and show everything, and publish nothing
    #[arg(long)]
    dry_run: bool,
}

/// A bundle that is ready to be signed.
struct Prepared {
    description: Description,
    /// What values a run may be given.
    parameters: Option<Schema>,
    /// What the workflow's files need, by what they name.
    needs: BTreeSet<Capability>,
    packed: Packed,
    plans: Vec<Plan>,
    manifest: Manifest,
    bytes: Vec<u8>,
    reference: ManifestRef,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    version: String,
    counter: u64,
    published: bool,
    uploaded_blobs: usize,
    uploaded_bytes: u64,
    /// The SHA-256 of the trust root, when this made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
}

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    version: &'a str,
    manifest: String,
    files: usize,
    size: u64,
    capabilities: &'a [String],
    needs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a Schema>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_blobs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_bytes: Option<u64>,
    plan: Value,
}

pub(super) fn run(args: &PublishArgs, format: Format) -> Result<Outcome, Failure> {
    let prepared = Prepared::new(args)?;
    let signers = args.key.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    if args.dry_run {
        return dry_run(args, &prepared, format);
    }
    let shown = with_client(&args.credential, async |client| publish(client, &prepared, &signers).await)?;
    print(&shown, format)
}

impl Prepared {
    fn new(args: &PublishArgs) -> Result<Self, Failure> {
        let mut description = Description::load(&args.dir).map_err(Outcome::Usage.because())?;
        description.name = args.name.clone().unwrap_or(description.name);
        description.version = args.release.clone().unwrap_or(description.version);
        description.audience = args.audience.clone().unwrap_or(description.audience);
        description.expires = args.expires.unwrap_or(description.expires);
        let capabilities = capabilities(&args.dir, &description)?;
        let parameters = parameters(&args.dir).map_err(Outcome::Usage.because())?;
        let own = parameters.as_ref().map_or(Ok(()), |schema| check_own_values(&args.dir, schema));
        own.map_err(Outcome::Usage.because())?;
        let limits = Limits::default();
        let packed = pack(&args.dir, &limits).map_err(Outcome::Usage.because())?;
        let plans = plans(&args.dir, &description)?;
        let parts = Parts {
            name: description.name.clone(),
            version: description.version.clone(),
            workflow: description.workflow.clone(),
            files: packed.files.clone(),
            links: packed.links.clone(),
            plan: serde_json::to_vec(&plans).map_err(Outcome::Internal.because())?,
        };
        let manifest = Manifest::new(parts, &limits).map_err(Outcome::Usage.because())?;
        let bytes = manifest.encode().map_err(Outcome::Usage.because())?;
        let reference = Manifest::reference(&bytes);
        let needs = needs(&args.dir, Path::new(description.workflow.as_str()));
        let needs = needs.map_err(Outcome::Usage.because())?;
        compare(&capabilities, &needs);
        // From here on in their plain form, so that one grant is one text.
        description.capabilities = capabilities.names().collect();
        Ok(Self { description, parameters, needs, packed, plans, manifest, bytes, reference })
    }

    /// Every blob, the manifest last.
    fn blobs(&self) -> Vec<Digest> {
        let chunks = self.manifest.chunks().into_iter().map(|chunk| chunk.digest);
        chunks.chain([self.reference.digest]).collect()
    }

    fn upload(&self) -> Upload<'_> {
        Upload { packed: &self.packed, manifest: &self.bytes, reference: self.reference }
    }
}

/// What `bundle.toml` grants.
fn capabilities(dir: &Path, description: &Description) -> Result<Capabilities, Failure> {
    let file = dir.join(DESCRIPTION_FILE);
    for (text, line) in description.capabilities.iter().zip(&description.capability_lines) {
        let refuse = |error| Failure::new(Outcome::Usage, format!("`{}`, line {line}: {error}", file.display()));
        text.parse::<Grant>().map_err(refuse)?;
    }
    Capabilities::parse(&description.capabilities).map_err(Outcome::Usage.because())
}

/// Warns of what is granted and not needed, and the other way round.
fn compare(granted: &Capabilities, needs: &BTreeSet<Capability>) {
    for missing in needs.iter().filter(|needed| !granted.allows_some(**needed)) {
        note(&format!("warning: the workflow names what needs `{missing}`, and bundle.toml does not grant it"));
    }
    let spare = |grant: &&Grant| !needs.contains(&grant.capability());
    for grant in granted.grants().filter(spare) {
        note(&format!("warning: bundle.toml grants `{grant}`, and nothing that the workflow names needs it"));
    }
}

/// Evaluates the workflow in its sandbox, where it can touch nothing.
fn plans(dir: &Path, description: &Description) -> Result<Vec<Plan>, Failure> {
    let file = Path::new(description.workflow.as_str());
    let limits = sloth_workflow::Limits::default();
    // Its error stays on this thread, so its sentence is what goes on.
    let loaded = sloth_workflow::load_and_warn(dir, file, &Value::Null, &limits);
    let (plans, warnings) = loaded.map_err(|error| Failure::new(Outcome::Usage, Chain(&error).to_string()))?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(plans)
}

/// The number of a new release: the milliseconds since 1970, and above the newest that the coordinator has.
///
/// Agents have seen numbers that the coordinator may have forgotten: in a back-up that it was set back to, or with a key
/// that was revoked. They take no other release under one of them, and time is above all that were given.
fn next_counter(newest: Option<u64>, now: Millis) -> u64 {
    newest.map_or(0, |newest| newest.saturating_add(1)).max(now.as_u64())
}

async fn publish(client: &Client, prepared: &Prepared, signers: &[Signer]) -> Result<Shown, Failure> {
    let secrets: Vec<&SecretKey> = signers.iter().map(|signer| &signer.secret).collect();
    let (trusted, made) = root(client, signers, &secrets).await?;
    check_role(&trusted, prepared, signers)?;
    let now = Clock::new().now();
    for warning in warnings(&trusted, &[], now) {
        note(&format!("warning: {warning}"));
    }
    let newest = releases(client, prepared.description.name.as_str()).await?.into_iter().next();
    // Also for a release that did not change: publishing it again is how blobs come back that the coordinator lost.
    let missing = upload::missing(client, prepared.blobs()).await?;
    let uploaded_bytes = upload::upload(client, prepared.upload(), &missing).await?;
    let uploaded_blobs = missing.len();
    if let Some(newest) = newest.as_ref().filter(|newest| unchanged(newest, prepared, now)) {
        return Ok(Shown {
            name: newest.name.clone(),
            version: newest.version.clone(),
            counter: newest.counter,
            published: false,
            uploaded_blobs,
            uploaded_bytes,
            root: None,
        });
    }
    let description = &prepared.description;
    let metadata = BundleMetadata {
        spec: SPEC,
        repository: trusted.root().repository,
        name: description.name.clone(),
        counter: next_counter(newest.map(|newest| newest.counter), now),
        version: description.version.clone(),
        manifest: prepared.reference,
        audience: description.audience.clone(),
        capabilities: description.capabilities.clone(),
        triggers: description.triggers.clone(),
        parameters: prepared.parameters.clone(),
        expires: now + description.expires.millis(),
        published: now,
    };
    let envelope = sign(&metadata, &metadata.domain(), &secrets).map_err(Outcome::Usage.because())?;
    let OperatorResponse::Published(published) = client.ask(OperatorRequest::Publish(envelope.encode())).await? else {
        return Err(AskError::Unexpected.into());
    };
    let Published { name, version, counter, repeated } = published;
    Ok(Shown {
        name,
        version,
        counter,
        published: !repeated,
        uploaded_blobs,
        uploaded_bytes,
        root: made.map(|pin| pin.to_string()),
    })
}

/// The coordinator's trust root. One that has none gets one, of the keys that sign now.
async fn root(
    client: &Client,
    signers: &[Signer],
    secrets: &[&SecretKey],
) -> Result<(Trusted, Option<RootPin>), Failure> {
    if let Some(trusted) = current(client).await? {
        return Ok((trusted, None));
    }
    let keys: Vec<_> = signers.iter().map(|signer| signer.public.clone()).collect();
    let online = online_keys(client, OperatorRequest::OnlineKeys).await?;
    let online = online.into_iter().next_back().ok_or(AskError::Unexpected)?;
    let count = keys.len();
    let all = (keys, count);
    let root = first_root(all.clone(), all.clone(), all, online, ROOT_LIFE)?;
    let envelope = sign(&root, &root.domain(), secrets).map_err(Outcome::Usage.because())?;
    let pin = RootPin::of(&envelope.payload);
    let trusted = Trusted::new(&envelope, pin).map_err(Outcome::Usage.because())?;
    client.ask(OperatorRequest::PutRoot(envelope.encode())).await?;
    note(&format!("the coordinator had no trust root: it has one of your key now, SHA-256 {pin}"));
    Ok((trusted, Some(pin)))
}

/// Says before anything is uploaded that these keys will not do.
fn check_role(trusted: &Trusted, prepared: &Prepared, signers: &[Signer]) -> Result<(), Failure> {
    let name = &prepared.description.name;
    let refuse = |sentence| Err(Failure::new(Outcome::Refused, sentence));
    let Some(role) = trusted.root().roles.bundle(name) else {
        return refuse(format!("the coordinator's trust root names nobody who may publish `{name}`"));
    };
    let have = signers.iter().filter(|signer| role.key(signer.public.id()).is_some()).count();
    if have < role.threshold() {
        let known: Vec<_> = role.keys().iter().map(|key| key.id().short()).collect();
        return refuse(format!(
            "{have} of these keys may sign `{name}` and {} must: the coordinator's trust root names {}; see `sloth-coord keys show`",
            role.threshold(),
            known.join(", ")
        ));
    }
    Ok(())
}

fn unchanged(newest: &BundleView, prepared: &Prepared, now: Millis) -> bool {
    let description = &prepared.description;
    let life = newest.expires.since(newest.published).as_u64();
    newest.manifest == prepared.reference.digest
        && newest.audience == description.audience.to_string()
        && newest.capabilities == description.capabilities
        && newest.triggers == description.triggers
        && newest.parameters == prepared.parameters.as_ref().map_or(String::new(), |schema| schema.source().to_string())
        && life / RENEW_DIVISOR < newest.expires.since(now).as_u64()
}

fn print(shown: &Shown, format: Format) -> Result<Outcome, Failure> {
    printed(match format {
        Format::Json => print_json(shown),
        Format::Text if shown.published => print_line(&format!(
            "published {} {} as number {}, {} blobs of {} uploaded",
            shown.name,
            shown.version,
            shown.counter,
            shown.uploaded_blobs,
            show::size(shown.uploaded_bytes)
        )),
        Format::Text => {
            let Shown { name, version, counter, uploaded_blobs, .. } = shown;
            let mended = match uploaded_blobs {
                0 => String::new(),
                blobs => format!("; {blobs} blobs that the coordinator had lost were uploaded"),
            };
            print_line(&format!("{name} {version} is published already, as number {counter}{mended}"))
        }
    })?;
    Ok(Outcome::Done)
}

fn dry_run(args: &PublishArgs, prepared: &Prepared, format: Format) -> Result<Outcome, Failure> {
    let missing = with_client(&args.credential, async |client| Ok(upload::missing(client, prepared.blobs()).await?));
    let would = match missing {
        Ok(missing) => Some((missing.len(), prepared.upload().bytes(&missing))),
        Err(failure) => {
            note(&format!("what would be uploaded is not known: {failure}"));
            None
        }
    };
    let parts = prepared.manifest.parts();
    if format == Format::Json {
        printed(print_json(&Checked {
            name: parts.name.as_str(),
            version: &parts.version,
            manifest: prepared.reference.digest.to_string(),
            files: parts.files.len(),
            size: prepared.manifest.total_bytes(),
            capabilities: &prepared.description.capabilities,
            needs: prepared.needs.iter().map(|needed| needed.as_str()).collect(),
            parameters: prepared.parameters.as_ref(),
            upload_blobs: would.map(|(blobs, _)| blobs),
            upload_bytes: would.map(|(_, bytes)| bytes),
            plan: serde_json::to_value(&prepared.plans).map_err(Outcome::Internal.because())?,
        }))?;
        return Ok(Outcome::Done);
    }
    printed(print_line(&format!("bundle {} {}", parts.name, parts.version)))?;
    printed(print_line(&format!(
        "for {}, good for {}",
        prepared.description.audience,
        show::rough(prepared.description.expires.millis())
    )))?;
    let list = |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let needs: Vec<&str> = prepared.needs.iter().map(|needed| needed.as_str()).collect();
    let granted: Vec<&str> = prepared.description.capabilities.iter().map(String::as_str).collect();
    printed(print_line(&format!("needs {}; granted {}", list(&needs), list(&granted))))?;
    plan::print_plans(&prepared.plans)?;
    printed(sloth_cli::parameters::print(prepared.parameters.as_ref()))?;
    for file in &parts.files {
        printed(print_line(&format!("{:>10}  {}", show::size(file.size), file.path)))?;
    }
    let total = show::size(prepared.manifest.total_bytes());
    printed(print_line(&format!("{:>10}  {} files", total, parts.files.len())))?;
    if let Some((blobs, bytes)) = would {
        printed(print_line(&format!("{:>10}  to upload, {blobs} blobs", show::size(bytes))))?;
    }
    Ok(Outcome::Done)
}
