//! Tests of files.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

use mlua::Value;

use super::{Verdict, holds, settle, target_of};
use crate::{
    beneath::Place,
    modules::{
        attributes,
        call::{Builder, Call, Gate},
        files::{self, MODE_BITS},
        paths,
    },
};

/// The largest size that a test may ask for.
const SIZE_BYTES_MAX: u64 = 1 << 52;

/// Judges a file by what the system says of it, or by that it is not there.
type Judge = fn(&Metadata) -> Option<&'static str>;

pub(super) fn add(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let kinds: [(&str, Judge); 3] = [
        ("file_exists", |_| None),
        ("is_directory", |found| (!found.is_dir()).then_some("is not a directory")),
        ("is_file", |found| (!found.is_file()).then_some("is not a regular file")),
    ];
    let mut builder = builder;
    for (name, judge) in kinds {
        builder = builder.function(name, Gate::Open, move |call, (path, target): &(Value, Value)| {
            let missing = if name == "file_exists" { "does not exist" } else { judge_missing(name) };
            let asked = Asked::new(call, path, target)?;
            let wrong = match asked.found() {
                Ok(found) => judge(&found),
                Err(_) => Some(missing),
            };
            let verdict = wrong
                .map_or(Ok(()), |wrong| Err(format!("path '{}' {wrong} on target '{}'", asked.path, asked.target)));
            settle(call, verdict)
        })?;
    }
    builder
        .function("file_contains", Gate::Open, file_contains)?
        .function("file_mode", Gate::Open, file_mode)?
        .function("file_owner", Gate::Open, |call, arguments: &(Value, Value, Value)| {
            owned(call, arguments, "is owned by", |found| (found.uid(), attributes::user_name(found.uid())))
        })?
        .function("file_group", Gate::Open, |call, arguments: &(Value, Value, Value)| {
            owned(call, arguments, "has group", |found| (found.gid(), attributes::group_name(found.gid())))
        })?
        .function("file_size", Gate::Open, |call, (path, bytes, target): &(Value, Value, Value)| {
            let bytes = call.integer("bytes", bytes, 0, SIZE_BYTES_MAX)?;
            let asked = Asked::new(call, path, target)?;
            let verdict = asked.judged("size", |found| match found.len() {
                size if size == bytes => Ok(()),
                size => Err(format!("has size {size} but expected {bytes}")),
            });
            settle(call, verdict)
        })
}

/// What is not there is no directory and no file either.
fn judge_missing(name: &str) -> &'static str {
    if name == "is_directory" { "is not a directory" } else { "is not a regular file" }
}

fn file_contains(call: &Call, (path, pattern, target): &(Value, Value, Value)) -> mlua::Result<bool> {
    let pattern = call.text("pattern", pattern)?;
    let asked = Asked::new(call, path, target)?;
    let text = files::read(&asked.place).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let verdict = text.and_then(|text| {
        if holds(&pattern, &text) {
            return Ok(());
        }
        Err(format!("file '{}' does not contain pattern '{pattern}' on target '{}'", asked.path, asked.target))
    });
    settle(call, verdict)
}

fn file_mode(call: &Call, (path, mode, target): &(Value, Value, Value)) -> mlua::Result<bool> {
    let text = call.text("mode", mode)?;
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let wanted = u32::from_str_radix(digits, 8).ok().filter(|mode| plain && *mode <= MODE_BITS);
    let Some(wanted) = wanted else {
        return Err(call.error(format_args!("`mode` takes octal digits like `0644`, got `{text}`")));
    };
    let asked = Asked::new(call, path, target)?;
    let verdict = asked.judged("mode", |found| match found.mode() & MODE_BITS {
        mode if mode == wanted => Ok(()),
        mode => Err(format!("has mode '{mode:o}' but expected '{wanted:o}'")),
    });
    settle(call, verdict)
}

/// Compares an owner by name or by number.
fn owned(
    call: &Call,
    (path, name, target): &(Value, Value, Value),
    verb: &str,
    owner: impl Fn(&Metadata) -> (u32, String),
) -> mlua::Result<bool> {
    let wanted = call.text("name", name)?;
    let asked = Asked::new(call, path, target)?;
    let verdict = asked.judged("owner", |found| {
        let (number, name) = owner(found);
        if name == wanted || number.to_string() == wanted {
            return Ok(());
        }
        Err(format!("{verb} '{name}' but expected '{wanted}'"))
    });
    settle(call, verdict)
}

/// The file of a test.
struct Asked {
    place: Place,
    /// As the script wrote it.
    path: String,
    target: String,
}

impl Asked {
    fn new(call: &Call, path: &Value, target: &Value) -> mlua::Result<Self> {
        let target = target_of(call, target)?;
        let text = call.text("path", path)?;
        Ok(Self { place: paths::readable(call, "path", path)?, path: text, target })
    }

    fn found(&self) -> std::io::Result<Metadata> {
        self.place.metadata()
    }

    fn judged(&self, what: &str, judge: impl FnOnce(&Metadata) -> Verdict) -> Verdict {
        let found = self.found().map_err(|error| format!("failed to get {what} for '{}': {error}", self.path))?;
        judge(&found).map_err(|wrong| format!("file '{}' {wrong} on target '{}'", self.path, self.target))
    }
}
