//! Texts that only whoever has the key can read, and passwords that can be checked and not read.

use std::num::NonZeroU32;

use aes::{Aes256, cipher::KeyIvInit};
use base64::{Engine, engine::general_purpose::STANDARD};
use mlua::{LuaString, Value};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    pbkdf2,
};
use sha2::{Digest, Sha256};

use super::{super::call::Call, random::fill};

const KEY_BYTES: usize = 32;
/// What [`encrypt`] begins its texts with, so that another form can follow one day.
const MARK: &str = "sloth1:";
const IV_BYTES: usize = 16;
/// Rounds that make a passphrase dear to guess, as OWASP advises for PBKDF2 with SHA-256.
const DERIVE_ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
const SALT_BYTES_MIN: usize = 8;
const BCRYPT_SALT_BYTES: usize = 16;
/// What a bcrypt hash costs unless said: about a quarter of a second.
const BCRYPT_COST: u64 = 12;
const BCRYPT_COST_MIN: u64 = 4;
/// A few seconds.
const BCRYPT_COST_MAX: u64 = 16;
/// bcrypt leaves out what is beyond.
const BCRYPT_BYTES_MAX: usize = 72;

/// A text, or nothing and why.
type Answer<T> = mlua::Result<Result<T, String>>;

/// A new key for [`encrypt`], in base64.
pub(super) fn generate_key(call: &Call, (): &()) -> mlua::Result<String> {
    let mut key = [0; KEY_BYTES];
    fill(call, &mut key)?;
    Ok(STANDARD.encode(key))
}

/// A key from a passphrase; the same for the same salt.
pub(super) async fn derive_key(call: Call, (passphrase, salt): (Value, Value)) -> mlua::Result<String> {
    let passphrase = call.bytes("passphrase", &passphrase)?;
    let salt = call.bytes("salt", &salt)?;
    if passphrase.is_empty() || salt.len() < SALT_BYTES_MIN {
        return Err(call.error(format_args!("`passphrase` takes a text, and `salt` {SALT_BYTES_MIN} bytes or more")));
    }
    beside(&call, move || {
        let mut key = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, DERIVE_ROUNDS, &salt, &passphrase, &mut key);
        STANDARD.encode(key)
    })
    .await
}

/// ChaCha20-Poly1305: a changed text is refused, not decrypted to something else.
pub(super) fn encrypt(call: &Call, (key, text): &(Value, Value)) -> mlua::Result<String> {
    let key = key_of(call, key)?;
    let mut sealed = call.bytes("text", text)?;
    let mut nonce = [0; NONCE_LEN];
    fill(call, &mut nonce)?;
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .map_err(|_| call.error("`text` is too long"))?;
    Ok(format!("{MARK}{}", STANDARD.encode([&nonce[..], &sealed, tag.as_ref()].concat())))
}

pub(super) fn decrypt(call: &Call, (key, text): &(Value, Value)) -> Answer<LuaString> {
    let key = key_of(call, key)?;
    let text = call.text("text", text)?;
    let refuse = |reason: &str| Ok(Err(call.refusal(reason)));
    let Some(coded) = text.trim().strip_prefix(MARK) else {
        return refuse("this was not made by `crypto.encrypt`");
    };
    let Ok(mut sealed) = STANDARD.decode(coded) else { return refuse("the text is not whole") };
    let Some((nonce, sealed)) = sealed.split_first_chunk_mut::<NONCE_LEN>() else {
        return refuse("the text is not whole");
    };
    match key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), sealed) {
        Ok(opened) => call.lua.create_string(opened).map(Ok),
        Err(_) => refuse("the key is another one, or the text was changed"),
    }
}

