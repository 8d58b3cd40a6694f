//! The packages that are installed, read from the manager's own files where it has some that are texts.

use std::path::Path;

use serde_json::{Value as Json, json};
use sloth_core::error::Chain;

use crate::modules::{
    call::Call,
    tool::{Output, Tool},
};

const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const APK_INSTALLED: &str = "/lib/apk/db/installed";
/// A directory a package, with a file `desc`.
const PACMAN_LOCAL: &str = "/var/lib/pacman/local";
/// Most bytes of a package manager's own list.
const STATUS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A list that a manager keeps.
struct List {
    manager: &'static str,
    /// Reads one package of it; nothing where it is not installed.
    read: fn(&str) -> Option<Json>,
    /// The texts of the packages.
    texts: Vec<String>,
}

/// `{manager, installed_count, packages}`.
pub(super) async fn installed(call: &Call) -> Result<Json, String> {
    let list = list(call, None).await?;
    let packages: Vec<_> = list.texts.iter().filter_map(|text| (list.read)(text)).collect();
    Ok(json!({ "manager": list.manager, "installed_count": packages.len(), "packages": packages }))
}

/// The package of that name; one that is not installed says so.
pub(super) async fn one(call: &Call, name: &str) -> Result<Json, String> {
    let list = list(call, Some(name)).await?;
    // Most are passed over before they are read.
    let candidates = list.texts.iter().filter(|text| text.contains(name));
    let found = candidates.filter_map(|text| (list.read)(text)).find(|package| package["name"] == name);
    Ok(found.unwrap_or_else(|| json!({ "name": name, "installed": false })))
}

async fn list(call: &Call, name: Option<&str>) -> Result<List, String> {
    if let Some(text) = file(DPKG_STATUS)? {
        return Ok(List { manager: "dpkg", read: dpkg, texts: paragraphs(&text) });
    }
    if let Some(text) = file(APK_INSTALLED)? {
        return Ok(List { manager: "apk", read: apk, texts: paragraphs(&text) });
    }
    if Path::new(PACMAN_LOCAL).is_dir() {
        let entries = std::fs::read_dir(PACMAN_LOCAL).into_iter().flatten().flatten();
        let descriptions = entries.map(|entry| entry.path().join("desc"));
        let texts = descriptions.filter_map(|path| file(&path.to_string_lossy()).ok().flatten());
        return Ok(List { manager: "pacman", read: pacman, texts: texts.collect() });
    }
    Ok(List { manager: "rpm", read: rpm, texts: ask_rpm(call, name).await? })
}

fn file(path: &str) -> Result<Option<String>, String> {
    match sloth_core::fs::read_capped(path.as_ref(), STATUS_BYTES_MAX) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Chain(&error).to_string()),
    }
}

fn paragraphs(text: &str) -> Vec<String> {
    text.split("\n\n").map(str::to_owned).collect()
}

fn dpkg(paragraph: &str) -> Option<Json> {
    let field =
        |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
    // Removed packages whose settings were kept are in the list as well.
    field("Status")?.ends_with(" installed").then(|| {
        json!({
            "name": field("Package"),
            "version": field("Version"),
            "architecture": field("Architecture"),
            "description": field("Description"),
            "installed": true,
        })
    })
}

fn apk(paragraph: &str) -> Option<Json> {
    let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(json!({
        "name": field("P:")?,
        "version": field("V:"),
        "architecture": field("A:"),
        "description": field("T:"),
        "installed": true,
    }))
}

fn pacman(description: &str) -> Option<Json> {
    let field = |name: &str| {
        let mut lines = description.lines().skip_while(|line| line.trim() != name);
        lines.nth(1).map(str::trim)
    };
    Some(json!({
        "name": field("%NAME%")?,
        "version": field("%VERSION%"),
        "architecture": field("%ARCH%"),
        "description": field("%DESC%"),
        "installed": true,
    }))
}

fn rpm(line: &str) -> Option<Json> {
    let mut fields = line.splitn(4, '\t');
    let mut next = || fields.next().map(str::to_owned);
    Some(json!({
        "name": next()?, "version": next()?, "architecture": next()?, "description": next()?, "installed": true,
    }))
}

/// rpm's list is no text; its program tells it.
async fn ask_rpm(call: &Call, name: Option<&str>) -> Result<Vec<String>, String> {
    const FORMAT: &str = "%{NAME}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{SUMMARY}\\n";
    let output = match name {
        // That it is not installed is an error to it.
        Some(name) => {
            Tool::new(call, "rpm").args(["-q", "--qf", FORMAT, "--", name]).run().await.map(|told| told.stdout)
        }
        None => Tool::new(call, "rpm").args(["-qa", "--qf", FORMAT]).run().await.and_then(Output::ok),
    };
    let output = output.map_err(|error| format!("neither dpkg nor rpm tells the packages of this host: {error}"))?;
    Ok(output.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nDescription: A\n more\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 2\n\n\
                      Package: c\nStatus: install ok half-installed\n";
        let list: Vec<_> = paragraphs(status).iter().filter_map(|text| dpkg(text)).collect();
        let expected = json!({
            "name": "a", "version": "1", "architecture": "all", "description": "A", "installed": true,
        });
        assert_eq!(list, [expected]);
    }

    #[test]
    fn the_files_of_apk_and_pacman_are_read() {
        let expected = json!({
            "name": "musl", "version": "1.2-r0", "architecture": "x86_64", "description": "libc", "installed": true,
        });
        let text = "C:Q1x=\nP:musl\nV:1.2-r0\nA:x86_64\nT:libc\nF:lib\n\n";
        let list: Vec<_> = paragraphs(text).iter().filter_map(|text| apk(text)).collect();
        assert_eq!(list.first(), Some(&expected));
        let text = "%NAME%\nmusl\n\n%VERSION%\n1.2-r0\n\n%DESC%\nlibc\n\n%ARCH%\nx86_64\n";
        assert_eq!(pacman(text), Some(expected.clone()));
        assert_eq!(rpm("musl\t1.2-r0\tx86_64\tlibc"), Some(expected));
        assert_eq!(rpm("package musl is not installed"), None);
    }
}
