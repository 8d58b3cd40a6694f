//! What a user is wanted to be, and how that differs from what it is.

use mlua::Value;

use super::{day, password::Secret};
use crate::{
    capability::Capability,
    modules::{
        account::{self, Account},
        call::Call,
        options::Options,
    },
};

/// Options that say what a user is to be.
pub(super) const OPTIONS: [&str; 17] = [
    "username",
    "name",
    "uid",
    "gid",
    "groups",
    "append",
    "comment",
    "home",
    "move_home",
    "create_home",
    "no_create_home",
    "shell",
    "system",
    "expiry",
    "password",
    "password_hash",
    "group",
];

/// What a user is wanted to be; what is absent stays as it is.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) uid: Option<u32>,
    /// The first group: its number or its name.
    pub(super) gid: Option<String>,
    pub(super) groups: Option<Vec<String>>,
    /// Whether the user leaves the groups that are not wanted.
    pub(super) exactly: bool,
    pub(super) comment: Option<String>,
    pub(super) home: Option<String>,
    pub(super) move_home: bool,
    /// Whether a new user gets a directory.
    pub(super) create_home: Option<bool>,
    pub(super) shell: Option<String>,
    pub(super) system: bool,
    pub(super) expiry: Option<Expiry>,
    pub(super) password: Option<Secret>,
}

/// When an account ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    /// On this day, counted from 1970.
    Day(i64),
}

/// One thing that is not as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// For people, such as ``shell `/bin/sh` to `/bin/bash` ``.
    pub(super) told: String,
    /// For `usermod`.
    pub(super) arguments: Vec<String>,
}

impl Wanted {
    pub(super) fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Self> {
        let field = |name: &str| -> mlua::Result<Option<String>> {
            let text = options.text(name)?;
            match &text {
                Some(value) if value.contains([':', '\n', '\r', '\0']) => {
                    Err(call.error(format_args!("`{name}` must be one line without `:`")))
                }
                Some(_) | None => Ok(text),
            }
        };
        let path = |name: &str| -> mlua::Result<Option<String>> {
            let text = field(name)?;
            match &text {
                Some(value) if !value.starts_with('/') => {
                    Err(call.error(format_args!("`{name}` takes a path that begins with `/`, got `{value}`")))
                }
                Some(_) | None => Ok(text),
            }
        };
        let create_home = match (options.flag("create_home")?, options.flag("no_create_home")?) {
            (Some(create), None) => Some(create),
            (None, Some(none)) => Some(!none),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(call.error("give `create_home` or `no_create_home`, not both")),
        };
        Ok(Self {
            uid: options.integer("uid", 0, u64::from(u32::MAX) - 1)?.and_then(|uid| u32::try_from(uid).ok()),
            gid: first_group(call, options)?,
            groups: groups(call, options)?,
            exactly: options.flag("append")?.is_some_and(|append| !append),
            comment: field("comment")?,
            home: path("home")?,
            move_home: options.flag("move_home")?.unwrap_or(false),
            create_home,
            shell: path("shell")?,
            system: options.flag("system")?.unwrap_or(false),
            expiry: expiry(call, options)?,
            password: Secret::read(call, options)?,
        })
    }

