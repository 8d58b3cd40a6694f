//! Spans of time in the form `1h30m`, and instants cut to them.

/// From the first instant of year 1, where spans are counted from, to 1970.
const YEAR_ONE_SECONDS: f64 = 62_135_596_800.0;

/// The seconds of a unit.
const UNITS: [(&str, f64); 9] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("w", 604_800.0),
];

/// The seconds of a text such as `90s`, `1h30m`, `1.5h`, `-2h` or `3 days`.
pub(super) fn parse(text: &str) -> Result<f64, String> {
    let bare = text.trim();
    let (sign, digits) = match bare.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, bare.strip_prefix('+').unwrap_or(bare)),
    };
    let seconds = short(digits).or_else(|| humantime::parse_duration(digits).ok().map(|span| span.as_secs_f64()));
    let seconds = seconds.ok_or_else(|| format!("`{text}` is no duration: write it like `90s`, `1h30m` or `2d`"))?;
    Ok(sign * seconds)
}

/// The last start of a span at or before `at`.
pub(super) fn truncate(at: f64, span: f64) -> f64 {
    if span <= 0.0 {
        return at;
    }
    let since = at + YEAR_ONE_SECONDS;
    at - since.rem_euclid(span)
}

/// The nearest start of a span; half way it is the later one.
pub(super) fn round(at: f64, span: f64) -> f64 {
    let before = truncate(at, span);
    if span <= 0.0 || (at - before) * 2.0 < span { before } else { before + span }
}

/// Numbers each followed by a unit.
fn short(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let (mut rest, mut seconds) = (text, None);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let after = &rest[number..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (_, size) = UNITS.iter().find(|(name, _)| *name == after[..unit].trim())?;
        seconds = Some(seconds.unwrap_or(0.0) + rest[..number].parse::<f64>().ok()? * size);
        rest = &after[unit..];
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_each_spelling() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("-2h", -7200.0),
            ("300ms", 0.3),
            ("1d", 86_400.0),
            ("1h 5s", 3605.0),
            ("3 days", 259_200.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for text in ["", "1", "h", "1x", "1h1", "..s", "-"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_cut_to_spans() {
        assert_eq!(truncate(1_700_000_000.0, 3600.0), 1_699_999_200.0);
        assert_eq!(round(1_700_000_000.0, 3600.0), 1_699_999_200.0);
        assert_eq!(round(1_700_001_000.0, 3600.0), 1_700_002_800.0);
        // A week begins on a Monday.
        assert_eq!(truncate(1_700_000_000.0, 604_800.0), 1_699_833_600.0);
        assert_eq!(truncate(5.5, 0.0), 5.5);
    }
}
