//! `sloth-coord release publish` and `submit`.

use std::{fmt, str::FromStr};

use serde::Serialize;
use sloth_bundle::{Limits, Manifest, Packed, Parts, RelPath, chunk, delta, pack_file};
use sloth_cli::{Failure, Format, Outcome, SIGNATURE_ENDING, print_json, print_line};
use sloth_core::{Clock, Digest};
use sloth_protocol::wire::{OperatorRequest, OperatorResponse, PROTO_MAX, PROTO_MIN, Published};
use sloth_trust::{
    AgentRelease, BundleName, Delta, ManifestRef, ProtocolRange, Reach, RoleKeys, SPEC, TargetBinary, Targets, Trusted,
};

use super::{PublishArgs, ReleaseFile, SignArgs, SubmitArgs, binary::Binary, releases};
use crate::cli::{
    client::{AskError, Client, note, with_client},
    printed, show,
    sign::open,
    signed_file::Written,
    trust::{fetch, trusted},
    upload::{self, Upload},
};

/// What the binary is called in its manifest.
const PROGRAM: &str = "sloth-agent";

/// The versions of the protocol that a release speaks.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Protocol(ProtocolRange);

/// A text that is no range of versions.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no range of versions of the protocol: it takes two numbers like `{PROTO_MIN}-{PROTO_MAX}`")]
pub(in crate::cli) struct InvalidProtocol {
    text: String,
}

/// A binary that is ready to be signed and handed over.
struct Prepared {
    binary: Binary,
    packed: Packed,
    manifest: Manifest,
    bytes: Vec<u8>,
    reference: ManifestRef,
    deltas: Vec<PreparedDelta>,
}

/// How the binary is made of an older one.
struct PreparedDelta {
    delta: Delta,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Shown {
    version: String,
    counter: u64,
    published: bool,
    uploaded_blobs: usize,
    uploaded_bytes: u64,
}

#[derive(Serialize)]
struct WrittenRelease {
    file: String,
    version: String,
    counter: u64,
    signatures: usize,
    trusted_comment: String,
}

enum Done {
    Published(Shown),
    Written(Box<ReleaseFile>),
}

pub(super) fn run(args: &PublishArgs, format: Format) -> Result<Outcome, Failure> {
    let older = args.delta_from.iter().map(Binary::read).collect::<Result<Vec<_>, Failure>>()?;
    let prepared = args.file.iter().map(|given| Prepared::new(args, Binary::of_version(given, &args.version)?, &older));
    let prepared = prepared.collect::<Result<Vec<_>, Failure>>()?;
    let signers = args.key.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let done = with_client(&args.credential, async |client| {
        let trusted = trusted(&fetch(client).await?)?;
        let role = role(&trusted)?.clone();
        let (mut uploaded_blobs, mut uploaded_bytes) = (0, 0);
        for one in &prepared {
            let (blobs, bytes) = one.hand_over(client).await?;
            uploaded_blobs += blobs;
            uploaded_bytes += bytes;
        }
        let newest = releases(client).await?.first().map(|newest| newest.counter);
        let mut file = ReleaseFile::unsigned(&args.out, &release(args, &trusted, &prepared, newest)?)?;
        for signer in &signers {
            file.sign(signer)?;
        }
        let counting = signers.iter().filter(|signer| role.key(signer.public.id()).is_some()).count();
        if counting < role.threshold() {
            return Ok(Done::Written(Box::new(file)));
        }
        let published = submit_one(client, &trusted, &file).await?;
        Ok(Done::Published(Shown { uploaded_blobs, uploaded_bytes, ..published }))
    })?;
    match done {
        Done::Published(shown) => print(&shown, format),
        Done::Written(file) => write(&file, format),
    }
}

pub(super) fn sign(args: &SignArgs, format: Format) -> Result<Outcome, Failure> {
    let mut file = ReleaseFile::read(&args.file)?;
    for path in &args.key {
        file.sign(&open(path)?)?;
    }
    write(&file, format)
}

pub(super) fn submit(args: &SubmitArgs, format: Format) -> Result<Outcome, Failure> {
    let file = ReleaseFile::read(&args.file)?;
    let shown = with_client(&args.credential, async |client| {
        let trusted = trusted(&fetch(client).await?)?;
        submit_one(client, &trusted, &file).await
    })?;
    print(&shown, format)
}

impl Prepared {
    fn new(args: &PublishArgs, binary: Binary, older: &[Binary]) -> Result<Self, Failure> {
        let path: RelPath = PROGRAM.parse().map_err(Outcome::Internal.because::<sloth_bundle::InvalidPath>())?;
        let name: BundleName = PROGRAM.parse().map_err(Outcome::Internal.because::<sloth_trust::InvalidName>())?;
        let limits = Limits::default();
        let packed = pack_file(&binary.path, path.clone(), &limits).map_err(Outcome::Usage.because())?;
        let parts = Parts {
            name,
            version: args.version.to_string(),
            workflow: path,
            files: packed.files.clone(),
            links: Vec::new(),
            plan: b"[]".to_vec(),
        };
        let manifest = Manifest::new(parts, &limits).map_err(Outcome::Usage.because())?;
        let bytes = manifest.encode().map_err(Outcome::Usage.because())?;
        let reference = Manifest::reference(&bytes);
        let deltas = deltas(&binary, older)?;
        Ok(Self { binary, packed, manifest, bytes, reference, deltas })
    }

