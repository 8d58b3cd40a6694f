use std::{
    collections::BTreeSet,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
};

use sloth_core::{
    Chain,
    fs::{Access, create_dir, replace},
};

use super::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn write(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    create_dir(path.parent().expect("has one"), Access::Everyone).expect("made");
    replace(&path, bytes, Access::Everyone).expect("written");
}

/// Bytes that neither compress nor repeat.
fn noise(count: usize, mut state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn everything_is_found_in_order_and_git_is_not() {
    let dir = dir();
    for path in ["z.sloth", "a/b/c.txt", "a.txt", ".git/HEAD", "a/.git/HEAD", ".hidden"] {
        write(dir.path(), path, path.as_bytes());
    }
    write(dir.path(), "empty", b"");
    symlink("b/c.txt", dir.path().join("a/link")).expect("linked");
    let packed = pack(dir.path(), &Limits::default()).expect("packed");
    let paths: Vec<_> = packed.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, [".hidden", "a.txt", "a/b/c.txt", "empty", "z.sloth"]);
    assert_eq!(
        packed.links.iter().map(|l| (l.path.as_str(), l.target.as_str())).collect::<Vec<_>>(),
        [("a/link", "b/c.txt")]
    );
    assert_eq!(packed.chunks().count(), 4);
    assert_eq!(packed.read(Digest::of(b"a.txt")).expect("read"), b"a.txt");
    assert!(packed.files[3].chunks.is_empty());

    write(dir.path(), "a.txt", b"other");
    assert!(matches!(packed.read(Digest::of(b"a.txt")), Err(PackError::Changed { .. })));
    assert!(matches!(packed.read(Digest::of(b"none")), Err(PackError::UnknownChunk { .. })));
}

/// Something put into a bundle's directory, and what its refusal says.
type Refused = (fn(&Path), &'static str);

#[test]
fn what_cannot_be_in_a_bundle_is_named() {
    let table: &[Refused] = &[
        (|d| symlink("/etc/passwd", d.join("l")).expect("linked"), "the link `"),
        (|d| symlink("../x", d.join("l")).expect("linked"), "leads out of the bundle"),
        (|d| symlink("a/../../x", d.join("l")).expect("linked"), "a part `..`"),
        (|d| drop(UnixListener::bind(d.join("s")).expect("bound")), "/s` is a socket"),
        (|d| make_fifo(&d.join("f")), "/f` is a named pipe"),
        (|d| write_raw(d, b"\xff\xfe"), "is not UTF-8"),
        (|d| write(d, "a\nb", b""), "it has control characters"),
        (|d| write(d, "a\\b", b""), "it has a backslash"),
        (|d| write(d, "large", &[7; 101]), "a file of a bundle takes 100 at most"),
        (|d| (0..3).for_each(|i| write(d, &i.to_string(), &[i; 60])), "take 150 bytes together at most"),
        (|d| (0..6).for_each(|i| write(d, &i.to_string(), b"")), "takes 5 files and links at most"),
        (|d| (0..6).for_each(|i| create_dir(&d.join(i.to_string()), Access::Owner).expect("made")), "takes 5 files"),
    ];
    let limits = Limits { files_max: 5, file_bytes_max: 100, total_bytes_max: 150 };
    for (make, expected) in table {
        let dir = dir();
        make(dir.path());
        let error = pack(dir.path(), &limits).expect_err(expected);
        let shown = Chain(&error).to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}

fn make_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).expect("made");
}

fn write_raw(dir: &Path, name: &[u8]) {
    replace(&dir.join(std::ffi::OsStr::from_bytes(name)), b"", Access::Owner).expect("written");
}

#[test]
fn a_small_change_in_a_large_file_moves_little() {
    const SIZE: usize = 50 << 20;
    let dir = dir();
    let mut content = noise(SIZE, 88_172_645_463_325_252);
    write(dir.path(), "large", &content);
    let before: BTreeSet<Chunk> = pack(dir.path(), &Limits::default()).expect("packed").chunks().collect();
    content.splice(SIZE / 2..SIZE / 2 + 3, *b"one changed line\n");
    write(dir.path(), "large", &content);
    let after = pack(dir.path(), &Limits::default()).expect("packed");
    let moved: u64 = after.chunks().filter(|chunk| !before.contains(chunk)).map(|chunk| u64::from(chunk.length)).sum();
    assert!(0 < moved && moved < 1_000_000, "{moved} bytes moved");
    assert_eq!(after.files[0].size, u64::try_from(content.len()).expect("fits"));
}

#[test]
fn an_old_version_gives_what_a_new_one_has_in_common_with_it() {
    let dir = dir();
    let old = noise(3 << 20, 7);
    let mut new = old.clone();
    new.splice(1_000_000..1_000_010, *b"a few other bytes");
    write(dir.path(), "old", &old);
    write(dir.path(), "new", &new);
    let path: RelPath = "sloth-agent".parse().expect("a path");
    let packed = pack_file(&dir.path().join("new"), path, &Limits::default()).expect("packed");
    assert_eq!((packed.files.len(), packed.files[0].size, packed.files[0].executable), (1, new.len() as u64, true));
    let wanted = packed.chunks().map(|chunk| chunk.digest).collect();
    let store = ChunkStore::open(&dir.path().join("store")).expect("opened");
    let seeded = seed(&dir.path().join("old"), &wanted, &store).expect("seeded");
    let missing: u64 = store.missing(&packed.files[0].chunks).iter().map(|chunk| u64::from(chunk.length)).sum();
    assert_eq!(seeded + missing, new.len() as u64);
    assert!(missing < 600_000, "{missing} bytes are missing");
    assert_eq!(seed(&dir.path().join("old"), &wanted, &store).expect("again"), 0);
    assert!(seed(&dir.path().join("none"), &wanted, &store).is_err());
    let packed_chunk = packed.chunks().next().expect("has some");
    assert_eq!(Digest::of(&packed.read(packed_chunk.digest).expect("read")), packed_chunk.digest);
}
