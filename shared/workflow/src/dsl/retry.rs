//! How often and when a task is tried again.

use std::time::Duration;

use mlua::{Table, Value};

use super::{
    argument::{Arguments, text},
    notes,
    unknown::Unknown,
};
use crate::{limits::RETRIES_MAX, plan::Backoff};

/// What a task or a workflow says of retries; what it does not say is absent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Retry {
    pub(super) count: Option<u32>,
    pub(super) backoff: Option<Backoff>,
    pub(super) wait: Option<Duration>,
    pub(super) wait_max: Option<Duration>,
}

/// The keys of a table that says how often and when.
const OPTIONS: [&str; 12] = [
    "retries",
    "max_retries",
    "count",
    "max_attempts",
    "attempts",
    "strategy",
    "backoff",
    "delay",
    "wait",
    "initial_delay",
    "max_delay",
    "max_wait",
];
const STRATEGIES: &str = "`fixed`, `linear` or `exponential`";

impl Retry {
    /// `retries(n, strategy, wait)`.
    pub(super) fn read(arguments: &Arguments<'_>) -> mlua::Result<Self> {
        if let Value::Table(policy) = arguments.value(0) {
            return Self::default().with(arguments, policy);
        }
        let mut retry = Self { count: Some(arguments.count(0, RETRIES_MAX)?), ..Self::default() };
        if !arguments.value(1).is_nil() {
            let wanted = format!("{STRATEGIES} after the number");
            retry.backoff =
                Some(strategy(arguments.value(1)).ok_or_else(|| arguments.takes(&wanted, arguments.value(1)))?);
        }
        if !arguments.value(2).is_nil() {
            retry.wait = Some(arguments.nth(2).duration()?);
        }
        Ok(retry)
    }

    /// `retry_policy`: a strategy, a number of retries, or a table.
    pub(super) fn policy(arguments: &Arguments<'_>) -> mlua::Result<Self> {
        match arguments.value(0) {
            Value::Table(policy) => Self::default().with(arguments, policy),
            value => match strategy(value) {
                Some(backoff) => Ok(Self { backoff: Some(backoff), ..Self::default() }),
                None if value.is_string() && arguments.count(0, RETRIES_MAX).is_err() => {
                    Err(arguments.takes(&format!("{STRATEGIES}, a number of retries, or a table"), value))
                }
                None => Ok(Self { count: Some(arguments.count(0, RETRIES_MAX)?), ..Self::default() }),
            },
        }
    }

    /// What this says, and what `other` says where this does not.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            count: self.count.or(other.count),
            backoff: self.backoff.or(other.backoff),
            wait: self.wait.or(other.wait),
            wait_max: self.wait_max.or(other.wait_max),
        }
    }

    fn with(mut self, arguments: &Arguments<'_>, policy: &Table) -> mlua::Result<Self> {
        for pair in policy.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let key = text(&key).unwrap_or_default();
            let option = Arguments::one(arguments.lua, arguments.owner().to_owned(), &key, value);
            match key.as_str() {
                "retries" | "max_retries" | "count" => self.count = Some(option.count(0, RETRIES_MAX)?),
                // The first attempt is one of them.
                "max_attempts" | "attempts" => self.count = Some(option.count(1, RETRIES_MAX + 1)? - 1),
                "strategy" | "backoff" => {
                    let read = strategy(option.value(0));
                    self.backoff = Some(read.ok_or_else(|| option.takes(STRATEGIES, option.value(0)))?);
                }
                "delay" | "wait" | "initial_delay" => self.wait = Some(option.duration()?),
                "max_delay" | "max_wait" => self.wait_max = Some(option.duration()?),
                unknown => {
                    let owner = format!("{}: `{}`", arguments.owner(), arguments.method());
                    notes::ignored(arguments.lua, owner, &Unknown::of_settings(unknown, &OPTIONS));
                }
            }
        }
        Ok(self)
    }
}

fn strategy(value: &Value) -> Option<Backoff> {
    let name = text(value)?;
    Backoff::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, backoff)| backoff)
}
