//! `strings`: texts taken apart, put together, matched and encoded.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use mlua::{Lua, LuaString, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    regex, validate,
};

/// Most bytes of a text that is made here from several.
const RESULT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes of all matches of one call.
const FOUND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a group of a match takes beside its text.
const GROUP_COST_BYTES: usize = 48;
/// The widest text that is padded to, in characters.
const WIDTH_CHARS_MAX: u64 = 1024 * 1024;

/// A value, or why there is none.
type Told<T> = mlua::Result<Result<T, String>>;

/// Makes a text of another.
type Shape = fn(&str) -> String;
/// Says whether a text is something.
type Test = fn(&str) -> bool;
/// Says whether a text has something to do with another.
type Compare = fn(&str, &str) -> bool;
type Digest = fn(&[u8]) -> Vec<u8>;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let builder = Builder::new(lua, context, "strings")?;
    let table = encodings(tests(shapes(pieces(builder)?)?)?)?
        .asynchronous("match", Gate::Open, |call, (text, pattern): (Value, Value)| async move {
            find(&call, &text, &pattern).await
        })?
        .asynchronous("match_all", Gate::Open, |call, (text, pattern): (Value, Value)| async move {
            find_all(&call, &text, &pattern).await
        })?
        .asynchronous("replace_regex", Gate::Open, replace_regex)?
        .finish();
    Ok(table)
}

/// What takes texts apart and puts them together.
fn pieces(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    builder
        .function("split", Gate::Open, split)?
        .function("lines", Gate::Open, |call, text: &Value| {
            Ok(call.text("text", text)?.lines().map(str::to_owned).collect::<Vec<_>>())
        })?
        .function("join", Gate::Open, join)?
        .function("replace", Gate::Open, replace)?
        .function("count", Gate::Open, |call, (text, part): &(Value, Value)| {
            Ok(call.text("text", text)?.matches(&call.text("part", part)?).count())
        })?
        .function("trim_prefix", Gate::Open, |call, (text, part): &(Value, Value)| {
            let (text, part) = (call.text("text", text)?, call.text("prefix", part)?);
            Ok(text.strip_prefix(&part).unwrap_or(&text).to_owned())
        })?
        .function("trim_suffix", Gate::Open, |call, (text, part): &(Value, Value)| {
            let (text, part) = (call.text("text", text)?, call.text("suffix", part)?);
            Ok(text.strip_suffix(&part).unwrap_or(&text).to_owned())
        })
}

/// What changes how a text looks.
fn shapes(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let shapes: [(&str, Shape); 4] = [
        ("trim", |text| text.trim().to_owned()),
        ("upper", str::to_uppercase),
        ("lower", str::to_lowercase),
        ("title", title),
    ];
    let mut builder = builder;
    for (name, shape) in shapes {
        builder = builder.function(name, Gate::Open, move |call, text: &Value| Ok(shape(&call.text("text", text)?)))?;
    }
    builder
        .function("pad_left", Gate::Open, |call, (text, width, pad): &(Value, Value, Value)| {
            let (text, padding) = padding(call, text, width, pad)?;
            Ok(padding + &text)
        })?
        .function("pad_right", Gate::Open, |call, (text, width, pad): &(Value, Value, Value)| {
            let (text, padding) = padding(call, text, width, pad)?;
            Ok(text + &padding)
        })?
        .function("truncate", Gate::Open, truncate)
}

/// What asks what a text is.
fn tests(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let pairs: [(&str, Compare); 3] = [
        ("contains", |text, part| text.contains(part)),
        ("starts_with", |text, part| text.starts_with(part)),
        ("ends_with", |text, part| text.ends_with(part)),
    ];
    let mut builder = builder;
    for (name, test) in pairs {
        builder = builder.function(name, Gate::Open, move |call, (text, part): &(Value, Value)| {
            Ok(test(&call.text("text", text)?, &call.text("part", part)?))
        })?;
    }
    let singles: [(&str, Test); 5] = [
        ("is_email", |text| validate::Format::Email.check(text)),
        ("is_url", |text| validate::Format::WebAddress.check(text)),
        ("is_numeric", |text| text.trim().parse::<f64>().is_ok_and(f64::is_finite)),
        ("is_alpha", |text| !text.is_empty() && text.chars().all(char::is_alphabetic)),
        ("is_alphanumeric", |text| !text.is_empty() && text.chars().all(char::is_alphanumeric)),
    ];
    for (name, test) in singles {
        builder = builder.function(name, Gate::Open, move |call, text: &Value| Ok(test(&call.text("text", text)?)))?;
    }
    Ok(builder)
}

