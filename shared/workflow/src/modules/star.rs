//! Patterns in which `*` stands for any text, and every other character for itself.

/// Whether `text` is what `pattern` says.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("file.changed", "file.changed", true),
            ("file.*", "file.changed", true),
            ("file.*", "file", false),
            ("eth*", "eth0.100", true),
            ("eth0", "eth01", false),
            ("*", "anything", true),
            ("*", "", true),
            ("*.created", "directory.file_created", false),
            ("*created", "directory.file_created", true),
            ("*th*", "eth0", true),
            ("e*1", "eth0", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "axxcyyb", false),
            ("a*b", "ab", true),
            ("a*a", "a", false),
            ("a", "ab", false),
            ("a?", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
