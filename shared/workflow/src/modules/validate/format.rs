//! What texts look like: addresses, names, versions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::modules::regex;

/// Most bytes of a host's name, by the domain name system.
const HOSTNAME_BYTES_MAX: usize = 253;
/// Most bytes of one part of it.
const LABEL_BYTES_MAX: usize = 63;
/// Most bytes of an address of mail.
const EMAIL_BYTES_MAX: usize = 254;

/// A form that texts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::modules) enum Format {
    Email,
    Url,
    /// An `http` or `https` URL.
    WebAddress,
    Ip,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    Hostname,
    Port,
    Semver,
    Uuid,
    Date,
    DateTime,
    Duration,
    AbsolutePath,
    Regex,
}

impl Format {
    /// Each with its name in schemas and what it is called in messages.
    pub(super) const ALL: [(Self, &'static str, &'static str); 17] = [
        (Self::Email, "email", "an email address"),
        (Self::Url, "url", "a URL like `https://example.com/`"),
        (Self::WebAddress, "http_url", "a URL of `http` or `https`"),
        (Self::Ip, "ip", "an IP address"),
        (Self::Ipv4, "ipv4", "an IPv4 address"),
        (Self::Ipv6, "ipv6", "an IPv6 address"),
        (Self::Cidr, "cidr", "a network like `10.0.0.0/8`"),
        (Self::Mac, "mac", "a MAC address like `02:00:5e:10:00:01`"),
        (Self::Hostname, "hostname", "a host's name"),
        (Self::Port, "port", "a port from 1 to 65535"),
        (Self::Semver, "semver", "a version like `1.2.3`"),
        (Self::Uuid, "uuid", "a UUID"),
        (Self::Date, "date", "a date like `2024-12-31`"),
        (Self::DateTime, "datetime", "a time like `2024-12-31T23:59:59Z`"),
        (Self::Duration, "duration", "a duration like `90s` or `1h30m`"),
        (Self::AbsolutePath, "path", "a path that begins with `/`"),
        (Self::Regex, "regex", "a regular expression"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(format, ..)| *format)
    }

    /// What it is, for messages.
    pub(super) fn description(self) -> &'static str {
        Self::ALL.iter().find(|(format, ..)| *format == self).map_or("", |(.., description)| description)
    }

    /// Whether `text` has the form.
    pub(in crate::modules) fn check(self, text: &str) -> bool {
        match self {
            Self::Email => is_email(text),
            Self::Url => is_url(text),
            Self::WebAddress => is_url(text) && (text.starts_with("http://") || text.starts_with("https://")),
            Self::Ip => text.parse::<IpAddr>().is_ok(),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Mac => is_mac(text),
            Self::Hostname => is_hostname(text),
            Self::Port => is_digits(text) && text.parse::<u16>().is_ok_and(|port| 0 < port),
            Self::Semver => is_semver(text),
            Self::Uuid => is_uuid(text),
            Self::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Self::DateTime => text.parse::<jiff::Timestamp>().is_ok(),
            Self::Duration => super::super::time::is_span(text),
            Self::AbsolutePath => text.starts_with('/') && !text.contains('\0'),
            Self::Regex => regex::compile(text).is_ok(),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names of at least two parts after the `@`, since mail to a bare host is a mistake in a workflow.
fn is_email(text: &str) -> bool {
    let Some((user, host)) = text.rsplit_once('@') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let user_ok = !user.is_empty() && user.bytes().all(plain) && !user.starts_with('.') && !user.ends_with('.');
    let top = host.rsplit('.').next().unwrap_or_default();
    let top_ok = 2 <= top.len() && !is_digits(top);
    text.len() <= EMAIL_BYTES_MAX
        && user_ok
        && !user.contains("..")
        && is_hostname(host)
        && host.contains('.')
        && top_ok
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(named) {
        return false;
    }
    if text.chars().any(|char| char.is_whitespace() || char.is_control() || "<>\"{}|\\^`".contains(char)) {
        return false;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme == "file" && authority.is_empty() {
        return rest.starts_with('/');
    }
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let (host, port) = match address.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, after)) if inner.parse::<Ipv6Addr>().is_ok() => return is_port_part(after),
        Some(_) => return false,
        None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
    };
    is_hostname(host) && is_port_part(port)
}

fn is_port_part(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| Format::Port.check(port))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    is_digits(bits) && bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_hostname(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    // Numbers with dots that are no address are a mistyped address, not a name.
    let numbers = text.split('.').all(is_digits);
    text.len() <= HOSTNAME_BYTES_MAX && text.split('.').all(label) && (!numbers || text.parse::<Ipv4Addr>().is_ok())
}

/// By semver.org, without a leading `v`.
fn is_semver(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| is_digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let core: Vec<&str> = core.split('.').collect();
    core.len() == 3
        && core.iter().all(|part| number(part))
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!is_digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn is_uuid(text: &str) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let right = |(at, byte): (usize, u8)| if DASHES.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_what_is_right_and_refuses_what_is_not() {
        for (format, right, wrong) in [
            ("email", "a.b+c@example.co.uk me@x.io", "a@b a@@b.c @b.cd a..b@c.de .a@c.de a@c.1 a@-c.de a@b.c"),
            (
                "url",
                "https://x.y/z?q#f ftp://h:21/ http://[::1]:80/ file:///etc http://a@b.c",
                "x.y http:// http://:1 http://a:0 http://[::g] ://x http://a_b",
            ),
            ("http_url", "http://localhost:8080", "ftp://x ssh://x"),
            ("ip", "10.0.0.1 ::1", "10.0.0 10.0.0.256 ::g 1"),
            ("ipv4", "10.0.0.1", "::1 010.0.0.1"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8 ::/0 10.0.0.1/32", "10.0.0.0 10.0.0.0/33 ::/129 x/8 10.0.0.0/+8 10.0.0.0/"),
            ("mac", "02:00:5e:10:00:01 02-00-5E-10-00-01", "02:00:5e:10:00 02:00:5e:10:00:0g 0200.5e10.0001"),
            ("hostname", "web-1 a.b.c example.com. 10.0.0.1 1und1.de", "-a a- a..b a_b 10.0.0.300 . 1.2"),
            ("port", "1 443 65535", "0 65536 +1 -1 1.5"),
            ("semver", "1.2.3 0.0.0 1.0.0-rc.1+b.5 1.0.0--", "1.2 v1.2.3 01.2.3 1.2.3- 1.2.3-01 1.2.3+"),
            (
                "uuid",
                "123e4567-e89b-12d3-a456-426614174000",
                "123e4567e89b12d3a456426614174000 123e4567-e89b-12d3-a456-42661417400g",
            ),
            ("date", "2024-02-29", "2023-02-29 2024-2-9 2024-02-29T00"),
            ("datetime", "2024-12-31T23:59:59Z 2024-12-31T23:59:59.5+01:00", "2024-12-31 2024-12-31T23:59:59"),
            ("duration", "90s 1h30m", "90 soon"),
            ("path", "/etc /", "etc ./x"),
            ("regex", "a+b", "a( *"),
        ] {
            let format = Format::named(format).expect(format);
            for text in right.split(' ') {
                assert!(format.check(text), "{text} is {}", format.description());
            }
            for text in wrong.split(' ').chain([""]) {
                assert!(
                    !format.check(text) || (format == Format::Regex && text.is_empty()),
                    "{text} is not {}",
                    format.description()
                );
            }
        }
        assert!(!Format::Hostname.check(&"a".repeat(64)) && !Format::Hostname.check(&"a.".repeat(128)));
    }
}
