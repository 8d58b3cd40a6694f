//! Who logged in and who failed to, as the host records it in its binary files.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
};

use mlua::{IntoLua, MultiValue};

use super::read::find;
use crate::modules::call::Call;

/// One record a user, at the place of its number.
const LASTLOG: &str = "/var/log/lastlog";
/// `struct lastlog`: a time of 4 bytes, a terminal of 32 and a host of 256.
const LASTLOG_RECORD_BYTES: u64 = 292;
/// One record a failed login.
const BTMP: &str = "/var/log/btmp";
/// Most bytes of it that are read.
const BTMP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// `struct utmp`.
const UTMP_RECORD_BYTES: usize = 384;
/// Where a record of it has the user's name.
const UTMP_USER: std::ops::Range<usize> = 44..76;

/// When a user last logged in, in seconds since 1970.
pub(super) fn last(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    let time = find(call, arguments)?.and_then(|account| {
        let never = || format!("`{}` has never logged in", account.name);
        let mut record = [0; 4];
        let read = File::open(LASTLOG).and_then(|mut file| {
            file.seek(SeekFrom::Start(u64::from(account.uid) * LASTLOG_RECORD_BYTES))?;
            file.read_exact(&mut record)
        });
        match read {
            Ok(()) if record != [0; 4] => Ok(u32::from_le_bytes(record)),
            Ok(()) => Err(never()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(never()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("this host does not keep {LASTLOG}")),
            Err(error) => Err(format!("cannot read `{LASTLOG}`: {error}")),
        }
    });
    call.shown(time, |time| time.into_lua(&call.lua))
}

/// How often a login as a user failed, as far as the record goes back.
pub(super) fn failed(call: &Call, arguments: &MultiValue) -> mlua::Result<MultiValue> {
    let count = find(call, arguments)?.and_then(|account| {
        let mut bytes = Vec::new();
        let read = File::open(BTMP).and_then(|file| file.take(BTMP_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(count(&bytes, &account.name)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("this host does not keep {BTMP}")),
            Err(error) => Err(format!("cannot read `{BTMP}`: {error}")),
        }
    });
    call.shown(count, |count| count.into_lua(&call.lua))
}

fn count(records: &[u8], name: &str) -> usize {
    let user = |record: &[u8]| record[UTMP_USER].split(|byte| *byte == 0).next() == Some(name.as_bytes());
    records.chunks_exact(UTMP_RECORD_BYTES).filter(|record| user(record)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_logins_are_counted_by_name() {
        let record = |name: &str| {
            let mut record = vec![0; UTMP_RECORD_BYTES];
            record[UTMP_USER][..name.len()].copy_from_slice(name.as_bytes());
            record
        };
        let records = [record("bob"), record("bobby"), record("bob"), vec![1; 10]].concat();
        assert_eq!((count(&records, "bob"), count(&records, "bobby"), count(&records, "al")), (2, 1, 0));
    }
}
