//! Names of settings, and their values below `/proc/sys`.

use std::{
    fmt,
    fs::OpenOptions,
    io::{ErrorKind, Read, Write},
    path::PathBuf,
};

use super::tree::ROOT;

/// Most bytes of a value.
const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// The name of a setting, by its parts: a part may hold a dot, as names of network interfaces do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<String>);

impl Key {
    /// Reads a name in either form. As `sysctl` has it, the separator that comes first separates, and the other one
    /// stands for it: `net.ipv4.conf.eth0/100.forwarding` is `net/ipv4/conf/eth0.100/forwarding`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.trim().trim_start_matches("/proc/sys/");
        let separator = name.chars().find(|letter| matches!(letter, '.' | '/'));
        let other = if separator == Some('/') { None } else { Some('/') };
        let parts = name.split(separator.unwrap_or('.')).map(|part| match other {
            Some(other) => part.replace(other, "."),
            None => part.to_owned(),
        });
        let parts: Vec<_> = parts.collect();
        let is_part = |part: &String| {
            let odd = |letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '=' | '#' | ';');
            !part.is_empty() && part != "." && part != ".." && !part.starts_with('-') && !part.contains(odd)
        };
        (2 <= parts.len() && parts.iter().all(is_part)).then_some(Self(parts))
    }

    pub(super) fn parts(&self) -> &[String] {
        &self.0
    }

    pub(super) fn of_parts(parts: Vec<String>) -> Self {
        Self(parts)
    }

    pub(super) fn path(&self) -> PathBuf {
        let mut path = PathBuf::from(ROOT);
        path.extend(&self.0);
        path
    }

    /// Its value, without the newline that the kernel adds.
    pub(super) fn read(&self) -> Result<String, String> {
        let file = OpenOptions::new().read(true).open(self.path()).map_err(|error| self.said("read", &error))?;
        let mut bytes = Vec::new();
        file.take(VALUE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| self.said("read", &error))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    pub(super) fn write(&self, value: &str) -> Result<(), String> {
        let file = OpenOptions::new().write(true).open(self.path());
        // The kernel takes a value in one write.
        let written = file.and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()));
        written.map_err(|error| {
            if error.kind() == ErrorKind::InvalidInput {
                return format!("`{self}` does not take the value `{value}`");
            }
            self.said("write", &error)
        })
    }

    fn said(&self, what: &str, error: &std::io::Error) -> String {
        if error.kind() == ErrorKind::NotFound {
            format!("there is no setting `{self}` in this kernel")
        } else if self.path().is_dir() {
            format!("`{self}` is a group of settings, not one")
        } else {
            format!("cannot {what} `{self}`: {error}")
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|part| part.replace('.', "/"));
        f.write_str(&shown.collect::<Vec<_>>().join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_both_forms() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("/proc/sys/vm/swappiness", "vm/swappiness"),
            ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ] {
            let key = Key::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(key.path(), PathBuf::from(ROOT).join(path), "{name}");
            assert_eq!(Key::parse(&key.to_string()), Some(key), "{name}");
        }
        for name in
            ["", "vm", "..", "vm/../kernel", "../../etc/passwd", "/etc/passwd", "vm..x", "vm.a b", "-vm.x", "a.b=c"]
        {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }
}
