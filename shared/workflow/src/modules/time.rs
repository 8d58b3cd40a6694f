//! `time`: instants as seconds since 1970, shown and read in layouts and time zones.

mod layout;
mod span;

use std::{rc::Rc, time::Duration};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use mlua::{Function, Lua, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
};

/// The longest sleep: a year.
const SLEEP_SECONDS_MAX: f64 = 365.0 * 24.0 * 60.0 * 60.0;
const NANOSECONDS: f64 = 1e9;

/// A value, or why there is none.
type Told<T> = mlua::Result<Result<T, String>>;

/// A part of a date.
type Part = fn(&Zoned) -> i64;
/// An instant from an instant and a span.
type Shift = fn(f64, f64) -> f64;
type Compare = fn(&f64, &f64) -> bool;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let builder = Builder::new(lua, context, "time")?
        .function("now", Gate::Open, |call, (): &()| Ok((now(call)).floor()))?
        .function("unix", Gate::Open, |call, at: &Value| instant(call, at).map(f64::floor))?
        .function("unix_nano", Gate::Open, |call, (): &()| Ok(now(call) * NANOSECONDS))?
        .function("format", Gate::Open, |call, (at, layout, zone): &(Value, Value, Value)| {
            format(call, at, &call.text("layout", layout)?, zone)
        })?
        .function("rfc3339", Gate::Open, |call, (at, zone): &(Value, Value)| {
            format(call, at, "2006-01-02T15:04:05Z07:00", zone)
        })?
        .function("parse", Gate::Open, parse)?
        .function("parts", Gate::Open, |call, (at, zone): &(Value, Value)| {
            Ok(call.said(zoned(call, at, zone)?).map(|at| parts(&at)))
        })?
        .function("duration", Gate::Open, |call, text: &Value| Ok(call.said(seconds(call, text)?)))?
        .function("since", Gate::Open, |call, at: &Value| Ok(now(call) - call.number("timestamp", at)?))?
        .function("until_", Gate::Open, |call, at: &Value| Ok(call.number("timestamp", at)? - now(call)))?
        .asynchronous("sleep", Gate::Acting, sleep)?;
    let table = zones(comparisons(arithmetic(fields(builder)?)?)?)?.unfinished();
    // These names are words of Lua's, so they can only be written as `time["until"]`.
    let reserved = lua.create_table()?;
    for (name, of) in [("until", "until_"), ("local", "local_")] {
        reserved.raw_set(name, table.raw_get::<Function>(of)?)?;
    }
    reserved.set_readonly(true);
    let metatable = lua.create_table_from([("__index", reserved)])?;
    metatable.set_readonly(true);
    table.set_metatable(Some(metatable))?;
    table.set_readonly(true);
    Ok(table)
}

/// The parts of a date, in the zone that may follow the instant.
fn fields(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let numbers: [(&str, Part); 6] = [
        ("year", |at| at.year().into()),
        ("month", |at| at.month().into()),
        ("day", |at| at.day().into()),
        ("hour", |at| at.hour().into()),
        ("minute", |at| at.minute().into()),
        ("second", |at| at.second().into()),
    ];
    let mut builder = builder;
    for (name, number) in numbers {
        builder = builder.function(name, Gate::Open, move |call, (at, zone): &(Value, Value)| {
            Ok(call.said(zoned(call, at, zone)?).map(|at| number(&at)))
        })?;
    }
    builder.function("weekday", Gate::Open, |call, (at, zone): &(Value, Value)| {
        Ok(call.said(zoned(call, at, zone)?).map(|at| weekday(&at)))
    })
}

fn arithmetic(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let operations: [(&str, Shift); 4] = [
        ("add", |at, span| at + span),
        ("sub", |at, span| at - span),
        ("truncate", span::truncate),
        ("round", span::round),
    ];
    let mut builder = builder;
    for (name, operation) in operations {
        builder = builder.function(name, Gate::Open, move |call, (at, span): &(Value, Value)| {
            let at = instant(call, at)?;
            Ok(call.said(seconds(call, span)?).map(|span| operation(at, span)))
        })?;
    }
    Ok(builder)
}

fn comparisons(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let comparisons: [(&str, Compare); 3] = [("before", f64::lt), ("after", f64::gt), ("equal", f64::eq)];
    let mut builder = builder;
    for (name, compare) in comparisons {
        builder = builder.function(name, Gate::Open, move |call, (a, b): &(Value, Value)| {
            Ok(compare(&call.number("first", a)?, &call.number("second", b)?))
        })?;
    }
    Ok(builder)
}

