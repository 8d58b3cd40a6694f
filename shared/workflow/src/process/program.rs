//! Where a program is: looked up here, before the command is started.
//!
//! The system would do it too, but only after a fork, which costs several times what starting a process by its path
//! does, and ever more the larger this process is.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// The path of `program`, as a shell in `workdir` with this `search` (what `PATH` holds) would find it. A name with a
/// slash is a path already; none when nothing that can be run has the name.
pub(crate) fn find(program: &OsStr, search: Option<&str>, workdir: &Path) -> Option<PathBuf> {
    if program.is_empty() || program.as_encoded_bytes().contains(&b'/') {
        return None;
    }
    let candidates = std::env::split_paths(search?).map(|dir| workdir.join(dir).join(program));
    candidates.into_iter().find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_in_the_path_that_can_be_run_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for (file, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("c/tool", 0o755), ("tool", 0o755)] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("d/tool")).unwrap();
        let here = dir.path().display();
        for (program, search, expected) in [
            ("tool", format!("{here}/a:{here}/b:{here}/c"), Some("b/tool")),
            ("tool", format!("{here}/c:{here}/b"), Some("c/tool")),
            ("tool", "b".to_owned(), Some("b/tool")),
            ("tool", format!(":{here}/b"), Some("tool")),
            ("tool", format!("{here}/a:{here}/d"), None),
            ("b/tool", format!("{here}/b"), None),
            ("", format!("{here}/b"), None),
        ] {
            let found = find(OsStr::new(program), Some(search.as_str()), dir.path());
            assert_eq!(found, expected.map(|path| dir.path().join(path)), "{program} in {search}");
        }
        assert_eq!(find(OsStr::new("tool"), None, dir.path()), None);
    }
}
