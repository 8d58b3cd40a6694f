//! Names that may have been meant.

/// Most letters that may differ in a name that is still suggested.
const DISTANCE_MAX: usize = 3;
/// Names below this length are others when two of their letters differ.
const SHORT_BYTES: usize = 6;

/// The name among `known` that is nearest to `wanted`, if one is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(wanted, known, |name| DISTANCE_MAX.min(differing(wanted, name).div_ceil(3)))
}

/// The name among `known` that `wanted` is but for a slip of the fingers.
pub(crate) fn misspelt<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(wanted, known, |_| if wanted.len() < SHORT_BYTES { 1 } else { 2 })
}

/// How many letters of `wanted` may be meant otherwise: those behind the words that both begin with, as in `on_skip` and
/// `on_fail`.
fn differing(wanted: &str, name: &str) -> usize {
    let same = wanted.bytes().zip(name.bytes()).take_while(|(one, other)| one == other).count();
    let words = wanted.as_bytes()[..same].iter().rposition(|byte| *byte == b'_').map_or(0, |at| at + 1);
    wanted[words..].chars().count()
}

fn within<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
    allowed: impl Fn(&str) -> usize,
) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.chars().collect();
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(wanted.len()) <= DISTANCE_MAX * 4)
        .map(|name| (distance(&wanted, name), name))
        .filter(|(distance, name)| *distance <= allowed(name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be added, removed, replaced or swapped with a neighbour to make one name the other.
fn distance(wanted: &[char], name: &str) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    let mut last = None;
    for (i, letter) in name.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &other) in wanted.iter().enumerate() {
            let replaced = row[j] + usize::from(other != letter);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if 0 < j && last == Some(other) && wanted[j - 1] == letter && other != letter {
                best = best.min(before.get(j - 1).copied().unwrap_or(best) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(letter);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["build", "deploy", "smoke-test", "a", "on_fail", "on_success", "on_start"];
        for (wanted, expected) in [
            ("biuld", Some("build")),
            ("Deploy", Some("deploy")),
            ("smoke_test", Some("smoke-test")),
            ("deploi", Some("deploy")),
            ("migrate", None),
            ("on_skip", None),
            ("on_abort", None),
            ("on_sucess", Some("on_success")),
            ("on_falure", None),
            ("on_stat", Some("on_start")),
            ("on_é", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, known), expected, "{wanted}");
        }
    }
}
