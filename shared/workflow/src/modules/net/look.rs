//! Names, addresses and interfaces.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use mlua::{IntoLuaMulti, MultiValue, Table, Value};
use tokio::{net::UdpSocket, time::timeout};

use super::host_of;
use crate::{
    modules::{call::Call, facts, options::Options, tool::Tool},
    vm::convert::to_lua,
};

const PING_COUNT: u64 = 3;
const PING_COUNT_MAX: u64 = 100;
/// How long each answer may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const PING_TIMEOUT_SECS_MAX: u64 = 60;
const DNS_TIMEOUT: Duration = Duration::from_secs(15);
/// What is asked of a host itself, not of one of its ports.
const NO_PORT: u16 = 0;
/// An address far away, to learn which way out the host takes. Nothing is sent there.
const FAR_AWAY: &str = "192.0.2.1:9";

/// Asks a host by the program `ping` whether it is there: what it printed, or `false` and why.
pub(super) async fn ping(call: Call, (host, options): (Value, Value)) -> mlua::Result<MultiValue> {
    let host = host_of(&call, &host)?;
    let options = Options::new(&call, &options, &["count", "timeout"])?;
    let count = options.value("count")?;
    let count = if count.is_nil() { PING_COUNT } else { call.integer("count", &count, 1, PING_COUNT_MAX)? };
    let limit = options.duration("timeout")?.unwrap_or(PING_TIMEOUT);
    let limit_secs = limit.as_secs().clamp(1, PING_TIMEOUT_SECS_MAX);
    call.reach(&host, NO_PORT)?;
    let arguments = ["-c", &count.to_string(), "-W", &limit_secs.to_string(), &host].map(str::to_owned);
    let patience = Duration::from_secs(count * (limit_secs + 1));
    let output = match Tool::new(&call, "ping").args(arguments).timeout(patience).run().await {
        Ok(output) if output.success() => output,
        Ok(output) => return (false, format!("{}: {}", call.name, output.reason())).into_lua_multi(&call.lua),
        Err(reason) => return (false, call.refusal(reason)).into_lua_multi(&call.lua),
    };
    let table = call.lua.create_table()?;
    table.raw_set("success", true)?;
    for (name, part) in [("statistics", "packets transmitted"), ("timing", "min/avg/max")] {
        table.raw_set(name, output.stdout.lines().find(|line| line.contains(part)))?;
    }
    table.raw_set("output", output.stdout)?;
    table.into_lua_multi(&call.lua)
}

/// The addresses of a name, as the host's resolver has them; or `nil` and why.
pub(super) async fn dns_lookup(call: Call, (host, kind): (Value, Value)) -> mlua::Result<Result<Vec<String>, String>> {
    let host = host_of(&call, &host)?;
    let kind = call.optional_text("type", &kind)?.map(|kind| kind.to_ascii_uppercase());
    let wanted: fn(&IpAddr) -> bool = match kind.as_deref() {
        None => |_| true,
        Some("A") => IpAddr::is_ipv4,
        Some("AAAA") => IpAddr::is_ipv6,
        Some(other) => return Err(call.error(format_args!("`type` takes `A` or `AAAA`, got `{other}`"))),
    };
    call.reach(&host, NO_PORT)?;
    let named = |reason: &str| format!("{}: `{host}`: {reason}", call.name);
    let found = match timeout(DNS_TIMEOUT, tokio::net::lookup_host((host.as_str(), NO_PORT))).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Ok(Err(named(&error.to_string()))),
        Err(_) => return Ok(Err(named("nobody answers"))),
    };
    let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).filter(wanted).collect();
    if addresses.is_empty() {
        return Ok(Err(named("it has no such address")));
    }
    Ok(Ok(addresses.iter().map(ToString::to_string).collect()))
}

/// The names of an address, as the host's resolver has them; or `nil` and why.
pub(super) async fn reverse_dns(call: Call, address: Value) -> mlua::Result<Result<Vec<String>, String>> {
    let text = call.text("ip", &address)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(call.error(format_args!("`ip` takes an address like `192.0.2.1`, got `{text}`")));
    };
    call.reach(&text, NO_PORT)?;
    let output = Tool::new(&call, "getent").args(["hosts", &address.to_string()]).timeout(DNS_TIMEOUT).run().await;
    Ok(match output {
        Ok(output) if output.success() => Ok(output.stdout.split_whitespace().skip(1).map(str::to_owned).collect()),
        Ok(_) => Err(format!("{}: `{address}` has no name", call.name)),
        Err(reason) => Err(call.refusal(reason)),
    })
}

/// The interfaces of this host: `name`, `mtu`, `hardware_addr`, `is_up`, `addresses`.
pub(super) async fn interfaces(call: Call, (): ()) -> mlua::Result<Result<Value, String>> {
    let found = tokio::task::spawn_blocking(facts::interfaces).await.map_err(|error| call.error(error))?;
    let found = match found {
        Ok(found) => to_lua(&call.lua, &found)?,
        Err(reason) => return Ok(Err(call.refusal(reason))),
    };
    for interface in found.as_table().into_iter().flat_map(|list| list.sequence_values::<Table>()) {
        let interface = interface?;
        interface.raw_set("hardware_addr", interface.raw_get::<Value>("mac")?)?;
    }
    Ok(Ok(found))
}

/// The address that this host would speak from to one far away; or `nil` and why.
pub(super) async fn local_ip(call: Call, (): ()) -> mlua::Result<Result<String, String>> {
    let asked = async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(FAR_AWAY).await?;
        socket.local_addr()
    };
    Ok(asked.await.map(|address| address.ip().to_string()).map_err(|error| call.refusal(error)))
}
