//! What is wrong for as long as nobody mends it.

use sloth_core::Millis;

/// How often the same thing is said again.
const AGAIN: Millis = Millis::from_secs(3600);

/// Says of one thing that it is wrong: when it begins or changes, and then now and then, so that a person can live with
/// it and still does not miss it.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    last: Option<(Millis, String)>,
}

impl Complaint {
    /// Whether it is time to say `what` at `now`, which may jump.
    pub(super) fn is_due(&mut self, now: Millis, what: &str) -> bool {
        let due = self.last.as_ref().is_none_or(|(at, said)| said != what || now < *at || AGAIN <= now.since(*at));
        if due {
            self.last = Some((now, what.to_owned()));
        }
        due
    }

    /// All is well: the next thing is said at once.
    pub(super) fn settle(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_change_and_then_once_an_hour() {
        let minute = |minutes: u64| Millis::from_secs(1_700_000_000 + 60 * minutes);
        let mut complaint = Complaint::default();
        let said = (0..180).filter(|at| complaint.is_due(minute(*at), "no randomness")).collect::<Vec<_>>();
        assert_eq!(said, [0, 60, 120]);
        assert!(complaint.is_due(minute(181), "no key"));
        assert!(complaint.is_due(minute(100), "no key"), "the clock was set back");
        complaint.settle();
        assert!(complaint.is_due(minute(101), "no key"));
    }
}
