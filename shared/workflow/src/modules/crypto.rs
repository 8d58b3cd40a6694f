//! `crypto`: digests, encodings and random names.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::STANDARD};
use mlua::{Lua, LuaString, Table, Value};
use sha2::Digest;

use super::{
    Context,
    call::{Builder, Call, Gate},
};

/// Most characters of a random text.
const RANDOM_CHARS_MAX: u64 = 64 * 1024;
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A digest as lower case hexadecimal.
type Hash = fn(&[u8]) -> String;

const HASHES: [(&str, Hash); 5] = [
    ("md5", |bytes| hex(&md5::Md5::digest(bytes))),
    ("sha1", |bytes| hex(&sha1::Sha1::digest(bytes))),
    ("sha256", |bytes| hex(&sha2::Sha256::digest(bytes))),
    ("sha512", |bytes| hex(&sha2::Sha512::digest(bytes))),
    ("blake3", |bytes| blake3::hash(bytes).to_hex().to_string()),
];

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let mut builder = Builder::new(lua, context, "crypto")?;
    for (name, hash) in HASHES {
        builder = builder.function(name, Gate::Open, move |call, text: &Value| Ok(hash(&call.bytes("text", text)?)))?;
    }
    let table = builder
        .function("hash", Gate::Open, hash)?
        .function("base64_encode", Gate::Open, |call, text: &Value| Ok(STANDARD.encode(call.bytes("text", text)?)))?
        .function("base64_decode", Gate::Open, |call, text: &Value| {
            let text = call.bytes("text", text)?;
            decoded(call, STANDARD.decode(text.trim_ascii()).map_err(|error| error.to_string()))
        })?
        .function("hex_encode", Gate::Open, |call, text: &Value| Ok(hex(&call.bytes("text", text)?)))?
        .function("hex_decode", Gate::Open, |call, text: &Value| {
            let text = call.bytes("text", text)?;
            decoded(call, unhex(text.trim_ascii()).ok_or_else(|| "it is not hexadecimal".to_owned()))
        })?
        .function("uuid", Gate::Acting, |call, (): &()| Ok(uuid(call.context.host.random())))?
        .alias("uuid_v4", "uuid")?
        .function("random_string", Gate::Acting, random_string)?
        .finish();
    Ok(table)
}

fn hash(call: &Call, (algorithm, text): &(Value, Value)) -> mlua::Result<String> {
    let algorithm = call.text("algorithm", algorithm)?;
    let bytes = call.bytes("text", text)?;
    let Some((_, hash)) = HASHES.iter().find(|(name, _)| algorithm.eq_ignore_ascii_case(name)) else {
        let known = HASHES.map(|(name, _)| format!("`{name}`")).join(", ");
        return Err(call.error(format_args!("there is no algorithm `{algorithm}`: known are {known}")));
    };
    Ok(hash(&bytes))
}

fn decoded(call: &Call, bytes: Result<Vec<u8>, String>) -> mlua::Result<Result<LuaString, String>> {
    match bytes {
        Ok(bytes) => Ok(Ok(call.lua.create_string(bytes)?)),
        Err(error) => Ok(Err(format!("{}: {error}", call.name))),
    }
}

fn random_string(call: &Call, (length, charset): &(Value, Value)) -> mlua::Result<String> {
    let length = call.integer("length", length, 0, RANDOM_CHARS_MAX)?;
    let charset = call.optional_text("charset", charset)?.unwrap_or_else(|| ALPHANUMERIC.to_owned());
    let charset: Vec<char> = charset.chars().collect();
    // One byte chooses one character, so that no more than that many can be chosen from.
    let Some(count) = u8::try_from(charset.len()).ok().filter(|count| 0 < *count) else {
        return Err(call.error("`charset` takes 1 to 255 characters"));
    };
    // Bytes above the last whole multiple are passed over: they would favour the first characters.
    let fair = u8::MAX - (u8::MAX % count);
    let random = std::iter::repeat_with(|| call.context.host.random().to_le_bytes()).flatten();
    let chosen = random.filter(|byte| *byte < fair).map(|byte| charset[usize::from(byte % count)]);
    Ok(chosen.take(usize::try_from(length).unwrap_or(0)).collect())
}

/// A version 4 UUID.
fn uuid(random: u128) -> String {
    const VERSION: u128 = 4 << 76;
    const VARIANT: u128 = 2 << 62;
    let bits = random & !(0xf << 76) & !(3 << 62) | VERSION | VARIANT;
    let text = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
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
    fn a_uuid_says_its_version_and_variant() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn hexadecimal_round_trips() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(hex(&bytes).as_bytes()), Some(bytes));
        for wrong in ["a", "0g", "é0"] {
            assert_eq!(unhex(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
