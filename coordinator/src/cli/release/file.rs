//! Releases as files, to be signed where their keys are: the payload, and each signature beside it as `minisign` writes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{
    Chain,
    fs::{Access, read_capped, replace},
};
use sloth_trust::{
    AgentRelease, Envelope, KeyId, PayloadKind, RoleKeys, Signature,
    envelope::{RELEASE_BYTES_MAX, SIGNATURE_BYTES_MAX},
    sign::{SignError, add_signature},
    verify::find_signer,
};

use super::SignArgs;
use crate::cli::{
    client::note,
    printed,
    sign::{Signer, open},
    trust::signature_files,
};

/// A release in a file, with its signatures in files beside it.
pub(super) struct ReleaseFile {
    path: PathBuf,
    pub(super) release: AgentRelease,
    payload: Vec<u8>,
    /// Signatures of which it is known whose they are.
    signatures: BTreeMap<KeyId, String>,
    /// Signatures that were found beside it, by their files.
    found: Vec<(PathBuf, String)>,
}

#[derive(Serialize)]
struct Written {
    file: String,
    version: String,
    counter: u64,
    signatures: usize,
    /// What `minisign` must be told to sign it as.
    trusted_comment: String,
}

pub(super) fn sign(args: &SignArgs, format: Format) -> Result<Outcome, Failure> {
    let mut file = ReleaseFile::read(&args.file)?;
    for path in &args.key {
        file.sign(&open(path)?)?;
    }
    file.write(format)
}

impl ReleaseFile {
    /// A release that nobody has signed yet.
    pub(super) fn unsigned(dir: &Path, release: AgentRelease) -> Result<Self, Failure> {
        let payload = serde_json::to_vec(&release).map_err(Outcome::Internal.because())?;
        let path = dir.join(format!("release-{}.json", release.version));
        Ok(Self { path, release, payload, signatures: BTreeMap::new(), found: Vec::new() })
    }

    /// Reads a release and the signatures beside it.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let most = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let payload = read_capped(path, most(RELEASE_BYTES_MAX)).map_err(Outcome::Usage.because())?;
        let release = serde_json::from_slice(&payload).map_err(|error| {
            let sentence = format!("`{}` is no release of the agent: {error}", path.display());
            Failure::new(Outcome::Usage, sentence)
        })?;
        let mut found = Vec::new();
        for file in signature_files(path)? {
            let bytes = read_capped(&file, most(SIGNATURE_BYTES_MAX)).map_err(Outcome::Usage.because())?;
            found.push((file, String::from_utf8_lossy(&bytes).into_owned()));
        }
        Ok(Self { path: path.to_owned(), release, payload, signatures: BTreeMap::new(), found })
    }

    pub(super) fn sign(&mut self, signer: &Signer) -> Result<(), Failure> {
        let mut envelope = Envelope::unsigned(PayloadKind::Release, self.payload.clone());
        let refuse = |error: SignError| Failure::new(Outcome::Usage, Chain(&error).to_string());
        add_signature(&mut envelope, &self.release.domain(), &signer.secret).map_err(refuse)?;
        self.signatures.extend(envelope.signatures.into_iter().map(|signature| (signature.key, signature.minisig)));
        Ok(())
    }

    /// The release with the signatures of keys that may sign it.
    pub(super) fn envelope(&self, role: &RoleKeys) -> Envelope {
        let mut signatures = self.signatures.clone();
        for (file, minisig) in &self.found {
            match find_signer(role.keys(), &self.payload, minisig, &self.release.domain()) {
                Some(key) => drop(signatures.insert(key, minisig.clone())),
                None => note(&format!(
                    "`{}` is no signature of this release by a key that may sign it, with the trusted comment `{}`",
                    file.display(),
                    self.release.domain()
                )),
            }
        }
        let signatures = signatures.into_iter().map(|(key, minisig)| Signature { key, minisig }).collect();
        Envelope { kind: PayloadKind::Release, payload: self.payload.clone(), signatures }
    }

    /// Writes the payload and the signatures that are not there as files already, and says what is still to be done.
    pub(super) fn write(&self, format: Format) -> Result<Outcome, Failure> {
        let put = |path: &Path, bytes: &[u8]| replace(path, bytes, Access::Everyone).map_err(Outcome::Usage.because());
        put(&self.path, &self.payload)?;
        for (key, minisig) in &self.signatures {
            let name = format!("{}.{}.minisig", self.path.display(), key.short());
            put(Path::new(&name), minisig.as_bytes())?;
        }
        let written = Written {
            file: self.path.display().to_string(),
            version: self.release.version.to_string(),
            counter: self.release.counter,
            signatures: signature_files(&self.path)?.len(),
            trusted_comment: self.release.domain().to_string(),
        };
        print(&written, format)
    }
}

fn print(written: &Written, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        printed(print_json(written))?;
        return Ok(Outcome::Done);
    }
    let Written { file, version, signatures, trusted_comment, .. } = written;
    let plural = if *signatures == 1 { "" } else { "s" };
    printed(print_line(&format!("release {version} is in `{file}`, with {signatures} signature{plural}")))?;
    printed(print_line(&format!("  sign it    sloth-coord release sign {file} --key FILE")))?;
    printed(print_line(&format!(
        "  or         minisign -S -m {file} -x {file}.NAME.minisig -t '{trusted_comment}' -s FILE"
    )))?;
    printed(print_line(&format!("  hand it over  sloth-coord release submit {file}")))?;
    Ok(Outcome::Done)
}
