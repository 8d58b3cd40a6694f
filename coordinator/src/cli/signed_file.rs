//! Metadata as files, to be signed where their keys are: the payload, and each signature beside it as `minisign` reads
//! and writes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use sloth_cli::{Failure, Outcome, signature_file, signature_files, signatures_beside};
use sloth_core::{
    Chain,
    fs::{Access, read_capped, replace},
};
use sloth_trust::{
    AgentRelease, Domain, Envelope, KeyId, PayloadKind, PublicKey, Root, SPEC, Signature,
    envelope::{RELEASE_BYTES_MAX, ROOT_BYTES_MAX},
    sign::{SignError, add_signature},
    verify::find_signer,
};

use super::{client::note, sign::Signer};

/// Metadata that is signed as a file.
pub(super) trait Ceremonial: Serialize + DeserializeOwned {
    const KIND: PayloadKind;
    const BYTES_MAX: usize;
    /// What its files are called before their version, and it in sentences.
    const NAME: &'static str;

    fn spec(&self) -> u32;
    fn version(&self) -> String;
    fn domain(&self) -> Domain;
}

/// Metadata in a file, with its signatures in files beside it.
pub(super) struct SignedFile<T> {
    path: PathBuf,
    /// What it says; who signed it is another question.
    pub(super) content: T,
    payload: Vec<u8>,
    /// Signatures of which it is known whose they are.
    signatures: BTreeMap<KeyId, String>,
    /// Signatures that were found beside it, by their files.
    found: Vec<(PathBuf, String)>,
}

/// Where it was written, and what is still to be done with it.
#[derive(Serialize)]
pub(super) struct Written {
    pub(super) file: String,
    /// How many signatures are beside it.
    pub(super) signatures: usize,
    /// What `minisign` must be told to sign it as.
    pub(super) trusted_comment: String,
}

impl<T: Ceremonial> SignedFile<T> {
    /// Metadata that nobody has signed yet.
    pub(super) fn unsigned(dir: &Path, content: &T) -> Result<Self, Failure> {
        let payload = serde_json::to_vec(content).map_err(Outcome::Internal.because())?;
        Self::of_payload(dir, payload)
    }

    /// Metadata that is to be written to a directory with its signatures.
    pub(super) fn in_dir(dir: &Path, envelope: Envelope) -> Result<Self, Failure> {
        let signatures = envelope.signatures.into_iter().map(|signature| (signature.key, signature.minisig)).collect();
        Ok(Self { signatures, ..Self::of_payload(dir, envelope.payload)? })
    }

    /// Reads metadata and the signatures beside it.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let most = u64::try_from(T::BYTES_MAX).unwrap_or(u64::MAX);
        let payload = read_capped(path, most).map_err(Outcome::Usage.because())?;
        let content = parse(&payload, path)?;
        let found = signatures_beside(path)?;
        Ok(Self { path: path.to_owned(), content, payload, signatures: BTreeMap::new(), found })
    }

    /// The metadata with the signatures of those of `keys` that have signed it.
    pub(super) fn envelope<'k>(&self, keys: impl IntoIterator<Item = &'k PublicKey>) -> Envelope {
        let keys: Vec<&PublicKey> = keys.into_iter().collect();
        let domain = self.content.domain();
        let mut signatures = self.signatures.clone();
        for (file, minisig) in &self.found {
            match find_signer(keys.iter().copied(), &self.payload, minisig, &domain) {
                Some(key) => drop(signatures.insert(key, minisig.clone())),
                None => note(&format!(
                    "`{}` is no signature of this {} by a key that may sign it, with the trusted comment `{domain}`",
                    file.display(),
                    T::NAME
                )),
            }
        }
        let signatures = signatures.into_iter().map(|(key, minisig)| Signature { key, minisig }).collect();
        Envelope { kind: T::KIND, payload: self.payload.clone(), signatures }
    }

    pub(super) fn sign(&mut self, signer: &Signer) -> Result<(), Failure> {
        let mut envelope = Envelope::unsigned(T::KIND, self.payload.clone());
        let refuse = |error: SignError| Failure::new(Outcome::Usage, Chain(&error).to_string());
        add_signature(&mut envelope, &self.content.domain(), &signer.secret).map_err(refuse)?;
        self.signatures.extend(envelope.signatures.into_iter().map(|signature| (signature.key, signature.minisig)));
        Ok(())
    }

    /// Writes the payload and the signatures that are not there as files already.
    pub(super) fn write(&self) -> Result<Written, Failure> {
        let put = |path: &Path, bytes: &[u8]| replace(path, bytes, Access::Everyone).map_err(Outcome::Usage.because());
        put(&self.path, &self.payload)?;
        for (key, minisig) in &self.signatures {
            put(&signature_file(&self.path, *key), minisig.as_bytes())?;
        }
        Ok(Written {
            file: self.path.display().to_string(),
            signatures: signature_files(&self.path)?.len(),
            trusted_comment: self.content.domain().to_string(),
        })
    }

    fn of_payload(dir: &Path, payload: Vec<u8>) -> Result<Self, Failure> {
        let content: T = parse(&payload, dir)?;
        let path = dir.join(format!("{}-{}.json", T::NAME, content.version()));
        Ok(Self { path, content, payload, signatures: BTreeMap::new(), found: Vec::new() })
    }
}

/// Reads what metadata says.
fn parse<T: Ceremonial>(payload: &[u8], path: &Path) -> Result<T, Failure> {
    let refuse = |why: String| Failure::new(Outcome::Usage, format!("`{}` is no {}: {why}", path.display(), T::NAME));
    let content: T = serde_json::from_slice(payload).map_err(|error| refuse(error.to_string()))?;
    if content.spec() != SPEC {
        return Err(refuse(format!("its format is {}, this program reads {SPEC}", content.spec())));
    }
    Ok(content)
}

impl Ceremonial for Root {
    const KIND: PayloadKind = PayloadKind::Root;
    const BYTES_MAX: usize = ROOT_BYTES_MAX;
    const NAME: &'static str = "root";

    fn spec(&self) -> u32 {
        self.spec
    }

    fn version(&self) -> String {
        self.version.to_string()
    }

    fn domain(&self) -> Domain {
        self.domain()
    }
}

impl Ceremonial for AgentRelease {
    const KIND: PayloadKind = PayloadKind::Release;
    const BYTES_MAX: usize = RELEASE_BYTES_MAX;
    const NAME: &'static str = "release";

    fn spec(&self) -> u32 {
        self.spec
    }

    fn version(&self) -> String {
        self.version.to_string()
    }

    fn domain(&self) -> Domain {
        self.domain()
    }
}
