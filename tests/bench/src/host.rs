//! Where and of what the measurements were made.

use std::{fmt, path::Path, process::Command};

use anyhow::Result;

use crate::Bench;

/// The machine and the commit.
#[derive(Debug)]
pub(crate) struct Host {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    file_system: String,
    date: String,
    commit: String,
}

impl Host {
    /// Reads what the system says of itself.
    pub(crate) fn read(bench: &Bench) -> Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let kib: u64 = field(&meminfo, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
        Ok(Self {
            cpu: field(&cpuinfo, "model name").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib.div_ceil(1024 * 1024),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: said_by("stat", &["--file-system", "--format=%T"], &[&bench.scratch]),
            date: sloth_core::Clock::new().now().to_string(),
            commit: said_by("git", &["describe", "--always", "--dirty", "--exclude=*"], &[]),
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_gib, kernel, file_system, date, commit } = self;
        writeln!(f, "{cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, {file_system}; commit {commit}, {date}.")
    }
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.map_or("unknown", str::trim)
}

fn said_by(program: &str, arguments: &[&str], paths: &[&Path]) -> String {
    let output = Command::new(program).args(arguments).args(paths).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    text.unwrap_or_else(|| "unknown".to_owned())
}
