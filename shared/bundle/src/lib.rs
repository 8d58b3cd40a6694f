//! Bundles: the files of a workflow as signed content.
//!
//! A directory is [packed](pack()) into a [`Manifest`] and chunks. The manifest names every file and, by digest,
//! the chunks it is made of; publishers sign the manifest's digest, so that a chunk can come from anywhere. Chunk
//! boundaries follow the content, so that a small change moves few chunks. A [`ChunkStore`] keeps chunks, and
//! [`unpack()`] makes the directory again.
//!
//! Everything read here may be hostile until its digest was compared with a signed one: lengths and counts are
//! checked before memory is taken for them, and paths and links cannot leave the directory.

pub mod chunk;
pub mod delta;
pub mod description;
pub mod limits;
pub mod manifest;
pub mod pack;
pub mod parameters;
pub mod path;
pub mod store;
pub mod unpack;

pub use chunk::{Chunk, ChunkError};
pub use delta::DeltaError;
pub use description::{DESCRIPTION_FILE, Description, DescriptionError};
pub use limits::Limits;
pub use manifest::{File, Link, Manifest, ManifestError, Parts};
pub use pack::{PackError, Packed, pack, pack_file, seed};
pub use parameters::{PARAMETERS_FILE, ParametersError, parameters};
pub use path::{InvalidPath, RelPath};
pub use store::{ChunkStore, Evicted, StoreError};
pub use unpack::{UnpackError, unpack};
