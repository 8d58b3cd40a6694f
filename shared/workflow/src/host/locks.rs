//! Who holds a lock, and who waits for it.

use serde::{Deserialize, Serialize};
use sloth_core::Millis;

use super::{Holder, Place};

/// Most that wait for one lock.
const LOCK_WAITERS_MAX: usize = 1_000;
/// Who waits and was not heard of for so long has given up.
const WAITER_STALE_MS: u64 = 5_000;

/// A lock's queue: the first one has it, or is about to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockQueue(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    holder: Holder,
    /// Whether it was told that it has the lock.
    held: bool,
    /// When it loses its place; `None` = when its process ends.
    until: Option<Millis>,
}

impl LockQueue {
    /// Asks in the name of `holder`. `is_alive` says whether the process of a holder still runs.
    ///
    /// # Errors
    ///
    /// When too many wait already, in a sentence for the script.
    pub fn ask(
        &mut self,
        holder: &Holder,
        ttl: Option<Millis>,
        wait: bool,
        now: Millis,
        is_alive: impl Fn(&Holder) -> bool,
    ) -> Result<Place, String> {
        self.0.retain(|entry| {
            let mine = entry.holder.id == holder.id;
            mine || entry.until.is_none_or(|until| now < until) && is_alive(&entry.holder)
        });
        let found = self.0.iter().position(|entry| entry.holder.id == holder.id);
        let ahead = found.unwrap_or(self.0.len());
        let held = ahead == 0;
        if held || wait {
            let stale = now + Millis::from_u64(WAITER_STALE_MS);
            let until = if held { ttl.map(|ttl| now + ttl) } else { Some(stale) };
            let entry = Entry { holder: holder.clone(), held, until };
            match found {
                Some(at) => self.0[at] = entry,
                None if LOCK_WAITERS_MAX <= self.0.len() => {
                    return Err(format!("{LOCK_WAITERS_MAX} wait for this lock already"));
                }
                None => self.0.push(entry),
            }
        }
        let held_by = self.0.first().map(|first| first.holder.clone()).filter(|_| !held);
        Ok(Place { ahead: u64::try_from(ahead).unwrap_or(u64::MAX), held_by })
    }

    /// Takes whoever has that id out. Whether it held the lock.
    pub fn leave(&mut self, id: &str, now: Millis) -> bool {
        let Some(at) = self.0.iter().position(|entry| entry.holder.id == id) else { return false };
        let gone = self.0.remove(at);
        gone.held && gone.until.is_none_or(|until| now < until)
    }

    /// Whether nobody holds it or waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis::from_u64(1_000_000);

    fn holder(id: &str) -> Holder {
        Holder { id: id.to_owned(), run: "run".to_owned(), process: 1, started: Some(1) }
    }

    #[test]
    fn who_asks_first_has_it_first() {
        let mut queue = LockQueue::default();
        let mut ask = |id: &str, wait, at: u64| {
            let place = queue.ask(&holder(id), None, wait, NOW + Millis::from_u64(at), |_| true).expect("a place");
            (place.ahead, place.held_by.map(|holder| holder.id))
        };
        assert_eq!(ask("a", true, 0), (0, None));
        assert_eq!(ask("b", true, 0), (1, Some("a".to_owned())));
        assert_eq!(ask("c", false, 0), (2, Some("a".to_owned())));
        assert_eq!(ask("d", true, 0), (2, Some("a".to_owned())));
        assert_eq!(ask("b", true, 4_000), (1, Some("a".to_owned())));
        // Nobody has heard of `d` for too long.
        assert_eq!(ask("b", true, 6_000), (1, Some("a".to_owned())));
        assert_eq!(ask("e", true, 6_000), (2, Some("a".to_owned())));
        assert!(queue.leave("a", NOW) && !queue.leave("a", NOW));
        let now = NOW + Millis::from_u64(7_000);
        assert_eq!(queue.ask(&holder("e"), None, true, now, |_| true).expect("a place").ahead, 1);
        assert_eq!(queue.ask(&holder("b"), None, true, now, |_| true).expect("a place").ahead, 0);
    }

    #[test]
    fn it_is_lost_with_its_time_and_with_its_process() {
        let mut queue = LockQueue::default();
        let mut ask = |id: &str, ttl: Option<u64>, at: u64, dead: &str| {
            let now = NOW + Millis::from_u64(at);
            let ttl = ttl.map(Millis::from_u64);
            queue.ask(&holder(id), ttl, true, now, |holder| holder.id != dead).expect("a place").ahead
        };
        assert_eq!(ask("a", Some(50), 0, ""), 0);
        assert_eq!(ask("b", None, 49, ""), 1);
        assert_eq!(ask("b", None, 50, ""), 0);
        assert_eq!(ask("c", None, 60, ""), 1);
        assert_eq!(ask("c", None, 70, "b"), 0);
        assert!(queue.leave("c", NOW));
        assert!(queue.is_empty());
    }
}
