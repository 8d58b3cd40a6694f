//! How large a bundle may be.

/// Most bytes of an encoded manifest.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of the plan in a manifest.
pub const PLAN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The smallest chunk, but for a file's last.
pub const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// What chunks come to on average.
pub const CHUNK_BYTES_AVERAGE: usize = 64 * 1024;
/// The largest chunk.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// What a bundle may have. Both who packs and who reads a manifest hold it to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most files and links together.
    pub files_max: usize,
    /// Most bytes of one file.
    pub file_bytes_max: u64,
    /// Most bytes of all files together, unpacked. Since it counts unpacked bytes, it also bounds what a few
    /// chunks that are named many times can grow to.
    pub total_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files_max: 50_000, file_bytes_max: 1 << 30, total_bytes_max: 2 << 30 }
    }
}
