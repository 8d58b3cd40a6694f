//! What operations of the `state` module make of a key's value, whoever stores it.

use serde_json::Value;

use super::StateReply;

/// What is stored from now on, where that is something else than before, and what is answered; or why nothing is changed,
/// in a sentence for the script.
pub type Change = Result<(Option<Value>, StateReply), String>;

/// Adds to a number, or to a text that reads as one; a missing one is zero.
///
/// # Errors
///
/// When it is no number, or would be none that is finite.
pub fn add(key: &str, before: Option<Value>, by: f64) -> Change {
    let sum = match before {
        None => by,
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN) + by,
        Some(Value::String(text)) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
            text.trim().parse::<f64>().unwrap_or(f64::NAN) + by
        }
        Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(format!("`{key}` holds no number: set one first, or use another key"));
        }
    };
    if !sum.is_finite() {
        return Err(format!("`{key}` cannot become {sum}: numbers are finite"));
    }
    Ok((Some(number(sum)), StateReply::Number(sum)))
}

/// Adds a value at the end of a list; a missing one is empty.
///
/// # Errors
///
/// When it is no list.
#[expect(clippy::cast_precision_loss, reason = "no list is that long")]
pub fn push(key: &str, before: Option<Value>, value: &Value) -> Change {
    let mut list = list(key, before)?;
    list.push(value.clone());
    let length = list.len() as f64;
    Ok((Some(Value::Array(list)), StateReply::Number(length)))
}

/// Takes the last value off a list.
///
/// # Errors
///
/// When it is no list.
pub fn pop(key: &str, before: Option<Value>) -> Change {
    let mut list = list(key, before)?;
    let last = list.pop();
    Ok((last.is_some().then(|| Value::Array(list)), StateReply::Value(last)))
}

/// Adds a text at the end of one; a missing one is empty.
///
/// # Errors
///
/// When it is no text.
#[expect(clippy::cast_precision_loss, reason = "no text is that long")]
pub fn append(key: &str, before: Option<Value>, text: &str) -> Change {
    let mut whole = match before {
        None => String::new(),
        Some(Value::String(whole)) => whole,
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(format!("`{key}` holds no text: use another key"));
        }
    };
    whole.push_str(text);
    let length = whole.len() as f64;
    Ok((Some(Value::String(whole)), StateReply::Number(length)))
}

fn list(key: &str, before: Option<Value>) -> Result<Vec<Value>, String> {
    match before {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Number(_) | Value::Object(_)) => {
            Err(format!("`{key}` holds no list: use another key"))
        }
    }
}

/// A whole number stays one, so that `3` does not come back as `3.0`.
fn number(sum: f64) -> Value {
    /// Up to here a float holds every whole number.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if sum.fract() == 0.0 && sum.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
        return Value::from(sum as i64);
    }
    Value::from(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_whole_where_they_can_be_and_finite() {
        for (before, by, expected) in [
            (None, 3.0, Ok(json!(3))),
            (Some(json!(3)), 0.5, Ok(json!(3.5))),
            (Some(json!(3.5)), 0.5, Ok(json!(4))),
            (Some(json!(9_223_372_036_854_775_807_i64)), 1.0, Ok(json!(9_223_372_036_854_775_808.0))),
            (Some(json!(1e308)), 1e308, Err("`k` cannot become inf: numbers are finite")),
            (Some(json!("3")), 1.0, Ok(json!(4))),
            (Some(json!("three")), 1.0, Err("`k` holds no number: set one first, or use another key")),
            (Some(json!("inf")), 1.0, Err("`k` holds no number: set one first, or use another key")),
        ] {
            let sum = add("k", before, by).map(|(value, _)| value);
            assert_eq!(sum, expected.map(Some).map_err(str::to_owned));
        }
    }
}
