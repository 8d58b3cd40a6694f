//! How a unit is to be, in one call.

use mlua::MultiValue;

use super::{
    unit_of,
    verbs::{Verb, perform},
};
use crate::modules::{
    call::Call,
    options::Options,
    report::{Answer, Report},
};

/// The words for how a unit is to be.
const STATES: [(&str, Verb); 7] = [
    ("started", Verb::Start),
    ("running", Verb::Start),
    ("active", Verb::Start),
    ("stopped", Verb::Stop),
    ("inactive", Verb::Stop),
    ("restarted", Verb::Restart),
    ("reloaded", Verb::Reload),
];

/// Brings a unit into a state: masked or not, enabled or not, running or not.
pub(super) async fn ensure(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["name", "state", "enabled"], &["masked"])?;
    let unit = unit_of(&call, &options)?;
    let state = match options.text("state")? {
        None => None,
        Some(text) => match STATES.iter().find(|(name, _)| *name == text) {
            Some((_, verb)) => Some(*verb),
            None => {
                let known = STATES.map(|(name, _)| format!("`{name}`")).join(", ");
                return Err(call.error(format_args!("there is no state `{text}`: it takes {known}")));
            }
        },
    };
    let choose = |flag: Option<bool>, yes, no| flag.map(|flag| if flag { yes } else { no });
    let enabled = choose(options.flag("enabled")?, Verb::Enable, Verb::Disable);
    let masked = choose(options.flag("masked")?, Verb::Mask, Verb::Unmask);
    // A masked unit cannot be enabled or started; one that is to be masked is stopped before.
    let verbs: Vec<_> = if masked == Some(Verb::Mask) {
        [state, enabled, masked].into_iter().flatten().collect()
    } else {
        [masked, enabled, state].into_iter().flatten().collect()
    };
    if verbs.is_empty() {
        return Err(call.error("say what is wanted: `state`, `enabled` or `masked`"));
    }
    let mut reports = Vec::new();
    for verb in verbs {
        match perform(&call, &unit, verb).await {
            Ok(report) => reports.push(report),
            Err(reason) => return Ok(call.answer(Err(reason))),
        }
    }
    Ok(call.answer(Ok(Report::together(reports))))
}
