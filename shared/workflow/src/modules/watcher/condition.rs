//! When a watcher tells of what it sees.

use regex::Regex;
use serde_json::{Map, Value as Json, json};

use super::{
    probe::{Look, Seen},
    settings::Kind,
};

/// Most events that one look tells; a storm of them helps nobody.
const EVENTS_PER_LOOK_MAX: usize = 100;

/// What has to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Created,
    Changed,
    Deleted,
    Exists,
    Above,
    Below,
    Increased,
    Decreased,
    Matches,
    Contains,
}

/// What a watcher looks for.
pub(super) struct Rules {
    pub(super) when: Vec<Condition>,
    pub(super) threshold: Option<f64>,
    pub(super) pattern: Option<Pattern>,
}

/// What a text must hold.
pub(super) enum Pattern {
    Regex(Regex),
    Plain(String),
}

/// Something to tell.
pub(super) struct Happening {
    pub(super) kind: String,
    pub(super) data: Map<String, Json>,
}

impl Condition {
    pub(super) const ALL: [Self; 10] = [
        Self::Created,
        Self::Changed,
        Self::Deleted,
        Self::Exists,
        Self::Above,
        Self::Below,
        Self::Increased,
        Self::Decreased,
        Self::Matches,
        Self::Contains,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Exists => "exists",
            Self::Above => "above",
            Self::Below => "below",
            Self::Increased => "increased",
            Self::Decreased => "decreased",
            Self::Matches => "matches",
            Self::Contains => "contains",
        }
    }

    /// Whether it compares with a threshold.
    pub(super) const fn has_threshold(self) -> bool {
        matches!(self, Self::Above | Self::Below)
    }

    /// Whether it looks for a pattern.
    pub(super) const fn has_pattern(self) -> bool {
        matches!(self, Self::Matches | Self::Contains)
    }
}

impl Pattern {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Regex(regex) => regex.is_match(text),
            Self::Plain(part) => text.contains(part.as_str()),
        }
    }
}

impl Rules {
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.when.iter().map(|condition| condition.as_str()).collect()
    }

    /// What is to be told of `now`, which follows `before`; nothing is known before the first look.
    ///
    /// What holds is told when it begins to hold, and not again until it has ceased to.
    pub(super) fn happenings(&self, kind: Kind, before: Option<&Seen>, now: &Seen) -> Vec<Happening> {
        let mut told = match (before, now) {
            (before, Seen::One(now)) => {
                let before = match before {
                    Some(Seen::One(before)) => Some(before),
                    Some(Seen::Tree(_) | Seen::Lines(_)) | None => None,
                };
                let holds = |condition: &&Condition| self.holds(**condition, before, now);
                self.when
                    .iter()
                    .filter(holds)
                    .map(|condition| self.happening(kind, *condition, now.data.clone()))
                    .collect()
            }
            (Some(Seen::Tree(before)), Seen::Tree(now)) => {
                let mut told = Vec::new();
                for (path, print) in now {
                    match before.get(path) {
                        None => told.extend(self.about(kind, Condition::Created, path)),
                        Some(other) if other != print => told.extend(self.about(kind, Condition::Changed, path)),
                        Some(_) => {}
                    }
                }
                let gone = before.keys().filter(|path| !now.contains_key(*path));
                told.extend(gone.filter_map(|path| self.about(kind, Condition::Deleted, path)));
                told
            }
            (_, Seen::Lines(lines)) => {
                let condition = self.when.first().copied().unwrap_or(Condition::Matches);
                let fitting = lines.iter().filter(|line| self.pattern.as_ref().is_some_and(|p| p.is_in(line)));
                fitting
                    .map(|line| self.happening(kind, condition, Map::from_iter([("line".to_owned(), json!(line))])))
                    .collect()
            }
            (Some(Seen::One(_) | Seen::Lines(_)) | None, Seen::Tree(_)) => Vec::new(),
        };
        told.truncate(EVENTS_PER_LOOK_MAX);
        told
    }

    fn holds(&self, condition: Condition, before: Option<&Look>, now: &Look) -> bool {
        let begins = |holds: &dyn Fn(&Look) -> bool| holds(now) && !before.is_some_and(holds);
        let beyond = |compare: fn(&f64, &f64) -> bool| {
            begins(&|look| look.value.zip(self.threshold).is_some_and(|(value, threshold)| compare(&value, &threshold)))
        };
        let moved = |compare: fn(&f64, &f64) -> bool| {
            now.value.zip(before.and_then(|before| before.value)).is_some_and(|(now, before)| compare(&now, &before))
        };
        match condition {
            Condition::Created => now.present && before.is_some_and(|before| !before.present),
            Condition::Deleted => !now.present && before.is_some_and(|before| before.present),
            Condition::Changed => {
                now.present && before.is_some_and(|before| before.present && before.print != now.print)
            }
            Condition::Exists => begins(&|look| look.present),
            Condition::Above => beyond(f64::gt),
            Condition::Below => beyond(f64::lt),
            Condition::Increased => moved(f64::gt),
            Condition::Decreased => moved(f64::lt),
            Condition::Matches | Condition::Contains => begins(&|look| {
                look.text.as_ref().zip(self.pattern.as_ref()).is_some_and(|(text, pattern)| pattern.is_in(text))
            }),
        }
    }

    /// What is to be told of a file in a directory, if anybody wants to know.
    fn about(&self, kind: Kind, condition: Condition, path: &str) -> Option<Happening> {
        let data = || Map::from_iter([("file".to_owned(), json!(path))]);
        self.when.contains(&condition).then(|| self.happening(kind, condition, data()))
    }

    fn happening(&self, kind: Kind, condition: Condition, mut data: Map<String, Json>) -> Happening {
        data.insert("condition".to_owned(), condition.as_str().into());
        if let Some(threshold) = self.threshold {
            data.insert("threshold".to_owned(), threshold.into());
        }
        Happening { kind: format!("{}.{}", kind.as_str(), verb(kind, condition)), data }
    }
}

