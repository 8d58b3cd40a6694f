//! `pkg`: packages of the host, by whichever package manager it has.

mod ask;
mod change;
mod manager;
mod names;
mod state;

use std::{rc::Rc, time::Duration};

use mlua::{Lua, Table};

pub(super) use self::{manager::Manager, state::outdated};
use super::{
    Context,
    call::{Builder, Call, Gate},
    tool::{Output, Tool},
};
use crate::capability::Capability;

/// How long a package manager may take: an upgrade of a whole host is a long download and a longer installation.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How long it may take to answer a question.
const ASK_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let one = Gate::Within(Capability::Pkg);
    let all = Gate::Needs(Capability::Pkg);
    let table = Builder::new(lua, context, "pkg")?
        .asynchronous("install", one, change::install)?
        .asynchronous("remove", one, change::remove)?
        .alias("uninstall", "remove")?
        .asynchronous("update", one, change::update)?
        .asynchronous("upgrade", all, change::upgrade)?
        .asynchronous("clean", all, change::clean)?
        .asynchronous("autoremove", all, change::autoremove)?
        .asynchronous("install_local", all, change::install_local)?
        .asynchronous("hold", one, |call, arguments| change::hold(call, arguments, change::Hold::On))?
        .asynchronous("unhold", one, |call, arguments| change::hold(call, arguments, change::Hold::Off))?
        .asynchronous("is_installed", one, ask::is_installed)?
        .asynchronous("version", one, ask::version)?
        .asynchronous("list", all, ask::list)?
        .asynchronous("search", one, ask::search)?
        .asynchronous("info", one, |call, arguments| ask::tell(call, arguments, ask::Question::Info))?
        .asynchronous("deps", one, |call, arguments| ask::tell(call, arguments, ask::Question::Dependencies))?
        .function("get_manager", one, ask::get_manager)?
        .function("which", one, ask::which)?
        .finish();
    Ok(table)
}

/// A program with its arguments, no shell between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    program: &'static str,
    arguments: Vec<String>,
}

impl Line {
    fn new<S: AsRef<str>>(program: &'static str, arguments: impl IntoIterator<Item = S>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        Self { program, arguments: arguments.collect() }
    }

    fn with(mut self, more: &[String]) -> Self {
        self.arguments.extend_from_slice(more);
        self
    }

    async fn run(&self, call: &Call, timeout: Duration) -> Result<Output, String> {
        Tool::new(call, self.program)
            .args(self.arguments.iter().cloned())
            // Nobody is there to answer, and another run of the manager is waited for.
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("APT_LISTCHANGES_FRONTEND", "none")
            .env("ZYPP_LOCK_TIMEOUT", manager::LOCK_SECS.to_string())
            .timeout(timeout)
            .run()
            .await
    }
}

/// Why it failed: apt says it in the first of its errors.
fn reason(output: &Output) -> String {
    let first = output.stderr.lines().find_map(|line| line.trim().strip_prefix("E: "));
    first.map_or_else(|| output.reason(), ToOwned::to_owned)
}
