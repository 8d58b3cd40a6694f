//! Days, as `/etc/shadow` counts them: from 1970.

use std::time::{Duration, UNIX_EPOCH};

const DAY_SECS: u64 = 24 * 60 * 60;

/// Reads a day like `2026-12-31`.
pub(super) fn parse(text: &str) -> Option<i64> {
    let is_day = text.len() == "YYYY-MM-DD".len() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let time = humantime::parse_rfc3339(&format!("{}T00:00:00Z", is_day.then_some(text)?)).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs() / DAY_SECS).ok()
}

/// Shows a day like `2026-12-31`.
pub(super) fn show(day: i64) -> String {
    // Beyond this the calendar of the formatter ends.
    const DAY_MAX: u64 = 2_900_000;
    let days = u64::try_from(day).unwrap_or(0).min(DAY_MAX);
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(days * DAY_SECS)).to_string();
    text.chars().take("YYYY-MM-DD".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_round_trip() {
        for (text, day) in [("1970-01-01", 0), ("1970-02-01", 31), ("2024-02-29", 19_782), ("2026-12-31", 20_818)] {
            assert_eq!((parse(text), show(day).as_str()), (Some(day), text));
        }
        for text in
            ["", "2026", "2026-13-01", "2026-02-30", "31.12.2026", "2026-1-1", "2026-12-31T00:00:00Z", "1960-01-01"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(show(i64::MAX).len(), 10);
        assert_eq!(show(-5), "1970-01-01");
    }
}
