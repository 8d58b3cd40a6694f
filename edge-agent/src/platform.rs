//! What this agent runs on.

use std::path::Path;

use sloth_core::{Digest, fs};
use sloth_protocol::wire::Platform;
use sloth_trust::Triple;

/// Most bytes of the file that names the operating system.
const OS_RELEASE_BYTES_MAX: u64 = 64 * 1024;
/// Most bytes of the file that names the installation.
const MACHINE_ID_BYTES_MAX: u64 = 4 * 1024;
/// Characters of that name.
const MACHINE_ID_CHARS: usize = 32;
/// Most characters of each part of a platform.
const PART_CHARS_MAX: usize = 64;

/// This host.
#[must_use]
pub fn detect() -> Platform {
    Platform { os: os(), arch: Triple::own().to_string(), hostname: hostname() }
}

/// The host's own name.
#[must_use]
pub fn hostname() -> String {
    cut(&rustix::system::uname().nodename().to_string_lossy())
}

/// What tells this installation from others, and nobody what it is: a digest of machine-id(5). None where the host has none.
#[must_use]
pub fn machine() -> Option<Digest> {
    let text = fs::read_capped(Path::new("/etc/machine-id"), MACHINE_ID_BYTES_MAX).ok()?;
    machine_of(&String::from_utf8_lossy(&text))
}

fn machine_of(text: &str) -> Option<Digest> {
    let id = text.trim();
    // Images whose first boot is to come have an empty file, or say `uninitialized`.
    let known = id.len() == MACHINE_ID_CHARS && id.chars().all(|c| c.is_ascii_hexdigit());
    known.then(|| Digest::of(format!("sloth-agent machine {id}").as_bytes()))
}

fn os() -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.iter().find_map(|file| fs::read_capped(Path::new(file), OS_RELEASE_BYTES_MAX).ok());
    let name = text.map(|text| os_name(&String::from_utf8_lossy(&text))).unwrap_or_default();
    if name.is_empty() { std::env::consts::OS.to_owned() } else { name }
}

/// `debian 12` from what os-release(5) says.
fn os_name(text: &str) -> String {
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let value = lines.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches(['"', '\''])).next();
        value.unwrap_or_default()
    };
    cut(format!("{} {}", field("ID"), field("VERSION_ID")).trim())
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(PART_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_named_by_its_own_file() {
        for (text, expected) in [
            ("PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n", "debian 12"),
            ("ID='arch'\n", "arch"),
            ("", ""),
            ("nonsense", ""),
        ] {
            assert_eq!(os_name(text), expected, "{text}");
        }
    }

    #[test]
    fn an_installation_that_has_no_name_yet_is_none() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(machine_of(&format!("{id}\n")), machine_of(id));
        assert_ne!(machine_of(id), machine_of(&id.replace('0', "1")));
        assert_ne!(machine_of(id), None);
        for text in ["", "uninitialized\n", "0123"] {
            assert_eq!(machine_of(text), None, "{text}");
        }
    }

    #[test]
    fn this_host_has_a_name_and_a_kind() {
        let platform = detect();
        assert!(!platform.os.is_empty() && !platform.arch.is_empty() && !platform.hostname.is_empty(), "{platform:?}");
    }
}
