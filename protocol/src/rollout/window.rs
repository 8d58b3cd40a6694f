//! Maintenance windows: when hosts may be assigned.

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};
use sloth_core::Millis;

use crate::wire::WindowSpec;

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;
/// Days after which every window has opened again, and one for where a day has no such minute.
const DAYS_AHEAD: usize = 9;
const DAY_NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A window whose time zone was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    spec: WindowSpec,
    zone: TimeZone,
}

/// Why a window cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It never opens, or at no minute of a day.
    #[error("a window opens on some day, at a minute of it, and not at the one at which it closes")]
    Never,
    /// The zone's rules cannot be read.
    #[error("the rules `{rules}` of the time zone `{zone}` cannot be read: they are written as in POSIX's `TZ`")]
    Zone {
        /// What it is called.
        zone: String,
        /// What was given.
        rules: String,
    },
}

impl Window {
    /// Reads a window.
    ///
    /// # Errors
    ///
    /// When it never opens, or its zone's rules cannot be read.
    pub fn new(spec: &WindowSpec) -> Result<Self, WindowError> {
        let minutes = spec.from < DAY_MINUTES && spec.until <= DAY_MINUTES && spec.from != spec.until;
        if spec.days & 0x7f == 0 || !minutes {
            return Err(WindowError::Never);
        }
        let unreadable = |_| WindowError::Zone { zone: spec.zone.clone(), rules: spec.rules.clone() };
        Ok(Self { spec: spec.clone(), zone: TimeZone::posix(&spec.rules).map_err(unreadable)? })
    }

    /// Whether it is open at `now`.
    #[must_use]
    pub fn is_open(&self, now: Millis) -> bool {
        let Some(local) = stamp(now).map(|stamp| self.zone.to_datetime(stamp)) else { return false };
        let minute = minute_of(local.time());
        let (from, until) = (self.spec.from, self.spec.until);
        let today = self.opens_on(local.date());
        if from < until {
            return today && from <= minute && minute < until;
        }
        let yesterday = local.date().yesterday().is_ok_and(|date| self.opens_on(date));
        (today && from <= minute) || (yesterday && minute < until)
    }

    /// When it opens next after `now`; none beyond the calendar's end.
    #[must_use]
    pub fn opens_after(&self, now: Millis) -> Option<Millis> {
        let mut date = self.zone.to_datetime(stamp(now)?).date();
        let hour = i8::try_from(self.spec.from / 60).ok()?;
        let at = Time::new(hour, i8::try_from(self.spec.from % 60).ok()?, 0, 0).ok()?;
        for _ in 0..DAYS_AHEAD {
            let opens = self.zone.to_timestamp(date.to_datetime(at)).ok()?;
            let opens = Millis::from_u64(u64::try_from(opens.as_millisecond()).ok()?);
            if now < opens && self.opens_on(date) {
                return Some(opens);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn opens_on(&self, date: Date) -> bool {
        let day = date.weekday().to_monday_zero_offset();
        self.spec.days & (1 << day) != 0
    }
}

/// The windows of some, of which one is open.
pub(super) fn any_open(windows: &[Window], now: Millis) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.is_open(now))
}

/// When the first of some windows opens after `now`.
pub(super) fn next_opening(windows: &[Window], now: Millis) -> Option<Millis> {
    windows.iter().filter_map(|window| window.opens_after(now)).min()
}

impl std::fmt::Display for WindowSpec {
    /// As it is given on a command line: `Mon-Fri 22:00-04:00 Europe/Berlin`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_set = |day: usize| self.days & (1 << day) != 0;
        let mut day = 0;
        let mut parts = Vec::new();
        while day < DAY_NAMES.len() {
            let last = (day..DAY_NAMES.len()).take_while(|day| is_set(*day)).last();
            match last {
                Some(last) if last == day => parts.push(DAY_NAMES[day].to_owned()),
                Some(last) => parts.push(format!("{}-{}", DAY_NAMES[day], DAY_NAMES[last])),
                None => {}
            }
            day = last.unwrap_or(day) + 1;
        }
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{} {}-{} {}", parts.join(","), clock(self.from), clock(self.until), self.zone)
    }
}

fn stamp(now: Millis) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(now.as_u64()).ok()?).ok()
}

fn minute_of(time: Time) -> u16 {
    let minute = i16::from(time.hour()) * 60 + i16::from(time.minute());
    u16::try_from(minute).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const WORKDAYS: u8 = 0b001_1111;

    fn window(days: u8, from: u16, until: u16) -> Window {
        let spec = WindowSpec { days, from, until, zone: "Europe/Berlin".to_owned(), rules: BERLIN.to_owned() };
        Window::new(&spec).expect("a window")
    }

    fn at(text: &str) -> Millis {
        let stamp: Timestamp = text.parse().expect("a time");
        Millis::from_u64(stamp.as_millisecond().unsigned_abs())
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let night = window(WORKDAYS, 22 * 60, 4 * 60);
        for (time, open) in [
            ("2026-06-05T19:59:00Z", false), // Friday, 21:59 in summer
            ("2026-06-05T20:00:00Z", true),  // Friday, 22:00
            ("2026-06-06T01:59:00Z", true),  // Saturday, 03:59
            ("2026-06-06T02:00:00Z", false), // Saturday, 04:00
            ("2026-06-06T20:30:00Z", false), // Saturday, 22:30
            ("2026-06-07T23:30:00Z", false), // Monday, 01:30: Sunday opens none
            ("2026-12-07T20:30:00Z", false), // Monday, 21:30 in winter
            ("2026-12-07T21:00:00Z", true),  // Monday, 22:00
        ] {
            assert_eq!(night.is_open(at(time)), open, "{time}");
        }
    }

    #[test]
    fn the_next_opening_follows_the_zone() {
        let night = window(WORKDAYS, 22 * 60, 4 * 60);
        for (now, opens) in [
            ("2026-06-05T20:00:00Z", "2026-06-08T20:00:00Z"),
            ("2026-06-05T19:00:00Z", "2026-06-05T20:00:00Z"),
            ("2026-10-23T21:00:00Z", "2026-10-26T21:00:00Z"), // the clocks go back in between
        ] {
            assert_eq!(night.opens_after(at(now)), Some(at(opens)), "{now}");
        }
        // 02:30 is left out on the night on which the clocks go forward: it opens when the clocks show 03:30.
        let gap = window(0b100_0000, 150, 300);
        assert_eq!(gap.opens_after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        let spec =
            |days, from, until, rules: &str| WindowSpec { days, from, until, zone: "x".into(), rules: rules.into() };
        for wrong in
            [spec(0, 0, 60, "UTC0"), spec(1, 60, 60, "UTC0"), spec(1, 1440, 60, "UTC0"), spec(1, 0, 2000, "UTC0")]
        {
            assert_eq!(Window::new(&wrong), Err(WindowError::Never), "{wrong:?}");
        }
        assert!(matches!(Window::new(&spec(1, 0, 60, "Europe/Berlin")), Err(WindowError::Zone { .. })));
        assert!(
            Window::new(&spec(1, 0, 1440, "UTC0")).is_ok_and(|all_day| all_day.is_open(at("2026-06-01T23:59:59Z")))
        );
    }

    #[test]
    fn a_window_is_shown_as_it_is_given() {
        let shown = |days| window(days, 22 * 60, 4 * 60 + 5).spec.to_string();
        assert_eq!(shown(WORKDAYS), "Mon-Fri 22:00-04:05 Europe/Berlin");
        assert_eq!(shown(0b110_0101), "Mon,Wed,Sat-Sun 22:00-04:05 Europe/Berlin");
    }
}
