//! A manifest as bytes: one byte for the format, then postcard.

use serde::{Deserialize, Serialize};
use sloth_core::Digest;

use super::{FORMAT, File, Link, ManifestError, Parts, chunks_max};
use crate::{
    Chunk, Limits,
    limits::{MANIFEST_BYTES_MAX, PLAN_BYTES_MAX},
};

pub(super) fn encode(parts: &Parts) -> Result<Vec<u8>, ManifestError> {
    let bytes = write(vec![FORMAT], &(parts.name.as_str(), &parts.version, parts.workflow.as_str()))?;
    let mut bytes = write(bytes, &parts.files.len())?;
    for file in &parts.files {
        bytes = write(bytes, &(file.path.as_str(), file.executable, file.size, file.chunks.len()))?;
        for chunk in &file.chunks {
            bytes = write(bytes, &(chunk.digest, chunk.length))?;
        }
    }
    bytes = write(bytes, &parts.links.len())?;
    for link in &parts.links {
        bytes = write(bytes, &(link.path.as_str(), &link.target))?;
    }
    write(bytes, &parts.plan.as_slice())
}

pub(super) fn parts(bytes: &[u8], limits: &Limits) -> Result<Parts, ManifestError> {
    if MANIFEST_BYTES_MAX < bytes.len() {
        return Err(ManifestError::TooLarge { bytes: bytes.len() });
    }
    let (format, rest) = bytes.split_first().ok_or(ManifestError::Malformed)?;
    if *format != FORMAT {
        return Err(ManifestError::Format { format: *format });
    }
    let mut reader = Reader { rest };
    let (name, version, workflow) = reader.take::<(&str, &str, &str)>()?;
    let name = name.parse().map_err(|source| ManifestError::Name { source })?;
    let files = files(&mut reader, limits)?;
    let links = links(&mut reader, limits)?;
    let plan = reader.take::<&[u8]>()?;
    if PLAN_BYTES_MAX < plan.len() {
        return Err(ManifestError::PlanTooLarge { bytes: plan.len() });
    }
    if !reader.rest.is_empty() {
        return Err(ManifestError::Malformed);
    }
    Ok(Parts { name, version: version.to_owned(), workflow: workflow.parse()?, files, links, plan: plan.to_vec() })
}

/// What is left to read. Nothing is taken beyond the bytes that are there.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<T: Deserialize<'a>>(&mut self) -> Result<T, ManifestError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|_| ManifestError::Malformed)?;
        self.rest = rest;
        Ok(value)
    }
}

fn files(reader: &mut Reader<'_>, limits: &Limits) -> Result<Vec<File>, ManifestError> {
    let count = counted(reader, limits)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        let (path, executable, size, chunk_count) = reader.take::<(&str, bool, u64, usize)>()?;
        let path = path.parse()?;
        if limits.file_bytes_max < size {
            return Err(ManifestError::FileTooLarge { path, size, file_bytes_max: limits.file_bytes_max });
        }
        if chunks_max(size) < chunk_count {
            return Err(ManifestError::Chunks { path, size });
        }
        let mut chunks = Vec::new();
        for _ in 0..chunk_count {
            let (digest, length) = reader.take::<(Digest, u32)>()?;
            chunks.push(Chunk { digest, length });
        }
        files.push(File { path, executable, size, chunks });
    }
    Ok(files)
}

fn links(reader: &mut Reader<'_>, limits: &Limits) -> Result<Vec<Link>, ManifestError> {
    let count = counted(reader, limits)?;
    let mut links = Vec::with_capacity(count);
    for _ in 0..count {
        let (path, target) = reader.take::<(&str, &str)>()?;
        links.push(Link { path: path.parse()?, target: target.to_owned() });
    }
    Ok(links)
}

fn counted(reader: &mut Reader<'_>, limits: &Limits) -> Result<usize, ManifestError> {
    let count = reader.take::<usize>()?;
    if limits.files_max < count {
        return Err(ManifestError::TooManyFiles { count, files_max: limits.files_max });
    }
    Ok(count)
}

fn write<T: Serialize>(bytes: Vec<u8>, value: &T) -> Result<Vec<u8>, ManifestError> {
    postcard::to_extend(value, bytes).map_err(|_| ManifestError::Malformed)
}
