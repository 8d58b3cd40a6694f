use proptest::prelude::*;

use super::*;

fn path(text: &str) -> RelPath {
    text.parse().expect("a path")
}

fn file(at: &str, content: &[u8]) -> File {
    let length = u32::try_from(content.len()).expect("short");
    let chunks = vec![Chunk { digest: Digest::of(content), length }];
    File { path: path(at), executable: false, size: u64::from(length), chunks }
}

fn link(at: &str, target: &str) -> Link {
    Link { path: path(at), target: target.to_owned() }
}

fn parts() -> Parts {
    Parts {
        name: "web".parse().expect("a name"),
        version: "1.0".to_owned(),
        workflow: path("main.sloth"),
        files: vec![file("files/a", b"a"), file("files/b", b"b"), file("main.sloth", b"task()")],
        links: vec![link("files/current", "b"), link("latest", "files/a")],
        plan: b"{}".to_vec(),
    }
}

fn encode(parts: &Parts) -> Vec<u8> {
    decode::encode(parts).expect("encoded")
}

#[test]
fn bytes_round_trip_and_are_frozen() {
    let manifest = Manifest::new(parts(), &Limits::default()).expect("valid");
    let bytes = manifest.encode().expect("encoded");
    assert_eq!(Manifest::decode(&bytes, &Limits::default()).expect("valid"), manifest);
    assert_eq!((manifest.chunks().len(), manifest.total_bytes()), (3, 8));
    assert_eq!(
        Manifest::reference(&bytes).digest.to_string(),
        "22686d3aa5668ea7f7b50ff0bd691e6cf52989e7aa437d551033ecc8b4d257b3"
    );
    for cut in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..cut], &Limits::default()).is_err(), "cut at {cut}");
    }
    assert_eq!(Manifest::decode(&[bytes.as_slice(), &[0]].concat(), &Limits::default()), Err(ManifestError::Malformed));
}

/// A change to a good manifest, and what the refusal of the changed one says.
type Hostile = (fn(&mut Parts), &'static str);

#[test]
fn hostile_manifests_are_refused() {
    let table: &[Hostile] = &[
        (|p| p.version.clear(), "version takes 1 to 64"),
        (|p| p.version = "1\n2".to_owned(), "version takes 1 to 64"),
        (|p| p.workflow = path("other.sloth"), "workflow `other.sloth` is not among"),
        (|p| p.workflow = path("latest"), "workflow `latest` is not among"),
        (|p| p.files.swap(0, 1), "`files/a` is twice in the manifest, or out of order"),
        (|p| p.files[1] = p.files[0].clone(), "`files/a` is twice"),
        (|p| p.links.swap(0, 1), "`files/current` is twice in the manifest, or out of order"),
        (|p| p.links[0].path = path("files/a"), "`files/a` is twice"),
        (|p| p.files.insert(1, file("files/a/c", b"c")), "`files/a/c` lies under `files/a`"),
        (|p| p.files.insert(2, file("latest/passwd", b"c")), "`latest/passwd` lies under `latest`"),
        (|p| p.links.push(link("latest/x", "y")), "`latest/x` lies under `latest`"),
        (|p| p.links[0].target = "/etc/passwd".to_owned(), "it is absolute"),
        (|p| p.links[0].target = "../../etc".to_owned(), "leads out of the bundle"),
        (|p| p.links[0].target = "x/../../..".to_owned(), "a part `..`"),
        (|p| p.links[0].target = String::new(), "it is empty"),
        (|p| p.files[0].size = 2, "the chunks of `files/a` do not make its 2 bytes"),
        (|p| p.files[0].size = u64::MAX, "takes 1073741824 at most"),
        (|p| p.files[0].chunks.clear(), "the chunks of `files/a`"),
        (|p| (p.files[0].size, p.files[0].chunks[0].length) = (0, 0), "the chunks of `files/a`"),
        (|p| (p.files[0].size, p.files[0].chunks[0].length) = (300_000, 300_000), "the chunks of `files/a`"),
        (|p| p.files[0].chunks = vec![p.files[0].chunks[0]; 9], "the chunks of `files/a`"),
        (|p| (p.files[0].size, p.files[0].chunks) = (2, vec![p.files[0].chunks[0]; 2]), "the chunks of `files/a`"),
        (|p| p.plan = vec![0; PLAN_BYTES_MAX + 1], "the plan in a manifest"),
    ];
    for (change, expected) in table {
        let mut parts = parts();
        change(&mut parts);
        let decoded = Manifest::decode(&encode(&parts), &Limits::default()).expect_err(expected);
        let shown = sloth_core::Chain(&decoded).to_string();
        assert!(shown.contains(expected), "{shown}");
        assert!(Manifest::new(parts, &Limits::default()).is_err(), "{expected}");
    }
}

#[test]
fn paths_are_checked_as_they_are_read() {
    for hostile in ["../x", "/etc/x", "a/../x", "a//x", "a\\x", "a\0x", ""] {
        let text = |at: &str| -> Vec<u8> { [&[u8::try_from(at.len()).expect("short")], at.as_bytes()].concat() };
        let head = [&[FORMAT][..], &text("web"), &text("1"), &text("main.sloth")].concat();
        let as_file = [head.as_slice(), &[1], &text(hostile), &[0, 0, 0], &[0, 0]].concat();
        let as_link = [head.as_slice(), &[0, 1], &text(hostile), &text("x"), &[0]].concat();
        for bytes in [as_file, as_link] {
            let error = Manifest::decode(&bytes, &Limits::default()).expect_err(hostile);
            assert!(matches!(error, ManifestError::Path { .. }), "{hostile}: {error}");
        }
    }
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let limits = Limits { files_max: 4, file_bytes_max: 6, total_bytes_max: 8 };
    let error = Manifest::new(parts(), &limits).expect_err("five files");
    assert_eq!(error, ManifestError::TooManyFiles { count: 5, files_max: 4 });
    let limits = Limits { files_max: 5, total_bytes_max: 7, ..limits };
    let error = Manifest::decode(&encode(&parts()), &limits).expect_err("eight bytes");
    assert_eq!(error, ManifestError::TotalTooLarge { total_bytes_max: 7 });
    assert!(Manifest::new(parts(), &Limits { total_bytes_max: 8, ..limits }).is_ok());

    let head = [&[FORMAT, 3][..], b"web", &[1], b"1", &[1], b"m"].concat();
    let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let bytes = [head.as_slice(), &endless].concat();
    assert!(matches!(Manifest::decode(&bytes, &limits), Err(ManifestError::TooManyFiles { .. })));
    let bytes = [head.as_slice(), &[1, 1, b'm', 0, 6], &endless].concat();
    assert!(matches!(Manifest::decode(&bytes, &limits), Err(ManifestError::Chunks { .. })));
    let error = Manifest::decode(&vec![1; MANIFEST_BYTES_MAX + 1], &limits).expect_err("too large");
    assert!(matches!(error, ManifestError::TooLarge { .. }));
    assert_eq!(Manifest::decode(&[2], &limits), Err(ManifestError::Format { format: 2 }));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&[&[FORMAT][..], &bytes].concat(), &Limits::default());
    }

    #[test]
    fn a_damaged_manifest_is_refused_or_whole(at in 0..200_usize, flip in 1..=255_u8) {
        let mut bytes = encode(&parts());
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(manifest) = Manifest::decode(&bytes, &Limits::default()) {
            let again = manifest.encode().expect("encoded");
            prop_assert_eq!(Manifest::decode(&again, &Limits::default()), Ok(manifest));
        }
    }
}
