//! Signatures as files beside what they sign, as `minisign` reads and writes them.

use std::path::{Path, PathBuf};

use sloth_core::fs::{Action, FsError, read_capped};
use sloth_trust::{KeyId, envelope::SIGNATURE_BYTES_MAX};

use crate::{Failure, Outcome};

/// How the files of signatures end.
pub const SIGNATURE_ENDING: &str = "minisig";

/// Most signatures beside one file: what an envelope takes, and as many that do not count.
const FILES_MAX: usize = 2 * sloth_trust::envelope::SIGNATURES_MAX;

/// The file of the signature of `path` by a key.
#[must_use]
pub fn signature_file(path: &Path, key: KeyId) -> PathBuf {
    PathBuf::from(format!("{}.{}.{SIGNATURE_ENDING}", path.display(), key.short()))
}

/// The files beside `path` that are named like it, with something and `.minisig` behind, in the order of their names.
///
/// # Errors
///
/// When the directory cannot be read, or there are more than 32 of them.
pub fn signature_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_signature = |file: &PathBuf| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let rest = file.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest == SIGNATURE_ENDING || rest.ends_with(&format!(".{SIGNATURE_ENDING}")))
    };
    let entries = std::fs::read_dir(dir).map_err(FsError::of(Action::Read, dir)).map_err(Outcome::Usage.because())?;
    let files = entries.flatten().map(|entry| entry.path()).filter(is_signature);
    let mut files: Vec<PathBuf> = files.take(FILES_MAX + 1).collect();
    if FILES_MAX < files.len() {
        let sentence =
            format!("there are more than {FILES_MAX} signatures beside `{}`: keep those that count", path.display());
        return Err(Failure::new(Outcome::Usage, sentence));
    }
    files.sort();
    Ok(files)
}

/// The signatures beside `path`, each with its file. Nothing is verified by that.
///
/// # Errors
///
/// When they cannot be read.
pub fn signatures_beside(path: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    let most = u64::try_from(SIGNATURE_BYTES_MAX).unwrap_or(u64::MAX);
    let read = |file: PathBuf| {
        let bytes = read_capped(&file, most).map_err(Outcome::Usage.because())?;
        Ok((file, String::from_utf8_lossy(&bytes).into_owned()))
    };
    signature_files(path)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use sloth_core::fs::{Access, replace};

    use super::*;

    #[test]
    fn what_is_named_like_a_signature_of_the_file_is_one_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| replace(&dir.path().join(name), b"text", Access::Owner).expect("written");
        let wanted = ["root-1.json.ab.minisig", "root-1.json.minisig"];
        wanted.into_iter().for_each(file);
        ["root-1.json", "root-1.json.txt", "root-10.json.minisig", "root-1.json.xminisig"].into_iter().for_each(file);
        let path = dir.path().join("root-1.json");
        let found = signatures_beside(&path).expect("read");
        assert_eq!(found, wanted.map(|name| (dir.path().join(name), "text".to_owned())));
        (0..=FILES_MAX).for_each(|number| file(&format!("root-1.json.{number}.minisig")));
        let refused = signature_files(&path).expect_err("too many");
        assert!(refused.to_string().contains("more than 32 signatures"), "{refused}");
    }
}
