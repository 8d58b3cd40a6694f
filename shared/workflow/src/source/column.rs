//! Where in a line a syntax error is: the compiler tells the line only.

/// Most pieces of a line that are tried.
const PIECES_MAX: usize = 400;
/// Longer files are not compiled again and again.
const TEXT_BYTES_MAX: usize = 512 * 1024;

/// The column, from 1, of the piece of line `line` (from 1) that the compiler stumbles over: the first one after which
/// it says what it says of the whole text. `complaint` gives what it says of a text.
pub(crate) fn column(text: &str, line: usize, whole: &str, complaint: impl Fn(&str) -> Option<String>) -> usize {
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let source_line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let first = source_line.len() - source_line.trim_start().len();
    let at = if text.len() <= TEXT_BYTES_MAX {
        let found = pieces(source_line)
            .take(PIECES_MAX)
            .find(|(_, end)| text.get(..start + end).and_then(&complaint).is_some_and(|told| told == whole));
        found.map_or(first, |(at, _)| at)
    } else {
        first
    };
    source_line[..at].chars().count() + 1
}

/// Where names, numbers and other characters of a line begin and end.
fn pieces(line: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = line.get(at..)?;
        let start = at + rest.len() - rest.trim_start().len();
        let piece = line[start..].chars().next()?;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(piece) {
            line[start..].find(|c| !is_word(c)).unwrap_or(line.len() - start)
        } else {
            piece.len_utf8()
        };
        at = start + length;
        Some((start, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_that_makes_the_complaint_is_where_it_is() {
        // A compiler that knows one rule: two `=` in a row are wrong.
        let complaint = |text: &str| text.contains("= =").then(|| "two".to_owned());
        for (text, line, expected) in [("x = = 1", 1, 5), ("ok = 1\n  y = = 2 = = 3", 2, 7), ("é = = 1", 1, 5)] {
            assert_eq!(column(text, line, "two", complaint), expected, "{text}");
        }
        assert_eq!(column("  abc", 1, "never said", complaint), 3);
        assert_eq!(column("", 9, "never said", complaint), 1);
    }
}
