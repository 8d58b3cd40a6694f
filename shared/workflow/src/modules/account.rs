//! The users of the host, as `/etc/passwd` has them.

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) comment: String,
    pub(super) home: String,
    pub(super) shell: String,
}

const PASSWD: &str = "/etc/passwd";
const PASSWD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Every user; none when the file cannot be read.
pub(super) fn all() -> Vec<Account> {
    let bytes = sloth_core::fs::read_capped(PASSWD.as_ref(), PASSWD_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect()
}

/// The first user that `wanted` takes.
pub(super) fn find(wanted: impl FnMut(&Account) -> bool) -> Option<Account> {
    all().into_iter().find(wanted)
}

fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let mut text = || fields.next().map(str::to_owned);
    Some(Account { name, uid, gid, comment: text()?, home: text()?, shell: text()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_strange_ones_passed_over() {
        let web = parse("web:x:33:34:Web,,,:/var/www:/bin/sh").expect("an account");
        assert_eq!((web.name.as_str(), web.uid, web.gid), ("web", 33, 34));
        assert_eq!((web.home.as_str(), web.shell.as_str()), ("/var/www", "/bin/sh"));
        for line in ["", "web", "web:x:one:2::/:", "web:x:-1:2::/:/bin/sh", ":x:1:2::/:/bin/sh", "+::::::"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
