use std::os::unix::fs::MetadataExt;

use super::*;
use crate::error::Chain;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("exists").mode() & 0o777
}

#[test]
fn a_file_is_replaced_with_its_mode_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state");
    for (bytes, access, expected) in [(&b"one"[..], Access::Everyone, 0o644), (b"two", Access::Owner, 0o600)] {
        replace(&path, bytes, access).expect("replaced");
        assert_eq!((std::fs::read(&path).expect("read").as_slice(), mode(&path)), (bytes, expected));
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
}

#[test]
fn a_failed_replace_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("taken");
    std::fs::create_dir(&path).expect("made");
    let error = replace(&path, b"x", Access::Owner).expect_err("a directory is there");
    assert!(error.to_string().starts_with("cannot rename `"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    let error = replace(&dir.path().join("no/file"), b"x", Access::Owner).expect_err("no directory");
    assert!(Chain(&error).to_string().contains("/no/"), "{}", Chain(&error));
}

#[test]
fn leftovers_of_an_earlier_process_are_stepped_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, _file) = create_temporary(dir.path(), Access::Owner).expect("made");
    assert!(is_temporary(&first) && !is_temporary(Path::new("/a/state")));
    let (second, _file) = create_temporary(dir.path(), Access::Owner).expect("made");
    assert_ne!(first, second);
    assert_eq!(mode(&first), 0o600);
}

#[test]
fn directories_are_made_with_their_parents() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a/b/c");
    create_dir(&path, Access::Owner).expect("made");
    create_dir(&path, Access::Everyone).expect("exists");
    assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
    replace(&dir.path().join("file"), b"", Access::Owner).expect("written");
    sync_file_system(dir.path()).expect("synced");
    let error = sync_file_system(&dir.path().join("none")).expect_err("missing");
    assert!(error.to_string().starts_with("cannot sync `"), "{error}");
    let error = create_dir(&dir.path().join("file/under"), Access::Owner).expect_err("a file is there");
    assert!(error.to_string().contains("/file`"), "{error}");
}

#[test]
fn a_read_stops_at_its_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state");
    replace(&path, b"12345", Access::Owner).expect("written");
    assert_eq!(read_capped(&path, 5).expect("read"), b"12345");
    let error = read_capped(&path, 4).expect_err("too large");
    assert!(error.to_string().contains("larger than the 4 bytes"), "{error}");
    assert!(read_capped(&dir.path().join("none"), 4).expect_err("missing").is_not_found());
    assert!(read_capped(Path::new("/dev/zero"), 4).is_err());
}

#[test]
fn a_secret_is_read_from_a_regular_file_of_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    replace(&path, b"hush", Access::Owner).expect("written");
    assert_eq!(read_secret(&path, 4).expect("read").expose(), "hush");
    assert!(matches!(read_secret(&path, 3), Err(SecretError::Read(ReadError::TooLarge { .. }))));
    replace(&path, b"hush", Access::Everyone).expect("written");
    let error = read_secret(&path, 4).expect_err("exposed").to_string();
    assert!(error.contains("lets others read it"), "{error}");
    // A pipe that nobody writes to would be waited for.
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).expect("a pipe");
    for path in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
        let error = read_secret(path, 4).expect_err("no file").to_string();
        assert!(error.contains(&format!("`{}`", path.display())) && error.contains("is no regular file"), "{error}");
    }
    assert!(read_secret(&dir.path().join("none"), 4).expect_err("missing").is_not_found());
}

#[test]
fn errors_show_the_way_out() {
    for (code, expected) in [
        (rustix::io::Errno::NOSPC, "free some space"),
        (rustix::io::Errno::ROFS, "read-only"),
        (rustix::io::Errno::ACCESS, "run as the owner"),
    ] {
        let error = FsError::of(Action::Write, Path::new("/var/x"))(code.into());
        assert!(error.to_string().starts_with("cannot write `/var/x`"), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_lock_has_one_holder_and_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("lock");
    let held = LockFile::acquire(&path).expect("free");
    let error = LockFile::acquire(&path).expect_err("held").to_string();
    assert!(error.contains(&format!("held by process {}", std::process::id())), "{error}");
    drop(held);
    LockFile::acquire(&path).expect("free again");
}
