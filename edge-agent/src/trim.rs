//! Letting go of the parts of this program that were needed at the start only.
//!
//! The system maps a program in pieces of 64 KiB around every page that is touched, and keeps them for good: a process
//! that only waits has most of its file in memory. What is let go of here stays in the system's cache for as long as
//! there is room for it, and comes back when it is touched.

use std::{
    ffi::c_void,
    path::{Path, PathBuf},
};

use rustix::mm::{Advice, madvise};

/// What of this program is in memory is named here.
const MAPPINGS: &str = "/proc/self/smaps";

/// Lets go of all pages of this program's file that this process has not changed. It takes a millisecond or less; a system
/// that refuses is none the worse for it.
pub(crate) fn trim() {
    let (Ok(own), Ok(text)) = (std::env::current_exe(), std::fs::read_to_string(MAPPINGS)) else { return };
    for Mapping { start, bytes } in unchanged(&text, &own) {
        let_go(start, bytes);
    }
}

/// A part of this process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    start: usize,
    bytes: usize,
}

/// The mappings of the file `own` that can only be read or executed and hold nothing but the file.
fn unchanged(smaps: &str, own: &Path) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        if first == "Anonymous:" {
            // A page that was changed is no longer the file's, and would be lost.
            found.extend(candidate.take().filter(|_| second == Some("0")));
        } else if !first.ends_with(':') {
            let path = line.split_once('/').map(|(_, path)| PathBuf::from(format!("/{path}")));
            let is_own = path.as_deref() == Some(own) && matches!(second, Some("r-xp" | "r--p"));
            candidate = range(first).filter(|_| is_own);
        }
    }
    found
}

fn range(text: &str) -> Option<Mapping> {
    let (start, end) = text.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some(Mapping { start, bytes: end.checked_sub(start)? })
}

#[allow(unsafe_code, reason = "the system's call is told addresses, which no type can vouch for")]
fn let_go(start: usize, bytes: usize) {
    // SAFETY: the pages are those of a private mapping of this program's own file, whose content cannot change while it
    // runs, and none of them was changed in memory; nobody can write to them. Whoever reads one, whenever that is, reads
    // the same bytes of the file again.
    let _ = unsafe { madvise(start as *mut c_void, bytes, Advice::LinuxDontNeed) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_files_is_let_go_of() {
        let smaps = "\
1000-3000 r--p 00000000 fd:00 1 /usr/bin/sloth agent
Rss: 8 kB
Anonymous: 0 kB
3000-5000 r-xp 00002000 fd:00 1 /usr/bin/sloth agent
Anonymous: 0 kB
5000-6000 r--p 00004000 fd:00 1 /usr/bin/sloth agent
Anonymous: 4 kB
6000-7000 rw-p 00005000 fd:00 1 /usr/bin/sloth agent
Anonymous: 0 kB
7000-8000 r-xp 00000000 fd:00 2 /lib/libc.so.6
Anonymous: 0 kB
8000-9000 rw-p 00000000 00:00 0
Anonymous: 0 kB
VmFlags: rd ex
";
        let found = unchanged(smaps, Path::new("/usr/bin/sloth agent"));
        assert_eq!(found, [Mapping { start: 0x1000, bytes: 0x2000 }, Mapping { start: 0x3000, bytes: 0x2000 }]);
        assert_eq!(range("10-8"), None);
    }

    #[test]
    fn a_program_that_lets_go_goes_on() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("readable");
            let line = text.lines().find(|line| line.starts_with("Rss:")).expect("a line");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
        };
        let table: std::collections::BTreeMap<_, _> = (0..1000).map(|n| (n.to_string(), n)).collect();
        let before = resident();
        trim();
        assert!(resident() < before, "nothing was let go of");
        assert_eq!((table.get("999"), table.len()), (Some(&999), 1000));
    }
}
