//! Random moments that can be had again.

use std::time::Duration;

/// SplitMix64, from a seed that a failed test tells.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From `SLOTH_SEED`, or else from 1; `stream` keeps tests of one seed apart.
    ///
    /// # Panics
    ///
    /// When `SLOTH_SEED` is not a number.
    #[must_use]
    pub fn from_environment(stream: u64) -> Self {
        let seed: u64 = std::env::var("SLOTH_SEED")
            .map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("SLOTH_SEED is a number, not `{text}`")));
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ stream)
    }

    /// From this seed; `stream` keeps those of one seed apart.
    #[must_use]
    pub const fn from_seed(seed: u64, stream: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ stream.wrapping_mul(0x9E6C_63D0_876A_68EE))
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From zero to below `most`, which is at least 1.
    pub const fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// From nothing to `most`.
    pub fn span(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.below(most.saturating_add(1).max(1)))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next().to_le_bytes()[0];
        }
    }
}