fn encodings(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    use sha2::Digest as _;
    let digests: [(&str, Digest); 3] = [
        ("md5", |bytes| md5::Md5::digest(bytes).to_vec()),
        ("sha1", |bytes| sha1::Sha1::digest(bytes).to_vec()),
        ("sha256", |bytes| sha2::Sha256::digest(bytes).to_vec()),
    ];
    let mut builder = builder;
    for (name, digest) in digests {
        builder = builder.function(name, Gate::Open, move |call, text: &Value| {
            let digest = digest(&call.bytes("text", text)?);
            Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        })?;
    }
    builder
        .function("base64_encode", Gate::Open, |call, text: &Value| {
            Ok(BASE64_STANDARD.encode(call.bytes("text", text)?))
        })?
        .function("base64_decode", Gate::Open, |call, text: &Value| {
            let decoded = BASE64_STANDARD.decode(call.text("text", text)?.trim());
            bytes(call, decoded.map_err(|error| format!("this is no Base64: {error}")))
        })?
        .function("url_encode", Gate::Open, |call, text: &Value| Ok(url_encode(&call.bytes("text", text)?)))?
        .function("url_decode", Gate::Open, |call, text: &Value| bytes(call, url_decode(&call.bytes("text", text)?)))
}

fn split(call: &Call, (text, separator): &(Value, Value)) -> mlua::Result<Vec<String>> {
    let text = call.text("text", text)?;
    let separator = call.optional_text("separator", separator)?.unwrap_or_else(|| ",".to_owned());
    if separator.is_empty() {
        return Ok(text.chars().map(String::from).collect());
    }
    Ok(text.split(&separator).map(str::to_owned).collect())
}

fn join(call: &Call, (list, separator): &(Value, Value)) -> mlua::Result<String> {
    let separator = call.optional_text("separator", separator)?.unwrap_or_default();
    let mut joined = String::new();
    for (at, part) in call.table("list", list)?.sequence_values::<Value>().enumerate() {
        if 0 < at {
            joined.push_str(&separator);
        }
        let part = part?;
        match part.as_boolean() {
            Some(part) => joined.push_str(&part.to_string()),
            None => joined.push_str(&call.text(&format!("list[{}]", at + 1), &part)?),
        }
        bounded(call, joined.len())?;
    }
    Ok(joined)
}

fn replace(call: &Call, (text, old, new, count): &(Value, Value, Value, Value)) -> mlua::Result<String> {
    let (text, old, new) = (call.text("text", text)?, call.text("old", old)?, call.text("new", new)?);
    let times = text.matches(&old).count();
    let count = if count.is_nil() { -1.0 } else { call.number("count", count)? };
    // Less than nothing means each of them, as callers of Go's function are used to.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let times = if count < 0.0 { times } else { times.min(count as usize) };
    bounded(call, text.len().saturating_add(times.saturating_mul(new.len())))?;
    Ok(text.replacen(&old, &new, times))
}

/// The match and its groups, or nothing.
async fn find(call: &Call, text: &Value, pattern: &Value) -> Told<Option<Vec<String>>> {
    let (text, pattern) = (call.text("text", text)?, call.text("pattern", pattern)?);
    let found = searched(&pattern, text, |regex, text, _| {
        let found = regex.captures(text);
        Ok(found.map(|found| regex::groups(&found).into_iter().map(str::to_owned).collect()))
    });
    Ok(call.said(found.await))
}

/// Each match with its groups.
async fn find_all(call: &Call, text: &Value, pattern: &Value) -> Told<Vec<Vec<String>>> {
    let (text, pattern) = (call.text("text", text)?, call.text("pattern", pattern)?);
    let found = searched(&pattern, text, |regex, text, stop| {
        let (mut all, mut bytes) = (Vec::new(), 0_usize);
        for found in regex.captures_iter(text) {
            stop.check().map_err(|stopped| stopped.to_string())?;
            let groups: Vec<String> = regex::groups(&found).into_iter().map(str::to_owned).collect();
            bytes += groups.iter().map(|group| group.len() + GROUP_COST_BYTES).sum::<usize>();
            if FOUND_BYTES_MAX < bytes {
                return Err(format!("the matches would take more than {FOUND_BYTES_MAX} bytes"));
            }
            all.push(groups);
        }
        Ok(all)
    });
    Ok(call.said(found.await))
}

