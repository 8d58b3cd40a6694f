//! What `math` has besides Luau's own: statistics, roots, whole random numbers.

use std::rc::Rc;

use mlua::{Function, Lua, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
};

/// The golden ratio.
const PHI: f64 = 1.618_033_988_749_895;
/// Past this a float does not hold each whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Computes one number from many.
type Statistic = fn(&[f64]) -> f64;

/// Has the extras added when a script first names one: most never do.
pub(super) fn extend(lua: &Lua, context: &Rc<Context>) -> mlua::Result<()> {
    let making = Rc::clone(context);
    let add = lua.create_function(move |lua, (math, name): (Table, Value)| {
        if math.metatable().is_none() {
            return Ok(Value::Nil);
        }
        fill(lua, &making, &math)?;
        math.raw_get::<Value>(name)
    })?;
    let own: Table = lua.globals().get("math")?;
    own.set_metatable(Some(lua.create_table_from([("__index", add)])?))
}

/// The table that scripts know as `math`, with everything in it.
pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let math: Table = lua.globals().get("math")?;
    // A script may have named an extra before, and kept it.
    if math.metatable().is_some() {
        fill(lua, context, &math)?;
    }
    Ok(math)
}

fn fill(lua: &Lua, context: &Rc<Context>, math: &Table) -> mlua::Result<()> {
    let (random, seed): (Function, Function) = (math.raw_get("random")?, math.raw_get("randomseed")?);
    let fraction = random.clone();
    let statistics: [(&str, Statistic); 6] = [
        ("sum", |values| values.iter().sum()),
        ("mean", mean),
        ("median", median),
        ("mode", mode),
        ("variance", variance),
        ("std_dev", |values| variance(values).sqrt()),
    ];
    let mut builder = Builder::new(lua, context, "math")?
        .value("e", std::f64::consts::E)?
        .value("phi", PHI)?
        .function("cbrt", Gate::Open, |call, x: &Value| Ok(call.number("x", x)?.cbrt()))?
        .function("log2", Gate::Open, |call, x: &Value| Ok(call.number("x", x)?.log2()))?
        .function("random_int", Gate::Open, move |call, (a, b): &(Value, Value)| {
            let (a, b) = (whole(call, "min", a)?, whole(call, "max", b)?);
            random_int(&fraction, a.min(b), a.max(b))
        })?
        .function("random_float", Gate::Open, move |call, (a, b): &(Value, Value)| {
            let (a, b) = (call.number("min", a)?, call.number("max", b)?);
            Ok(a.min(b) + random.call::<f64>(())? * (a.max(b) - a.min(b)))
        })?
        .function("seed", Gate::Open, move |call, value: &Value| {
            // Any few bits of the host's randomness make a seed that differs from the last one.
            let chosen = || f64::from((call.context.host.random() & 0x7fff_ffff) as u32);
            seed.call::<()>(if value.is_nil() { chosen() } else { call.number("seed", value)? })
        })?;
    for (name, statistic) in statistics {
        builder =
            builder.function(name, Gate::Open, move |call, values: &Value| Ok(statistic(&numbers(call, values)?)))?;
    }
    // The sandbox has frozen the table by the time that a script asks.
    let frozen = math.is_readonly();
    math.set_readonly(false);
    let filled = builder.unfinished().for_each(|name: String, value: Value| math.raw_set(name, value));
    let filled = filled.and_then(|()| math.set_metatable(None));
    math.set_readonly(frozen);
    filled
}

/// A number of the range, each as likely as the others where the range is below 2^31.
fn random_int(random: &Function, min: f64, max: f64) -> mlua::Result<f64> {
    let (low, span) = (min.ceil(), max.floor() - min.ceil() + 1.0);
    Ok((low + (random.call::<f64>(())? * span).floor()).min(max.floor()))
}

fn whole(call: &Call, name: &str, value: &Value) -> mlua::Result<f64> {
    let number = call.number(name, value)?;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        return Ok(number);
    }
    Err(call.error(format_args!("`{name}` takes a whole number, got {number}")))
}

fn numbers(call: &Call, values: &Value) -> mlua::Result<Vec<f64>> {
    let list = call.table("values", values)?;
    let number = |(at, value): (usize, mlua::Result<Value>)| call.number(&format!("values[{}]", at + 1), &value?);
    list.sequence_values::<Value>().enumerate().map(number).collect()
}

/// Of no values it is 0, as each of these is.
#[expect(clippy::cast_precision_loss, reason = "no list is that long")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 0.0,
        Some(high) if sorted.len() % 2 == 1 => *high,
        Some(high) => f64::midpoint(sorted[middle - 1], *high),
    }
}

/// The value that is there most often; of several such, the one that comes first.
fn mode(values: &[f64]) -> f64 {
    let mut sorted: Vec<(f64, usize)> = values.iter().copied().zip(0..).collect();
    sorted.sort_by(|(a, a_at), (b, b_at)| a.total_cmp(b).then(a_at.cmp(b_at)));
    let runs = sorted.chunk_by(|(a, _), (b, _)| a == b).map(|run| (run.len(), std::cmp::Reverse(run[0].1), run[0].0));
    runs.max_by_key(|(count, first, _)| (*count, *first)).map_or(0.0, |(_, _, value)| value)
}

/// Of the whole population.
fn variance(values: &[f64]) -> f64 {
    let middle = mean(values);
    mean(&values.iter().map(|value| (value - middle).powi(2)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let values = [3.0, 1.0, 2.0, 3.0, 1.0, 8.0];
        assert_eq!((mean(&values), median(&values), mode(&values)), (3.0, 2.5, 3.0));
        assert_eq!((variance(&[1.0, 3.0]), median(&[5.0, 1.0, 3.0])), (1.0, 3.0));
        assert_eq!((mean(&[]), median(&[]), mode(&[]), variance(&[])), (0.0, 0.0, 0.0, 0.0));
    }
}
