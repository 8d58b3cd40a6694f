//! Whether ports of hosts answer.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use mlua::{IntoLuaMulti, MultiValue, Table, Value};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{host_of, port_of};
use crate::{
    Level, Stream,
    modules::{call::Call, options::Options},
};

const PORT_TIMEOUT: Duration = Duration::from_secs(5);
const SCAN_TIMEOUT: Duration = Duration::from_secs(2);
const TELNET_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a host may take to greet.
const BANNER_TIMEOUT: Duration = Duration::from_secs(5);
const BANNER_BYTES_MAX: usize = 1024;
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const WAIT_INTERVAL: Duration = Duration::from_secs(1);
const WAIT_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Most ports of one scan, and how many are tried at a time.
const SCAN_PORTS_MAX: usize = 4096;
const SCAN_AT_ONCE: usize = 64;
const LATENCY_COUNT: u64 = 5;
const LATENCY_COUNT_MAX: u64 = 100;
const LATENCY_PORT: u16 = 80;

/// Whether a port answers, and a sentence about it.
pub(super) async fn port_check(call: Call, given: (Value, Value, Value)) -> mlua::Result<(bool, String)> {
    let (host, port) = (host_of(&call, &given.0)?, port_of(&call, &given.1)?);
    let limit = time_of(&call, &given.2, PORT_TIMEOUT)?;
    call.reach(&host, port)?;
    Ok(match connect(&host, port, limit).await {
        Ok(_) => (true, "port is open".to_owned()),
        Err(reason) => (false, reason),
    })
}

/// Waits until a port answers.
pub(super) async fn wait_for_port(call: Call, given: (Value, Value, Value)) -> mlua::Result<(bool, String)> {
    let (host, port) = (host_of(&call, &given.0)?, port_of(&call, &given.1)?);
    let (limit, interval) = match given.2.as_table() {
        Some(_) => {
            let options = Options::new(&call, &given.2, &["timeout", "interval"])?;
            (options.duration("timeout")?.unwrap_or(WAIT_TIMEOUT), options.duration("interval")?)
        }
        None => (time_of(&call, &given.2, WAIT_TIMEOUT)?, None),
    };
    let interval = interval.unwrap_or(WAIT_INTERVAL).max(WAIT_INTERVAL_MIN);
    call.reach(&host, port)?;
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        match connect(&host, port, left.min(PORT_TIMEOUT)).await {
            Ok(_) => return Ok((true, "port is open".to_owned())),
            // What is to open it was not begun.
            Err(_) if call.checking() => {
                let told = format!("would wait for `{host}` port {port}");
                call.context.log(Stream::Log(Level::Info), &told);
                return Ok((true, told));
            }
            Err(reason) if limit <= begun.elapsed() + interval => {
                let waited = humantime::format_duration(limit);
                return Ok((false, format!("`{host}` port {port} did not open in {waited}: {reason}")));
            }
            Err(_) => sleep(interval).await,
        }
    }
}

/// Which of some ports answer.
pub(super) async fn port_scan(call: Call, given: (Value, Value, Value)) -> mlua::Result<Table> {
    let host = host_of(&call, &given.0)?;
    let ports: Vec<u16> = match given.1.as_table() {
        Some(list) => {
            if SCAN_PORTS_MAX < list.raw_len() {
                return Err(call.error(format_args!("`ports` takes {SCAN_PORTS_MAX} at most")));
            }
            list.sequence_values::<Value>().map(|port| port_of(&call, &port?)).collect::<mlua::Result<_>>()?
        }
        None => vec![port_of(&call, &given.1)?],
    };
    let limit = time_of(&call, &given.2, SCAN_TIMEOUT)?;
    ports.iter().try_for_each(|port| call.reach(&host, *port))?;
    let total = ports.len();
    let host = host.as_str();
    let tries = stream::iter(ports).map(async |port| (port, connect(host, port, limit).await.is_ok()));
    let found: Vec<(u16, bool)> = tries.buffered(SCAN_AT_ONCE).collect().await;
    let with = |open: bool| found.iter().filter(|(_, is)| *is == open).map(|(port, _)| *port).collect::<Vec<_>>();
    let table = call.lua.create_table()?;
    table.raw_set("open", with(true))?;
    table.raw_set("closed", with(false))?;
    table.raw_set("total_scanned", total)?;
    Ok(table)
}

/// Connects and takes what the host says first, if it says something.
pub(super) async fn telnet(call: Call, given: (Value, Value, Value)) -> mlua::Result<MultiValue> {
    let (host, port) = (host_of(&call, &given.0)?, port_of(&call, &given.1)?);
    let limit = time_of(&call, &given.2, TELNET_TIMEOUT)?;
    call.reach(&host, port)?;
    let mut stream = match connect(&host, port, limit).await {
        Ok(stream) => stream,
        Err(reason) => return (false, reason).into_lua_multi(&call.lua),
    };
    let table = call.lua.create_table()?;
    table.raw_set("connected", true)?;
    let mut banner = [0; BANNER_BYTES_MAX];
    if let Ok(Ok(count @ 1..)) = timeout(BANNER_TIMEOUT.min(limit), stream.read(&mut banner)).await {
        table.raw_set("banner", call.lua.create_string(&banner[..count])?)?;
    }
    table.into_lua_multi(&call.lua)
}

/// How long it takes until a port answers.
pub(super) async fn latency_test(call: Call, given: (Value, Value, Value)) -> mlua::Result<Table> {
    let host = host_of(&call, &given.0)?;
    let count = if given.1.is_nil() { LATENCY_COUNT } else { call.integer("count", &given.1, 1, LATENCY_COUNT_MAX)? };
    let port = if given.2.is_nil() { LATENCY_PORT } else { port_of(&call, &given.2)? };
    call.reach(&host, port)?;
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        if connect(&host, port, PORT_TIMEOUT).await.is_ok() {
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    let table = call.lua.create_table()?;
    #[expect(clippy::cast_precision_loss, reason = "a hundred at most")]
    let (successes, count) = (times.len() as f64, count as f64);
    table.raw_set("total_tests", count)?;
    table.raw_set("successful_tests", successes)?;
    table.raw_set("success_rate", successes / count * 100.0)?;
    table.raw_set("average_ms", if times.is_empty() { 0.0 } else { times.iter().sum::<f64>() / successes })?;
    table.raw_set("min_ms", times.iter().copied().reduce(f64::min).unwrap_or(0.0))?;
    table.raw_set("max_ms", times.iter().copied().reduce(f64::max).unwrap_or(0.0))?;
    Ok(table)
}

async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("cannot connect to `{host}` port {port}: {error}")),
        Err(_) => Err(format!("`{host}` port {port} does not answer in {}", humantime::format_duration(limit))),
    }
}

fn time_of(call: &Call, value: &Value, otherwise: Duration) -> mlua::Result<Duration> {
    if value.is_nil() { Ok(otherwise) } else { call.duration("timeout", value) }
}
