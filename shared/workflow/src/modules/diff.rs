//! How two texts differ, for people.

use similar::TextDiff;

/// Lines around a difference that are shown.
const CONTEXT_LINES: usize = 3;
/// Most bytes of each text that are compared; what is longer is only said to differ.
const COMPARED_BYTES_MAX: usize = 512 * 1024;
/// Most lines of a difference that are shown.
const SHOWN_LINES_MAX: usize = 200;

/// The lines that differ, as `diff -u` shows them; empty when none does. What is no text is only said to differ.
pub(super) fn unified(name: &str, before: &[u8], after: &[u8]) -> String {
    if before == after {
        return String::new();
    }
    let (Ok(old), Ok(new)) = (str::from_utf8(before), str::from_utf8(after)) else {
        return format!("binary file {name} differs: {} bytes before, {} after", before.len(), after.len());
    };
    if COMPARED_BYTES_MAX < old.len() || COMPARED_BYTES_MAX < new.len() {
        return format!("file {name} differs: {} bytes before, {} after", old.len(), new.len());
    }
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(CONTEXT_LINES).header(name, name).to_string();
    let mut lines = text.lines();
    let mut shown: Vec<&str> = lines.by_ref().take(SHOWN_LINES_MAX).collect();
    let left = lines.count();
    let more = format!("… {left} more lines");
    if 0 < left {
        shown.push(&more);
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_and_bounded() {
        assert_eq!(unified("f", b"a\n", b"a\n"), "");
        assert_eq!(unified("f", b"a\nb\n", b"a\nc\n"), "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n+c");
        assert_eq!(unified("f", b"\xff", b"ab"), "binary file f differs: 1 bytes before, 2 after");
        let long: String = (0..1_000).map(|line| format!("{line}\n")).collect();
        let shown = unified("f", b"", long.as_bytes());
        assert_eq!(shown.lines().count(), SHOWN_LINES_MAX + 1);
        assert!(shown.ends_with("… 803 more lines"), "{shown}");
    }
}
