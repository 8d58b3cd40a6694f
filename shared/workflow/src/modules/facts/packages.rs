//! The packages that are installed.

use serde_json::{Value as Json, json};

use crate::modules::{
    call::Call,
    tool::{Output, Tool},
};

const DPKG_STATUS: &str = "/var/lib/dpkg/status";
/// Most bytes of a package manager's own list.
const STATUS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// `{manager, installed_count, packages}`.
pub(super) async fn installed(call: &Call) -> Result<Json, String> {
    let (manager, packages) = match sloth_core::fs::read_capped(DPKG_STATUS.as_ref(), STATUS_BYTES_MAX) {
        Ok(bytes) => ("dpkg", parse_dpkg(&String::from_utf8_lossy(&bytes))),
        Err(error) if !error.is_not_found() => return Err(sloth_core::error::Chain(&error).to_string()),
        Err(_) => ("rpm", rpm(call).await?),
    };
    Ok(json!({ "manager": manager, "installed_count": packages.len(), "packages": packages }))
}

/// The package of that name; one that is not installed says so.
pub(super) fn one(packages: &Json, name: &str) -> Json {
    let list = packages["packages"].as_array();
    let found = list.and_then(|list| list.iter().find(|package| package["name"] == name));
    found.cloned().unwrap_or_else(|| json!({ "name": name, "installed": false }))
}

fn parse_dpkg(status: &str) -> Vec<Json> {
    let package = |paragraph: &str| {
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
    };
    status.split("\n\n").filter_map(package).collect()
}

async fn rpm(call: &Call) -> Result<Vec<Json>, String> {
    const FORMAT: &str = "%{NAME}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{SUMMARY}\\n";
    let output = Tool::new(call, "rpm")
        .args(["-qa", "--qf", FORMAT])
        .run()
        .await
        .and_then(Output::ok)
        .map_err(|error| format!("neither dpkg nor rpm tells the packages of this host: {error}"))?;
    let package = |line: &str| {
        let mut fields = line.splitn(4, '\t');
        let mut next = || fields.next().map(str::to_owned);
        Some(json!({
            "name": next()?, "version": next()?, "architecture": next()?, "description": next()?, "installed": true,
        }))
    };
    Ok(output.lines().filter_map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nDescription: A\n more\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 2\n\n\
                      Package: c\nStatus: install ok half-installed\n";
        let list = json!({ "packages": parse_dpkg(status) });
        assert_eq!(list["packages"].as_array().map(Vec::len), Some(1));
        assert_eq!(one(&list, "a")["version"], "1");
        assert_eq!(one(&list, "b"), json!({ "name": "b", "installed": false }));
    }
}