    /// The arguments of `useradd`, without the name.
    pub(super) fn to_useradd(&self, name: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |option: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.extend([option.to_owned(), value]);
            }
        };
        add("-u", self.uid.map(|uid| uid.to_string()));
        // A group of the user's own name that is there already becomes its first one.
        add("-g", self.gid.clone().or_else(|| account::group(name).map(|group| group.name)));
        add("-G", self.groups.as_ref().filter(|groups| !groups.is_empty()).map(|groups| groups.join(",")));
        add("-c", self.comment.clone());
        add("-d", self.home.clone());
        add("-s", self.shell.clone());
        add("-e", self.expiry.map(Expiry::to_argument).filter(|day| !day.is_empty()));
        if self.system {
            arguments.push("-r".to_owned());
        }
        let create_home = self.create_home.unwrap_or(!self.system);
        arguments.push(if create_home { "-m" } else { "-M" }.to_owned());
        arguments
    }

    /// What of an account is not as it is wanted; the password aside.
    pub(super) fn differences(&self, account: &Account) -> Vec<Difference> {
        let mut list = Vec::new();
        let mut compare = |what: &str, now: String, wanted: Option<String>, options: &[&str]| {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != now) {
                let arguments = options.iter().map(|option| (*option).to_owned()).chain([wanted.clone()]);
                list.push(Difference { told: format!("{what} `{now}` to `{wanted}`"), arguments: arguments.collect() });
            }
        };
        compare("uid", account.uid.to_string(), self.uid.map(|uid| uid.to_string()), &["-u"]);
        compare("first group", account.gid.to_string(), self.gid.as_deref().map(group_number), &["-g"]);
        compare("comment", account.comment.clone(), self.comment.clone(), &["-c"]);
        let home: &[&str] = if self.move_home { &["-m", "-d"] } else { &["-d"] };
        compare("home", account.home.clone(), self.home.clone(), home);
        compare("shell", account.shell.clone(), self.shell.clone(), &["-s"]);
        if let Some(expiry) = self.expiry {
            let now = account::shadow(&account.name).and_then(|shadow| shadow.expires);
            let now = now.map_or(Expiry::Never, Expiry::Day);
            compare("expiry", now.show(), Some(expiry.show()).filter(|_| now != expiry), &["-e"]);
            if let Some(last) = list.last_mut().filter(|_| now != expiry) {
                last.arguments = vec!["-e".to_owned(), expiry.to_argument()];
            }
        }
        list.extend(self.groups.as_ref().and_then(|groups| self.other_groups(account, groups)));
        list
    }

    fn other_groups(&self, account: &Account, wanted: &[String]) -> Option<Difference> {
        let now = account::groups_of(account);
        let new: Vec<_> = wanted.iter().filter(|group| !now.contains(group)).cloned().collect();
        // The first group is not left by this.
        let old: Vec<_> = now.iter().skip(1).filter(|group| self.exactly && !wanted.contains(group)).cloned().collect();
        if new.is_empty() && old.is_empty() {
            return None;
        }
        let arguments = if self.exactly {
            vec!["-G".to_owned(), wanted.join(",")]
        } else {
            vec!["-a".to_owned(), "-G".to_owned(), new.join(",")]
        };
        let told =
            |sign: &str, groups: &[String]| groups.iter().map(|group| format!(" {sign}{group}")).collect::<String>();
        Some(Difference { told: format!("groups{}{}", told("+", &new), told("-", &old)), arguments })
    }
}

impl Expiry {
    pub(super) fn to_argument(self) -> String {
        match self {
            Self::Never => String::new(),
            Self::Day(day) => day::show(day),
        }
    }

    fn show(self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::Day(day) => day::show(day),
        }
    }
}

/// The number of a group that is given by name or number; a name that is not there is left to the host's tool.
fn group_number(group: &str) -> String {
    if group.parse::<u32>().is_ok() {
        return group.to_owned();
    }
    account::group(group).map_or_else(|| group.to_owned(), |group| group.gid.to_string())
}

fn first_group(call: &Call, options: &Options<'_>) -> mlua::Result<Option<String>> {
    let given = match options.text("gid")? {
        Some(gid) => Some(gid),
        None => options.text("group")?,
    };
    match given {
        Some(gid) if gid.parse::<u32>().is_ok() => {
            // A number is granted by its name, or with all names.
            let known = gid
                .parse()
                .ok()
                .and_then(|number: u32| account::groups().into_iter().find(|group| group.gid == number));
            call.permit(Capability::User, known.as_ref().map_or(gid.as_str(), |group| group.name.as_str()))?;
            Ok(Some(gid))
        }
        Some(name) => super::checked(call, name).map(Some),
        None => Ok(None),
    }
}

/// A list, or one text with commas.
fn groups(call: &Call, options: &Options<'_>) -> mlua::Result<Option<Vec<String>>> {
    let Some(list) = options.list("groups")? else { return Ok(None) };
    let names = list.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| super::checked(call, name.to_owned())).collect::<mlua::Result<_>>().map(Some)
}

fn expiry(call: &Call, options: &Options<'_>) -> mlua::Result<Option<Expiry>> {
    if options.value("expiry")?.is_nil() {
        return Ok(None);
    }
    let text = options.text("expiry")?.unwrap_or_default();
    match text.trim() {
        "" | "never" | "-1" => Ok(Some(Expiry::Never)),
        day => match day::parse(day) {
            Some(day) => Ok(Some(Expiry::Day(day))),
            None => Err(call.expected(
                "expiry",
                "a day like `2030-12-31`, or `never`",
                &Value::String(call.lua.create_string(day)?),
            )),
        },
    }
}
