//! What this agent runs on.

use std::path::Path;

use sloth_core::fs;
use sloth_protocol::wire::Platform;
use sloth_trust::Triple;

/// Most bytes of the file that names the operating system.
const OS_RELEASE_BYTES_MAX: u64 = 64 * 1024;
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
    fn this_host_has_a_name_and_a_kind() {
        let platform = detect();
        assert!(!platform.os.is_empty() && !platform.arch.is_empty() && !platform.hostname.is_empty(), "{platform:?}");
    }
}
