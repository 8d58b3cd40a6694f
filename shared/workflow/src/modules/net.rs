//! `net` and `network`: other hosts, their ports and their names.

mod certificate;
mod look;
mod reach;

use std::rc::Rc;

use http::Method;
use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    http::{
        download::{Wanted, download},
        exchange::{Outcome, perform},
        options::Plan,
    },
};
use crate::capability::Capability;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Within(Capability::Net);
    let builder = Builder::new(lua, context, "net")?
        .asynchronous("http_get", gate, |call, (url, headers): (Value, Value)| async move {
            let mut plan = Plan::new(&call, Method::GET, &url)?;
            plan.take(&call, &headers)?;
            four_values(&call, &plan).await
        })?
        .asynchronous("http_post", gate, |call, (url, body, headers): (Value, Value, Value)| async move {
            let mut plan = Plan::new(&call, Method::POST, &url)?;
            plan.take_body(&call, &body)?;
            plan.take(&call, &headers)?;
            four_values(&call, &plan).await
        })?
        .asynchronous("download", gate, |call, (url, path, options): (Value, Value, Value)| async move {
            if path.is_nil() {
                return Err(call.error("`path` is missing"));
            }
            let wanted = Wanted::read(&call, &url, &path, &options)?;
            Ok(download(&call, &wanted).await?.err())
        })?;
    Ok(shared(builder)?.finish())
}

pub(super) fn network_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    Ok(shared(Builder::new(lua, context, "network")?)?.finish())
}

/// What both modules have.
fn shared(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let (net, facts) = (Gate::Within(Capability::Net), Gate::Needs(Capability::Facts));
    builder
        .asynchronous("port_check", net, reach::port_check)?
        .asynchronous("wait_for_port", net, reach::wait_for_port)?
        .asynchronous("port_scan", net, reach::port_scan)?
        .asynchronous("telnet", net, reach::telnet)?
        .asynchronous("latency_test", net, reach::latency_test)?
        .asynchronous("ssl_check", net, certificate::check)?
        .asynchronous("ping", net, look::ping)?
        .asynchronous("dns_lookup", net, look::dns_lookup)?
        .asynchronous("reverse_dns", net, look::reverse_dns)?
        .asynchronous("interfaces", facts, look::interfaces)?
        .asynchronous("local_ip", facts, look::local_ip)
}

/// `body, status, headers`, or three times nothing and why.
async fn four_values(call: &Call, plan: &Plan) -> mlua::Result<MultiValue> {
    match perform(call, plan).await? {
        Outcome::Answered(response) => {
            let (status, headers) = (response.status.as_u16(), response.header_lists(call)?);
            (call.lua.create_string(response.body)?, status, headers).into_lua_multi(&call.lua)
        }
        Outcome::Failed(reason) => (Value::Nil, Value::Nil, Value::Nil, reason).into_lua_multi(&call.lua),
        Outcome::PassedOver => {
            let status = http::StatusCode::NO_CONTENT.as_u16();
            ("", status, call.lua.create_table()?).into_lua_multi(&call.lua)
        }
    }
}

/// A host, without what would be an option to a program.
fn host_of(call: &Call, host: &Value) -> mlua::Result<String> {
    let host = call.text("host", host)?;
    let host = host.trim_matches(['[', ']']);
    let wrong = |char: char| char.is_whitespace() || char.is_control() || "/@?#".contains(char);
    if host.is_empty() || host.starts_with('-') || host.contains(wrong) {
        return Err(call.error(format_args!("`host` takes a name or an address, got `{}`", host.escape_debug())));
    }
    Ok(host.to_owned())
}

fn port_of(call: &Call, port: &Value) -> mlua::Result<u16> {
    let port = call.integer("port", port, 1, u64::from(u16::MAX))?;
    Ok(u16::try_from(port).unwrap_or(0))
}
