//! What tasks print: how much of it is taken, and how it is put together on its way.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sloth_protocol::wire::{LogStream, TaskName};

/// How long a line waits for others.
pub const BATCH_MS: u64 = 100;
/// Most bytes of a record, but for one that has a single line.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// From this many bytes on, nothing waits.
pub const BATCH_BYTES: usize = 64 * 1024;

/// One line, or several of one stream joined by line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Which task printed it; none outside tasks.
    pub task: Option<TaskName>,
    /// Where to.
    pub stream: LogStream,
    /// Without the last line's end.
    pub text: String,
}

/// How much each task may still print.
#[derive(Debug)]
pub struct Quota {
    bytes_max: u64,
    used: BTreeMap<Option<TaskName>, Used>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    left_out_lines: u64,
    left_out_bytes: u64,
}

/// Lines that wait to be sent together.
///
/// The lines of one task stay in their order. Lines of different tasks that ran at the same time may change places,
/// so that tasks that print in turns do not cost a record for each line.
#[derive(Debug, Default)]
pub struct Batches {
    waiting: Vec<Lines>,
    bytes: usize,
    due: Option<Instant>,
}

impl Quota {
    /// Each task may print `bytes_max` bytes, and what is outside tasks as much.
    #[must_use]
    pub const fn new(bytes_max: u64) -> Self {
        Self { bytes_max, used: BTreeMap::new() }
    }

    /// Whether a line of `bytes` is taken, given whether there is `room` for it elsewhere. One that is not is counted.
    pub fn admit(&mut self, task: Option<&TaskName>, bytes: usize, room: bool) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(1);
        let used = self.used.entry(task.cloned()).or_default();
        let admitted = room && used.bytes.saturating_add(bytes) <= self.bytes_max;
        if admitted {
            used.bytes = used.bytes.saturating_add(bytes);
        } else {
            used.left_out_lines = used.left_out_lines.saturating_add(1);
            used.left_out_bytes = used.left_out_bytes.saturating_add(bytes);
        }
        admitted
    }

    /// Forgets a task that prints nothing more; says in one line what was left out of it, if anything was.
    pub fn close(&mut self, task: Option<&TaskName>) -> Option<String> {
        let used = self.used.remove(&task.cloned())?;
        let (lines, bytes) = (used.left_out_lines, used.left_out_bytes);
        let what = if lines == 1 { "line was" } else { "lines were" };
        (0 < lines).then(|| format!("{lines} more {what} left out here, {bytes} bytes"))
    }
}

impl Batches {
    /// Adds lines at `now`. They are due at [`Batches::due`], or at once when this is full.
    pub fn push(&mut self, lines: Lines, now: Instant) {
        self.due.get_or_insert(now + Duration::from_millis(BATCH_MS));
        self.bytes += lines.text.len() + 1;
        let last = self.waiting.iter_mut().rev().find(|waiting| waiting.task == lines.task);
        match last {
            Some(last) if last.stream == lines.stream && last.text.len() + lines.text.len() < RECORD_BYTES_MAX => {
                last.text.push('\n');
                last.text.push_str(&lines.text);
            }
            Some(_) | None => self.waiting.push(lines),
        }
    }

    /// When what waits is to be sent; none when nothing waits.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is to be sent at once.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        BATCH_BYTES <= self.bytes
    }

    /// Takes out all that waits.
    pub fn take(&mut self) -> Vec<Lines> {
        (self.bytes, self.due) = (0, None);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> Option<TaskName> {
        (!name.is_empty()).then(|| TaskName { workflow: "w".into(), task: name.into() })
    }

    fn lines(name: &str, stream: LogStream, text: &str) -> Lines {
        Lines { task: task(name), stream, text: text.into() }
    }

    #[test]
    fn lines_of_a_task_are_joined_and_keep_their_order() {
        use LogStream::{Info, Stderr, Stdout};
        let (mut batches, now) = (Batches::default(), Instant::now());
        assert_eq!(batches.due(), None);
        for (name, stream, text) in [
            ("a", Info, "1"),
            ("b", Info, "1"),
            ("a", Info, ""),
            ("a", Info, "2"),
            ("a", Stdout, "3"),
            ("b", Info, "2"),
            ("a", Info, "4"),
            ("", Stderr, "x"),
        ] {
            batches.push(lines(name, stream, text), now);
        }
        assert_eq!(batches.due(), Some(now + Duration::from_millis(BATCH_MS)));
        let expected = [
            lines("a", Info, "1\n\n2"),
            lines("b", Info, "1\n2"),
            lines("a", Stdout, "3"),
            lines("a", Info, "4"),
            lines("", Stderr, "x"),
        ];
        assert_eq!(batches.take(), expected);
        assert_eq!((batches.due(), batches.take()), (None, Vec::new()));
    }

    #[test]
    fn records_and_batches_are_bounded() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        let line = "x".repeat(1000);
        let mut count = 0;
        while !batches.is_full() {
            batches.push(lines("a", LogStream::Info, &line), now);
            count += 1;
        }
        let records = batches.take();
        assert!(records.iter().all(|record| record.text.len() <= RECORD_BYTES_MAX));
        assert_eq!(records.iter().map(|record| record.text.lines().count()).sum::<usize>(), count);
        assert_eq!(records.len(), BATCH_BYTES.div_ceil(RECORD_BYTES_MAX) + 1);
        assert!(!batches.is_full());
    }

    #[test]
    fn a_task_prints_its_share_and_one_line_says_what_is_missing() {
        let mut quota = Quota::new(10);
        let (a, b) = (task("a"), task("b"));
        for (task, bytes, room, expected) in [
            (&a, 4, true, true),
            (&a, 5, true, false),
            (&a, 4, true, true),
            (&a, 0, true, false),
            (&b, 4, false, false),
            (&b, 4, true, true),
            (&None, 9, true, true),
            (&None, 9, true, false),
        ] {
            assert_eq!(quota.admit(task.as_ref(), bytes, room), expected, "{task:?} {bytes}");
        }
        assert_eq!(quota.close(a.as_ref()).as_deref(), Some("2 more lines were left out here, 7 bytes"));
        assert_eq!(quota.close(a.as_ref()), None);
        assert_eq!(quota.close(b.as_ref()).as_deref(), Some("1 more line was left out here, 5 bytes"));
        assert!(quota.admit(a.as_ref(), 9, true), "a task that begins again has its share again");
        assert_eq!(quota.close(task("c").as_ref()), None);
    }
}
