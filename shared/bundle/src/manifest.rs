//! The manifest: what a bundle is made of.

mod decode;

use std::collections::BTreeSet;

use sloth_core::Digest;
use sloth_trust::{BundleName, ManifestRef};

use crate::{
    Chunk, InvalidPath, Limits, RelPath,
    limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, MANIFEST_BYTES_MAX, PLAN_BYTES_MAX},
    path::check_link,
};

/// The first byte of an encoded manifest.
const FORMAT: u8 = 1;
/// Most characters of what people call a release.
pub const VERSION_CHARS_MAX: usize = 64;

/// A checked manifest.
///
/// Invariant: files and links are each in the order of their paths, no path is there twice or under a file or
/// link, the workflow is one of the files, every file is as long as its chunks, and all is within the limits it
/// was checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    parts: Parts,
}

/// What a manifest says, before it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The bundle's name.
    pub name: BundleName,
    /// What people call this release.
    pub version: String,
    /// The workflow file that a run begins with.
    pub workflow: RelPath,
    /// The files.
    pub files: Vec<File>,
    /// The symbolic links.
    pub links: Vec<Link>,
    /// The plan of the workflow as its publisher saw it: JSON, opaque here.
    pub plan: Vec<u8>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: RelPath,
    /// Whether it may be executed.
    pub executable: bool,
    /// How many bytes it has.
    pub size: u64,
    /// Its content, in order.
    pub chunks: Vec<Chunk>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where.
    pub path: RelPath,
    /// What it points to, from where it is.
    pub target: String,
}

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than a manifest has.
    #[error("a manifest takes {MANIFEST_BYTES_MAX} bytes at most, this has {bytes}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// A later format.
    #[error("the manifest's format is {format}, this program reads format {FORMAT}: upgrade it")]
    Format {
        /// The first byte.
        format: u8,
    },
    /// Cut short, followed by something, or not a manifest at all.
    #[error("this is not a manifest, or it was cut short")]
    Malformed,
    /// A name that no bundle has.
    #[error("the manifest's name is wrong")]
    Name {
        /// What is wrong.
        source: sloth_trust::InvalidName,
    },
    /// A release that cannot be shown.
    #[error("a bundle's version takes 1 to {VERSION_CHARS_MAX} characters on one line")]
    Version,
    /// A path or link that leads elsewhere.
    #[error("a path in the manifest is refused")]
    Path {
        /// Which and why.
        #[from]
        source: InvalidPath,
    },
    /// Too many files.
    #[error("a bundle takes {files_max} files and links at most, this has {count}")]
    TooManyFiles {
        /// How many there are.
        count: usize,
        /// The limit.
        files_max: usize,
    },
    /// Too large a file.
    #[error("`{path}` has {size} bytes, a file of a bundle takes {file_bytes_max} at most")]
    FileTooLarge {
        /// The file.
        path: RelPath,
        /// Its size.
        size: u64,
        /// The limit.
        file_bytes_max: u64,
    },
    /// Too large altogether.
    #[error("the files of a bundle take {total_bytes_max} bytes together at most, these have more")]
    TotalTooLarge {
        /// The limit.
        total_bytes_max: u64,
    },
    /// Too large a plan.
    #[error("the plan in a manifest takes {PLAN_BYTES_MAX} bytes at most, this has {bytes}")]
    PlanTooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Not in order, or there twice.
    #[error("`{path}` is twice in the manifest, or out of order")]
    Order {
        /// The path at fault.
        path: RelPath,
    },
    /// Under something that is no directory.
    #[error("`{path}` lies under `{above}`, which is not a directory")]
    Under {
        /// The path at fault.
        path: RelPath,
        /// The file or link above it.
        above: String,
    },
    /// Chunks that do not make the file.
    #[error("the chunks of `{path}` do not make its {size} bytes")]
    Chunks {
        /// The file.
        path: RelPath,
        /// Its size.
        size: u64,
    },
    /// The workflow is not there.
    #[error("the workflow `{path}` is not among the bundle's files")]
    NoWorkflow {
        /// Its path.
        path: RelPath,
    },
}

