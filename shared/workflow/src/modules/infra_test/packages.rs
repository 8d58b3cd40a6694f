//! Tests of packages, by what the host's package manager has on record.

use mlua::Value;

use super::{settle, target_of};
use crate::modules::{call::Call, tool::Tool};

/// How a package manager is asked for one package, which follows the arguments.
struct Manager {
    program: &'static str,
    arguments: &'static [&'static str],
    /// The version in what it prints, when the package is installed.
    version: fn(&str, &str) -> Option<String>,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        program: "dpkg-query",
        arguments: &["-W", "-f=${db:Status-Status} ${Version}\\n", "--"],
        // Packages that were removed and left their settings are on record as well.
        version: |output, _| output.lines().find_map(|line| line.strip_prefix("installed ")).map(str::to_owned),
    },
    Manager {
        program: "rpm",
        arguments: &["-q", "--qf", "%{VERSION}-%{RELEASE}\\n", "--"],
        version: |output, _| output.lines().next().map(str::to_owned),
    },
    Manager {
        program: "pacman",
        arguments: &["-Q", "--"],
        version: |output, _| output.split_whitespace().nth(1).map(str::to_owned),
    },
    Manager {
        program: "apk",
        arguments: &["info", "-e", "-v", "--"],
        version: |output, name| {
            output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('-')).map(str::to_owned)
        },
    },
];

pub(super) async fn is_installed(call: Call, (name, target): (Value, Value)) -> mlua::Result<bool> {
    let (name, target) = (name_of(&call, &name)?, target_of(&call, &target)?);
    let found = installed(&call, &name).await;
    let missing = || format!("package '{name}' is not installed on target '{target}'");
    settle(&call, found.and_then(|version| version.map(drop).ok_or_else(missing)))
}

/// Whether the version of a package begins with what is expected.
pub(super) async fn version(call: Call, (name, expected, target): (Value, Value, Value)) -> mlua::Result<bool> {
    let (name, target) = (name_of(&call, &name)?, target_of(&call, &target)?);
    let expected = call.text("version", &expected)?;
    let verdict = installed(&call, &name).await.and_then(|found| match found {
        Some(version) if version.starts_with(&expected) => Ok(()),
        Some(version) => {
            Err(format!("package '{name}' has version '{version}' but expected '{expected}' on target '{target}'"))
        }
        None => Err(format!("package '{name}' is not installed on target '{target}'")),
    });
    settle(&call, verdict)
}

/// The version that is installed, if one is.
async fn installed(call: &Call, name: &str) -> Result<Option<String>, String> {
    let Some(manager) = MANAGERS.iter().find(|manager| Tool::exists(call, manager.program)) else {
        let known = MANAGERS.map(|manager| manager.program).join(", ");
        return Err(format!("no supported package manager found: known are {known}"));
    };
    let arguments = manager.arguments.iter().copied().chain([name]);
    let output = Tool::new(call, manager.program).args(arguments).run().await?;
    // They end badly where there is no such package.
    Ok(if output.success() { (manager.version)(&output.stdout, name) } else { None })
}

/// A name without characters that some manager takes for a pattern of names.
fn name_of(call: &Call, name: &Value) -> mlua::Result<String> {
    let name = call.text("name", name)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._:@/".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        return Err(call.error(format_args!("`name` takes the name of a package, got `{name}`")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_has_a_version() {
        let version = |program: &str, output: &str| {
            let manager = MANAGERS.iter().find(|manager| manager.program == program).expect(program);
            (manager.version)(output, "a-b")
        };
        let some = |version: &str| Some(version.to_owned());
        assert_eq!(version("dpkg-query", "installed 1.2-1\n"), some("1.2-1"));
        assert_eq!(version("dpkg-query", "config-files 1.2-1\n"), None);
        assert_eq!(version("dpkg-query", "not-installed \n"), None);
        assert_eq!(version("rpm", "1.2-3.el9\n"), some("1.2-3.el9"));
        assert_eq!(version("pacman", "a-b 1.2-1\n"), some("1.2-1"));
        assert_eq!(version("apk", "a-b-1.2-r0\n"), some("1.2-r0"));
    }
}
