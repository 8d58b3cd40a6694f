//! What a supervisor keeps on the disk: one small file that a person can read.

use semver::Version;
use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Millis};

use super::{Proof, Slot};

/// Most bytes of a marker.
pub const MARKER_BYTES_MAX: usize = 1024 * 1024;
/// Most versions that are marked bad; the oldest marks go.
pub const BAD_MAX: usize = 32;
/// Most outcomes that are kept; the oldest go.
pub const OUTCOMES_MAX: usize = 8;
/// Most bytes of a reason.
const REASON_BYTES_MAX: usize = 1024;
/// How a marker begins; the digest of what follows the line stands behind it.
const FORMAT: &str = "sloth-update 1";

/// What a supervisor keeps. Whatever a later release adds is passed over by an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The package's version when it was last looked at.
    pub packaged: Version,
    /// What runs when nothing is on trial. Invariant: it has worked, or it is what the package brought.
    pub current: Slot,
    /// What was current before.
    #[serde(default)]
    pub previous: Option<Slot>,
    /// What is on trial.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// What could not connect, and is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_off: Option<PutOff>,
    /// Versions that are not started again.
    #[serde(default)]
    pub bad: Vec<Bad>,
    /// What became of updates, the oldest first.
    #[serde(default)]
    pub outcomes: Vec<UpdateOutcome>,
    /// Outcomes up to this number are stored elsewhere.
    #[serde(default)]
    pub acknowledged: u64,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub to: Slot,
    /// What will prove it.
    pub proof: Proof,
    /// How often it was started.
    pub starts: u32,
    /// When it was asked for.
    pub since: Millis,
}

/// A version that could not connect, where it is not known yet whether it or the network is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOff {
    /// Which.
    pub to: Slot,
    /// How often it was on trial.
    pub rounds: u32,
    /// After how many of these the version before it connected soon.
    pub against: u32,
    /// What it did not do.
    pub reason: String,
    /// The last lines that it printed.
    pub log_tail: String,
    /// When its last trial was asked for.
    pub since: Millis,
}

/// A version that is not started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Which.
    pub version: Version,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Millis,
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOutcome {
    /// Above that of every earlier outcome, also when the marker was lost in between.
    pub number: u64,
    /// The version that ran before, and runs again when it was rolled back.
    pub from: Version,
    /// The version that was tried.
    pub to: Version,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, for people.
    pub reason: String,
    /// The last lines that it printed; empty when it was confirmed.
    pub log_tail: String,
    /// When that was decided.
    pub at: Millis,
}

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works, and is the current version.
    Confirmed,
    /// It does not, and the version before runs again.
    RolledBack,
}

/// Bytes that are no marker.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// Cut short, or not a marker at all.
    #[error("it does not begin like an update marker of a release that this one knows")]
    Format,
    /// Something in it was changed.
    #[error("its checksum does not fit")]
    Checksum,
    /// It was written so by a release that this one does not understand.
    #[error("it cannot be read")]
    Content {
        /// Where and why.
        source: serde_json::Error,
    },
}

impl Marker {
    /// The marker of a host on which nothing was ever updated.
    #[must_use]
    pub const fn new(packaged: Version) -> Self {
        Self {
            packaged,
            current: Slot::Packaged,
            previous: None,
            trial: None,
            put_off: None,
            bad: Vec::new(),
            outcomes: Vec::new(),
            acknowledged: 0,
        }
    }

    /// The file's content.
    #[must_use]
    pub fn encode(&self) -> String {
        // Nothing in it refuses to be written.
        let body = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        format!("{FORMAT} {}\n{body}", Digest::of(body.as_bytes()))
    }

    /// Reads what [`Marker::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When a single byte is not as it was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkerError> {
        let text = std::str::from_utf8(bytes).map_err(|_| MarkerError::Format)?;
        let (head, body) = text.split_once('\n').ok_or(MarkerError::Format)?;
        let digest = head.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix(' ')).ok_or(MarkerError::Format)?;
        if digest != Digest::of(body.as_bytes()).to_string() {
            return Err(MarkerError::Checksum);
        }
        serde_json::from_str(body).map_err(|source| MarkerError::Content { source })
    }

    /// Why a version is not started again, if so.
    #[must_use]
    pub fn bad(&self, version: &Version) -> Option<&Bad> {
        self.bad.iter().find(|bad| bad.version == *version)
    }

    /// The version of a slot.
    #[must_use]
    pub fn version(&self, slot: &Slot) -> Version {
        slot.version(&self.packaged)
    }

    /// The oldest outcome that was not acknowledged.
    #[must_use]
    pub fn outcome(&self) -> Option<&UpdateOutcome> {
        self.outcomes.iter().find(|outcome| self.acknowledged < outcome.number)
    }

    pub(super) fn mark_bad(&mut self, version: Version, reason: &str, since: Millis) {
        self.forget(&version);
        self.bad.push(Bad { version, reason: cut(reason), since });
        let surplus = self.bad.len().saturating_sub(BAD_MAX);
        self.bad.drain(..surplus);
    }

    /// Whether it was marked bad.
    pub(super) fn forget(&mut self, version: &Version) -> bool {
        let before = self.bad.len();
        self.bad.retain(|bad| bad.version != *version);
        self.bad.len() < before
    }

    /// Adds an outcome, whose number is chosen here.
    pub(super) fn decide(&mut self, outcome: UpdateOutcome) {
        let last = self.outcomes.last().map_or(self.acknowledged, |last| last.number.max(self.acknowledged));
        let number = outcome.at.as_u64().max(last.saturating_add(1));
        self.outcomes.push(UpdateOutcome { number, reason: cut(&outcome.reason), ..outcome });
        let surplus = self.outcomes.len().saturating_sub(OUTCOMES_MAX);
        self.outcomes.drain(..surplus);
    }
}