/// AES-256-CFB as old files have it: base64 of the start vector and the rest. It does not tell a changed text.
pub(super) fn aes_encrypt(call: &Call, (key, text): &(Value, Value)) -> mlua::Result<String> {
    let key = old_key(call, key)?;
    let mut text = call.bytes("text", text)?;
    let mut iv = [0; IV_BYTES];
    fill(call, &mut iv)?;
    cfb_mode::Encryptor::<Aes256>::new(&key.into(), &iv.into()).encrypt(&mut text);
    Ok(STANDARD.encode([&iv[..], &text].concat()))
}

pub(super) fn aes_decrypt(call: &Call, (key, text): &(Value, Value)) -> Answer<LuaString> {
    let key = old_key(call, key)?;
    let text = call.text("text", text)?;
    let mut bytes = match STANDARD.decode(text.trim()) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(call.refusal(error))),
    };
    let Some((iv, coded)) = bytes.split_first_chunk_mut::<IV_BYTES>() else {
        return Ok(Err(format!("{}: the text is shorter than the {IV_BYTES} bytes it begins with", call.name)));
    };
    cfb_mode::Decryptor::<Aes256>::new(&key.into(), &(*iv).into()).decrypt(coded);
    call.lua.create_string(coded).map(Ok)
}

/// What can be kept in place of a password.
pub(super) async fn bcrypt_hash(call: Call, (password, cost): (Value, Value)) -> mlua::Result<String> {
    let password = call.bytes("password", &password)?;
    let cost = if cost.is_nil() { BCRYPT_COST } else { call.integer("cost", &cost, BCRYPT_COST_MIN, BCRYPT_COST_MAX)? };
    if BCRYPT_BYTES_MAX < password.len() || password.contains(&0) {
        return Err(call.error(format_args!("`password` takes {BCRYPT_BYTES_MAX} bytes at most, and no zero byte")));
    }
    let mut salt = [0; BCRYPT_SALT_BYTES];
    fill(&call, &mut salt)?;
    let cost = u32::try_from(cost).unwrap_or(u32::MAX);
    let hashed = beside(&call, move || bcrypt::hash_with_salt(password, cost, salt)).await?;
    hashed.map(|hash| hash.to_string()).map_err(|error| call.error(error))
}

/// Whether a password is the one of a hash, or nothing and why that is no hash.
pub(super) async fn bcrypt_verify(call: Call, (password, hash): (Value, Value)) -> Answer<bool> {
    let password = call.bytes("password", &password)?;
    let hash = call.text("hash", &hash)?;
    // The cost is in the hash, so that one could keep a processor busy for days.
    let cost = hash.split('$').nth(2).and_then(|cost| cost.parse::<u64>().ok());
    if cost.is_some_and(|cost| BCRYPT_COST_MAX < cost) {
        return Ok(Err(format!("{}: the hash asks for a cost above {BCRYPT_COST_MAX}", call.name)));
    }
    let verified = beside(&call, move || bcrypt::verify(password, &hash)).await?;
    Ok(verified.map_err(|_| format!("{}: this is no bcrypt hash", call.name)))
}

/// Runs what takes long beside the run.
async fn beside<T: Send + 'static>(call: &Call, work: impl FnOnce() -> T + Send + 'static) -> mlua::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| call.error(error))
}

fn key_of(call: &Call, key: &Value) -> mlua::Result<LessSafeKey> {
    let key = call.text("key", key)?;
    let bytes = STANDARD.decode(key.trim()).unwrap_or_default();
    // The key itself is in no message.
    UnboundKey::new(&CHACHA20_POLY1305, &bytes).map(LessSafeKey::new).map_err(|_| {
        call.error(format_args!("`key` takes {KEY_BYTES} bytes in base64: make one by `crypto.generate_key()` or `crypto.derive_key(passphrase, salt)`"))
    })
}

fn old_key(call: &Call, key: &Value) -> mlua::Result<[u8; KEY_BYTES]> {
    let key = call.bytes("key", key)?;
    Ok(<[u8; KEY_BYTES]>::try_from(&key[..]).unwrap_or_else(|_| Sha256::digest(&key).into()))
}
