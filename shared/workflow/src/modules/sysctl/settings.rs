//! Files of settings: lines like `vm.swappiness = 10`.

use super::{key::Key, same, tree};

/// One line of such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: Key,
    pub(super) value: String,
    /// Whether it is no failure when the kernel refuses it.
    pub(super) optional: bool,
}

/// What a line of such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Set(Setting),
    /// What patterns before it do not mean.
    Except(Key),
}

/// The settings of a file, where a pattern stands for what it means in this kernel.
pub(super) fn parse(text: &str) -> Vec<Setting> {
    let lines: Vec<_> = text.lines().filter_map(line).collect();
    let is_excepted = |key: &Key| lines.iter().any(|line| matches!(line, Line::Except(except) if except == key));
    let mut settings = Vec::new();
    for line in &lines {
        let Line::Set(setting) = line else { continue };
        if !setting.key.parts().iter().any(|part| part.contains('*')) {
            settings.push(setting.clone());
            continue;
        }
        let keys = tree::matching(&setting.key).into_iter().filter(|key| !is_excepted(key) && key.path().is_file());
        settings.extend(keys.map(|key| Setting { key, ..setting.clone() }));
    }
    settings
}

/// Those that the kernel does not have as they are wanted; the last of one name counts.
pub(super) fn differing(wanted: &[Setting]) -> Vec<Setting> {
    let is_last = |at: usize| wanted[at + 1..].iter().all(|later| later.key != wanted[at].key);
    let differs = |setting: &Setting| !setting.key.read().is_ok_and(|value| same(&value, &setting.value));
    let numbered = wanted.iter().enumerate();
    numbered.filter(|(at, setting)| is_last(*at) && differs(setting)).map(|(_, setting)| setting.clone()).collect()
}

/// The text of a file with one line for `key`, in its first place or at the end.
pub(super) fn with(text: &str, key: &Key, value: &str) -> String {
    let mut lines = Vec::new();
    let mut placed = false;
    for old in text.lines() {
        match line(old) {
            Some(Line::Set(setting)) if setting.key == *key => {
                if !placed && same(&setting.value, value) {
                    lines.push(old.to_owned());
                } else if !placed {
                    lines.push(format!("{key} = {value}"));
                }
                placed = true;
            }
            Some(Line::Set(_) | Line::Except(_)) | None => lines.push(old.to_owned()),
        }
    }
    if !placed {
        lines.push(format!("{key} = {value}"));
    }
    if lines.iter().eq(text.lines()) { text.to_owned() } else { ended(&lines) }
}

/// The text of a file without the lines for `key`.
pub(super) fn without(text: &str, key: &Key) -> String {
    let is_other = |old: &&str| !matches!(line(old), Some(Line::Set(setting)) if setting.key == *key);
    if text.lines().all(|old| is_other(&old)) {
        return text.to_owned();
    }
    ended(&text.lines().filter(is_other).map(str::to_owned).collect::<Vec<_>>())
}

fn ended(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn line(text: &str) -> Option<Line> {
    let text = text.trim();
    if text.starts_with(['#', ';']) {
        return None;
    }
    let (optional, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest.trim_start()));
    match text.split_once('=') {
        Some((name, value)) => {
            let key = Key::parse(name)?;
            Some(Line::Set(Setting { key, value: value.trim().to_owned(), optional }))
        }
        None if optional => Key::parse(text).map(Line::Except),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::parse(name).expect("a name")
    }

    #[test]
    fn a_file_keeps_one_line_for_a_key_and_all_others() {
        let swap = key("vm.swappiness");
        for (before, after) in [
            ("", "vm.swappiness = 10\n"),
            ("# my own\nkernel.x = 1", "# my own\nkernel.x = 1\nvm.swappiness = 10\n"),
            ("vm/swappiness=60\na.b = 1\nvm.swappiness = 5\n", "vm.swappiness = 10\na.b = 1\n"),
            ("vm.swappiness=10\n", "vm.swappiness=10\n"),
            ("#vm.swappiness = 1\n; x\n", "#vm.swappiness = 1\n; x\nvm.swappiness = 10\n"),
        ] {
            assert_eq!(with(before, &swap, "10"), after, "{before:?}");
            assert_eq!(with(after, &swap, "10"), after, "twice");
        }
        assert_eq!(without("a.b = 1\nvm.swappiness = 2\nvm/swappiness = 3\n", &swap), "a.b = 1\n");
        assert_eq!(without("a.b = 1", &swap), "a.b = 1");
    }

    #[test]
    fn lines_are_read_as_the_kernels_own_tool_reads_them() {
        let text = "# no\n; no\n-vm.none = 1\n kernel.ost* = Linux\nkernel.osrel* = x\n-kernel.osrelease\nnonsense\n";
        let read: Vec<_> = parse(text).into_iter().map(|setting| (setting.key.to_string(), setting.optional)).collect();
        assert_eq!(read, [("vm.none".to_owned(), true), ("kernel.ostype".to_owned(), false)]);
        assert!(differing(&parse("kernel.ostype = Linux\n")).is_empty());
        let twice = differing(&parse("kernel.ostype = a\nkernel.ostype = b\n"));
        assert_eq!(twice.iter().map(|setting| setting.value.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
