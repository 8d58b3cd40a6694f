//! Random texts, passwords and names, from the system's own source of randomness.

use base64::{Engine, engine::general_purpose::STANDARD};
use mlua::Value;
use ring::rand::{SecureRandom, SystemRandom};

use super::super::call::Call;

/// Most characters or bytes of what is made at once.
const RANDOM_COUNT_MAX: u64 = 64 * 1024;
/// Fewest characters of a password: one of each kind.
const PASSWORD_CHARS_MIN: u64 = 4;
/// Random bytes that are fetched at once.
const CHUNK_BYTES: usize = 64;
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
const SPECIAL: &str = "!@#$%^&*()_+-=[]{}|;:,.<>?";

/// Numbers that nobody can guess, drawn one after the other.
struct Draw {
    bytes: [u8; CHUNK_BYTES],
    used: usize,
}

/// Fills `bytes` with what nobody can guess.
pub(super) fn fill(call: &Call, bytes: &mut [u8]) -> mlua::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| call.error("the system has no randomness to give"))
}

pub(super) fn bytes(call: &Call, count: &Value) -> mlua::Result<String> {
    let count = count_of(call, "count", count, 0)?;
    let mut bytes = vec![0; count];
    fill(call, &mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

pub(super) fn string(call: &Call, (length, charset): &(Value, Value)) -> mlua::Result<String> {
    let length = count_of(call, "length", length, 0)?;
    let charset = call.optional_text("charset", charset)?.unwrap_or_else(|| [LOWER, UPPER, DIGITS].concat());
    let charset: Vec<char> = charset.chars().collect();
    if charset.is_empty() || usize::from(u8::MAX) < charset.len() {
        return Err(call.error(format_args!("`charset` takes 1 to {} characters", u8::MAX)));
    }
    let mut draw = Draw::new();
    (0..length).map(|_| Ok(charset[draw.below(call, charset.len())?])).collect()
}

/// At least one character of each kind, so that what checks passwords takes it.
pub(super) fn password(call: &Call, (length, special): &(Value, Value)) -> mlua::Result<String> {
    let length = count_of(call, "length", length, PASSWORD_CHARS_MIN)?;
    let special = match special.as_boolean() {
        Some(special) => special,
        None if special.is_nil() => true,
        None => return Err(call.expected("special", "true or false", special)),
    };
    let mut kinds = vec![LOWER, UPPER, DIGITS];
    kinds.extend(special.then_some(SPECIAL));
    let all: Vec<char> = kinds.concat().chars().collect();
    let mut draw = Draw::new();
    let mut password = Vec::with_capacity(length);
    for kind in kinds {
        let kind: Vec<char> = kind.chars().collect();
        password.push(kind[draw.below(call, kind.len())?]);
    }
    while password.len() < length {
        password.push(all[draw.below(call, all.len())?]);
    }
    for at in (1..password.len()).rev() {
        password.swap(at, draw.below(call, at + 1)?);
    }
    Ok(password.into_iter().collect())
}

/// A version 4 UUID.
pub(super) fn uuid(call: &Call, (): &()) -> mlua::Result<String> {
    let mut bytes = [0; 16];
    fill(call, &mut bytes)?;
    Ok(uuid_of(u128::from_be_bytes(bytes)))
}

impl Draw {
    const fn new() -> Self {
        Self { bytes: [0; CHUNK_BYTES], used: CHUNK_BYTES }
    }

    /// A number below `bound`, each as likely as the others.
    fn below(&mut self, call: &Call, bound: usize) -> mlua::Result<usize> {
        const WORD_BYTES: usize = size_of::<u32>();
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        // Numbers above the last whole multiple are passed over: they would favour the first.
        let fair = u32::MAX - u32::MAX % bound;
        loop {
            if CHUNK_BYTES < self.used + WORD_BYTES {
                fill(call, &mut self.bytes)?;
                self.used = 0;
            }
            let mut word = [0; WORD_BYTES];
            word.copy_from_slice(&self.bytes[self.used..self.used + WORD_BYTES]);
            self.used += WORD_BYTES;
            let number = u32::from_le_bytes(word);
            if number < fair {
                return Ok(usize::try_from(number % bound).unwrap_or(0));
            }
        }
    }
}

fn count_of(call: &Call, argument: &str, value: &Value, min: u64) -> mlua::Result<usize> {
    let count = call.integer(argument, value, min, RANDOM_COUNT_MAX)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

pub(in crate::modules) fn uuid_of(random: u128) -> String {
    const VERSION: u128 = 4 << 76;
    const VARIANT: u128 = 2 << 62;
    let bits = random & !(0xf << 76) & !(3 << 62) | VERSION | VARIANT;
    let text = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_its_version_and_variant() {
        assert_eq!(uuid_of(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_of(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
