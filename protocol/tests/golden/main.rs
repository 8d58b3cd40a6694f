//! The bytes of the wire, frozen: what is written here is what released versions speak.
//!
//! Each file `NAME.hex` holds one line a value. A value that has no line yet gets one by running this test with
//! `SLOTH_WRITE_GOLDEN=1`; a line that is there is never changed, since whoever wrote such bytes may still be about.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod agent;
mod audit;
mod enroll;
mod frames;
mod operator;
mod record;
mod rollout;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use sloth_protocol::wire::{FRAME_HEADER_BYTES, decode, encode};

/// Names the variants of an enum: exhaustively, so that a new variant must be named, and gets its golden bytes.
macro_rules! variants {
    ($type:ty { $($pattern:pat => $name:literal),* $(,)? }) => {
        fn variant(value: &$type) -> &'static str {
            match value { $($pattern => $name),* }
        }

        const VARIANTS: &[&str] = &[$($name),*];
    };
}
use variants;

/// Checks values against a golden file, in both directions, and that every variant is among them.
#[track_caller]
fn check<T>(file: &str, samples: &[T], variant: impl Fn(&T) -> &'static str, variants: &[&str])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{file}.hex"));
    let mut golden = read(&path);
    let mut counts = BTreeMap::<&str, usize>::new();
    for sample in samples {
        let count = counts.entry(variant(sample)).or_default();
        *count += 1;
        let name = format!("{} {count}", variant(sample));
        let bytes = hex(&encode(sample).expect("a message fits a frame")[FRAME_HEADER_BYTES..]);
        if std::env::var_os("SLOTH_WRITE_GOLDEN").is_some() {
            golden.entry(name.clone()).or_insert_with(|| bytes.clone());
        }
        let Some(frozen) = golden.get(&name) else {
            panic!("{file}.hex has no `{name}`; run this test with SLOTH_WRITE_GOLDEN=1 and look at what it adds")
        };
        assert_eq!(bytes, *frozen, "the bytes of `{name}` have changed: {sample:?}");
        let body = unhex(frozen);
        assert_eq!(decode::<T>(&body).expect("golden bytes are readable"), *sample, "`{name}`");
        is_exact::<T>(&body, &name);
    }
    let have: BTreeSet<&str> = counts.keys().copied().collect();
    let want: BTreeSet<&str> = variants.iter().copied().collect();
    assert_eq!(have, want, "every variant of {file} has a sample");
    assert_eq!(golden.len(), samples.len(), "{file}.hex has lines that no sample is for");
    write(&path, &golden);
}

/// A message is read whole and alone: neither cut short, nor with more behind it.
#[track_caller]
fn is_exact<T: DeserializeOwned + Debug>(body: &[u8], name: &str) {
    for length in 0..body.len() {
        assert!(decode::<T>(&body[..length]).is_err(), "`{name}` is readable when cut to {length} bytes");
    }
    let longer = [body, &[0]].concat();
    assert!(decode::<T>(&longer).is_err(), "`{name}` is readable with a byte more");
}

fn read(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (name, bytes) = line.split_once(" = ").expect("a line is `name = bytes`");
        (name.to_owned(), bytes.to_owned())
    };
    text.lines().map(line).collect()
}

fn write(path: &Path, golden: &BTreeMap<String, String>) {
    if std::env::var_os("SLOTH_WRITE_GOLDEN").is_none() {
        return;
    }
    let mut text = String::new();
    for (name, bytes) in golden {
        writeln!(text, "{name} = {bytes}").expect("a string takes everything");
    }
    sloth_core::fs::replace(path, text.as_bytes(), sloth_core::fs::Access::Everyone).expect("the file is written");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |place| u8::from_str_radix(&text[place..place + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(byte).collect()
}
