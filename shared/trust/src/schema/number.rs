//! Numbers as they are written, so that `0.3` is a multiple of `0.1` and `1.0` is `1`.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// A number as `mantissa` times ten to the power of `exponent`.
///
/// Invariant: the mantissa has no zero at its end, and a zero has no exponent; so equal numbers are equal here. A mantissa
/// has at most 20 digits, for that is what JSON's numbers have when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    mantissa: i128,
    exponent: i32,
}

impl Decimal {
    pub(super) fn of(number: &Number) -> Self {
        if let Some(whole) = number.as_i64() {
            return Self::new(whole.into(), 0);
        }
        if let Some(whole) = number.as_u64() {
            return Self::new(whole.into(), 0);
        }
        // Neither infinite nor a wrong number is JSON; the shortest text that reads as the number is what was meant.
        let text = format!("{:e}", number.as_f64().unwrap_or(0.0));
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let mantissa = format!("{whole}{part}").parse().unwrap_or(0);
        let exponent = exponent.parse().unwrap_or(0);
        Self::new(mantissa, i32::try_from(part.len()).map_or(exponent, |places| exponent - places))
    }

    const fn new(mut mantissa: i128, mut exponent: i32) -> Self {
        if mantissa == 0 {
            return Self { mantissa: 0, exponent: 0 };
        }
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        Self { mantissa, exponent }
    }

    pub(super) const fn is_whole(self) -> bool {
        0 <= self.exponent
    }

    pub(super) const fn is_positive(self) -> bool {
        0 < self.mantissa
    }

    /// Whether this is a whole multiple of `of`, which is above zero.
    pub(super) fn is_multiple(self, of: Self) -> bool {
        if self.mantissa == 0 {
            return true;
        }
        // A mantissa that ends in no zero is no multiple of ten.
        let Ok(powers) = u32::try_from(self.exponent - of.exponent) else { return false };
        let mut rest = self.mantissa % of.mantissa;
        for _ in 0..powers {
            rest = rest * 10 % of.mantissa;
        }
        rest == 0
    }

    fn digits(self) -> i32 {
        self.mantissa.unsigned_abs().checked_ilog10().map_or(0, |log| i32::try_from(log).unwrap_or(0) + 1)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self.mantissa == 0 {
            return signs;
        }
        let sizes = (self.exponent + self.digits()).cmp(&(other.exponent + other.digits()));
        let sizes = if self.mantissa < 0 { sizes.reverse() } else { sizes };
        sizes.then_with(|| {
            // Of one size, they are at most 20 digits apart.
            let common = self.exponent.min(other.exponent);
            let scaled = |number: &Self| {
                let powers = u32::try_from(number.exponent - common).unwrap_or(0);
                number.mantissa.saturating_mul(10_i128.saturating_pow(powers))
            };
            scaled(self).cmp(&scaled(other))
        })
    }
}

/// A text that values have in common when JSON Schema calls them equal: numbers by what they are, whatever their form, and
/// mappings whatever their order.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => {
            let Decimal { mantissa, exponent } = Decimal::of(number);
            text.push_str(&format!("{mantissa}e{exponent}"));
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in entries {
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::of(&serde_json::from_str::<Number>(text).expect(text))
    }

    #[test]
    fn numbers_are_in_order_and_multiples_are_exact() {
        let rising = [
            "-1e300",
            "-18446744073709551615",
            "-10",
            "-9.5",
            "-1",
            "-1e-300",
            "0",
            "1e-300",
            "0.1",
            "0.25",
            "0.3",
            "1",
            "9",
            "9.99",
            "10",
            "9007199254740993",
            "18446744073709551615",
            "1e300",
        ];
        for (place, low) in rising.iter().enumerate() {
            for high in &rising[place + 1..] {
                assert!(decimal(low) < decimal(high) && decimal(low) != decimal(high), "{low} {high}");
            }
        }
        for (left, right) in [("1", "1.0"), ("100", "1e2"), ("0", "-0.0"), ("0.5", "5e-1")] {
            assert_eq!(decimal(left), decimal(right));
        }
        for (number, of, wanted) in [
            ("0.3", "0.1", true),
            ("7", "2", false),
            ("1e300", "7", false),
            ("1e300", "8", true),
            ("-6", "3", true),
            ("0", "0.7", true),
            ("0.75", "0.5", false),
            ("1", "1e-300", true),
            ("1.5", "0.25", true),
        ] {
            assert_eq!(decimal(number).is_multiple(decimal(of)), wanted, "{number} of {of}");
        }
    }
}
