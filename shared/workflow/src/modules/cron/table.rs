//! Where a table is: that of a user, which `crontab` reads and writes, or a file in `/etc/cron.d`.

use std::{fmt, path::PathBuf};

use sloth_core::{error::Chain, fs::Access};

use crate::modules::{account, call::Call, options::Options, tool::Tool};

const DIR: &str = "/etc/cron.d";
/// Most bytes of a file in it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A table of jobs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    user: String,
    file: Option<String>,
}

impl Place {
    /// Reads the options `user` and `file`; without them it is the table of the user of this process.
    pub(super) fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Self> {
        let user = options.text("user")?.filter(|user| !user.is_empty());
        if let Some(user) = user.as_ref().filter(|user| !account::is_name(user)) {
            return Err(call.error(format_args!("`{user}` cannot be the name of a user")));
        }
        let file = options.text("file")?;
        if let Some(file) = &file {
            // Cron passes over files with other names.
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
            if file.is_empty() || !file.chars().all(is_plain) {
                return Err(call.error(format_args!(
                    "`file` takes the name of a file in {DIR}, of letters, digits, `-` and `_`, got `{file}`"
                )));
            }
        }
        let user = user.or_else(current).ok_or_else(|| call.error("`user` is missing: this process has no name"))?;
        Ok(Self { user, file })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Who runs a job, where the table says it.
    pub(super) fn column(&self) -> Option<String> {
        self.is_file().then(|| self.user.clone())
    }

    /// A job in it, for messages.
    pub(super) fn job(&self, name: &str) -> String {
        format!("job `{name}` in {self}")
    }

    /// Its text; nothing when there is none.
    pub(super) async fn text(&self, call: &Call) -> Result<String, String> {
        if let Some(file) = &self.file {
            return match sloth_core::fs::read_capped(&path(file), FILE_BYTES_MAX) {
                Ok(bytes) => String::from_utf8(bytes).map_err(|_| format!("`{}` is not a text", path(file).display())),
                Err(error) if error.is_not_found() => Ok(String::new()),
                Err(error) => Err(Chain(&error).to_string()),
            };
        }
        // In a run that only checks, a task before this one may have made the user.
        if account::find(|account| account.name == self.user).is_none() {
            return if call.checking() { Ok(String::new()) } else { Err(format!("there is no user `{}`", self.user)) };
        }
        let output = self.crontab(call, "-l").run().await?;
        if output.success() {
            // What is written back must be all of it.
            let is_whole = output.stdout.len() < call.context.limits.capture_bytes;
            return if is_whole && !output.stdout.contains(char::REPLACEMENT_CHARACTER) {
                Ok(output.stdout)
            } else {
                Err(format!("{self} is too long or not a text: change it by hand"))
            };
        }
        // That there is none is told only by the text.
        if output.stderr.contains("no crontab for") { Ok(String::new()) } else { Err(output.reason()) }
    }

    /// Puts `text` in its place; an empty one removes it.
    pub(super) async fn replace(&self, call: &Call, text: &str) -> Result<(), String> {
        match &self.file {
            Some(file) if text.is_empty() => match std::fs::remove_file(path(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(format!("cannot remove `{}`: {error}", path(file).display()))
                }
                Ok(()) | Err(_) => Ok(()),
            },
            Some(file) => sloth_core::fs::replace(&path(file), text.as_bytes(), Access::Everyone)
                .map_err(|error| Chain(&error).to_string()),
            None if text.is_empty() => self.crontab(call, "-r").run().await?.ok().map(drop),
            None => self.crontab(call, "-").stdin(text.as_bytes().to_vec()).run().await?.ok().map(drop),
        }
    }

    fn crontab<'a>(&self, call: &'a Call, what: &str) -> Tool<'a> {
        let tool = Tool::new(call, "crontab");
        // Only root may name a user, and then also itself.
        let own = current().is_some_and(|own| own == self.user);
        let tool = if own { tool } else { tool.args(["-u", self.user.as_str()]) };
        tool.args([what])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", path(file).display()),
            None => write!(f, "the crontab of {}", self.user),
        }
    }
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(DIR).join(file)
}

/// The name of the user of this process.
fn current() -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    account::find(|account| account.uid == own).map(|account| account.name)
}
