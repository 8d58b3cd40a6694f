//! Maintenance windows as people write them: `Mon-Fri 22:00-04:00 Europe/Berlin`.

use std::path::{Component, Path, PathBuf};

use sloth_core::{
    excerpt,
    fs::{ReadError, read_capped},
};
use sloth_protocol::{
    rollout::{Window, WindowError},
    wire::WindowSpec,
};

/// Where the rules of time zones are.
const ZONES: &str = "/usr/share/zoneinfo";
/// Most bytes of a file with a zone's rules.
const ZONE_BYTES_MAX: u64 = 256 * 1024;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: u8 = 0x7f;

/// Why a window was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum WindowRefused {
    /// It is written otherwise.
    #[error("`{text}` is not a window: write days, times and a time zone, like `Mon-Fri 22:00-04:00 Europe/Berlin`")]
    Form {
        /// What was given.
        text: String,
    },
    /// The zone is not known.
    #[error(
        "there is no time zone `{zone}` in `{ZONES}`: install `tzdata`, or write its rules as in POSIX's `TZ`, like `CET-1CEST,M3.5.0,M10.5.0/3`"
    )]
    Zone {
        /// The zone.
        zone: String,
    },
    /// It makes no sense.
    #[error(transparent)]
    Window(#[from] WindowError),
}

/// Reads a window. Without days it opens every day.
pub(super) fn parse(text: &str) -> Result<WindowSpec, WindowRefused> {
    let wrong = || WindowRefused::Form { text: excerpt(text) };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, times, zone) = match words.as_slice() {
        [days, times, zone] => (days_of(days).ok_or_else(wrong)?, times, zone),
        [times, zone] => (EVERY_DAY, times, zone),
        _other => return Err(wrong()),
    };
    let (from, until) = times.split_once('-').ok_or_else(wrong)?;
    let (from, until) = (minute_of(from).ok_or_else(wrong)?, minute_of(until).ok_or_else(wrong)?);
    let spec = WindowSpec { days, from, until, zone: (*zone).to_owned(), rules: rules_of(zone)? };
    Window::new(&spec)?;
    Ok(spec)
}

fn days_of(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| name.to_ascii_lowercase().starts_with(day));
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // `Sat-Mon` goes over the week's end.
        let count = (last + DAYS.len() - first) % DAYS.len();
        Some((0..=count).fold(days, |days, step| days | 1 << ((first + step) % DAYS.len())))
    })
}

fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour <= 24 && minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
}

/// The rules of a zone. They travel with the rollout, so that the coordinator needs no files of zones.
fn rules_of(zone: &str) -> Result<String, WindowRefused> {
    if zone.eq_ignore_ascii_case("UTC") {
        return Ok("UTC0".to_owned());
    }
    let unknown = || WindowRefused::Zone { zone: excerpt(zone) };
    if let Some(path) = file_of(zone) {
        match read_capped(&path, ZONE_BYTES_MAX) {
            Ok(bytes) => return footer(&bytes).ok_or_else(unknown),
            Err(ReadError::Fs(_) | ReadError::TooLarge { .. }) => {}
        }
    }
    let is_rules = zone.contains(|c: char| c.is_ascii_digit());
    if is_rules { Ok(zone.to_owned()) } else { Err(unknown()) }
}

fn file_of(zone: &str) -> Option<PathBuf> {
    let name = Path::new(zone);
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let path = Path::new(ZONES).join(name);
    (plain && path.is_file()).then_some(path)
}

/// The rules for the time to come, which end a file of a zone: a line between two ends of lines.
fn footer(bytes: &[u8]) -> Option<String> {
    let body = bytes.strip_prefix(b"TZif").and_then(|_| bytes.strip_suffix(b"\n"))?;
    let line = body.rsplit(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_as_people_write_them() {
        for (text, days, from, until) in [
            ("Mon-Fri 22:00-04:00 UTC", 0b001_1111, 22 * 60, 4 * 60),
            ("sat,Sunday 00:00-24:00 UTC", 0b110_0000, 0, 24 * 60),
            ("Sat-Mon 01:30-02:00 CET-1CEST,M3.5.0,M10.5.0/3", 0b110_0001, 90, 120),
            ("9:00-17:00 UTC", EVERY_DAY, 540, 1020),
        ] {
            let spec = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((spec.days, spec.from, spec.until), (days, from, until), "{text}");
        }
        for text in ["", "Mon", "Mon 22:00 UTC", "Mon 22-04 UTC", "Mon 25:00-04:00 UTC", "Foo 22:00-04:00 UTC"] {
            assert!(matches!(parse(text), Err(WindowRefused::Form { .. })), "{text}");
        }
        assert!(matches!(parse("Mon 22:00-04:00 Nowhere/At"), Err(WindowRefused::Zone { .. })));
        assert!(matches!(parse("Mon 22:00-04:00 ../etc/passwd"), Err(WindowRefused::Zone { .. })));
        assert!(matches!(parse("Mon 22:00-22:00 UTC"), Err(WindowRefused::Window(WindowError::Never))));
    }

    #[test]
    fn the_rules_of_a_zone_are_the_last_line_of_its_file() {
        assert_eq!(footer(b"TZif2...\nCET-1CEST,M3.5.0,M10.5.0/3\n").as_deref(), Some("CET-1CEST,M3.5.0,M10.5.0/3"));
        assert_eq!(footer(b"TZif2...\n\n"), None);
        assert_eq!(footer(b"something else\n"), None);
    }
}
