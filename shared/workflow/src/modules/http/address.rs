//! Addresses of the web: read, shown without their secrets, and followed.

use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What no address may hold as it is; people write it all the same.
const ILLEGAL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
/// What is not taken as it is in the name or the value of a query.
const QUERY: &AsciiSet = &ILLEGAL
    .add(b'#')
    .add(b'&')
    .add(b'+')
    .add(b'=')
    .add(b'%')
    .add(b'?')
    .add(b'/')
    .add(b':')
    .add(b'@')
    .add(b'[')
    .add(b']')
    .add(b'\'')
    .add(b'$')
    .add(b',')
    .add(b';')
    .add(b'!')
    .add(b'*')
    .add(b'(')
    .add(b')');
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Whether what is said is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    /// A name, or a number without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query, from the first slash.
    pub(crate) target: String,
    /// The name and the password before the host.
    pub(crate) login: Option<(String, String)>,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// A sentence without the address, which may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "this is no address: write one like `https://example.org/path`".to_owned();
        let text = text.trim().split('#').next().unwrap_or_default();
        let host = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
        if !host.is_ascii() {
            return Err("the host's name is not ASCII: write it in its `xn--` form".to_owned());
        }
        let legal = utf8_percent_encode(text, ILLEGAL).to_string();
        let uri: Uri = legal.parse().map_err(|_| wrong())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return Err(format!("`{other}` is not spoken here: write `http://` or `https://`")),
            None => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong());
        }
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| {
            let (name, password) = login.split_once(':').unwrap_or((login, ""));
            let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            (plain(name), plain(password))
        });
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (_, after) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
        let port = match after.strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':')) {
            Some("") | None => scheme.port(),
            Some(port) => port.parse().map_err(|_| format!("there is no port `{port}`"))?,
        };
        Ok(Self { scheme, host, port, target, login })
    }

    /// Adds names and values to the query.
    pub(crate) fn with_query<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let query = form(pairs);
        if !query.is_empty() {
            self.target.push(if self.target.contains('?') { '&' } else { '?' });
            self.target.push_str(&query);
        }
        self
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    ///
    /// When it is no address, or leads from what is encrypted to what is not.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, String> {
        let location = location.trim();
        let path = self.target.split('?').next().unwrap_or("/");
        let begins_with_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.chars().all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
        });
        let text = if begins_with_scheme {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{}://{rest}", self.scheme.name())
        } else if location.starts_with('/') {
            format!("{}{location}", self.origin())
        } else if location.starts_with('?') {
            format!("{}{path}{location}", self.origin())
        } else {
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            format!("{}{dir}/{location}", self.origin())
        };
        let mut next = Self::parse(&text).map_err(|reason| format!("a redirect leads nowhere: {reason}"))?;
        next.target = without_dots(&next.target);
        if (self.scheme, next.scheme) == (Scheme::Https, Scheme::Http) {
            return Err(format!("a redirect leads from `https` to `{}`, which is not encrypted", next.shown()));
        }
        Ok(next)
    }

    /// Scheme, host and port, as they stand before a path.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme.name(), self.authority())
    }

    /// The host, and the port where it is not the usual one.
    pub(crate) fn authority(&self) -> String {
        let host = self.host_in_brackets();
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// The host and the port.
    pub(crate) fn host_and_port(&self) -> String {
        format!("{}:{}", self.host_in_brackets(), self.port)
    }

    /// For messages: without what may be secret.
    pub(crate) fn shown(&self) -> String {
        format!("{}{}", self.origin(), self.target.split('?').next().unwrap_or_default())
    }

    /// The last part of the path.
    pub(crate) fn file_name(&self) -> Option<String> {
        let path = self.target.split('?').next().unwrap_or_default();
        let name = percent_decode_str(path.rsplit('/').next().unwrap_or_default()).decode_utf8_lossy().into_owned();
        (!name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..").then_some(name)
    }

    fn host_in_brackets(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => HTTP_PORT,
            Self::Https => HTTPS_PORT,
        }
    }
}

/// Names and values as a query or a form has them.
pub(crate) fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let coded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let pairs = pairs.into_iter().map(|(name, value)| format!("{}={}", coded(name), coded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A path and query whose path has no `.` and `..` any more.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    // What ends in dots is a directory.
    if path.ends_with("/.") || path.ends_with("/..") {
        parts.push("");
    }
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, origin, target) in [
            ("http://host", "http://host", "/"),
            ("https://Host:443/a?b=c#d", "https://host", "/a?b=c"),
            ("http://host:8080?x", "http://host:8080", "/?x"),
            ("http://[::1]:80/a b/é", "http://[::1]", "/a%20b/%C3%A9"),
            (" http://me:pw@host/ ", "http://host", "/"),
            ("http://host/a\r\nX: y", "http://host", "/a%0D%0AX:%20y"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.origin().as_str(), address.target.as_str()), (origin, target), "{text}");
        }
        let login = Address::parse("http://me:p%40w@host").expect("an address").login;
        assert_eq!(login, Some(("me".to_owned(), "p@w".to_owned())));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, expected) in [
            ("", "this is no address"),
            ("host/path", "this is no address"),
            ("/path", "this is no address"),
            ("ftp://host", "`ftp` is not spoken here"),
            ("http://", "this is no address"),
            ("http://é.org", "`xn--` form"),
            ("http://host:99999/", "there is no port `99999`"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn redirects_are_followed_from_where_they_are_found() {
        let base = Address::parse("https://host/a/b?c").expect("an address");
        for (location, expected) in [
            ("/x", "https://host/x"),
            ("x", "https://host/a/x"),
            ("../x/./y", "https://host/x/y"),
            ("..", "https://host/"),
            ("//other/x", "https://other/x"),
            ("https://other:8443", "https://other:8443/"),
            ("?d", "https://host/a/b?d"),
        ] {
            let next = base.follow(location).expect(location);
            assert_eq!(format!("{}{}", next.origin(), next.target), expected, "{location}");
        }
        assert!(base.follow("http://host/x").expect_err("refused").contains("not encrypted"));
        assert!(base.follow("ftp://host/x").expect_err("refused").contains("leads nowhere"));
    }

    #[test]
    fn queries_are_added() {
        let address = Address::parse("http://host/a?b=c").expect("an address");
        let address = address.with_query([("q", "x&y=z é"), ("n", "1")]);
        assert_eq!(address.target, "/a?b=c&q=x%26y%3Dz%20%C3%A9&n=1");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_out_of_its_part(text in "\\PC*", path in "[a-z./?#%@:]{0,20}") {
            for text in [text.clone(), format!("http://h/{text}"), format!("http://{path}/"), path.clone()] {
                let Ok(address) = Address::parse(&text) else { continue };
                proptest::prop_assert!(address.target.starts_with('/') && address.target.parse::<Uri>().is_ok());
                proptest::prop_assert!(!address.host.contains(['/', '@', ' ', '\r', '\n']));
                if let Ok(next) = address.follow(&path) {
                    proptest::prop_assert!(next.target.starts_with('/') && !next.target.contains("/../"));
                }
            }
        }
    }
}
