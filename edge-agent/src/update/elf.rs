//! Whether a program can run on this host: the first bytes of an ELF file.

use std::fmt;

/// How many bytes are looked at.
pub const HEADER_BYTES: usize = 20;
/// `e_machine` of what this program was built for.
const OWN_MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "arm") {
    40
} else if cfg!(target_arch = "riscv64") {
    243
} else if cfg!(target_arch = "x86") {
    3
} else {
    0
};
const CLASS: u8 = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
const ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
/// `ET_EXEC` and `ET_DYN`.
const TYPES: [u16; 2] = [2, 3];

/// Why a file is no program for this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It is something else.
    #[error("it is not a program of Linux")]
    NotElf,
    /// It is for another processor.
    #[error("it is for {machine}, and this host is {}", Machine(OWN_MACHINE))]
    Machine {
        /// Which.
        machine: Machine,
    },
    /// It is for another kind of the same processor.
    #[error("it is for processors with another word size or byte order than this host's")]
    Kind,
}

/// A processor architecture, by its number in ELF files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine(pub u16);

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            3 => f.write_str("x86"),
            40 => f.write_str("arm"),
            62 => f.write_str("x86_64"),
            183 => f.write_str("aarch64"),
            243 => f.write_str("riscv"),
            number => write!(f, "machine {number}"),
        }
    }
}

/// Whether the file that begins with `header` can run here.
///
/// # Errors
///
/// Says why not.
pub fn check(header: &[u8]) -> Result<(), ElfError> {
    let number = |at: usize| {
        let bytes = [header.get(at).copied()?, header.get(at + 1).copied()?];
        Some(if header.get(5) == Some(&2) { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let (Some(kind), Some(machine)) = (number(16), number(18)) else { return Err(ElfError::NotElf) };
    if !header.starts_with(b"\x7fELF") || !TYPES.contains(&kind) {
        return Err(ElfError::NotElf);
    }
    if machine != OWN_MACHINE {
        return Err(ElfError::Machine { machine: Machine(machine) });
    }
    if header.get(4..6) != Some(&[CLASS, ORDER]) {
        return Err(ElfError::Kind);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, kind: u16, machine: u16) -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend([class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [kind, machine] {
            bytes.extend(if order == 2 { number.to_be_bytes() } else { number.to_le_bytes() });
        }
        bytes
    }

    #[test]
    fn only_programs_for_this_host_are_taken() {
        let own = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        assert_eq!(check(&own), Ok(()));
        assert_eq!(check(&header(CLASS, ORDER, 3, OWN_MACHINE)), Ok(()));
        assert_eq!(check(b"#!/bin/sh\nexec true # and so on"), Err(ElfError::NotElf));
        assert_eq!(check(b"\x7fELF"), Err(ElfError::NotElf));
        assert_eq!(check(&header(CLASS, ORDER, 1, OWN_MACHINE)), Err(ElfError::NotElf));
        assert_eq!(check(&header(3 - CLASS, ORDER, 2, OWN_MACHINE)), Err(ElfError::Kind));
        let other = check(&header(2, 2, 2, 22)).expect_err("another machine").to_string();
        assert!(other.starts_with("it is for machine 22, and this host is "), "{other}");
    }
}
