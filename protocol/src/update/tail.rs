//! The last lines that a daemon printed.

use std::collections::VecDeque;

/// Most bytes of the lines that are kept, their ends included.
pub const TAIL_BYTES_MAX: usize = 8 * 1024;
/// Most bytes that are kept of one line.
const LINE_BYTES_MAX: usize = 1024;

/// The last lines that a daemon printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Adds a line; the oldest go when there are too many.
    pub fn push(&mut self, line: &str) {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line[..line.floor_char_boundary(LINE_BYTES_MAX)].trim_end().to_owned();
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while TAIL_BYTES_MAX < self.bytes {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.len() + 1);
        }
    }

    /// Forgets all lines.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The lines as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().fold(String::with_capacity(self.bytes), |text, line| text + line + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_nothing_in_them_moves_a_terminal() {
        let mut tail = Tail::default();
        assert_eq!(tail.text(), "");
        tail.push("a\u{1b}[2Jb\r");
        tail.push("");
        assert_eq!(tail.text(), "a [2Jb\n\n");
        for number in 0..10_000 {
            tail.push(&format!("line {number}"));
        }
        assert!(tail.text().ends_with("line 9998\nline 9999\n") && tail.text().len() <= TAIL_BYTES_MAX);
        tail.push(&"é".repeat(TAIL_BYTES_MAX));
        assert!(tail.text().ends_with(&format!("\n{}\n", "é".repeat(LINE_BYTES_MAX / 2))));
        for _ in 0..100 {
            tail.push(&"x".repeat(5000));
        }
        assert_eq!(tail.text().lines().count(), TAIL_BYTES_MAX / (LINE_BYTES_MAX + 1));
        tail.clear();
        assert_eq!(tail, Tail::default());
    }
}