pub(super) fn cut(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::TAIL_BYTES_MAX;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    fn outcome(at: u64) -> UpdateOutcome {
        UpdateOutcome {
            number: 0,
            from: version("1.0.0"),
            to: version("1.1.0"),
            verdict: Verdict::RolledBack,
            reason: "it was started 3 times".to_owned(),
            log_tail: "a\nb\n".to_owned(),
            at: Millis::from_u64(at),
        }
    }

    fn marker() -> Marker {
        let mut marker = Marker::new(version("1.0.0"));
        marker.current = Slot::Installed(version("1.0.5"));
        marker.previous = Some(Slot::Packaged);
        let to = Slot::Installed(version("2.0.0-rc.1"));
        marker.trial = Some(Trial { to, proof: Proof::Polled, starts: 1, since: Millis::from_secs(5) });
        marker.mark_bad(version("1.1.0"), "it hung", Millis::from_secs(4));
        marker.decide(outcome(1_700_000_000_000));
        marker
    }

    #[test]
    fn the_text_is_frozen_and_what_later_releases_add_is_passed_over() {
        let mut marker = marker();
        let text = marker.encode();
        let body = text.split_once('\n').expect("two parts").1;
        let flat: String = body.split_whitespace().collect();
        assert_eq!(
            flat,
            "{\"packaged\":\"1.0.0\",\"current\":\"1.0.5\",\"previous\":\"packaged\",\"trial\":{\"to\":\"2.0.0-rc.1\",\
             \"proof\":\"polled\",\"starts\":1,\"since\":5000},\"bad\":[{\"version\":\"1.1.0\",\"reason\":\"ithung\",\
             \"since\":4000}],\"outcomes\":[{\"number\":1700000000000,\"from\":\"1.0.0\",\"to\":\"1.1.0\",\
             \"verdict\":\"rolled_back\",\"reason\":\"itwasstarted3times\",\"log_tail\":\"a\\nb\\n\",\
             \"at\":1700000000000}],\"acknowledged\":0}"
        );
        marker.put_off = Some(PutOff {
            to: Slot::Installed(version("2.0.0")),
            rounds: 2,
            against: 1,
            reason: "no answer".to_owned(),
            log_tail: "c\n".to_owned(),
            since: Millis::from_secs(6),
        });
        let flat: String = marker.encode().split_whitespace().collect();
        let put_off = "\"put_off\":{\"to\":\"2.0.0\",\"rounds\":2,\"against\":1,\"reason\":\"noanswer\",\
                       \"log_tail\":\"c\\n\",\"since\":6000},\"bad\":[";
        assert!(flat.contains(put_off), "{flat}");
        let later = "{\"packaged\":\"1.0.0\",\"current\":\"packaged\",\"colour\":\"blue\"}";
        let later = format!("{FORMAT} {}\n{later}", Digest::of(later.as_bytes()));
        assert_eq!(Marker::decode(later.as_bytes()).expect("readable"), Marker::new(version("1.0.0")));
    }

    #[test]
    fn every_byte_counts() {
        let text = marker().encode();
        assert_eq!(Marker::decode(text.as_bytes()).expect("readable"), marker());
        for at in 0..text.len() {
            assert!(Marker::decode(&text.as_bytes()[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Marker::decode(&bytes).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn numbers_rise_and_everything_is_bounded() {
        let mut marker = Marker::new(version("1.0.0"));
        for at in [5, 3, 9, 9] {
            marker.decide(outcome(at));
        }
        assert_eq!(marker.outcomes.iter().map(|outcome| outcome.number).collect::<Vec<_>>(), [5, 6, 9, 10]);
        marker.acknowledged = 6;
        assert_eq!(marker.outcome().map(|outcome| outcome.number), Some(9));
        for number in 0..100 {
            let log_tail = "\"\\\u{fffd}".repeat(TAIL_BYTES_MAX / 5);
            marker.decide(UpdateOutcome { log_tail, reason: "é".repeat(9000), ..outcome(number) });
            marker.mark_bad(Version::new(number, 0, 0), &"\"".repeat(9000), Millis::MAX);
        }
        assert_eq!((marker.outcomes.len(), marker.bad.len()), (OUTCOMES_MAX, BAD_MAX));
        assert!(marker.encode().len() < MARKER_BYTES_MAX);
        assert!(marker.bad(&Version::new(99, 0, 0)).is_some() && marker.bad(&Version::new(1, 0, 0)).is_none());
        assert!(marker.forget(&Version::new(99, 0, 0)) && !marker.forget(&Version::new(99, 0, 0)));
    }
}
