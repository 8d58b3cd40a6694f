//! What reads bytes of others, as functions that a fuzzer can call.
//!
//! Each target takes any bytes, lets the code under test read them, and asserts what must hold of whatever was
//! accepted. `fuzz/` feeds them with what libFuzzer invents; `tests/fuzz_corpus.rs` replays every input in
//! `fuzz/corpus/`, so that what was found once stays found.

#![allow(clippy::expect_used, reason = "a target reports what is wrong by ending the process")]

mod calls;
pub mod envelope;
pub mod frame;
mod keys;
pub mod manifest;
pub mod metadata;
pub mod modules;
mod scratch;
mod sketch;
pub mod token;
pub mod unpacker;
pub mod workflow;

/// What the code under test said of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are good.
    Accepted,
    /// They are not, and nothing came of them.
    Refused,
}

/// An input to begin from, and what is said of it.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The name of its file.
    pub name: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
    /// What must be said of it.
    pub verdict: Verdict,
}

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its program and of its corpus.
    pub name: &'static str,
    /// Reads any bytes; ends the process when something does not hold.
    pub run: fn(&[u8]) -> Verdict,
    /// What its corpus begins with.
    pub seeds: fn() -> Vec<Seed>,
}

/// Every target, in the order of their names.
pub const TARGETS: [Target; 8] = [
    Target { name: "envelope", run: envelope::run, seeds: envelope::seeds },
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "manifest", run: manifest::run, seeds: manifest::seeds },
    Target { name: "metadata", run: metadata::run, seeds: metadata::seeds },
    Target { name: "modules", run: modules::run, seeds: modules::seeds },
    Target { name: "token", run: token::run, seeds: token::seeds },
    Target { name: "unpacker", run: unpacker::run, seeds: unpacker::seeds },
    Target { name: "workflow", run: workflow::run, seeds: workflow::seeds },
];

impl Seed {
    fn accepted(name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name, bytes: bytes.into(), verdict: Verdict::Accepted }
    }

    fn refused(name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name, bytes: bytes.into(), verdict: Verdict::Refused }
    }
}

impl<T, E> From<&Result<T, E>> for Verdict {
    fn from(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Accepted } else { Self::Refused }
    }
}

/// The text of an error with its causes: making it must not fail either, and it must say something.
fn told<E: std::error::Error + 'static>(error: &E) -> String {
    let text = sloth_core::Chain(error).to_string();
    assert!(!text.is_empty(), "an error without a word");
    text
}
