//! Roots as files: the payload, and each signature beside it as `minisign` reads and writes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{
    Chain,
    fs::{Access, Action, FsError, read_capped, replace},
};
use sloth_trust::{
    Envelope, KeyId, PayloadKind, Root, SPEC, Signature,
    envelope::{ROOT_BYTES_MAX, SIGNATURE_BYTES_MAX},
    sign::{SignError, add_signature},
    verify::find_signer,
};

use crate::cli::{client::note, printed, sign::Signer};

/// How the files of signatures end.
const SIGNATURE_ENDING: &str = "minisig";

/// A root in a file, with its signatures in files beside it.
pub(super) struct RootFile {
    path: PathBuf,
    root: Root,
    payload: Vec<u8>,
    /// Signatures of which it is known whose they are.
    signatures: BTreeMap<KeyId, String>,
    /// Signatures that were found beside it, by their files.
    found: Vec<(PathBuf, String)>,
}

/// What was written, and what is still to be done with it.
#[derive(Serialize)]
pub(super) struct Written {
    file: String,
    version: u64,
    signatures: usize,
    needed: usize,
    /// What `minisign` must be told to sign it as.
    trusted_comment: String,
}

impl RootFile {
    /// A root that nobody has signed yet.
    pub(super) fn unsigned(dir: &Path, root: &Root) -> Result<Self, Failure> {
        let payload = serde_json::to_vec(root).map_err(Outcome::Internal.because())?;
        Self::of_payload(dir, payload)
    }

    /// A root that is to be written to a directory with its signatures.
    pub(super) fn in_dir(dir: &Path, envelope: Envelope) -> Result<Self, Failure> {
        let signatures = envelope.signatures.into_iter().map(|signature| (signature.key, signature.minisig)).collect();
        Ok(Self { signatures, ..Self::of_payload(dir, envelope.payload)? })
    }

    /// Reads a root and the signatures beside it.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let most = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let payload = read_capped(path, most(ROOT_BYTES_MAX)).map_err(Outcome::Usage.because())?;
        let root = parse(&payload, path)?;
        let mut found = Vec::new();
        for file in signature_files(path)? {
            let bytes = read_capped(&file, most(SIGNATURE_BYTES_MAX)).map_err(Outcome::Usage.because())?;
            found.push((file, String::from_utf8_lossy(&bytes).into_owned()));
        }
        Ok(Self { path: path.to_owned(), root, payload, signatures: BTreeMap::new(), found })
    }

    /// The root with the signatures of its own keys and of `before`, the root that is to vouch for it.
    pub(super) fn envelope(&self, before: Option<&Root>) -> Envelope {
        let keys = before.into_iter().chain([&self.root]).flat_map(|root| root.roles.root.keys());
        let keys: Vec<_> = keys.collect();
        let mut signatures = self.signatures.clone();
        for (file, minisig) in &self.found {
            match find_signer(keys.iter().copied(), &self.payload, minisig, &self.root.domain()) {
                Some(key) => drop(signatures.insert(key, minisig.clone())),
                None => note(&format!(
                    "`{}` is no signature of this root by a key that may sign it, with the trusted comment `{}`",
                    file.display(),
                    self.root.domain()
                )),
            }
        }
        let signatures = signatures.into_iter().map(|(key, minisig)| Signature { key, minisig }).collect();
        Envelope { kind: PayloadKind::Root, payload: self.payload.clone(), signatures }
    }

    pub(super) fn sign(&mut self, signer: &Signer) -> Result<(), Failure> {
        let mut envelope = Envelope::unsigned(PayloadKind::Root, self.payload.clone());
        let refuse = |error: SignError| Failure::new(Outcome::Usage, Chain(&error).to_string());
        add_signature(&mut envelope, &self.root.domain(), &signer.secret).map_err(refuse)?;
        self.signatures.extend(envelope.signatures.into_iter().map(|signature| (signature.key, signature.minisig)));
        Ok(())
    }

    /// Writes the payload and the signatures that are not there as files already.
    pub(super) fn write(&self) -> Result<Written, Failure> {
        let put = |path: &Path, bytes: &[u8]| replace(path, bytes, Access::Everyone).map_err(Outcome::Usage.because());
        put(&self.path, &self.payload)?;
        for (key, minisig) in &self.signatures {
            let name = format!("{}.{}.{SIGNATURE_ENDING}", self.path.display(), key.short());
            put(Path::new(&name), minisig.as_bytes())?;
        }
        Ok(Written {
            file: self.path.display().to_string(),
            version: self.root.version,
            signatures: signature_files(&self.path)?.len(),
            needed: self.root.roles.root.threshold(),
            trusted_comment: self.root.domain().to_string(),
        })
    }

    fn of_payload(dir: &Path, payload: Vec<u8>) -> Result<Self, Failure> {
        let root = parse(&payload, dir)?;
        let path = dir.join(format!("root-{}.json", root.version));
        Ok(Self { path, root, payload, signatures: BTreeMap::new(), found: Vec::new() })
    }
}

pub(super) fn print_written(written: &Written, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        printed(print_json(written))?;
        return Ok(Outcome::Done);
    }
    let Written { file, version, signatures, needed, trusted_comment } = written;
    let plural = if *signatures == 1 { "" } else { "s" };
    printed(print_line(&format!(
        "root {version} is in `{file}`, with {signatures} signature{plural}; {needed} of its own keys must sign it, and as many of the root before as that asks for"
    )))?;
    printed(print_line(&format!("  sign it    sloth-coord trust sign {file} --key FILE")))?;
    printed(print_line(&format!(
        "  or         minisign -S -m {file} -x {file}.NAME.{SIGNATURE_ENDING} -t '{trusted_comment}' -s FILE"
    )))?;
    printed(print_line(&format!("  publish it sloth-coord trust publish {file}")))?;
    Ok(Outcome::Done)
}

/// The files beside `path` that begin with its name and end as signatures do, in order.
pub(in crate::cli) fn signature_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(dir).map_err(FsError::of(Action::Read, dir)).map_err(Outcome::Usage.because())?;
    let beside = |entry: &PathBuf| {
        let file = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.strip_prefix(&format!("{name}.")).is_some_and(|rest| rest.ends_with(SIGNATURE_ENDING))
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(beside).collect();
    files.sort();
    Ok(files)
}

/// Reads what a root says; who signed it is another question.
fn parse(payload: &[u8], path: &Path) -> Result<Root, Failure> {
    let refuse = |why: String| Failure::new(Outcome::Usage, format!("`{}` is no trust root: {why}", path.display()));
    let root: Root = serde_json::from_slice(payload).map_err(|error| refuse(error.to_string()))?;
    if root.spec != SPEC {
        return Err(refuse(format!("its format is {}, this program reads {SPEC}", root.spec)));
    }
    Ok(root)
}
