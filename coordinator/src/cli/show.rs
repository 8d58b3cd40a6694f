//! Times, sizes and labels for people.

use sloth_core::{Labels, Millis};

/// How long before `now` it was, roughly: `3m ago`.
pub(super) fn ago(now: Millis, at: Millis) -> String {
    if now < at {
        return format!("in {}", rough(at.since(now)));
    }
    match rough(now.since(at)) {
        span if span == "0s" => "now".to_owned(),
        span => format!("{span} ago"),
    }
}

/// The beginning of a key's id, which tells it from others.
pub(super) fn key(id: &str) -> String {
    const DIGITS: usize = 12;
    id.chars().take(DIGITS).collect()
}

/// A span in its largest unit: `90s`, `5m`, `3h`, `12d`.
pub(super) fn rough(span: Millis) -> String {
    let secs = span.as_u64() / 1000;
    match secs {
        0..120 => format!("{secs}s"),
        120..7200 => format!("{}m", secs / 60),
        7200..172_800 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// Bytes in the unit that fits.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Labels as they are given: `role=web,region=eu`.
pub(super) fn labels(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_rounded_for_people() {
        let at = Millis::from_secs;
        for (now, then, expected) in [
            (100, 100, "now"),
            (190, 100, "90s ago"),
            (400, 100, "5m ago"),
            (10_900, 100, "3h ago"),
            (200_000, 100, "2d ago"),
            (100, 400, "in 5m"),
        ] {
            assert_eq!(ago(at(now), at(then)), expected);
        }
        for (bytes, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
