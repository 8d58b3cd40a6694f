use std::{
    fs::{create_dir_all, read_to_string, rename},
    os::unix::fs::symlink,
};

use sloth_core::fs::replace;

use super::*;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    create_dir_all(at("in/sub")).unwrap();
    create_dir_all(at("out")).unwrap();
    for file in ["in/a", "in/sub/b", "out/c"] {
        replace(&at(file), file.as_bytes(), Access::Everyone).unwrap();
    }
    for (link, target) in [
        ("in/leads-in", at("in/sub/b")),
        ("in/leads-out", at("out/c")),
        ("in/out-dir", at("out")),
        ("in/up", "../out/c".into()),
        ("in/around", "../in/sub/../a".into()),
        ("in/circle", "circle".into()),
        ("in/proc-root", "/proc/self/root/etc".into()),
        ("via", at("in")),
    ] {
        symlink(target, at(link)).unwrap();
    }
    dir
}

#[test]
fn nothing_outside_is_reached() {
    let dir = tree();
    let root = dir.path().join("in");
    for (path, expected) in [
        ("in/a", Some("in/a")),
        ("in/./sub//b", Some("in/sub/b")),
        ("in/sub/../a", Some("in/a")),
        ("via/a", Some("in/a")),
        ("in/leads-in", Some("in/sub/b")),
        ("in/around", Some("in/a")),
        ("in/sub", Some("in/sub")),
        ("in", Some("in")),
        ("in/new/deep", Some("in/new/deep")),
        ("out/c", None),
        ("in/../out/c", None),
        ("in/leads-out", None),
        ("in/out-dir", None),
        ("in/out-dir/c", None),
        ("in/out-dir/new", None),
        ("in/up", None),
        ("in/proc-root/passwd", None),
        ("", None),
    ] {
        let path = dir.path().join(path);
        let place = Place::beneath(&path, Last::Followed, [root.as_path()]).expect("walked");
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(place.as_ref().map(Place::path), expected.map(|e| real.join(e)).as_deref(), "{path:?}");
    }
    for (path, kind) in [("in/a/x", io::ErrorKind::NotADirectory), ("in/new/../a", io::ErrorKind::NotFound)] {
        let error = Place::beneath(&dir.path().join(path), Last::Followed, [root.as_path()]).expect_err(path);
        assert_eq!(error.kind(), kind, "{path}");
    }
    assert!(Place::beneath(&root.join("circle"), Last::Followed, [root.as_path()]).is_err());
}

#[test]
fn a_place_stays_what_it_was_when_it_was_checked() {
    let dir = tree();
    let (root, sub) = (dir.path().join("in"), dir.path().join("in/sub"));
    let read = Place::beneath(&sub.join("b"), Last::Followed, [root.as_path()]).unwrap().unwrap();
    let write = Place::beneath(&sub.join("new"), Last::Followed, [root.as_path()]).unwrap().unwrap();
    rename(&sub, dir.path().join("in/moved")).unwrap();
    symlink(dir.path().join("out"), &sub).unwrap();
    assert_eq!(read_to_string(inode(&read)).unwrap(), "in/sub/b");
    replace(&entry(&write), b"x", Access::Everyone).unwrap();
    assert!(dir.path().join("in/moved/new").exists() && !dir.path().join("out/new").exists());
    let below = Place::beneath(&root.join("moved"), Last::Followed, [root.as_path()]).unwrap().unwrap();
    assert!(entry(&below.join("b")).exists() && entry(&below.join("b")).is_name());
    drop((read, write, below));
    assert!(
        !entry(&root.join("moved/b")).is_name()
            && live().iter().all(|held| held.upgrade().is_none_or(|held| !held.real.starts_with(&root)))
    );
}

