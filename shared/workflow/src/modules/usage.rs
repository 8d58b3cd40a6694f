//! How much of the host is in use, and what runs on it, as the kernel tells it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Most bytes that are read of one file of the kernel.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How the kernel writes that a TCP socket listens.
const TCP_LISTENING: &str = "0A";
/// How the kernel writes that a UDP socket is bound and has no peer.
const UDP_BOUND: &str = "07";

/// What the processors have done since the host started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTimes {
    busy: u64,
    total: u64,
}

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) total: u64,
    /// What can still be taken.
    pub(super) available: u64,
    /// What is taken.
    pub(super) used: u64,
}

/// A process that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// As the kernel knows it, 15 bytes at most.
    pub(super) name: String,
    /// Its arguments with spaces between them; its name where it has none, as threads of the kernel.
    pub(super) command: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl CpuTimes {
    pub(super) fn now() -> Result<Self, String> {
        parse_cpu(&read("/proc/stat")?).ok_or_else(|| "`/proc/stat` does not tell of the processors".to_owned())
    }

    /// How busy they were between the two, in percent of all of them.
    pub(super) fn percent_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        percent(self.busy.saturating_sub(before.busy).min(total), total)
    }
}

impl Space {
    /// How much is taken, in percent.
    pub(super) fn percent(self) -> f64 {
        percent(self.used, self.total)
    }
}

pub(super) fn memory() -> Result<Space, String> {
    parse_memory(&read("/proc/meminfo")?).ok_or_else(|| "`/proc/meminfo` does not tell of the memory".to_owned())
}

/// The file system that holds `path`. It may hang where the file system does.
pub(super) fn disk(path: &Path) -> Result<Space, String> {
    let found = rustix::fs::statvfs(path);
    let found = found.map_err(|error| format!("cannot read the space at `{}`: {error}", path.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space {
        total: bytes(found.f_blocks),
        available: bytes(found.f_bavail),
        used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
    })
}

/// Every process but this one, those that started it from the same program, and those that have ended and wait to be
/// buried, by their numbers.
pub(super) fn processes() -> Result<Vec<Process>, String> {
    let own = own_family();
    let entries = fs::read_dir("/proc").map_err(|error| format!("cannot read `/proc`: {error}"))?;
    let mut list: Vec<Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| !own.contains(pid))
        .filter_map(process)
        .collect();
    list.sort_by_key(|process| process.pid);
    Ok(list)
}

/// The ports that something listens on, on any address.
pub(super) fn ports(protocol: Protocol) -> Result<BTreeSet<u16>, String> {
    let (files, state) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], TCP_LISTENING),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], UDP_BOUND),
    };
    let mut ports = BTreeSet::new();
    for (at, file) in files.iter().enumerate() {
        match read(file) {
            Ok(table) => ports.extend(parse_ports(&table, state)),
            Err(error) if at == 0 => return Err(error),
            // A host without the newer protocol has no such file.
            Err(_) => {}
        }
    }
    Ok(ports)
}

/// With two digits.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "two digits are all that anybody reads of it")]
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    (percent * 100.0).round() / 100.0
}

fn process(pid: u32) -> Option<Process> {
    let stat = read(&format!("/proc/{pid}/stat")).ok()?;
    let (name, state, _) = parse_stat(&stat)?;
    // Gone, or as good as gone: nothing of it runs any more.
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let arguments = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = arguments.trim_end_matches('\0').replace('\0', " ");
    Some(Process { pid, command: if command.is_empty() { name.clone() } else { command }, name })
}

/// This process and those above it that run the same program: their arguments may name what is looked for.
fn own_family() -> BTreeSet<u32> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own: Option<PathBuf> = program(std::process::id());
    let mut family = BTreeSet::from([std::process::id()]);
    let mut pid = std::process::id();
    loop {
        let stat = read(&format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((.., parent)) = parse_stat(&stat) else { return family };
        if own.is_none() || program(parent) != own || !family.insert(parent) {
            return family;
        }
        pid = parent;
    }
}

/// The name, the state and the parent. The name stands in brackets and may hold any characters, brackets too.
fn parse_stat(stat: &str) -> Option<(String, char, u32)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    Some((name, fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn parse_cpu(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // What guests take is part of what users take already, so the columns after the eighth do not count.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let total = ticks.iter().sum();
    let idle: u64 = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
    Some(CpuTimes { busy: total - idle, total })
}

fn parse_memory(table: &str) -> Option<Space> {
    let bytes = |name: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let total = bytes("MemTotal")?;
    let available = bytes("MemAvailable").or_else(|| bytes("MemFree"))?.min(total);
    Some(Space { total, available, used: total - available })
}

fn parse_ports<'a>(table: &'a str, state: &'a str) -> impl Iterator<Item = u16> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _remote, found) = (words.next()?, words.next()?, words.next()?);
        let port = local.rsplit_once(':')?.1;
        (found == state).then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}

fn read(path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read `{path}`: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_as_busy_as_the_ticks_say() {
        let before = parse_cpu("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4\n").expect("a line");
        let after = parse_cpu("cpu  150 0 150 800 100 0 0 0 99 0\n").expect("a line");
        assert_eq!(after.percent_since(before), 50.0);
        assert_eq!(before.percent_since(before), 0.0);
        assert_eq!(parse_cpu("intr 5\n"), None);
    }

    #[test]
    fn memory_counts_what_can_be_freed_as_available() {
        let space = parse_memory("MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 750 kB\n").expect("a table");
        assert_eq!((space.total, space.available, space.percent()), (1_024_000, 768_000, 25.0));
    }

    #[test]
    fn only_what_listens_is_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 00000000:1F90 00000000:0000 0A 0 0\n\
                     1: 0100007F:0050 0100007F:9999 01 0 0\n\
                     2: 00000000000000000000000000000000:0016 0:0 0A 0\n";
        assert_eq!(parse_ports(table, TCP_LISTENING).collect::<Vec<_>>(), [8080, 22]);
    }

    #[test]
    fn a_process_may_be_named_anything() {
        assert_eq!(parse_stat("7 (a) R 1) S 42 7 7"), Some(("a) R 1".to_owned(), 'S', 42)));
        assert_eq!(parse_stat("7"), None);
    }

    #[test]
    fn this_process_does_not_see_itself() {
        let list = processes().expect("a list");
        assert!(list.iter().all(|process| process.pid != std::process::id()), "{list:?}");
    }
}