async fn replace_regex(call: Call, (text, pattern, replacement): (Value, Value, Value)) -> Told<String> {
    let (text, replacement) = (call.text("text", &text)?, call.text("replacement", &replacement)?);
    let pattern = call.text("pattern", &pattern)?;
    let replaced = searched(&pattern, text, move |regex, text, stop| {
        regex::replace_all(regex, text, &replacement, RESULT_BYTES_MAX, stop)
    });
    Ok(call.said(replaced.await))
}

/// What `search` finds: at once where that cannot take long, and beside the run where it can. When nobody waits for it
/// any more it ends at its next match.
async fn searched<T: Send + 'static>(
    pattern: &str,
    text: String,
    search: impl FnOnce(&::regex::Regex, &str, &regex::Stop) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let pattern = regex::sized(pattern)?;
    let place = pattern.place(text.len())?;
    // A file that is only evaluated has its own limit, and nothing runs beside it.
    if place == regex::Where::Here || tokio::runtime::Handle::try_current().is_err() {
        return search(pattern.regex(), &text, &regex::Stop::soon());
    }
    let left = Left(Arc::default());
    let stop = regex::Stop::when(Arc::clone(&left.0));
    let searching = tokio::task::spawn_blocking(move || search(pattern.regex(), &text, &stop));
    searching.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Says, when it is dropped, that nobody waits any more.
struct Left(Arc<AtomicBool>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each word with a large first letter; the others stay.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for char in text.chars() {
        if inside {
            titled.push(char);
        } else {
            titled.extend(char.to_uppercase());
        }
        inside = char.is_alphanumeric() || matches!(char, '\'' | '’' | '_');
    }
    titled
}

/// The text, and what it lacks of `width` characters.
fn padding(call: &Call, text: &Value, width: &Value, pad: &Value) -> mlua::Result<(String, String)> {
    let text = call.text("text", text)?;
    let width = usize::try_from(call.integer("width", width, 0, WIDTH_CHARS_MAX)?).unwrap_or_default();
    let pad = call.optional_text("pad", pad)?.unwrap_or_else(|| " ".to_owned());
    if pad.is_empty() {
        return Err(call.error("`pad` takes a text of one character or more"));
    }
    let missing = width.saturating_sub(text.chars().count());
    let padding = pad.chars().cycle().take(missing).collect();
    Ok((text, padding))
}

/// At most `length` characters, of which the last are the suffix where something was cut off.
fn truncate(call: &Call, (text, length, suffix): &(Value, Value, Value)) -> mlua::Result<String> {
    let text = call.text("text", text)?;
    let length = usize::try_from(call.integer("length", length, 0, u64::from(u32::MAX))?).unwrap_or_default();
    if text.chars().count() <= length {
        return Ok(text);
    }
    let suffix = call.optional_text("suffix", suffix)?.unwrap_or_else(|| "...".to_owned());
    let kept = length.saturating_sub(suffix.chars().count());
    Ok(text.chars().take(kept).chain(suffix.chars()).take(length).collect())
}

/// Everything but what no part of an address gives a meaning to is written as `%XX`.
fn url_encode(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn url_decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let value = digits.filter(|digits| !digits.starts_with('+')).and_then(|d| u8::from_str_radix(d, 16).ok());
        let Some(value) = value else {
            let at = bytes.len() - after.len();
            return Err(format!("the `%` at byte {at} is not followed by two hexadecimal digits"));
        };
        decoded.push(value);
        rest = &after[2..];
    }
    Ok(decoded)
}

fn bounded(call: &Call, bytes: usize) -> mlua::Result<()> {
    if RESULT_BYTES_MAX < bytes {
        return Err(call.error(format_args!("the result would be longer than {RESULT_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn bytes(call: &Call, outcome: Result<Vec<u8>, String>) -> Told<LuaString> {
    match call.said(outcome) {
        Ok(bytes) => call.lua.create_string(bytes).map(Ok),
        Err(reason) => Ok(Err(reason)),
    }
}
