//! When a job runs, as cron reads it.

/// Names that stand for a schedule.
const NAMED: [&str; 8] = ["@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One of the five fields.
struct Field {
    what: &'static str,
    min: u32,
    max: u32,
    /// Names of values, the first being that of `min`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "a minute", min: 0, max: 59, names: &[] },
    Field { what: "an hour", min: 0, max: 23, names: &[] },
    Field { what: "a day of the month", min: 1, max: 31, names: &[] },
    Field { what: "a month", min: 1, max: 12, names: &MONTHS },
    // Both 0 and 7 are Sunday.
    Field { what: "a day of the week", min: 0, max: 7, names: &DAYS },
];

/// Checks that cron would take `schedule`; the error says which field is wrong and what it takes.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let schedule = schedule.trim();
    if schedule.contains(['\n', '\r', '\0']) {
        return Err("the schedule must be one line".to_owned());
    }
    if schedule.starts_with('@') {
        return if NAMED.contains(&schedule.to_ascii_lowercase().as_str()) {
            Ok(())
        } else {
            Err(format!("there is no schedule `{schedule}`: known are {}", NAMED.join(", ")))
        };
    }
    let fields: Vec<_> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "a schedule has five fields (minute, hour, day of the month, month, day of the week), `{schedule}` has {}",
            fields.len()
        ));
    }
    fields.iter().zip(&FIELDS).try_for_each(|(text, field)| field.check(text))
}

impl Field {
    fn check(&self, text: &str) -> Result<(), String> {
        text.split(',')
            .try_for_each(|part| self.part(part))
            .map_err(|reason| format!("`{text}` is not {}: {reason}; it takes {} to {}", self.what, self.min, self.max))
    }

    /// `*`, a value or a range, and a step after the first and the last of these.
    fn part(&self, text: &str) -> Result<(), String> {
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let is_one = match range.split_once('-') {
            _ if range == "*" => false,
            None => {
                self.value(range)?;
                true
            }
            Some((first, last)) => {
                if self.value(last)? < self.value(first)? {
                    return Err(format!("`{range}` ends before it begins"));
                }
                false
            }
        };
        match step {
            None => Ok(()),
            Some(_) if is_one => Err(format!("a step needs a range before it, like `{range}-{}/…`", self.max)),
            Some(step) if number(step).is_some_and(|step| 0 < step && step <= self.max) => Ok(()),
            Some(step) => Err(format!("`{step}` is not a step")),
        }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = || {
            let at = self.names.iter().position(|name| text.eq_ignore_ascii_case(name))?;
            Some(self.min + u32::try_from(at).ok()?)
        };
        let value = number(text).or_else(named);
        value.filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| format!("there is no `{text}`"))
    }
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_taken_as_cron_takes_them() {
        for schedule in [
            "* * * * *",
            "*/5 * * * *",
            "0 2 * * 0",
            "0 2 * * 7",
            "  15  3,15 1-7 * mon-fri ",
            "0 0 1 10,11,12 *",
            "0 0 1 1-12/3 *",
            "30 4 1 JAN,apr,Oct sun",
            "0-59/2 0-23 1-31 1-12 0-7",
            "@daily",
            "@Reboot",
            "59 23 31 12 6",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn what_is_none_is_said() {
        for (schedule, reason) in [
            ("", "five fields"),
            ("* * * *", "has 4"),
            ("* * * * * *", "has 6"),
            ("60 * * * *", "`60` is not a minute: there is no `60`; it takes 0 to 59"),
            ("* 24 * * *", "`24` is not an hour"),
            ("* * 0 * *", "not a day of the month"),
            ("* * 32 * *", "there is no `32`"),
            ("* * * 13 *", "not a month"),
            ("* * * 0 *", "there is no `0`"),
            ("* * * mon *", "there is no `mon`"),
            ("* * * * 8", "not a day of the week"),
            ("*/0 * * * *", "`0` is not a step"),
            ("*/x * * * *", "`x` is not a step"),
            ("*/99 * * * *", "`99` is not a step"),
            ("5/15 * * * *", "a step needs a range"),
            ("30-10 * * * *", "ends before it begins"),
            ("1,,2 * * * *", "there is no ``"),
            ("-1 * * * *", "there is no ``"),
            ("1- * * * *", "there is no ``"),
            ("+1 * * * *", "there is no `+1`"),
            ("99999999999 * * * *", "there is no `99999999999`"),
            ("@fortnightly", "there is no schedule `@fortnightly`: known are @reboot"),
            ("* * * * *\n* * * * *", "one line"),
        ] {
            let said = check(schedule).expect_err(schedule);
            assert!(said.contains(reason), "{schedule}: {said}");
        }
    }
}
