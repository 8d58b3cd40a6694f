//! Unpacking: whatever a manifest and a store hold, nothing outside the destination is touched, and what appears
//! is the bundle or nothing.

use std::{
    collections::BTreeMap,
    fs::read_link,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

use sloth_bundle::{Manifest, UnpackError, unpack};
use sloth_core::fs::{Access, FsError, create_dir, replace};

use super::{
    Seed, Verdict,
    manifest::{TIGHT, check},
    scratch::{Entry, dir, snapshot},
    sketch::Sketch,
    told,
};

/// Longer paths than this may be too long for the system once the scratch directory stands before them.
const PATH_BYTES_SURE: usize = 3000;
/// Most links that one path is followed through.
const HOPS_MAX: usize = 64;

/// Unpacks the bundle that `bytes` sketch. It is accepted when it appears.
///
/// # Panics
///
/// When anything but the bundle appears anywhere, or half of it.
pub fn run(bytes: &[u8]) -> Verdict {
    let Some(sketch) = Sketch::read(bytes) else { return Verdict::Refused };
    let manifest = match Manifest::new(sketch.parts.clone(), &TIGHT) {
        Ok(manifest) => manifest,
        Err(error) => {
            told(&error);
            return Verdict::Refused;
        }
    };
    check(manifest.parts(), &TIGHT);
    let bytes = manifest.encode().expect("a short one");
    assert_eq!(Manifest::decode(&bytes, &TIGHT).as_ref(), Ok(&manifest));

    let top = dir();
    let place = Place::new(top.path(), sketch.occupied);
    let store = sketch.store(&place.store);
    let before = place.surroundings();
    let unpacked = unpack(&manifest, &store, &place.dest);
    assert!(place.surroundings() == before, "something beside the destination was touched");
    match &unpacked {
        Ok(()) => check_tree(&sketch, &manifest, &place.dest),
        Err(error) => {
            told(error);
            check_refusal(&sketch, error);
            if !sketch.occupied {
                assert!(place.dest.symlink_metadata().is_err(), "half a bundle is left");
            }
        }
    }
    Verdict::from(&unpacked)
}

/// A destination deep in a directory with things beside it and above it.
struct Place {
    top: PathBuf,
    store: PathBuf,
    dest: PathBuf,
    occupied: bool,
}

impl Place {
    fn new(top: &Path, occupied: bool) -> Self {
        let home = top.join("a/b");
        create_dir(&home, Access::Owner).expect("made");
        for canary in [top.join("canary"), home.join("canary")] {
            replace(&canary, b"untouched", Access::Owner).expect("written");
        }
        symlink("canary", home.join("link")).expect("linked");
        let dest = home.join("dest");
        if occupied {
            symlink("canary", &dest).expect("linked");
        }
        Self { top: top.to_owned(), store: top.join("store"), dest, occupied }
    }

    /// Everything but the destination, unless that was there before, and the store, which drops what is damaged.
    fn surroundings(&self) -> BTreeMap<PathBuf, Entry> {
        let but = [self.store.as_path(), self.dest.as_path()];
        snapshot(&self.top, &but[..if self.occupied { 1 } else { 2 }])
    }
}

/// A refusal must have its reason in the sketch.
fn check_refusal(sketch: &Sketch, error: &UnpackError) {
    let longest = sketch.parts.links.iter().map(|link| link.target.len().max(link.path.as_str().len()));
    let longest = longest.chain(sketch.parts.files.iter().map(|file| file.path.as_str().len())).max();
    match error {
        UnpackError::Exists { .. } => assert!(sketch.occupied),
        UnpackError::Chunk { .. } => assert!(!sketch.is_sound(), "a sound bundle is refused: {error}"),
        UnpackError::Fs(FsError { .. }) => assert!(longest > Some(PATH_BYTES_SURE), "{error}"),
    }
}

/// The tree is the manifest's, byte for byte, and its links stay in it.
fn check_tree(sketch: &Sketch, manifest: &Manifest, dest: &Path) {
    assert!(!sketch.occupied, "something that was there was replaced");
    let mut expected = BTreeMap::from([(dest.to_owned(), Entry::Dir { mode: 0o755 })]);
    let mut put = |path: &str, entry: Entry| {
        for (slash, _) in path.match_indices('/') {
            expected.insert(dest.join(&path[..slash]), Entry::Dir { mode: 0o755 });
        }
        expected.insert(dest.join(path), entry);
    };
    for file in &manifest.parts().files {
        let mode = if file.executable { 0o755 } else { 0o644 };
        put(file.path.as_str(), Entry::File { mode, bytes: sketch.content(file) });
    }
    for link in &manifest.parts().links {
        put(link.path.as_str(), Entry::Link { target: PathBuf::from(&link.target) });
    }
    assert!(snapshot(dest, &[]) == expected, "another tree than the manifest's");
    let dest = &dest.canonicalize().expect("it is there");
    for link in &manifest.parts().links {
        stays_inside(dest, &dest.join(link.path.as_str()));
    }
}

/// Follows `path` as the system would, through every link and whether or not its end exists.
fn stays_inside(dest: &Path, path: &Path) {
    let mut at = PathBuf::from("/");
    let mut left: Vec<PathBuf> = path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut hops = 0;
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => at.push(name),
            Some(Component::RootDir | Component::CurDir | Component::Prefix(_)) | None => continue,
        }
        let Ok(target) = read_link(&at) else { continue };
        assert!(target.is_relative(), "`{}` leads to `{}`", at.display(), target.display());
        hops += 1;
        if HOPS_MAX < hops {
            // A circle leads nowhere.
            return;
        }
        at.pop();
        assert!(at.starts_with(dest), "a link outside, at `{}`", at.display());
        left.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
    }
    assert!(at.starts_with(dest), "`{}` leads to `{}`", path.display(), at.display());
}

