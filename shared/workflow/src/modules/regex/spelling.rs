//! The spelling of Go and RE2, which old files are written for, in that of the `regex` crate.

/// `pattern` in the spelling of the `regex` crate. Unlike that one, Go takes a brace that begins no repetition, as in
/// `{{name}}`, and a bracket in a class for themselves, and knows `\Q…\E`.
pub(super) fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let (taken, written) = match first {
            '\\' if rest.starts_with("\\Q") => {
                let quoted = &rest[2..];
                let end = quoted.find("\\E");
                let taken = end.map_or(rest.len(), |end| end + 4);
                (taken, regex::escape(&quoted[..end.unwrap_or(quoted.len())]))
            }
            '\\' => {
                let taken = escape_len(rest);
                (taken, rest[..taken].to_owned())
            }
            '[' if !in_class => {
                in_class = true;
                // A bracket that comes first in a class is one of its characters.
                let lead = ["[^]", "[]", "[^", "["].into_iter().find(|lead| rest.starts_with(lead)).unwrap_or("[");
                (lead.len(), lead.replace(']', "\\]"))
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                let taken = rest.find(":]").map_or(1, |end| end + 2);
                (taken, rest[..taken].to_owned())
            }
            '[' | '&' | '~' if in_class => (1, format!("\\{first}")),
            ']' if in_class => {
                in_class = false;
                (1, "]".to_owned())
            }
            '{' if !in_class && is_repetition(rest) && !translated.is_empty() => {
                let taken = rest.find('}').map_or(1, |end| end + 1);
                (taken, rest[..taken].to_owned())
            }
            '{' => (1, "\\{".to_owned()),
            other => (other.len_utf8(), other.to_string()),
        };
        translated.push_str(&written);
        rest = &rest[taken..];
    }
    translated
}

/// How many bytes the escape at the front of `rest` takes, with the braces of `\p{Greek}` and `\x{10FFFF}`.
fn escape_len(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    let Some((at, escaped)) = chars.next() else { return rest.len() };
    let end = at + escaped.len_utf8();
    if matches!(escaped, 'p' | 'P' | 'x') && rest[end..].starts_with('{') {
        return rest[end..].find('}').map_or(end, |close| end + close + 1);
    }
    end
}

/// Whether `rest` begins with `{2}`, `{2,}` or `{2,5}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest[1..].split_once('}') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match inner.split_once(',') {
        None => digits(inner),
        Some((least, most)) => digits(least) && (most.is_empty() || digits(most)),
    }
}

#[cfg(test)]
mod tests {
    use crate::modules::regex::compile_bytes;

    #[test]
    fn expressions_are_taken_as_go_takes_them() {
        for (pattern, matched, not) in [
            ("{{name}}", "a {{name}} b", "name"),
            ("a{2}b", "aab", "a{2}b"),
            ("a{2,}{x}", "aaa{x}", "a"),
            ("a{,3}", "a{,3}", "aaa"),
            (r"\Qa.b(\E+", "a.b((", "axb("),
            (r"\p{Greek}{2}", "αβ", "α"),
            ("[[]", "[", "a"),
            ("[]a]", "]", "b"),
            ("[^]a]", "b", "]"),
            ("[[:digit:]]{3}", "123", "12"),
            ("[a&&b]", "&", "c"),
            (r"[\]{]", "{", "a"),
            (r"^server \{$", "server {", "server"),
            ("(?m)^b$", "a\nb", "ab"),
        ] {
            let regex = compile_bytes(pattern).expect(pattern);
            assert!(regex.is_match(matched.as_bytes()), "{pattern} {matched}");
            assert!(!regex.is_match(not.as_bytes()), "{pattern} {not}");
        }
    }
}