/// What follows the kind in the type of an event.
const fn verb(kind: Kind, condition: Condition) -> &'static str {
    match (kind, condition) {
        (Kind::Directory, Condition::Created) => "file_created",
        (Kind::Directory, Condition::Changed) => "file_changed",
        (Kind::Directory, Condition::Deleted) => "file_deleted",
        (Kind::Process | Kind::Service, Condition::Created) => "started",
        (Kind::Process | Kind::Service, Condition::Deleted) => "stopped",
        (Kind::Process | Kind::Service, Condition::Exists) => "running",
        (Kind::Port, Condition::Created) => "opened",
        (Kind::Port, Condition::Deleted) => "closed",
        (Kind::Port, Condition::Exists) => "open",
        (Kind::Cpu | Kind::Memory | Kind::Disk, Condition::Above) => "high_usage",
        (Kind::Cpu | Kind::Memory | Kind::Disk, Condition::Below) => "low_usage",
        (Kind::Log, Condition::Matches | Condition::Contains) => "pattern_matched",
        (Kind::Command | Kind::Custom, Condition::Above) => "threshold_exceeded",
        (Kind::Command | Kind::Custom, Condition::Below) => "below_threshold",
        (Kind::Command, Condition::Changed) => "output_changed",
        (Kind::Command, Condition::Exists) => "succeeded",
        (Kind::Command, Condition::Deleted) => "failed",
        (Kind::Custom, Condition::Exists) => "triggered",
        (Kind::Custom, Condition::Deleted) => "cleared",
        (_, condition) => condition.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(present: bool, value: f64, text: &str) -> Seen {
        Seen::One(Look {
            present,
            value: Some(value),
            text: Some(text.to_owned()),
            print: text.to_owned(),
            data: Map::new(),
        })
    }

    fn told(when: Condition, looks: &[Seen]) -> Vec<bool> {
        let pattern = Some(Pattern::Plain("x".to_owned()));
        let rules = Rules { when: vec![when], threshold: Some(5.0), pattern };
        (0..looks.len())
            .map(|at| {
                let before = at.checked_sub(1).map(|at| &looks[at]);
                !rules.happenings(Kind::Command, before, &looks[at]).is_empty()
            })
            .collect()
    }

    #[test]
    fn what_holds_is_told_when_it_begins_to() {
        let looks = [
            look(false, 4.0, "a"),
            look(true, 6.0, "x"),
            look(true, 7.0, "xy"),
            look(true, 3.0, "xy"),
            look(false, 3.0, "b"),
        ];
        for (condition, expected) in [
            (Condition::Created, [false, true, false, false, false]),
            (Condition::Deleted, [false, false, false, false, true]),
            (Condition::Exists, [false, true, false, false, false]),
            (Condition::Changed, [false, false, true, false, false]),
            (Condition::Above, [false, true, false, false, false]),
            (Condition::Below, [true, false, false, true, false]),
            (Condition::Increased, [false, true, true, false, false]),
            (Condition::Decreased, [false, false, false, true, false]),
            (Condition::Matches, [false, true, false, false, false]),
        ] {
            assert_eq!(told(condition, &looks), expected, "{}", condition.as_str());
        }
    }
}
