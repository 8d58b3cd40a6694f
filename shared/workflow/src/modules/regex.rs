//! Regular expressions for scripts: linear in time, bounded in size.

mod spelling;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use regex::{Captures, Regex, RegexBuilder, bytes};

use self::spelling::translate;

/// Most bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 16 * 1024;
/// Most bytes that a compiled pattern takes, and that matching it remembers.
const COMPILED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The sizes that patterns are told apart by, below the largest.
const SIZES_BYTES: [usize; 3] = [4 * 1024, 32 * 1024, 256 * 1024];
/// What a state of a compiled pattern takes, roughly.
const STATE_BYTES: usize = 32;
/// Most states times bytes of text that are searched where other work waits: about a second's work at worst.
const STEPS_HERE_MAX: usize = 1 << 28;
/// Most states times bytes of text that are searched at all: minutes at worst, where a usual text takes milliseconds.
const STEPS_MAX: usize = 1 << 36;
/// How long all searches of one call may take where other work waits.
const HERE_MAX: Duration = Duration::from_secs(1);
/// How many compiled patterns are kept: scripts match in loops.
const KEPT_MAX: usize = 32;
/// Most characters of a pattern that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

thread_local! {
    static KEPT: RefCell<BTreeMap<String, Pattern>> = RefCell::default();
}

/// A compiled pattern, and what a search with it may cost.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    /// Most bytes that it takes.
    bytes: usize,
}

/// Ends a search over a text with many matches.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    stopped: Arc<AtomicBool>,
    until: Option<Instant>,
}

/// Why matches were not all found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the search takes too long: search in less text at a time, or for less")]
pub(super) struct Stopped;

impl Stop {
    /// For a search that nothing else runs beside.
    pub(super) fn soon() -> Self {
        Self { stopped: Arc::default(), until: Some(Instant::now() + HERE_MAX) }
    }

    /// For a search beside the run: it stops once `stopped` is true.
    pub(super) fn when(stopped: Arc<AtomicBool>) -> Self {
        Self { stopped, until: None }
    }

    /// To be asked between two matches: each may look at all of the text.
    pub(super) fn check(&self) -> Result<(), Stopped> {
        let over = self.stopped.load(Ordering::Relaxed) || self.until.is_some_and(|until| until < Instant::now());
        if over { Err(Stopped) } else { Ok(()) }
    }
}

/// Where a search is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    Here,
    /// On another thread: it may take seconds.
    Beside,
}

impl Pattern {
    /// Where to search in `text_bytes` of text.
    ///
    /// # Errors
    ///
    /// When that may take longer than anybody waits.
    pub(super) fn place(&self, text_bytes: usize) -> Result<Where, String> {
        // What is slowest is at each byte in each of its states.
        let steps = (self.bytes / STATE_BYTES).saturating_mul(text_bytes);
        match steps {
            _ if steps <= STEPS_HERE_MAX => Ok(Where::Here),
            _ if steps <= STEPS_MAX => Ok(Where::Beside),
            _ => Err(format!("the pattern is too large for a text of {text_bytes} bytes: search in less at a time")),
        }
    }

    pub(super) fn regex(&self) -> &Regex {
        &self.regex
    }
}

/// The compiled pattern, in RE2's syntax.
///
/// # Errors
///
/// When it is none, or too large.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    sized(pattern).map(|sized| sized.regex)
}

/// As [`compile`], with what it may cost.
///
/// # Errors
///
/// As [`compile`].
pub(super) fn sized(pattern: &str) -> Result<Pattern, String> {
    if let Some(known) = KEPT.with_borrow(|kept| kept.get(pattern).cloned()) {
        return Ok(known);
    }
    bounded(pattern)?;
    let translated = translate(pattern);
    let build =
        |bytes: usize| RegexBuilder::new(&translated).size_limit(bytes).dfa_size_limit(COMPILED_BYTES_MAX).build();
    // How large it is shows in which limit it fits.
    let mut sizes = SIZES_BYTES.into_iter();
    let compiled = loop {
        let Some(bytes) = sizes.next() else {
            break build(COMPILED_BYTES_MAX).map(|regex| Pattern { regex, bytes: COMPILED_BYTES_MAX });
        };
        match build(bytes) {
            Err(regex::Error::CompiledTooBig(_)) => {}
            built => break built.map(|regex| Pattern { regex, bytes }),
        }
    };
    let compiled = compiled.map_err(|error| reason(pattern, &error))?;
    KEPT.with_borrow_mut(|kept| {
        if KEPT_MAX <= kept.len() {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), compiled.clone());
    });
    Ok(compiled)
}

