//! Passwords: they are handed to the host's tools by their input, never by arguments, and never shown.

use std::fmt;

use crate::modules::{
    account::{self, Password},
    call::Call,
    options::Options,
    tool::Tool,
};

/// A password that is wanted.
pub(super) struct Secret {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// As `/etc/shadow` has it.
    Hash,
}

/// Whether an account has the password that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fits {
    Yes,
    No,
    /// The host has nothing that tells.
    Unknown,
}

impl Secret {
    /// Reads `password` or `password_hash`.
    pub(super) fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Option<Self>> {
        let (text, kind) = match (options.text("password")?, options.text("password_hash")?) {
            (None, None) => return Ok(None),
            (Some(text), None) => (text, Kind::Plain),
            (None, Some(text)) => (text, Kind::Hash),
            (Some(_), Some(_)) => return Err(call.error("give `password` or `password_hash`, not both")),
        };
        if text.is_empty() || text.contains(['\n', '\r', '\0']) {
            return Err(call.error("a password must be one line and not empty"));
        }
        if kind == Kind::Hash && text.contains(':') {
            return Err(call.error("`password_hash` must not hold a `:`"));
        }
        Ok(Some(Self { text, kind }))
    }

    /// Whether `name` has this password. A plain one is asked of the host's own checker, where there is one.
    pub(super) async fn fits(&self, call: &Call, name: &str) -> Fits {
        const CHECKER: &str = "unix_chkpwd";
        if self.kind == Kind::Hash {
            return if account::has_hash(name, &self.text) { Fits::Yes } else { Fits::No };
        }
        match account::shadow(name).map(|shadow| shadow.password) {
            None => return Fits::Unknown,
            Some(Password::Empty | Password::Locked | Password::Never { .. }) => return Fits::No,
            Some(Password::Set) => {}
        }
        if !Tool::exists(call, CHECKER) {
            return Fits::Unknown;
        }
        let input = format!("{}\0", self.text).into_bytes();
        match Tool::new(call, CHECKER).args([name, "nonull"]).stdin(input).run().await {
            Ok(output) if output.success() => Fits::Yes,
            Ok(_) => Fits::No,
            Err(_) => Fits::Unknown,
        }
    }

    pub(super) async fn set(&self, call: &Call, name: &str) -> Result<(), String> {
        let tool = Tool::new(call, "chpasswd").stdin(format!("{name}:{}\n", self.text).into_bytes());
        let tool = if self.kind == Kind::Hash { tool.args(["-e"]) } else { tool };
        tool.run().await?.ok().map(drop)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
