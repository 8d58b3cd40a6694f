//! `delegate_to(host, function)`: part of a task that is meant for a host.

use std::rc::Rc;

use mlua::{Function, Lua, MultiValue};

use super::argument::Arguments;
use crate::{
    Elsewhere,
    engine::place::{here, is_here},
    modules::Context,
};

/// Adds `delegate_to` to the globals.
pub(super) fn install(lua: &Lua, context: &Rc<Context>) -> mlua::Result<()> {
    let context = Rc::clone(context);
    let delegate = lua.create_async_function(move |lua, values: MultiValue| {
        let context = Rc::clone(&context);
        async move {
            context.acting("delegate_to")?;
            let arguments = Arguments::new(&lua, "delegate_to".to_owned(), "host", values);
            let function = part(&context, &arguments)?;
            let rest: MultiValue = arguments.values().skip(2).cloned().collect();
            function.call_async::<MultiValue>(rest).await
        }
    })?;
    lua.globals().raw_set("delegate_to", delegate)
}

/// The function, where it may run here.
fn part(context: &Context, arguments: &Arguments<'_>) -> mlua::Result<Function> {
    let host = arguments.nth(0).text()?;
    let Some(function) = arguments.value(1).as_function() else {
        return Err(arguments.error("write `delegate_to(host, function() … end)`"));
    };
    match refused(context, &host, false) {
        None => Ok(function.clone()),
        Some(refusal) => Err(arguments.error(refusal)),
    }
}

/// Why what is meant for `host` cannot be done here. Where it can be though it is another host, a warning says so.
pub(super) fn refused(context: &Context, host: &str, may_fall_back: bool) -> Option<String> {
    if is_here(host, &context.agent) {
        return None;
    }
    if may_fall_back || context.settings.elsewhere == Elsewhere::Here {
        context.warn(&format!("meant for `{host}`, and run here: a part of the task"));
        return None;
    }
    let here = here(&context.agent);
    Some(format!("`{host}` is not this host, and this run can use only {here}"))
}
