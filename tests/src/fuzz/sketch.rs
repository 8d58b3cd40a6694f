//! A bundle as lines of text, that chance can write: each line adds to it, and a line that says nothing is passed
//! over. Fields are divided by tabs.
//!
//! | line | says |
//! |---|---|
//! | `f PATH` | a file; `x PATH` one that may be executed |
//! | `p COUNT TEXT` | the file goes on with a chunk: the text, so many times |
//! | `a COUNT` | the last chunk again, so many times |
//! | `s SIZE` | the file claims this size |
//! | `c LENGTH` | the last chunk claims this length |
//! | `m` | the last chunk is not in the store |
//! | `d BYTES` | the store has these bytes as the last chunk's frame |
//! | `b COUNT TEXT` | the store has the frame of this other content in its place |
//! | `l PATH TARGET` | a link |
//! | `w PATH` | the workflow's path |
//! | `e` | something is at the destination already |
//! | `u` | entries stay in the order of the lines |

use std::{collections::BTreeMap, str::from_utf8};

use sloth_bundle::{Chunk, ChunkStore, File, Link, Parts, RelPath, chunk, limits::CHUNK_BYTES_MAX};
use sloth_core::{
    Digest,
    fs::{Access, create_dir, replace},
};

/// Most lines that are read.
const LINES_MAX: usize = 64;
/// Most times that one line repeats a chunk.
const REPEATS_MAX: usize = 32;
/// Most bytes of what stands in a chunk's place.
const OTHER_BYTES_MAX: usize = 4 * CHUNK_BYTES_MAX;

/// A bundle that may be wrong in any way.
pub(super) struct Sketch {
    pub(super) parts: Parts,
    /// What each chunk's bytes are, by digest.
    contents: BTreeMap<Digest, Vec<u8>>,
    damage: Vec<(Digest, Damage)>,
    /// Whether a chunk or a file claims another length than it has.
    pub(super) lies: bool,
    /// Whether something is at the destination.
    pub(super) occupied: bool,
    sorted: bool,
}

enum Damage {
    Missing,
    Frame(Vec<u8>),
}

impl Sketch {
    /// What `text` describes.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let parts = Parts {
            name: "web".parse().ok()?,
            version: "1".to_owned(),
            workflow: "main.sloth".parse().ok()?,
            files: Vec::new(),
            links: Vec::new(),
            plan: Vec::new(),
        };
        let mut sketch =
            Self { parts, contents: BTreeMap::new(), damage: Vec::new(), lies: false, occupied: false, sorted: true };
        for line in text.split(|byte| *byte == b'\n').take(LINES_MAX) {
            let mut fields = line.splitn(3, |byte| *byte == b'\t');
            let verb = fields.next().unwrap_or_default();
            // A line that cannot be understood says nothing.
            let _ = sketch.add(verb, fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        }
        if sketch.sorted {
            sketch.parts.files.sort_by(|a, b| a.path.cmp(&b.path));
            sketch.parts.links.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Some(sketch)
    }

    fn add(&mut self, verb: &[u8], first: &[u8], second: &[u8]) -> Option<()> {
        match verb {
            b"f" | b"x" => {
                let path = path(first)?;
                self.parts.files.push(File { path, executable: verb == b"x", size: 0, chunks: Vec::new() });
            }
            b"p" => self.add_chunk(second.repeat(count(first, CHUNK_BYTES_MAX.checked_div(second.len())?)?))?,
            b"a" => {
                let chunk = *self.last_chunk()?;
                for _ in 0..count(first, REPEATS_MAX)? {
                    self.add_chunk(self.contents.get(&chunk.digest)?.clone())?;
                }
            }
            b"s" => {
                self.parts.files.last_mut()?.size = from_utf8(first).ok()?.parse().ok()?;
                self.lies = true;
            }
            b"c" => {
                let length = from_utf8(first).ok()?.parse().ok()?;
                self.lies = true;
                let file = self.parts.files.last_mut()?;
                file.chunks.last_mut()?.length = length;
                file.size = file.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
            }
            b"m" => self.damage(Damage::Missing)?,
            b"d" => self.damage(Damage::Frame(second.to_vec()))?,
            b"b" => {
                let other = second.repeat(count(first, OTHER_BYTES_MAX.checked_div(second.len())?)?);
                let frame = chunk::compress(Digest::of(&other), &other).expect("zstd has memory");
                self.damage(Damage::Frame(frame))?;
            }
            b"l" => self.parts.links.push(Link { path: path(first)?, target: from_utf8(second).ok()?.to_owned() }),
            b"w" => self.parts.workflow = path(first)?,
            b"e" => self.occupied = true,
            b"u" => self.sorted = false,
            _ => return None,
        }
        Some(())
    }

    fn add_chunk(&mut self, content: Vec<u8>) -> Option<()> {
        let length = u32::try_from(content.len()).ok()?;
        let digest = Digest::of(&content);
        let file = self.parts.files.last_mut()?;
        file.size += u64::from(length);
        file.chunks.push(Chunk { digest, length });
        self.contents.insert(digest, content);
        Some(())
    }

    fn last_chunk(&self) -> Option<&Chunk> {
        self.parts.files.last()?.chunks.last()
    }

    fn damage(&mut self, damage: Damage) -> Option<()> {
        let digest = self.last_chunk()?.digest;
        self.damage.push((digest, damage));
        Some(())
    }

    /// Whether every chunk is in the store as it should be, and claims the length it has.
    pub(super) fn is_sound(&self) -> bool {
        self.damage.is_empty() && !self.lies
    }

    /// The bytes that `file` must come to.
    pub(super) fn content(&self, file: &File) -> Vec<u8> {
        file.chunks.iter().flat_map(|chunk| &self.contents[&chunk.digest]).copied().collect()
    }

    /// A store in `dir` with the sketch's chunks, damaged where it says so.
    pub(super) fn store(&self, dir: &std::path::Path) -> ChunkStore {
        let store = ChunkStore::open(dir).expect("a store");
        for (digest, content) in &self.contents {
            store.put_plain(*digest, content).expect("a chunk is put");
        }
        for (digest, damage) in &self.damage {
            let name = digest.to_string();
            let path = dir.join("blobs").join(&name[..2]).join(&name);
            // A store that knows nothing of it is told so, whatever was done to the chunk before.
            let _ = std::fs::remove_file(&path);
            if let Damage::Frame(frame) = damage {
                create_dir(path.parent().expect("has one"), Access::Owner).expect("made");
                replace(&path, frame, Access::Owner).expect("written");
            }
        }
        store
    }
}

fn path(bytes: &[u8]) -> Option<RelPath> {
    from_utf8(bytes).ok()?.parse().ok()
}

fn count(bytes: &[u8], max: usize) -> Option<usize> {
    Some(from_utf8(bytes).ok()?.parse::<usize>().ok()?.min(max))
}