    /// Every blob but the deltas, the manifest last.
    fn blobs(&self) -> Vec<Digest> {
        let chunks = self.manifest.chunks().into_iter().map(|chunk| chunk.digest);
        chunks.chain([self.reference.digest]).collect()
    }

    /// Hands over what the coordinator does not have: how many blobs of how many bytes.
    async fn hand_over(&self, client: &Client) -> Result<(usize, u64), Failure> {
        let missing = upload::missing(client, self.blobs()).await?;
        let mut bytes = upload::upload(client, self.upload(), &missing).await?;
        let deltas = upload::missing(client, self.deltas.iter().map(|made| made.delta.blob.digest).collect()).await?;
        for made in self.deltas.iter().filter(|made| deltas.contains(&made.delta.blob.digest)) {
            let ManifestRef { digest, length } = made.delta.blob;
            let frame = chunk::compress(digest, &made.bytes).map_err(Outcome::Internal.because())?;
            client.upload(OperatorRequest::PutBlob { digest, length }, &frame).await?;
            bytes += length;
        }
        Ok((missing.len() + deltas.len(), bytes))
    }

    fn upload(&self) -> Upload<'_> {
        Upload { packed: &self.packed, manifest: &self.bytes, reference: self.reference }
    }
}

/// How a binary is made of each of the older ones for its platform, where that is worth it.
fn deltas(binary: &Binary, older: &[Binary]) -> Result<Vec<PreparedDelta>, Failure> {
    let is_before = |old: &&Binary| old.target == binary.target && old.digest != binary.digest;
    let older: Vec<&Binary> = older.iter().filter(is_before).collect();
    if older.is_empty() {
        return Ok(Vec::new());
    }
    let content = binary.content()?;
    let mut made = Vec::new();
    for old in older {
        let bytes = delta::delta(&old.content()?, &content).map_err(Outcome::Internal.because())?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // One that saves little is not worth a second way to the same binary.
        if chunk::BLOB_BYTES_MAX < bytes.len() || binary.length / 2 < length {
            note(&format!("a delta from `{}` would save little, and is left out", old.path.display()));
            continue;
        }
        let blob = ManifestRef { digest: Digest::of(&bytes), length };
        made.push(PreparedDelta { delta: Delta { from: old.digest, blob }, bytes });
    }
    Ok(made)
}

