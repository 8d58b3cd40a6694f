//! The text of workflow files: found inside the bundle only, and made ready for Luau.

mod blocks;
mod column;
mod dialect;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub(crate) use blocks::unclosed;
pub(crate) use column::column;
pub use dialect::{DialectError, adapt, calls};
pub(crate) use dialect::{Token, is_name, tokens};

/// The mark of UTF-8 texts.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Endings that `require` tries, in this order.
const ENDINGS: [&str; 5] = [".lua", ".luau", ".sloth", "/init.lua", "/init.luau"];

/// Why a file of the bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file is missing or unreadable.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bundle itself is missing or unreadable.
    #[error("cannot open the bundle's directory `{}`", path.display())]
    Bundle {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path leads out of the bundle.
    #[error("`{}` lies outside the bundle: a workflow can load files of its own bundle only", path.display())]
    Outside {
        /// The path as it was given.
        path: PathBuf,
    },
    /// No file of that name.
    #[error("there is no module or file `{name}`: tried {tried}{}", foreign(name))]
    NotFound {
        /// The name given to `require`.
        name: String,
        /// The paths that were tried.
        tried: String,
    },
    /// Too long to be a script.
    #[error("`{}` is longer than the {bytes_max} bytes that a script may have", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: usize,
    },
    /// Not text.
    #[error("`{}` is not a text in UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A construct that Luau does not have.
    #[error("{name}:{error}")]
    Dialect {
        /// The file's name.
        name: String,
        /// What and where.
        error: DialectError,
    },
}

/// A text that Luau can compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's path inside the bundle, as messages name it.
    pub name: String,
    /// The text; lines and columns are those of the file.
    pub text: String,
}

/// The files of one bundle.
#[derive(Debug, Clone)]
pub struct Sources {
    bundle_dir: PathBuf,
    /// The directory of the workflow file, beneath the bundle's.
    main_dir: PathBuf,
    bytes_max: usize,
}

impl Sources {
    /// The files under `bundle_dir`, loaded by the workflow file `file` (relative to it).
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened.
    pub fn open(bundle_dir: &Path, file: &Path, bytes_max: usize) -> Result<Self, SourceError> {
        let bundle_dir =
            bundle_dir.canonicalize().map_err(|source| SourceError::Bundle { path: bundle_dir.to_owned(), source })?;
        let main_dir = bundle_dir.join(file.parent().unwrap_or(Path::new("")));
        Ok(Self { bundle_dir, main_dir, bytes_max })
    }

    /// The workflow file itself, by its path in the bundle.
    ///
    /// # Errors
    ///
    /// When it is missing, outside the bundle, too long or not text.
    pub fn main(&self, file: &Path) -> Result<Source, SourceError> {
        self.read(&self.bundle_dir.join(file), file)
    }

    /// A file that a script imports, by its path from the workflow file's directory.
    ///
    /// # Errors
    ///
    /// As [`Self::main`].
    pub fn import(&self, path: &str) -> Result<Source, SourceError> {
        self.read(&self.main_dir.join(path), Path::new(path))
    }

    /// A module of the bundle, by its name with dots or slashes: beside the workflow file or at the bundle's top.
    ///
    /// # Errors
    ///
    /// When there is none, or as [`Self::main`].
    pub fn module(&self, name: &str) -> Result<Source, SourceError> {
        let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
        let mut tried = Vec::new();
        for dir in [&self.main_dir, &self.bundle_dir] {
            for ending in std::iter::once("").chain(ENDINGS) {
                // A name may be given with its ending, whose dot must then stay.
                let relative = if ending.is_empty() { name.to_owned() } else { format!("{path}{ending}") };
                let candidate = dir.join(&relative);
                if candidate.is_file() {
                    return self.read(&candidate, Path::new(&relative));
                }
                if !ending.is_empty() && !tried.contains(&relative) {
                    tried.push(relative);
                }
            }
        }
        let tried = tried.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        Err(SourceError::NotFound { name: name.to_owned(), tried })
    }

