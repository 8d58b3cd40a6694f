//! What tasks wrote down about themselves, for telling from outside what ran when and how often.

use std::{collections::BTreeMap, fs, path::Path};

/// One line: an attempt at a task began or came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The task.
    pub task: String,
    /// The shell that ran the attempt.
    pub shell: u32,
    /// Whether it is the attempt's end.
    pub end: bool,
}

/// All lines of one run on one host, in order.
#[derive(Debug, Clone, Default)]
pub struct Witness(Vec<Mark>);

impl Witness {
    /// A line of the shell that leaves the marks of one attempt, with `pause` seconds between them. Appending a short
    /// line is atomic, so that marks of tasks beside each other stay whole.
    #[must_use]
    pub fn shell(task: &str, pause: &str) -> String {
        let file = "$HOME/witness-$SLOTH_RUN_ID";
        format!("echo \"{task} $$ begin\" >> {file}; sleep {pause}; echo \"{task} $$ end\" >> {file}")
    }

    /// What was written about `run` on the host whose home is `home`.
    ///
    /// # Panics
    ///
    /// When a line is none of ours.
    #[must_use]
    pub fn of(home: &Path, run: &str) -> Self {
        let text = fs::read_to_string(home.join(format!("witness-{run}"))).unwrap_or_default();
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        // The last line may be under way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Self(whole.lines().map(mark).collect())
    }

    /// How often an attempt at `task` began.
    #[must_use]
    pub fn begun(&self, task: &str) -> usize {
        self.0.iter().filter(|mark| mark.task == task && !mark.end).count()
    }

    /// How often an attempt at `task` came to its end.
    #[must_use]
    pub fn ended(&self, task: &str) -> usize {
        self.0.iter().filter(|mark| mark.task == task && mark.end).count()
    }

    /// Asserts that no task ran beside another attempt at itself: after an attempt began, no earlier one goes on.
    ///
    /// # Panics
    ///
    /// When one did.
    pub fn assert_never_twice_at_once(&self) {
        let mut latest = BTreeMap::new();
        for mark in &self.0 {
            if mark.end {
                assert_eq!(
                    latest.get(&mark.task),
                    Some(&mark.shell),
                    "an attempt at `{}` went on although another had begun\n{self}",
                    mark.task
                );
            } else {
                latest.insert(mark.task.clone(), mark.shell);
            }
        }
    }

    /// Asserts that `task` never ran again once `next`, which depends on it, had begun.
    ///
    /// # Panics
    ///
    /// When it did.
    pub fn assert_over_before(&self, task: &str, next: &str) {
        let Some(begin) = self.0.iter().position(|mark| mark.task == next) else { return };
        assert!(
            self.0[begin..].iter().all(|mark| mark.task != task),
            "`{task}` ran again although `{next}`, which depends on it, had begun\n{self}"
        );
        assert!(self.0[..begin].iter().any(|mark| mark.task == task && mark.end), "`{next}` came first\n{self}");
    }
}

impl std::fmt::Display for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for mark in &self.0 {
            writeln!(f, "{} {} {}", mark.task, mark.shell, if mark.end { "end" } else { "begin" })?;
        }
        Ok(())
    }
}

fn mark(line: &str) -> Mark {
    let words: Vec<_> = line.split_whitespace().collect();
    let [task, shell, kind] = words[..] else { panic!("`{line}` is no mark") };
    Mark {
        task: task.to_owned(),
        shell: shell.parse().unwrap_or_else(|_| panic!("`{line}` has no shell")),
        end: kind == "end",
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// Marks from `a+ a- b+`: the task's name and shell, begun or ended.
    fn witness(text: &str) -> Witness {
        let lines = text.split_whitespace().map(|word| {
            let (name, kind) = word.split_at(word.len() - 1);
            let shell = name.len();
            format!("{} {shell} {}\n", &name[..1], if kind == "+" { "begin" } else { "end" })
        });
        Witness::read(&lines.collect::<String>())
    }

    #[test]
    fn two_attempts_at_once_are_found() {
        for (text, fine) in [
            ("", true),
            ("a+ a- b+ b-", true),
            ("a+ b+ a- b-", true),
            ("a+ a1+ a1-", true),
            ("a+ a- a1+ a1-", true),
            ("a+ a1+ a-", false),
            ("a+ a1+ a1- a-", false),
            ("a-", false),
        ] {
            let found = catch_unwind(|| witness(text).assert_never_twice_at_once()).is_ok();
            assert_eq!(found, fine, "{text}");
        }
    }

    #[test]
    fn a_task_that_ran_again_after_its_successor_began_is_found() {
        for (text, fine) in [
            ("", true),
            ("a+ a-", true),
            ("a+ a- b+ b-", true),
            ("a+ a1+ a1- b+", true),
            ("a+ b+", false),
            ("b+", false),
            ("a+ a- b+ a1+", false),
            ("a+ a1+ a1- b+ a-", false),
        ] {
            let found = catch_unwind(|| witness(text).assert_over_before("a", "b")).is_ok();
            assert_eq!(found, fine, "{text}");
        }
    }

    #[test]
    fn a_line_under_way_does_not_count() {
        let witness = Witness::read("a 7 begin\na 7 e");
        assert_eq!((witness.begun("a"), witness.ended("a")), (1, 0));
    }
}