fn release(
    args: &PublishArgs,
    trusted: &Trusted,
    prepared: &[Prepared],
    newest: Option<u64>,
) -> Result<AgentRelease, Failure> {
    let now = Clock::new().now();
    let binaries = prepared.iter().map(|one| TargetBinary {
        target: one.binary.target.clone(),
        manifest: one.reference,
        digest: one.binary.digest,
        length: one.binary.length,
        deltas: one.deltas.iter().map(|made| made.delta).collect(),
    });
    Ok(AgentRelease {
        spec: SPEC,
        repository: trusted.root().repository,
        version: args.version.clone(),
        // Above every number that the coordinator has, and may have forgotten.
        counter: newest.map_or(0, |newest| newest.saturating_add(1)).max(now.as_u64()),
        channel: args.channel.clone(),
        targets: Targets::new(binaries.collect()).map_err(Outcome::Usage.because())?,
        from: Reach { oldest: args.from.clone(), also: args.also_from.iter().cloned().collect() },
        protocol: args.protocol.0,
        published: now,
        expires: now + args.expires.millis(),
    })
}

/// Who may sign releases.
fn role(trusted: &Trusted) -> Result<&RoleKeys, Failure> {
    trusted.root().roles.releases.as_ref().ok_or_else(|| {
        let sentence = "the coordinator's trust root names nobody who may sign releases of the agent: `sloth-coord trust add-key releases KEY.pub` names a key";
        Failure::new(Outcome::Refused, sentence)
    })
}

/// Hands over a release that enough keys have signed.
async fn submit_one(client: &Client, trusted: &Trusted, file: &ReleaseFile) -> Result<Shown, Failure> {
    let envelope = file.envelope(role(trusted)?.keys());
    // Said here, before anything is sent, with the same words.
    trusted.verify_release(&envelope).map_err(Outcome::Refused.because())?;
    let request = OperatorRequest::PublishRelease(envelope.encode());
    let OperatorResponse::Published(published) = client.ask(request).await? else {
        return Err(AskError::Unexpected.into());
    };
    let Published { version, counter, repeated, .. } = published;
    Ok(Shown { version, counter, published: !repeated, uploaded_blobs: 0, uploaded_bytes: 0 })
}

/// Writes a release to its file, and says what is still to be done with it.
fn write(file: &ReleaseFile, format: Format) -> Result<Outcome, Failure> {
    let Written { file: path, signatures, trusted_comment } = file.write()?;
    let AgentRelease { version, counter, .. } = &file.content;
    if format == Format::Json {
        let (version, counter) = (version.to_string(), *counter);
        printed(print_json(&WrittenRelease { file: path, version, counter, signatures, trusted_comment }))?;
        return Ok(Outcome::Done);
    }
    let plural = if signatures == 1 { "" } else { "s" };
    printed(print_line(&format!("release {version} is in `{path}`, with {signatures} signature{plural}")))?;
    printed(print_line(&format!("  sign it    sloth-coord release sign {path} --key FILE")))?;
    printed(print_line(&format!(
        "  or         minisign -S -m {path} -x {path}.NAME.{SIGNATURE_ENDING} -t '{trusted_comment}' -s FILE"
    )))?;
    printed(print_line(&format!("  hand it over  sloth-coord release submit {path}")))?;
    Ok(Outcome::Done)
}

fn print(shown: &Shown, format: Format) -> Result<Outcome, Failure> {
    let Shown { version, counter, published, uploaded_blobs, uploaded_bytes } = shown;
    printed(match format {
        Format::Json => print_json(shown),
        Format::Text if *published => print_line(&format!(
            "published release {version} of the agent as number {counter}, {uploaded_blobs} blobs of {} uploaded",
            show::size(*uploaded_bytes)
        )),
        Format::Text => print_line(&format!("release {version} is published already, as number {counter}")),
    })?;
    Ok(Outcome::Done)
}

impl Default for Protocol {
    fn default() -> Self {
        Self(ProtocolRange { min: PROTO_MIN, max: PROTO_MAX })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.min, self.0.max)
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        let range = || {
            let (min, max) = text.split_once('-')?;
            let (min, max) = (min.parse().ok()?, max.parse().ok()?);
            (min <= max).then_some(Self(ProtocolRange { min, max }))
        };
        range().ok_or_else(|| InvalidProtocol { text: sloth_core::excerpt(text) })
    }
}
