//! Values as texts, as Go prints them.

use serde_json::{Number, Value};

use super::exec::Val;

/// The most characters that a width may ask for.
const WIDTH_CHARS_MAX: usize = 1_000;

/// What a value is called in messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// A value as an action puts it out.
pub(super) fn shown(value: &Val) -> Result<String, String> {
    match value {
        Val::Missing(name) => Err(missing(name)),
        Val::Json(value) => Ok(text(value)),
    }
}

/// The sentence about what is not there.
pub(super) fn missing(name: &str) -> String {
    format!("`{name}` is not defined: pass it in the variables, or write `{{{{ {name} | default \"\" }}}}`")
}

/// As Go's `%v`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => decimal(number),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(table) => {
            let mut keys: Vec<&String> = table.keys().collect();
            keys.sort();
            let pairs: Vec<String> = keys.iter().map(|key| format!("{key}:{}", text(&table[key.as_str()]))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn decimal(number: &Number) -> String {
    match number.as_f64() {
        // A whole number is written as one, whatever it was computed from.
        Some(float) if number.as_i64().is_none() && number.as_u64().is_none() => float.to_string(),
        Some(_) | None => number.to_string(),
    }
}

/// As Go's `printf`.
pub(super) fn printf(format: &str, arguments: &[Val]) -> Result<String, String> {
    let (mut out, mut chars, mut arguments) = (String::new(), format.chars().peekable(), arguments.iter());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+ 0#".contains(*c)) {
            spec.left |= flag == '-';
            spec.zero |= flag == '0';
            spec.plus |= flag == '+';
        }
        spec.width = digits(&mut chars)?;
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(digits(&mut chars)?);
        }
        match chars.next() {
            None => return Err(format!("`{format}` ends in the middle of a verb")),
            Some('%') => out.push('%'),
            Some(verb) => {
                let argument = arguments.next().ok_or_else(|| format!("`{format}` has no argument for `%{verb}`"))?;
                out.push_str(&spec.padded(&spec.converted(verb, argument)?));
            }
        }
    }
    Ok(out)
}

#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn converted(&self, verb: char, value: &Val) -> Result<String, String> {
        let Val::Json(value) = value else { return shown(value) };
        let wrong = || format!("`%{verb}` cannot show {}", kind(value));
        let number = value.as_f64();
        let whole = number.filter(|number| number.fract() == 0.0);
        Ok(match verb {
            'v' | 's' => match self.precision {
                Some(most) if value.is_string() => text(value).chars().take(most).collect(),
                Some(_) | None => text(value),
            },
            'q' => serde_json::to_string(&text(value)).map_err(|error| error.to_string())?,
            't' => value.as_bool().ok_or_else(wrong)?.to_string(),
            'd' => self.signed(&format!("{:.0}", whole.ok_or_else(wrong)?)),
            'x' | 'X' | 'o' | 'b' | 'c' => {
                let number = value.as_i64().or(whole.map(integer)).ok_or_else(wrong)?;
                match verb {
                    'x' => format!("{number:x}"),
                    'X' => format!("{number:X}"),
                    'o' => format!("{number:o}"),
                    'b' => format!("{number:b}"),
                    _ => u32::try_from(number).ok().and_then(char::from_u32).ok_or_else(wrong)?.to_string(),
                }
            }
            'f' | 'F' => self.signed(&format!("{:.*}", self.precision.unwrap_or(6), number.ok_or_else(wrong)?)),
            'e' => format!("{:.*e}", self.precision.unwrap_or(6), number.ok_or_else(wrong)?),
            'g' => text(value),
            other => return Err(format!("there is no verb `%{other}`")),
        })
    }

    fn signed(&self, digits: &str) -> String {
        if self.plus && !digits.starts_with('-') { format!("+{digits}") } else { digits.to_owned() }
    }

    fn padded(&self, text: &str) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero) {
            (true, _) => format!("{text}{}", " ".repeat(missing)),
            (false, true) => {
                let sign = usize::from(text.starts_with(['-', '+']));
                format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
            }
            (false, false) => format!("{}{text}", " ".repeat(missing)),
        }
    }
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<usize, String> {
    let mut number = 0;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = number * 10 + digit as usize;
        if WIDTH_CHARS_MAX < number {
            return Err(format!("a width is {WIDTH_CHARS_MAX} characters at most"));
        }
    }
    Ok(number)
}

/// The nearest whole number that fits.
pub(super) fn integer(number: f64) -> i64 {
    // Casting saturates, which is what is wanted of a number that is too large.
    #[expect(clippy::cast_possible_truncation)]
    {
        number as i64
    }
}
