//! Workflow files that are made to exhaust the native stack, or time, of whoever looks at them.

#![expect(clippy::expect_used, reason = "that is how a test fails")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sloth_core::fs::{Access, replace};
use sloth_workflow::{Limits, load, needs, validate};

/// Far more than any native stack has room for, in a file that is not too long to be read.
const BYTES: usize = 900_000;
/// What one look may take, where the compiler optimizes least.
const LOOK_MAX: Duration = Duration::from_secs(20);

/// Constructs that lie in or follow each other, and whether the file may be taken: what comes before, is repeated, comes
/// after all, and closes each.
const SHAPES: [(&str, &str, &str, &str); 44] = [
    ("return ", "(", "1", ")"),
    ("return ", "{", "1", "}"),
    ("return ", "f(", "1", ")"),
    ("return ", "a[", "1", "]"),
    ("return ", "-", "1", ""),
    ("return ", "not ", "1", ""),
    ("return ", "#", "a", ""),
    ("return a", "..a", "", ""),
    ("return a", "+a", "", ""),
    ("return a", "^a", "", ""),
    ("return a", " and a", "", ""),
    ("return a", " or a", "", ""),
    ("return a", "<a", "", ""),
    ("return a", ".b", "", ""),
    ("return a", ":b()", "", ""),
    ("return a", "()", "", ""),
    ("return a", "{}", "", ""),
    ("return a", "''", "", ""),
    ("return a", "[1]", "", ""),
    ("return ", "if a then 1 else ", "1", ""),
    ("return ", "function() return ", "1", " end"),
    ("local a = a :: ", "{", "any", "}"),
    ("local a: ", "(", "any", ")"),
    ("local a: any", "|any", "", ""),
    ("local a: any", "&any", "", ""),
    ("local a: any", "?", "", ""),
    ("local a: ", "() -> ", "any", ""),
    ("type A = ", "A<", "A", ">"),
    ("return ", "`{", "1", "}`"),
    ("", "if a then ", "", "end "),
    ("if a then ", "elseif a then ", "", "end"),
    ("", "do ", "", "end "),
    ("", "while a do ", "", "end "),
    ("", "for i = 1, 2 do ", "", "end "),
    ("", "repeat ", "", "until a "),
    ("", "function a() ", "", "end "),
    ("", "local a = 1 ", "", ""),
    ("", "goto a ", "", ""),
    ("", "::a:: ", "", ""),
    ("", "while a do goto c ", "", "::c:: end "),
    ("", "require('x') ", "", ""),
    ("", "require([[x ", "", ""),
    ("", "--[[", "", "]]"),
    ("task('a')", ":command('true')", "", ""),
];

#[test]
fn no_file_crashes_or_holds_up_who_reads_it() {
    let limits = Limits::default();
    for (before, part, last, after) in SHAPES {
        for times in [1_000, BYTES / (part.len() + after.len())] {
            let text = format!("{before}{}{last}{}", part.repeat(times), after.repeat(times));
            look(&format!("{before}{part}… × {times}"), &text, &limits);
        }
    }
}

#[test]
fn garbage_of_one_character_is_read_quickly() {
    for part in
        ["(", "\"", "'\n", "[", "[[", "[=", "--", "-", "::", "\\", "\n", " ", "`", "\0", "é", "0x", "1e", "#!", "."]
    {
        look(part, &part.repeat(BYTES / part.len()), &Limits::default());
    }
}

fn look(shown: &str, text: &str, limits: &Limits) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = Path::new("main.sloth");
    replace(&dir.path().join(file), text.as_bytes(), Access::Everyone).expect("a file");
    let begin = Instant::now();
    let _ = load(dir.path(), file, &serde_json::Value::Null, limits);
    let loaded = begin.elapsed();
    let _ = validate(dir.path(), file, &serde_json::Value::Null, limits);
    let validated = begin.elapsed();
    let _ = needs(dir.path(), file);
    let all = begin.elapsed();
    assert!(all < LOOK_MAX, "{shown}: loaded after {loaded:?}, validated after {validated:?}, all after {all:?}");
}
