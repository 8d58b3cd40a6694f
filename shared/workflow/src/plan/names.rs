//! Names that may have been meant.

/// Most letters that may differ in a name that is still suggested.
const DISTANCE_MAX: usize = 3;
/// Names below this length are others when two of their letters differ.
const SHORT_BYTES: usize = 6;

/// The name among `known` that is nearest to `wanted`, if one is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(wanted, known, DISTANCE_MAX.min(wanted.chars().count().div_ceil(3)))
}

/// The name among `known` that `wanted` is but for a slip of the fingers.
pub(crate) fn misspelt<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(wanted, known, if wanted.len() < SHORT_BYTES { 1 } else { 2 })
}

fn within<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>, allowed: usize) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.chars().collect();
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(wanted.len()) <= DISTANCE_MAX * 4)
        .map(|name| (distance(&wanted, name), name))
        .filter(|(distance, _)| *distance <= allowed)
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
        let known = ["build", "deploy", "smoke-test", "a"];
        for (wanted, expected) in [
            ("biuld", Some("build")),
            ("Deploy", Some("deploy")),
            ("smoke_test", Some("smoke-test")),
            ("deploi", Some("deploy")),
            ("migrate", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, known), expected, "{wanted}");
        }
    }
}