impl Manifest {
    /// Checks `parts` against `limits` and against what a manifest must be.
    ///
    /// # Errors
    ///
    /// Names the first thing that is wrong.
    pub fn new(parts: Parts, limits: &Limits) -> Result<Self, ManifestError> {
        check_version(&parts.version)?;
        let count = parts.files.len().saturating_add(parts.links.len());
        if limits.files_max < count {
            return Err(ManifestError::TooManyFiles { count, files_max: limits.files_max });
        }
        if PLAN_BYTES_MAX < parts.plan.len() {
            return Err(ManifestError::PlanTooLarge { bytes: parts.plan.len() });
        }
        check_sizes(&parts.files, limits)?;
        check_tree(&parts)?;
        if parts.files.binary_search_by(|file| file.path.cmp(&parts.workflow)).is_err() {
            return Err(ManifestError::NoWorkflow { path: parts.workflow });
        }
        Ok(Self { parts })
    }

    /// Reads what [`Manifest::encode`] wrote and checks it. Every count and length is checked before memory is
    /// taken for it.
    ///
    /// # Errors
    ///
    /// When the bytes are not one whole manifest, or it is refused by [`Manifest::new`].
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, ManifestError> {
        Self::new(decode::parts(bytes, limits)?, limits)
    }

    /// The manifest as bytes. The same content gives the same bytes.
    ///
    /// # Errors
    ///
    /// When they are more than a manifest may have.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let bytes = decode::encode(&self.parts)?;
        if MANIFEST_BYTES_MAX < bytes.len() {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// How signed metadata names the manifest that was encoded as `bytes`.
    #[must_use]
    pub fn reference(bytes: &[u8]) -> ManifestRef {
        ManifestRef { digest: Digest::of(bytes), length: u64::try_from(bytes.len()).unwrap_or(u64::MAX) }
    }

    /// What it says.
    #[must_use]
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What it says, to be changed and checked again.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// The distinct chunks of its files, in the order in which they first occur.
    #[must_use]
    pub fn chunks(&self) -> Vec<Chunk> {
        let mut seen = BTreeSet::new();
        let all = self.parts.files.iter().flat_map(|file| &file.chunks);
        all.filter(|chunk| seen.insert(chunk.digest)).copied().collect()
    }

    /// How many bytes its files have together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.parts.files.iter().map(|file| file.size).sum()
    }
}

/// Checks what people call a release.
///
/// # Errors
///
/// When it is empty, too long, or has control characters.
pub fn check_version(version: &str) -> Result<(), ManifestError> {
    let count = version.chars().count();
    if count == 0 || VERSION_CHARS_MAX < count || version.chars().any(char::is_control) {
        return Err(ManifestError::Version);
    }
    Ok(())
}

fn check_sizes(files: &[File], limits: &Limits) -> Result<(), ManifestError> {
    let mut total = 0_u64;
    for File { path, size, chunks, .. } in files {
        let size = *size;
        if limits.file_bytes_max < size {
            let file_bytes_max = limits.file_bytes_max;
            return Err(ManifestError::FileTooLarge { path: path.clone(), size, file_bytes_max });
        }
        let fits = |chunk: &Chunk| usize::try_from(chunk.length).is_ok_and(|n| (1..=CHUNK_BYTES_MAX).contains(&n));
        let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if sum != size || chunks_max(size) < chunks.len() || !chunks.iter().all(fits) {
            return Err(ManifestError::Chunks { path: path.clone(), size });
        }
        total = total.saturating_add(size);
    }
    if limits.total_bytes_max < total {
        return Err(ManifestError::TotalTooLarge { total_bytes_max: limits.total_bytes_max });
    }
    Ok(())
}

/// Only a file's last chunk is smaller than the smallest.
fn chunks_max(size: u64) -> usize {
    usize::try_from(size).map_or(usize::MAX, |size| size.div_ceil(CHUNK_BYTES_MIN))
}

fn check_tree(parts: &Parts) -> Result<(), ManifestError> {
    let ordered = |paths: Vec<&RelPath>| match paths.windows(2).find(|pair| pair[1] <= pair[0]) {
        Some(pair) => Err(ManifestError::Order { path: pair[1].clone() }),
        None => Ok(()),
    };
    ordered(parts.files.iter().map(|file| &file.path).collect())?;
    ordered(parts.links.iter().map(|link| &link.path).collect())?;

    let mut leaves = BTreeSet::new();
    let paths = || parts.files.iter().map(|file| &file.path).chain(parts.links.iter().map(|link| &link.path));
    if let Some(path) = paths().find(|path| !leaves.insert(path.as_str())) {
        return Err(ManifestError::Order { path: path.clone() });
    }
    for path in paths() {
        if let Some(above) = path.ancestors().find(|above| leaves.contains(above)) {
            return Err(ManifestError::Under { path: path.clone(), above: above.to_owned() });
        }
    }
    for link in &parts.links {
        check_link(&link.path, &link.target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