pub(super) fn seeds() -> Vec<Seed> {
    const MAIN: &str = "f\tmain.sloth\np\t1\ttask()\n";
    let accepted = |name, more: &str| Seed::accepted(name, format!("{MAIN}{more}"));
    let refused = |name, more: &str| Seed::refused(name, format!("{MAIN}{more}"));
    vec![
        accepted("one-file", ""),
        accepted("tree", "x\tbin/tool\np\t1\t#!/bin/sh\nf\tempty\nl\tbin/latest\t../main.sloth\nl\ttools\tbin\n"),
        accepted("chunks", "f\tlarge\np\t20000\ta\np\t16384\tb\na\t1\n"),
        accepted("circle", "l\ta\tb\nl\tb\ta\nl\tc/d/e\t../../a/x\nl\tf\t.\n"),
        accepted("other-workflow", "f\tx/y.sloth\nw\tx/y.sloth\n"),
        accepted("deep", "f\ta/b/c/d/e/f/g/h/i\np\t3\tabc\nl\ta/b/c/l\t../../../a/b\n"),
        refused("missing", "f\tx\np\t1\tx\nm\n"),
        refused("damaged", "f\tx\np\t1\tx\nd\t\tnot a frame\n"),
        refused("bomb", "f\tx\np\t1\tx\nb\t1000000\t0\n"),
        refused("short", "f\tx\np\t4\tx\nb\t3\tx\n"),
        refused("false-length", "f\tx\np\t4\tx\nc\t5\n"),
        refused("false-size", "f\tx\np\t4\tx\ns\t5\n"),
        refused("too-large", "f\tx\np\t16384\tx\na\t4\n"),
        refused("occupied", "e\n"),
        refused("unordered", "u\nf\tb\nf\ta\n"),
        refused("out", "l\tx\t../y\n"),
        refused("under-a-link", "l\tx\ty\nf\tx/z\n"),
    ]
}
