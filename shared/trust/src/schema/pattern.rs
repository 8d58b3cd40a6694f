//! Patterns: regular expressions as JSON Schema has them, in an engine whose time grows with the text alone.

use regex::{Regex, RegexBuilder};

/// Most bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Most bytes of memory that one pattern takes when it is compiled.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Compiles a pattern of ECMA-262, as far as a search in linear time can have it: `\d` and `\w` are of ASCII, and there
/// are no references back, no looking around and no flags.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if PATTERN_BYTES_MAX < pattern.len() {
        return Err(format!("a pattern takes {PATTERN_BYTES_MAX} bytes at most, this has {}", pattern.len()));
    }
    let text = translate(pattern)?;
    RegexBuilder::new(&text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build().map_err(
        |error| {
            // Its last line says what is wrong, those before draw where.
            let said = error.to_string();
            let reason = said.lines().next_back().unwrap_or_default();
            format!("this pattern cannot be searched for: {}", reason.trim_start_matches("error: "))
        },
    )
}

/// Writes an expression of ECMA-262 as the engine's own.
fn translate(pattern: &str) -> Result<String, String> {
    let mut text = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let (taken, put) = if in_class { of_class(rest, first) } else { outside(rest, first) }?;
        if first == '[' && !in_class {
            in_class = true;
        } else if first == ']' {
            in_class = false;
        }
        text.push_str(&put);
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(text)
}

/// How many bytes come next outside of a class, and what stands for them.
fn outside(rest: &str, first: char) -> Result<(usize, String), String> {
    if rest.starts_with("[]") || rest.starts_with("[^]") {
        return Err("a class without characters, `[]` or `[^]`, is not taken: write `\\]` for a bracket".to_owned());
    }
    if rest.starts_with("(?") {
        let name = rest.strip_prefix("(?<").and_then(|name| name.chars().next());
        if !rest.starts_with("(?:") && !name.is_some_and(|first| first.is_ascii_alphabetic() || first == '_') {
            return Err("looking around and flags are not taken: after `(?` comes `:` or `<name>`".to_owned());
        }
    }
    match first {
        '\\' => escape(rest),
        // What ends a line there; the engine's own dot knows one of them.
        '.' => Ok((1, r"[^\n\r\u{2028}\u{2029}]".to_owned())),
        other => Ok((other.len_utf8(), other.to_string())),
    }
}

/// The same within a class, where the engine gives a meaning to what has none in ECMA-262.
fn of_class(rest: &str, first: char) -> Result<(usize, String), String> {
    if rest.starts_with("--") {
        return Err("`--` in a class is not taken: write `\\-` for a dash".to_owned());
    }
    match first {
        '\\' if rest.starts_with("\\b") => Err("`\\b` in a class is not taken: write `\\x08`".to_owned()),
        '\\' => escape(rest),
        '[' | '&' | '~' => Ok((1, format!("\\{first}"))),
        other => Ok((other.len_utf8(), other.to_string())),
    }
}

fn escape(rest: &str) -> Result<(usize, String), String> {
    let Some(escaped) = rest.chars().nth(1) else { return Err("it ends in the middle, with `\\`".to_owned()) };
    let stands = match escaped {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'b' => r"(?-u:\b)",
        's' | 'S' | 't' | 'n' | 'r' | 'f' | 'v' | 'u' | 'x' | 'p' | 'P' => return Ok((2, format!("\\{escaped}"))),
        mark if mark.is_ascii_punctuation() => return Ok((2, regex::escape(&mark.to_string()))),
        other => return Err(format!("`\\{other}` is not taken")),
    };
    Ok((2, stands.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_ecma_262_says() {
        for (pattern, yes, no) in [
            ("^[a-z][a-z0-9-]*$", &["web-1", "a"][..], &["Web", "web\n", "", "-"][..]),
            (r"^\d+$", &["12"], &["१२", "1a"]),
            (r"^\w+$", &["a_1"], &["é", ""]),
            ("b", &["abc"], &["acd"]),
            (r"^[\w.-]+@[\w.-]+$", &["a.b@c-d"], &["a b@c"]),
            (r"^a/b\/c$", &["a/b/c"], &["abc"]),
            ("^[[a]+$", &["[a"], &["b"]),
            ("^[a&&b]+$", &["a&b"], &["c"]),
            ("^a.c$", &["abc", "aéc"], &["a\nc", "a\rc"]),
            (r"^(?:a|b){2}$", &["ab"], &["a"]),
            (r"^(?<year>[0-9]{4})$", &["2026"], &["26"]),
            (r"\bweb\b", &["a web b"], &["cobweb"]),
            (r"^\u00e9$", &["é"], &["e"]),
        ] {
            let regex = compile(pattern).expect(pattern);
            assert!(yes.iter().all(|text| regex.is_match(text)), "{pattern}");
            assert!(!no.iter().any(|text| regex.is_match(text)), "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_searched_for_is_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for (pattern, part) in [
            ("(?=a)b", "looking around"),
            ("(?<!a)b", "looking around"),
            ("(?i)a", "flags are not taken"),
            (r"(a)\1", r"`\1` is not taken"),
            ("[a--b]", "`--` in a class"),
            ("[]", "without characters"),
            ("(a", "unclosed group"),
            ("a\\", "in the middle"),
            ("((a{1000}){1000}){1000}", "size limit"),
            (&long, "512 bytes at most"),
        ] {
            let reason = compile(pattern).expect_err(pattern);
            assert!(reason.contains(part), "{pattern}: {reason}");
        }
    }
}
