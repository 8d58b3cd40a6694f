//! The view of a run on a terminal: below the lines that scroll, one line for each task that runs.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
};

use sloth_cli::events::{exact, printable};
use sloth_core::Millis;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How often the view moves.
pub(super) const TICK_MS: u64 = 100;
/// A terminal of fewer columns gets plain lines.
const COLUMNS_MIN: usize = 40;
/// Most tasks that are shown at a time, where the terminal has room.
const ROWS_MAX: usize = 12;
/// Lines of the terminal that stay with what scrolls.
const ROWS_KEPT: usize = 4;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// The tasks that run.
#[derive(Debug)]
pub(super) struct Live {
    began: Millis,
    tasks: usize,
    ended: usize,
    running: BTreeMap<String, Running>,
    frame: usize,
    /// The columns of each line that is on the screen.
    drawn: Vec<usize>,
}

#[derive(Debug)]
struct Running {
    since: Millis,
    last_line: String,
}

impl Live {
    /// A view, where standard output is a terminal that can show one and nobody asked for plain text.
    pub(super) fn new(began: Millis) -> Option<Self> {
        let out = io::stdout();
        let plain = anstream::AutoStream::choice(&out) == anstream::ColorChoice::Never;
        let (columns, _) = size()?;
        if !out.is_terminal() || plain || columns < COLUMNS_MIN {
            return None;
        }
        let (running, drawn) = (BTreeMap::new(), Vec::new());
        Some(Self { began, tasks: 0, ended: 0, running, frame: 0, drawn })
    }

    pub(super) fn planned(&mut self, tasks: usize) {
        self.tasks += tasks;
    }

    pub(super) fn started(&mut self, task: String, at: Millis) {
        // A further attempt does not begin the count anew.
        self.running.entry(task).or_insert(Running { since: at, last_line: String::new() });
    }

    pub(super) fn said(&mut self, task: &str, text: &str) {
        if let (Some(running), Some(line)) = (self.running.get_mut(task), text.lines().next_back()) {
            running.last_line = printable(line).replace('\t', " ");
        }
    }

    pub(super) fn ended(&mut self, task: &str) {
        self.running.remove(task);
        self.ended += 1;
    }

    /// Takes the view off the screen.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.drawn.is_empty() {
            return Ok(());
        }
        // A terminal that became narrower has broken lines in two.
        let columns = size().map_or(COLUMNS_MIN, |(columns, _)| columns.max(1));
        let rows: usize = self.drawn.drain(..).map(|width| width.max(1).div_ceil(columns)).sum();
        let mut out = io::stdout().lock();
        if 1 < rows {
            write!(out, "\x1b[{}A", rows - 1)?;
        }
        write!(out, "\r\x1b[J")?;
        out.flush()
    }

    /// Puts the view on the screen, below what is there.
    pub(super) fn draw(&mut self, now: Millis) -> io::Result<()> {
        let Some((columns, rows)) = size() else { return Ok(()) };
        if self.running.is_empty() {
            return Ok(());
        }
        let lines = self.lines(now, columns.saturating_sub(1), rows.saturating_sub(ROWS_KEPT).clamp(1, ROWS_MAX));
        let mut out = io::stdout().lock();
        write!(out, "{}", lines.join("\n"))?;
        self.drawn = lines.iter().map(|line| line.width()).collect();
        out.flush()
    }

    /// Moves the view on.
    pub(super) fn tick(&mut self, now: Millis) -> io::Result<()> {
        self.frame = (self.frame + 1) % SPINNER.len();
        self.clear()?;
        self.draw(now)
    }

    fn lines(&self, now: Millis, columns: usize, rows: usize) -> Vec<String> {
        let line = |(task, running): (&String, &Running)| {
            let spinner = SPINNER[self.frame];
            let took = exact(now.since(running.since));
            cut(&format!("{spinner} {task} {took}  {}", running.last_line), columns)
        };
        let mut lines: Vec<String> = self.running.iter().take(rows).map(line).collect();
        let more = match self.running.len().saturating_sub(rows) {
            0 => String::new(),
            more => format!(", {more} more run"),
        };
        let took = exact(now.since(self.began));
        lines.push(cut(&format!("  {} of {} tasks in {took}{more}", self.ended, self.tasks), columns));
        lines
    }
}

/// Columns and rows of the terminal.
fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// The start of a line that takes `columns` columns at most.
fn cut(line: &str, columns: usize) -> String {
    let line = line.trim_end();
    if line.width() <= columns {
        return line.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut text: String = line.chars().take_while(fits).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal() {
        let at = Millis::from_u64;
        let mut live = Live { began: at(0), tasks: 9, ended: 1, running: BTreeMap::new(), frame: 0, drawn: Vec::new() };
        for task in ["a/one", "a/three", "a/two"] {
            live.started(task.to_owned(), at(1_000));
        }
        live.said("a/one", "first\n日本語日本語日本語\x1b[2J");
        live.said("a/gone", "x");
        let lines = live.lines(at(2_340), 24, 2);
        assert_eq!(lines, ["⠋ a/one 1.34s  日本語日…", "⠋ a/three 1.34s", "  1 of 9 tasks in 2.34s…"]);
        assert!(lines.iter().all(|line| line.width() <= 24), "{lines:?}");
        live.ended("a/two");
        assert_eq!(live.lines(at(2_340), 80, 2)[2], "  2 of 9 tasks in 2.34s");
    }
}
