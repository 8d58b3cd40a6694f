//! Manifests: whatever is accepted describes a tree that stays where it is put and within its bounds.

use std::collections::BTreeSet;

use sloth_bundle::{
    Chunk, File, Limits, Link, Manifest, Parts, RelPath,
    limits::{CHUNK_BYTES_MAX, PLAN_BYTES_MAX},
    path::{PART_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX},
};
use sloth_core::Digest;

use super::{Seed, Verdict, told};

/// Tight enough that an input of a few bytes reaches them.
pub(super) const TIGHT: Limits = Limits { files_max: 12, file_bytes_max: 64 * 1024, total_bytes_max: 128 * 1024 };

/// Reads `bytes` as a manifest, under the usual limits and under tight ones.
///
/// # Panics
///
/// When an accepted manifest is written otherwise, leads out of its directory or is over a limit.
pub fn run(bytes: &[u8]) -> Verdict {
    for limits in [TIGHT, Limits::default()] {
        match Manifest::decode(bytes, &limits) {
            Ok(manifest) => {
                check(manifest.parts(), &limits);
                let again = manifest.encode().expect("what was small enough still is");
                assert!(again.len() <= bytes.len(), "the canonical form is the shortest");
                assert_eq!(Manifest::decode(&again, &limits).as_ref(), Ok(&manifest));
                check_chunks(&manifest);
                return Verdict::Accepted;
            }
            Err(error) => drop(told(&error)),
        }
    }
    Verdict::Refused
}

/// What holds of every manifest, written here a second time.
pub(super) fn check(parts: &Parts, limits: &Limits) {
    assert!(parts.files.len() + parts.links.len() <= limits.files_max);
    assert!(parts.plan.len() <= PLAN_BYTES_MAX);
    assert!(parts.files.iter().any(|file| file.path == parts.workflow));
    assert!(parts.files.iter().map(|file| file.size).sum::<u64>() <= limits.total_bytes_max);

    let mut leaves = BTreeSet::new();
    for path in parts.files.iter().map(|file| &file.path).chain(parts.links.iter().map(|link| &link.path)) {
        check_path(path.as_str());
        assert!(leaves.insert(path.as_str()), "`{path}` is there twice");
    }
    for path in &leaves {
        for (slash, _) in path.match_indices('/') {
            assert!(!leaves.contains(&path[..slash]), "`{path}` lies under a file or link");
        }
    }
    for file in &parts.files {
        assert!(file.size <= limits.file_bytes_max);
        assert_eq!(file.chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>(), file.size);
        let longest = u32::try_from(CHUNK_BYTES_MAX).expect("fits");
        assert!(file.chunks.iter().all(|chunk| (1..=longest).contains(&chunk.length)));
    }
    for link in &parts.links {
        check_link(link);
    }
}

fn check_path(path: &str) {
    assert!(path.len() <= PATH_BYTES_MAX && path.split('/').count() <= PATH_DEPTH_MAX);
    for part in path.split('/') {
        assert!(!["", ".", ".."].contains(&part) && part.len() <= PART_BYTES_MAX, "`{path}`");
        assert!(!part.contains(|c: char| c.is_control() || c == '\\'), "`{path}`");
    }
}

/// Walks from the link's directory along its target, which may not rise above the top.
fn check_link(link: &Link) {
    let mut depth = link.path.as_str().matches('/').count();
    let mut descended = false;
    for part in link.target.split('/') {
        match part {
            ".." => {
                assert!(!descended, "`{}` climbs from wherever `{}` leads", link.target, link.path);
                depth = depth.checked_sub(1).expect("the link leads out of the bundle");
            }
            "." => assert!(!descended && link.target.ends_with('.'), "`{}`", link.target),
            part => {
                assert!(!part.is_empty(), "`{}`", link.target);
                descended = true;
            }
        }
    }
}

fn check_chunks(manifest: &Manifest) {
    let distinct: BTreeSet<_> = manifest.chunks().iter().map(|chunk| chunk.digest).collect();
    let named = manifest.parts().files.iter().flat_map(|file| &file.chunks).map(|chunk| chunk.digest);
    assert_eq!(distinct.len(), manifest.chunks().len());
    assert_eq!(distinct, named.collect());
    assert_eq!(manifest.total_bytes(), manifest.parts().files.iter().map(|file| file.size).sum::<u64>());
}

pub(super) fn seeds() -> Vec<Seed> {
    let small = parts();
    let mut large = parts();
    large.files[1] = file("files/b", &[(b"b", CHUNK_BYTES_MAX), (b"c", 100)]);
    let mut many = parts();
    many.files.extend((0..20).map(|number| file(&format!("t/{number:02}"), &[(b"x", 1)])));
    many.plan = br#"{"workflows":[]}"#.to_vec();
    let bytes = |parts: Parts| {
        let manifest = Manifest::new(parts, &Limits::default()).expect("valid");
        manifest.encode().expect("short")
    };
    let replaced = |from: &[u8], to: &[u8]| {
        let mut bytes = bytes(parts());
        let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
        bytes[at..at + from.len()].copy_from_slice(to);
        bytes
    };
    vec![
        Seed::accepted("small", bytes(small)),
        Seed::accepted("large-file", bytes(large)),
        Seed::accepted("many-files", bytes(many)),
        Seed::refused("later-format", replaced(b"\x01\x03web", b"\x02\x03web")),
        Seed::refused("odd-link", replaced(b"../b", b"c/..")),
        Seed::refused("climbing-link", replaced(b"files\x02", b"../..\x02")),
    ]
}

fn parts() -> Parts {
    let link = |at: &str, target: &str| Link { path: path(at), target: target.to_owned() };
    Parts {
        name: "web".parse().expect("a name"),
        version: "1.0".to_owned(),
        workflow: path("main.sloth"),
        files: vec![file("files/a", &[(b"a", 1)]), file("files/b", &[]), file("main.sloth", &[(b"task()", 6)])],
        links: vec![link("files/d/link", "../b"), link("latest", "files")],
        plan: b"{}".to_vec(),
    }
}

fn path(text: &str) -> RelPath {
    text.parse().expect("a path")
}

/// A file of chunks, each so many bytes that its text says nothing but their digest.
fn file(at: &str, chunks: &[(&[u8], usize)]) -> File {
    let chunk = |(text, length): &(&[u8], usize)| Chunk {
        digest: Digest::of(text),
        length: u32::try_from(*length).expect("short"),
    };
    let chunks: Vec<_> = chunks.iter().map(chunk).collect();
    let size = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    File { path: path(at), executable: at.ends_with('a'), size, chunks }
}
