//! Replays what fuzzing found. `SLOTH_WRITE_CORPUS=1` writes the inputs that it begins from.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]
#![allow(clippy::panic, reason = "helpers of tests may fail the test")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use sloth_core::fs::{Access, create_dir, replace};
use sloth_tests::fuzz::TARGETS;

/// Bounds of one target's corpus, so that it stays quick to replay and to clone.
const FILES_MAX: usize = 300;
const BYTES_MAX: usize = 1024 * 1024;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn of_every_seed_is_said_what_must_be() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            assert_eq!((target.run)(&seed.bytes), seed.verdict, "{}: {}", target.name, seed.name);
        }
    }
}

#[test]
fn every_corpus_replays_and_is_small() {
    if std::env::var_os("SLOTH_WRITE_CORPUS").is_some() {
        write_seeds();
    }
    assert_eq!(names(&fuzz_dir().join("corpus")), TARGETS.map(|target| target.name.to_owned()).into());
    for target in TARGETS {
        let dir = fuzz_dir().join("corpus").join(target.name);
        let names = names(&dir);
        assert!((1..=FILES_MAX).contains(&names.len()), "{} has {} files", target.name, names.len());
        let mut bytes_all = 0;
        for name in names {
            let bytes = std::fs::read(dir.join(name)).expect("readable");
            bytes_all += bytes.len();
            (target.run)(&bytes);
        }
        assert!(bytes_all <= BYTES_MAX, "{} has {bytes_all} bytes", target.name);
    }
}

#[test]
fn every_target_has_a_program() {
    let programs = TARGETS.map(|target| format!("{}.rs", target.name));
    assert_eq!(names(&fuzz_dir().join("targets")), programs.into());
    let manifest = std::fs::read_to_string(fuzz_dir().join("Cargo.toml")).expect("readable");
    for target in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{}.rs\"", target.name)), "{}", target.name);
    }
}

fn write_seeds() {
    for target in TARGETS {
        let dir = fuzz_dir().join("corpus").join(target.name);
        create_dir(&dir, Access::Everyone).expect("made");
        for seed in (target.seeds)() {
            replace(&dir.join(seed.name), &seed.bytes, Access::Everyone).expect("written");
        }
    }
}
