//! Layouts of dates: those of Go, which show a certain instant, and those of `strftime`, which have a `%`.

use jiff::{
    Timestamp, Zoned,
    fmt::strtime::{self, BrokenDownTime},
    tz::TimeZone,
};

/// What a piece of Go's layout is in `strftime`. Longer pieces stand before those that begin like them.
const PIECES: [(&str, &str); 35] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("Z07:00", ZULU_COLON),
    ("Z0700", ZULU),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("-07", "%:::z"),
    (".000000000", "%.9f"),
    (".000000", "%.6f"),
    (".000", "%.3f"),
    (",000", ",%3f"),
    (".999999999", "%.f"),
    (".999999", "%.f"),
    (".999", "%.f"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("%", "%%"),
];
/// Stand for `Z` or an offset; no layout holds these bytes.
const ZULU_COLON: &str = "\u{1}";
const ZULU: &str = "\u{2}";

/// `at` in a layout.
pub(super) fn format(layout: &str, at: &Zoned) -> Result<String, String> {
    let is_utc = at.offset().is_zero();
    let pattern = pattern(layout)
        .replace(ZULU_COLON, if is_utc { "Z" } else { "%:z" })
        .replace(ZULU, if is_utc { "Z" } else { "%z" });
    strtime::format(&pattern, at).map_err(|error| format!("`{layout}` is no layout: {error}"))
}

/// The instant that `text` names; in `zone` when it names no offset.
pub(super) fn parse(layout: &str, text: &str, zone: TimeZone) -> Result<Timestamp, String> {
    // Seconds may have a fraction though the layout has none, as in Go.
    let pattern = pattern(layout).replace("%S", "%S%.f").replace("%S%.f%.", "%S%.");
    let offset = pattern.replace(ZULU_COLON, "%:z").replace(ZULU, "%z");
    let zulu = pattern.replace(ZULU_COLON, "Z").replace(ZULU, "Z");
    let mut first = None;
    for (pattern, zone) in [
        (offset.clone(), zone),
        (zulu, TimeZone::UTC),
        (offset.replace("%Z", "UTC"), TimeZone::UTC),
        (offset.replace("%Z", "GMT"), TimeZone::UTC),
    ] {
        match read(&pattern, text, zone) {
            Ok(at) => return Ok(at),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let reason = first.map(|error| error.to_string()).unwrap_or_default();
    Err(format!("`{text}` is not in the layout `{layout}`: {reason}"))
}

fn read(pattern: &str, text: &str, zone: TimeZone) -> Result<Timestamp, jiff::Error> {
    let parts = BrokenDownTime::parse(pattern, text)?;
    if parts.offset().is_some() || parts.timestamp().is_some() {
        return parts.to_timestamp();
    }
    Ok(parts.to_datetime()?.to_zoned(zone)?.timestamp())
}

/// The layout as `strftime` has it.
fn pattern(layout: &str) -> String {
    if layout.contains('%') {
        return layout.to_owned();
    }
    let mut pattern = String::new();
    let mut rest = layout;
    while let Some(char) = rest.chars().next() {
        match PIECES.iter().find(|(piece, _)| rest.starts_with(piece)) {
            Some((piece, meaning)) => {
                pattern.push_str(meaning);
                rest = &rest[piece.len()..];
            }
            None => {
                pattern.push(char);
                rest = &rest[char.len_utf8()..];
            }
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, zone: &str) -> Zoned {
        let zone = TimeZone::get(zone).expect("a zone of this host");
        Timestamp::from_second(seconds).expect("in range").to_zoned(zone)
    }

    #[test]
    fn dates_are_shown_in_both_kinds_of_layout() {
        let utc = at(1_700_000_000, "UTC");
        for (layout, shown) in [
            ("2006-01-02 15:04:05", "2023-11-14 22:13:20"),
            ("2006-01-02T15:04:05Z07:00", "2023-11-14T22:13:20Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 14 Nov 2023 22:13:20 UTC"),
            ("Monday, January _2 2006 3:04PM", "Tuesday, November 14 2023 10:13PM"),
            ("06/1/2 15h", "23/11/14 22h"),
            ("15:04:05.000", "22:13:20.000"),
            ("20060102150405", "20231114221320"),
            ("002", "318"),
            ("%Y-%m-%d %H:%M:%S %%", "2023-11-14 22:13:20 %"),
            ("no digits", "no digits"),
        ] {
            assert_eq!(format(layout, &utc).as_deref(), Ok(shown), "{layout}");
        }
        let berlin = at(1_700_000_000, "Europe/Berlin");
        assert_eq!(format("15:04 MST -0700 -07:00 Z0700", &berlin).as_deref(), Ok("23:13 CET +0100 +01:00 +0100"));
        assert!(format("%!", &utc).is_err());
    }

    #[test]
    fn dates_are_read_in_both_kinds_of_layout() {
        for (layout, text, seconds) in [
            ("2006-01-02 15:04:05", "2023-11-14 22:13:20", 1_700_000_000),
            ("2006-01-02", "2023-11-14", 1_699_920_000),
            ("2006-01-02T15:04:05Z07:00", "2023-11-14T22:13:20Z", 1_700_000_000),
            ("2006-01-02T15:04:05Z07:00", "2023-11-14T23:13:20.5+01:00", 1_700_000_000),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000),
            ("02 Jan 06 15:04 -0700", "14 Nov 23 23:13 +0100", 1_699_999_980),
            ("%Y/%m/%d %H", "2023/11/14 22", 1_699_999_200),
            ("%s", "1700000000", 1_700_000_000),
        ] {
            let read = parse(layout, text, TimeZone::UTC).expect(text);
            assert_eq!(read.as_second(), seconds, "{layout}");
        }
        let new_york = TimeZone::get("America/New_York").expect("a zone of this host");
        assert_eq!(parse("2006-01-02", "2023-11-14", new_york).map(|at| at.as_second()), Ok(1_699_938_000));
        let error = parse("2006-01-02", "2023-13-14", TimeZone::UTC).expect_err("no such month");
        assert!(error.starts_with("`2023-13-14` is not in the layout `2006-01-02`: "), "{error}");
        assert!(parse("15:04", "22:13", TimeZone::UTC).is_err(), "a time of no day is no instant");
    }
}