/// As [`compile`], for texts of any bytes. It is not kept: who matches bytes matches whole files.
///
/// # Errors
///
/// As [`compile`].
pub(super) fn compile_bytes(pattern: &str) -> Result<bytes::Regex, String> {
    bounded(pattern)?;
    let mut builder = bytes::RegexBuilder::new(&translate(pattern));
    let compiled = builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
    compiled.map_err(|error| reason(pattern, &error))
}

/// `text` with each match replaced by `replacement`, in which `$1` and `${name}` stand for groups.
///
/// # Errors
///
/// When the result would be longer than `bytes_max`, or `stop` says so.
pub(super) fn replace_all(
    regex: &Regex,
    text: &str,
    replacement: &str,
    bytes_max: usize,
    stop: &Stop,
) -> Result<String, String> {
    let mut result = String::new();
    let mut done = 0;
    for groups in regex.captures_iter(text) {
        stop.check().map_err(|stopped| stopped.to_string())?;
        let whole = groups.get_match();
        result.push_str(&text[done..whole.start()]);
        groups.expand(replacement, &mut result);
        done = whole.end();
        if bytes_max < result.len() {
            return Err(format!("the result would be longer than {bytes_max} bytes"));
        }
    }
    result.push_str(&text[done..]);
    Ok(result)
}

/// A match and its groups; one that takes no part is empty.
pub(super) fn groups<'t>(captures: &Captures<'t>) -> Vec<&'t str> {
    captures.iter().map(|group| group.map_or("", |group| group.as_str())).collect()
}

fn bounded(pattern: &str) -> Result<(), String> {
    if PATTERN_BYTES_MAX < pattern.len() {
        return Err(format!("the pattern `{}…` is longer than {PATTERN_BYTES_MAX} bytes", shown(pattern)));
    }
    Ok(())
}

fn shown(pattern: &str) -> String {
    pattern.chars().take(SHOWN_CHARS_MAX).collect()
}

/// What is wrong, in one line: the crate draws the place below the pattern.
fn reason(pattern: &str, error: &regex::Error) -> String {
    let shown = shown(pattern);
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("`{shown}` is no regular expression: it would take more than {limit} bytes");
    }
    let text = error.to_string();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    format!("`{shown}` is no regular expression: {}", last.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_pattern_is_told_in_one_line() {
        for (pattern, expected) in [
            ("a(b", "`a(b` is no regular expression: unclosed group"),
            (r"(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
            (r"(\pL{1000}){1000}", "it would take more than 2097152 bytes"),
        ] {
            let error = compile(pattern).expect_err(pattern);
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        for pattern in ["(", "a**(", "[a", "\\", "(?P<n", "a{1001}{1001}{1001}"] {
            let error = compile_bytes(pattern).expect_err(pattern);
            assert!(error.starts_with(&format!("`{pattern}` ")) && !error.contains('\n'), "{error}");
        }
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        assert!(compile(&long).is_err() && compile_bytes(&long).is_err());
    }

    #[test]
    fn replacements_are_bounded() {
        let regex = compile(r"(\w)(\d)?").expect("a pattern");
        assert_eq!(replace_all(&regex, "a1 b", "${2}$1;", 100, &Stop::soon()), Ok("1a; b;".to_owned()));
        assert!(replace_all(&regex, &"a".repeat(100), &"x".repeat(100), 1000, &Stop::soon()).is_err());
        let found = regex.captures("b").map(|captures| groups(&captures));
        assert_eq!(found, Some(vec!["b", "b", ""]));
    }
}
