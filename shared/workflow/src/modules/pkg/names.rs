//! Which packages a call means.

use mlua::{MultiValue, Table, Value};

use crate::{
    capability::Capability,
    modules::{
        call::Call,
        options::{Options, plain},
    },
};

/// Options under which packages are named.
const NAMES: [&str; 4] = ["name", "names", "package", "packages"];
/// Most bytes of a name with its version.
const NAME_BYTES_MAX: usize = 256;

/// A package, perhaps of a certain version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

/// The packages that a call names, and its options: `("a")`, `{"a", "b"}`, `{name = "a"}`, `{packages = {"a", "b"}}`.
pub(super) fn read<'a>(
    call: &'a Call,
    arguments: &MultiValue,
    known: &[&str],
) -> mlua::Result<(Vec<Package>, Options<'a>)> {
    let options = call.lua.create_table()?;
    let mut texts = Vec::new();
    let mut is_named = false;
    for argument in arguments {
        match plain(argument) {
            Some(table) => is_named |= split(call, table, &mut texts, &options)?,
            None if argument.is_nil() => {}
            None => texts.push(call.text("packages", argument)?),
        }
    }
    let known = [&NAMES, known].concat();
    let options = Options::new(call, &Value::Table(options), &known)?;
    for name in NAMES {
        let list = options.list(name)?;
        is_named |= list.is_some();
        texts.extend(list.unwrap_or_default());
    }
    let words = texts.iter().flat_map(|text| text.split([',', ' ', '\t', '\n'])).filter(|word| !word.is_empty());
    let mut packages = Vec::new();
    for word in words {
        let package = parse(call, word)?;
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    if packages.is_empty() && !is_named {
        return Err(call.error("`packages` is missing: name a package or a list of packages"));
    }
    Ok((packages, options))
}

/// The one package of a question.
pub(super) fn one(call: &Call, arguments: &MultiValue) -> mlua::Result<Package> {
    let (packages, _) = read(call, arguments, &[])?;
    match <[Package; 1]>::try_from(packages) {
        Ok([package]) => Ok(package),
        Err(packages) => Err(call.error(format_args!("takes one package, got {}", packages.len()))),
    }
}

/// Splits a table into the packages that are listed in it, and its options. Says whether it is a list.
fn split(call: &Call, table: &Table, texts: &mut Vec<String>, options: &Table) -> mlua::Result<bool> {
    let length = table.raw_len();
    for at in 1..=length {
        texts.push(call.text(&format!("packages[{at}]"), &table.raw_get::<Value>(at)?)?);
    }
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if key.as_number().is_none() && key.as_integer().is_none() {
            options.raw_set(key, value)?;
        }
    }
    Ok(0 < length)
}

fn parse(call: &Call, word: &str) -> mlua::Result<Package> {
    let (name, version) = word.split_once('=').map_or((word, None), |(name, version)| (name, Some(version)));
    let is_plain = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.' | '_' | ':' | '~' | '@' | '^')
    };
    let begins =
        |text: &str| text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '@' | '_'));
    // At its end a `-` would make apt remove the package.
    let is_name = begins(name) && name.chars().all(is_plain) && !name.ends_with('-') && word.len() <= NAME_BYTES_MAX;
    let is_version = version
        .is_none_or(|version| begins(version) && version.chars().all(|letter| is_plain(letter) || letter == '*'));
    if !is_name || !is_version {
        return Err(
            call.error(format_args!("`{word}` cannot be the name of a package, like `nginx` or `nginx=1.22.1-9`"))
        );
    }
    call.permit(Capability::Pkg, name)?;
    Ok(Package { name: name.to_owned(), version: version.map(str::to_owned) })
}