/// Whoever may write in a directory that is worked in can make a link of any that lies in it, at any moment.
#[test]
fn what_lies_deeper_never_leads_out() {
    let dir = tree();
    let (root, out) = (dir.path().canonicalize().unwrap().join("in"), dir.path().join("out"));
    let place = Place::beneath(&root, Last::Followed, [root.as_path()]).unwrap().unwrap();
    let new = Place::beneath(&root.join("new/er/file"), Last::Followed, [root.as_path()]).unwrap().unwrap();
    create_dir_all(root.join("sub/deep")).unwrap();
    replace(&root.join("sub/deep/c"), b"inside", Access::Everyone).unwrap();
    create_dir_all(out.join("deep")).unwrap();
    replace(&out.join("deep/c"), b"outside", Access::Everyone).unwrap();
    assert_eq!(read_to_string(inode(&place.join("sub/deep/c"))).unwrap(), "inside");
    rename(root.join("sub"), root.join("moved")).unwrap();
    symlink(&out, root.join("sub")).unwrap();
    symlink(&out, root.join("new")).unwrap();
    for path in ["sub/deep/c", "sub/c", "sub/deep", "sub"] {
        let path = place.join(path);
        assert!(std::fs::read_dir(inode(&path)).is_err() && read_to_string(inode(&path)).is_err(), "{path:?}");
    }
    assert!(replace(&entry(&place.join("sub/deep/c")), b"changed", Access::Everyone).is_err());
    assert!(replace(&entry(&new), b"changed", Access::Everyone).is_err());
    assert!(create_dirs(&place.join("sub/made")).is_err() && create_dirs_above(&new).is_err());
    assert!(std::fs::remove_dir_all(entry(&place.join("sub/deep"))).is_err());
    assert_eq!(read_to_string(out.join("deep/c")).unwrap(), "outside");
    assert!(!out.join("made").exists() && !out.join("er").exists());
    let shown = plain_text(format!("no `{}` there", entry(&place.join("sub/x/y")).display()));
    assert_eq!(shown, format!("no `{}` there", root.join("sub/x/y").display()));
    std::fs::remove_file(root.join("new")).unwrap();
    create_dirs_above(&new).unwrap();
    replace(&entry(&new), b"made", Access::Everyone).unwrap();
    assert_eq!(read_to_string(root.join("new/er/file")).unwrap(), "made");
}

#[test]
fn who_swaps_directories_while_they_are_worked_in_gains_nothing() {
    let dir = tree();
    let (root, out) = (dir.path().canonicalize().unwrap().join("in"), dir.path().join("out"));
    let place = Place::beneath(&root, Last::Followed, [root.as_path()]).unwrap().unwrap();
    create_dir_all(root.join("swapped/deep")).unwrap();
    create_dir_all(out.join("deep")).unwrap();
    replace(&out.join("deep/secret"), b"secret", Access::Everyone).unwrap();
    symlink(&out, root.join("link")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let (one, other) = (root.join("swapped"), root.join("link"));
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, &one, CWD, &other, exchange).unwrap();
            }
        });
        for round in 0..2_000 {
            let path = place.join("swapped/deep");
            assert!(read_to_string(inode(&path.join("secret"))).is_err(), "read in round {round}");
            let names = std::fs::read_dir(inode(&path)).into_iter().flatten().flatten();
            assert!(names.into_iter().all(|name| name.file_name() != "secret"), "listed in round {round}");
            let _ = replace(&entry(&path.join("mine")), b"mine", Access::Everyone);
            let _ = create_dirs(&path.join(format!("{round}")));
            let _ = std::fs::remove_file(entry(&path.join("secret")));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(
        std::fs::read_dir(out.join("deep")).unwrap().count(),
        1,
        "nothing was made outside, and nothing removed"
    );
}

#[test]
fn a_link_can_be_meant_itself() {
    let dir = tree();
    let root = dir.path().join("in");
    let link = Place::beneath(&root.join("leads-out"), Last::Itself, [root.as_path()]).unwrap().unwrap();
    std::fs::remove_file(entry(&link)).unwrap();
    assert!(!root.join("leads-out").exists() && dir.path().join("out/c").exists());
}

#[test]
fn a_root_may_be_a_file_or_missing_or_behind_a_link() {
    let dir = tree();
    for (root, path, expected) in [
        ("in/a", "in/a", true),
        ("in/a", "in/sub/b", false),
        ("via", "in/sub/b", true),
        ("in/new", "in/new/file", true),
        ("in/new", "in/newer", false),
        ("in/circle", "in/a", false),
    ] {
        let (root, path) = (dir.path().join(root), dir.path().join(path));
        let place = Place::beneath(&path, Last::Followed, [root.as_path()]).unwrap();
        assert_eq!(place.is_some(), expected, "{path:?} beneath {root:?}");
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(dir.path().join("via"), Some(65_534), None).unwrap();
        let place = Place::beneath(&dir.path().join("in/a"), Last::Followed, [dir.path().join("via").as_path()]);
        assert!(place.unwrap().is_none(), "a root that another user turned grants nothing");
    }
}