    /// The text of a file by the name that messages give it, if it can be read.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.main(Path::new(name)).ok().map(|source| source.text)
    }

    fn read(&self, path: &Path, shown: &Path) -> Result<Source, SourceError> {
        let failed = |source| SourceError::Read { path: shown.to_owned(), source };
        let real = path.canonicalize().map_err(failed)?;
        let Ok(inside) = real.strip_prefix(&self.bundle_dir) else {
            return Err(SourceError::Outside { path: shown.to_owned() });
        };
        let name = inside.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        let cap = u64::try_from(self.bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        File::open(&real).and_then(|file| file.take(cap).read_to_end(&mut bytes)).map_err(failed)?;
        if self.bytes_max < bytes.len() {
            return Err(SourceError::TooLong { path: shown.to_owned(), bytes_max: self.bytes_max });
        }
        let text = String::from_utf8(bytes).map_err(|_| SourceError::NotText { path: shown.to_owned() })?;
        // Some editors put it at a text's beginning; to the compiler it is no space.
        let text = text.strip_prefix(BYTE_ORDER_MARK).map_or_else(|| text.clone(), str::to_owned);
        match adapt(text) {
            Ok(text) => Ok(Source { name, text }),
            Err(error) => Err(SourceError::Dialect { name, error }),
        }
    }
}

/// What to do without a module of Sloth Runner that is none here.
fn foreign(name: &str) -> String {
    let instead = crate::modules::instead_of(name);
    instead.map_or_else(String::new, |instead| format!("; Sloth has no such module: {instead}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        sloth_core::fs::replace(path, text.as_bytes(), sloth_core::fs::Access::Everyone).expect("written");
    }

    #[test]
    fn only_files_of_the_bundle_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let bundle = dir.path().join("bundle");
        put(&bundle.join("flows/main.sloth"), "#!/usr/bin/env sloth-agent\nreturn 1");
        put(&bundle.join("flows/near.lua"), "return 'near'");
        put(&bundle.join("lib/far.lua"), "return 'far'");
        put(&bundle.join("lib/pack/init.lua"), "return 'pack'");
        put(&dir.path().join("secret.lua"), "return 'secret'");
        symlink(dir.path().join("secret.lua"), bundle.join("flows/link.lua")).expect("a link");
        symlink(bundle.join("lib/far.lua"), bundle.join("flows/alias.lua")).expect("a link");
        let sources = Sources::open(&bundle, Path::new("flows/main.sloth"), 100).expect("a bundle");

        let main = sources.main(Path::new("flows/main.sloth")).expect("the file");
        assert_eq!(
            (main.name.as_str(), main.text.as_str()),
            ("flows/main.sloth", "--/usr/bin/env sloth-agent\nreturn 1")
        );
        put(&bundle.join("marked.lua"), "\u{feff}return 1");
        assert_eq!(sources.main(Path::new("marked.lua")).expect("the file").text, "return 1");
        for (name, found) in [
            ("near", "flows/near.lua"),
            ("near.lua", "flows/near.lua"),
            ("lib.far", "lib/far.lua"),
            ("lib/far", "lib/far.lua"),
            ("lib.pack", "lib/pack/init.lua"),
            ("alias", "lib/far.lua"),
        ] {
            assert_eq!(sources.module(name).expect(name).name, found);
        }
        assert_eq!(sources.import("../lib/far.lua").expect("a file").text, "return 'far'");
        for wrong in ["../../secret.lua", "link.lua", "/etc/hostname"] {
            assert!(matches!(sources.import(wrong), Err(SourceError::Outside { .. })), "{wrong}");
        }
        assert!(matches!(sources.module("link"), Err(SourceError::Outside { .. })));
        assert!(matches!(sources.import("none.lua"), Err(SourceError::Read { .. })));
        let error = sources.module("a.b").expect_err("missing").to_string();
        assert!(error.starts_with("there is no module or file `a.b`: tried `a/b.lua`, `a/b.luau`"), "{error}");
        put(&bundle.join("flows/long.lua"), &"-".repeat(101));
        assert!(matches!(sources.import("long.lua"), Err(SourceError::TooLong { .. })));
    }
}
