//! `crypto`: digests, encodings, random names, and texts that only whoever has the key can read.

mod cipher;
pub(super) mod random;

use std::rc::Rc;

use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use mlua::{Lua, LuaString, Table, Value};
use ring::hmac;
use sha2::Digest;
use tokio::io::AsyncReadExt;

use super::{
    Context,
    call::{Builder, Call, Gate},
    files::said,
    paths::readable,
};

/// For addresses and names of files: written without padding, read with it or without.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Bytes of a file that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// A digest that is fed piece by piece.
trait Hasher {
    fn feed(&mut self, bytes: &[u8]);
    /// The digest as lower case hexadecimal.
    fn end(self: Box<Self>) -> String;
}

impl<D: Digest> Hasher for D {
    fn feed(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn end(self: Box<Self>) -> String {
        hex(&self.finalize())
    }
}

/// BLAKE3's own crate speaks no common trait.
struct Blake3(blake3::Hasher);

impl Hasher for Blake3 {
    fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn end(self: Box<Self>) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// A digest of what is fed to it.
pub(super) struct Hash(Box<dyn Hasher + Send>);

/// An algorithm: its name, and how a digest by it begins.
type Algorithm = (&'static str, fn() -> Hash);

const ALGORITHMS: [Algorithm; 6] = [
    ("md5", || Hash(Box::new(md5::Md5::new()))),
    ("sha1", || Hash(Box::new(sha1::Sha1::new()))),
    ("sha256", || Hash(Box::new(sha2::Sha256::new()))),
    ("sha384", || Hash(Box::new(sha2::Sha384::new()))),
    ("sha512", || Hash(Box::new(sha2::Sha512::new()))),
    ("blake3", || Hash(Box::new(Blake3(blake3::Hasher::new())))),
];

/// The algorithms of keyed digests.
const KEYED: [(&str, &hmac::Algorithm); 4] = [
    ("sha1", &hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
    ("sha256", &hmac::HMAC_SHA256),
    ("sha384", &hmac::HMAC_SHA384),
    ("sha512", &hmac::HMAC_SHA512),
];

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let mut builder = Builder::new(lua, context, "crypto")?;
    for (name, begin) in ALGORITHMS {
        builder = builder
            .function(name, Gate::Open, move |call, text: &Value| Ok(begin().of(&call.bytes("text", text)?)))?
            .asynchronous(&format!("file_{name}"), Gate::Open, move |call, path: Value| file(call, path, begin()))?;
    }
    let builder = builder
        .function("hash", Gate::Open, hash)?
        .asynchronous("file_hash", Gate::Open, |call, (algorithm, path): (Value, Value)| async move {
            let hash = algorithm_of(&call, &algorithm)?;
            file(call, path, hash).await
        })?
        .function("hmac", Gate::Open, keyed)?
        .function("equal", Gate::Open, equal)?
        .function("base64_encode", Gate::Open, |call, text: &Value| Ok(STANDARD.encode(call.bytes("text", text)?)))?
        .function("base64_decode", Gate::Open, |call, text: &Value| {
            let text = call.bytes("text", text)?;
            decoded(call, STANDARD.decode(without_lines(&text)).map_err(|error| error.to_string()))
        })?
        .function("base64url_encode", Gate::Open, |call, text: &Value| Ok(URL_SAFE.encode(call.bytes("text", text)?)))?
        .function("base64url_decode", Gate::Open, |call, text: &Value| {
            let text = call.bytes("text", text)?;
            decoded(call, URL_SAFE.decode(without_lines(&text)).map_err(|error| error.to_string()))
        })?
        .function("hex_encode", Gate::Open, |call, text: &Value| Ok(hex(&call.bytes("text", text)?)))?
        .function("hex_decode", Gate::Open, |call, text: &Value| {
            let text = call.bytes("text", text)?;
            decoded(call, unhex(text.trim_ascii()).ok_or_else(|| "it is not hexadecimal".to_owned()))
        })?;
    let table = builder
        .function("uuid", Gate::Acting, random::uuid)?
        .alias("uuid_v4", "uuid")?
        .function("random_string", Gate::Acting, random::string)?
        .function("random_bytes", Gate::Acting, random::bytes)?
        .function("generate_password", Gate::Acting, random::password)?
        .function("generate_key", Gate::Acting, cipher::generate_key)?
        .asynchronous("derive_key", Gate::Acting, cipher::derive_key)?
        .function("encrypt", Gate::Acting, cipher::encrypt)?
        .function("decrypt", Gate::Open, cipher::decrypt)?
        .function("aes_encrypt", Gate::Acting, cipher::aes_encrypt)?
        .function("aes_decrypt", Gate::Open, cipher::aes_decrypt)?
        .asynchronous("bcrypt_hash", Gate::Acting, cipher::bcrypt_hash)?
        .asynchronous("bcrypt_verify", Gate::Acting, cipher::bcrypt_verify)?
        .finish();
    Ok(table)
}

impl Hash {
    /// The digest that `algorithm` names, in any case; none when it names none.
    pub(super) fn by_name(algorithm: &str) -> Option<Self> {
        let (_, begin) = ALGORITHMS.iter().find(|(name, _)| algorithm.eq_ignore_ascii_case(name))?;
        Some(begin())
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// The digest as lower case hexadecimal.
    pub(super) fn end(self) -> String {
        self.0.end()
    }

    fn of(mut self, bytes: &[u8]) -> String {
        self.feed(bytes);
        self.end()
    }

    /// The digest of a file, read piece by piece.
    pub(super) async fn of_file(mut self, path: &std::path::Path) -> Result<String, String> {
        super::files::openable(path)?;
        let mut file = tokio::fs::File::open(crate::beneath::inode(path)).await.map_err(said("read", path))?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer).await {
                Ok(0) => return Ok(self.end()),
                Ok(count) => self.feed(&buffer[..count]),
                Err(error) => return Err(said("read", path)(error)),
            }
        }
    }
}

/// Lower case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn hash(call: &Call, (algorithm, text): &(Value, Value)) -> mlua::Result<String> {
    let hash = algorithm_of(call, algorithm)?;
    Ok(hash.of(&call.bytes("text", text)?))
}

fn algorithm_of(call: &Call, algorithm: &Value) -> mlua::Result<Hash> {
    let algorithm = call.text("algorithm", algorithm)?;
    Hash::by_name(&algorithm).ok_or_else(|| unknown(call, &algorithm, &ALGORITHMS.map(|(name, _)| name)))
}

fn unknown(call: &Call, algorithm: &str, known: &[&str]) -> mlua::Error {
    let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    call.error(format_args!("there is no algorithm `{algorithm}`: known are {known}"))
}

async fn file(call: Call, path: Value, hash: Hash) -> mlua::Result<Result<String, String>> {
    let path = readable(&call, "path", &path)?;
    Ok(hash.of_file(&path).await.map_err(|error| call.refusal(error)))
}

/// A digest that only whoever has the key can make.
fn keyed(call: &Call, (algorithm, key, text): &(Value, Value, Value)) -> mlua::Result<String> {
    let algorithm = call.text("algorithm", algorithm)?;
    let Some((_, keyed)) = KEYED.iter().find(|(name, _)| algorithm.eq_ignore_ascii_case(name)) else {
        return Err(unknown(call, &algorithm, &KEYED.map(|(name, _)| name)));
    };
    let key = hmac::Key::new(**keyed, &call.bytes("key", key)?);
    Ok(hex(hmac::sign(&key, &call.bytes("text", text)?).as_ref()))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn equal(call: &Call, (a, b): &(Value, Value)) -> mlua::Result<bool> {
    Ok(constant_time_eq::constant_time_eq(&call.bytes("a", a)?, &call.bytes("b", b)?))
}

fn decoded(call: &Call, bytes: Result<Vec<u8>, String>) -> mlua::Result<Result<LuaString, String>> {
    match bytes {
        Ok(bytes) => Ok(Ok(call.lua.create_string(bytes)?)),
        Err(error) => Ok(Err(call.refusal(error))),
    }
}

/// Tools write base64 in lines.
fn without_lines(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(hex(&bytes).as_bytes()), Some(bytes));
        for wrong in ["a", "0g", "é0"] {
            assert_eq!(unhex(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