/// An instant is the same in every zone: these check what they are given and hand the instant back.
fn zones(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    builder
        .function("utc", Gate::Open, |call, at: &Value| instant(call, at).map(f64::floor))?
        .function("local_", Gate::Open, |call, at: &Value| instant(call, at).map(f64::floor))?
        .function("in_location", Gate::Open, |call, (at, zone): &(Value, Value)| {
            let (at, name) = (instant(call, at)?, call.text("zone", zone)?);
            Ok(call.said(zone_named(&name)).map(|_| at.floor()))
        })
}

/// The clock of the run, in seconds with milliseconds.
fn now(call: &Call) -> f64 {
    // The clock's milliseconds are exact in a float for many thousand years.
    #[expect(clippy::cast_precision_loss)]
    let ms = call.context.host.now().as_u64() as f64;
    ms / 1000.0
}

/// A number of seconds; nothing is now.
fn instant(call: &Call, at: &Value) -> mlua::Result<f64> {
    if at.is_nil() { Ok(now(call)) } else { call.number("timestamp", at) }
}

/// A span in seconds, from a number or a text like `1h30m`.
fn seconds(call: &Call, value: &Value) -> Told<f64> {
    if let Some(seconds) = super::call::number_of(value) {
        return Ok(if seconds.is_nan() { Err("this is no number of seconds".to_owned()) } else { Ok(seconds) });
    }
    Ok(span::parse(&call.text("duration", value)?))
}

fn zoned(call: &Call, at: &Value, zone: &Value) -> Told<Zoned> {
    let at = instant(call, at)?;
    let zone = match call.optional_text("zone", zone)? {
        Some(name) => zone_named(&name),
        None => Ok(TimeZone::system()),
    };
    Ok(zone.and_then(|zone| timestamp(at).map(|at| at.to_zoned(zone))))
}

fn zone_named(name: &str) -> Result<TimeZone, String> {
    match name {
        "" | "UTC" | "utc" | "Z" => Ok(TimeZone::UTC),
        "Local" | "local" => Ok(TimeZone::system()),
        name => TimeZone::get(name)
            .map_err(|_| format!("this host knows no time zone `{name}`: names are like `Europe/Berlin` or `UTC`")),
    }
}

fn timestamp(at: f64) -> Result<Timestamp, String> {
    let nanoseconds = (at.fract() * NANOSECONDS).round();
    // What is out of range stays so when it is cut to the range of the integers.
    #[expect(clippy::cast_possible_truncation)]
    let made = Timestamp::new(at.trunc() as i64, nanoseconds as i32);
    made.map_err(|_| format!("{at} seconds since 1970 are out of the range of dates"))
}

fn format(call: &Call, at: &Value, layout: &str, zone: &Value) -> Told<String> {
    Ok(call.said(zoned(call, at, zone)?.and_then(|at| layout::format(layout, &at))))
}

/// Seconds since 1970. A text that names no offset is one of the zone, and without that of UTC.
fn parse(call: &Call, (layout, text, zone): &(Value, Value, Value)) -> Told<f64> {
    let (layout, text) = (call.text("layout", layout)?, call.text("text", text)?);
    let zone = zone_named(&call.optional_text("zone", zone)?.unwrap_or_default());
    let read = zone.and_then(|zone| layout::parse(&layout, &text, zone));
    // Whole seconds and their fraction apart: together as nanoseconds they are more than a float holds.
    #[expect(clippy::cast_precision_loss)]
    let seconds = |at: Timestamp| at.as_second() as f64 + f64::from(at.subsec_nanosecond()) / NANOSECONDS;
    Ok(call.said(read.map(seconds)))
}

/// Waits; other tasks run meanwhile.
async fn sleep(call: Call, span: Value) -> mlua::Result<()> {
    let seconds = seconds(&call, &span)?.map_err(|reason| call.error(reason))?;
    let seconds = seconds.clamp(0.0, SLEEP_SECONDS_MAX);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(())
}

struct Parts(Zoned);

fn parts(at: &Zoned) -> Parts {
    Parts(at.clone())
}

impl mlua::IntoLua for Parts {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let Self(at) = self;
        let table = lua.create_table()?;
        for (name, value) in [
            ("year", i32::from(at.year())),
            ("month", at.month().into()),
            ("day", at.day().into()),
            ("hour", at.hour().into()),
            ("minute", at.minute().into()),
            ("second", at.second().into()),
            ("yday", at.day_of_year().into()),
            ("offset", at.offset().seconds()),
        ] {
            table.raw_set(name, value)?;
        }
        table.raw_set("weekday", weekday(&at))?;
        table.raw_set("zone", at.time_zone().iana_name().unwrap_or_default())?;
        Ok(Value::Table(table))
    }
}

fn weekday(at: &Zoned) -> &'static str {
    const NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let day = usize::try_from(at.weekday().to_monday_zero_offset()).unwrap_or_default();
    NAMES.get(day).copied().unwrap_or_default()
}

/// Whether a text is a span of time.
pub(super) fn is_span(text: &str) -> bool {
    span::parse(text).is_ok()
}
