//! The text of a table: jobs with a name stand below a line that says it, everything else is left as it is.

/// How the line above a job begins, which names it.
const MARKER: &str = "# SLOTH_NAME:";
/// What stands before a job that is disabled.
const DISABLED: &str = "# ";

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Empty when nobody named it.
    pub(super) name: String,
    pub(super) schedule: String,
    pub(super) command: String,
    /// Who runs it, in tables that say so.
    pub(super) user: Option<String>,
    pub(super) enabled: bool,
}

/// A table that is edited.
#[derive(Debug, Clone)]
pub(super) struct Text {
    lines: Vec<String>,
    /// Whether each job says who runs it.
    has_users: bool,
}

impl Text {
    pub(super) fn new(text: &str, has_users: bool) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect(), has_users }
    }

    /// Every job, in order.
    pub(super) fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut name = None;
        for line in &self.lines {
            if let Some(marked) = marked(line) {
                name = Some(marked.to_owned());
                continue;
            }
            let job = match name.take() {
                Some(name) => self.named(name, line),
                None => self.job(line),
            };
            jobs.extend(job);
        }
        jobs
    }

    /// The job of that name.
    pub(super) fn find(&self, name: &str) -> Option<Job> {
        let at = self.place(name)?;
        self.named(name.to_owned(), self.lines.get(at + 1)?)
    }

    /// Puts a job in the place of the one of its name, or at the end.
    pub(super) fn put(&mut self, job: &Job) {
        let schedule = if job.enabled { job.schedule.clone() } else { format!("{DISABLED}{}", job.schedule) };
        let user = job.user.as_ref().map_or(String::new(), |user| format!(" {user}"));
        let lines = [format!("{MARKER}{}", job.name), format!("{schedule}{user} {}", job.command)];
        let at = self.place(&job.name).unwrap_or(self.lines.len());
        self.remove(&job.name);
        self.lines.splice(at..at, lines);
    }

    /// Removes the job of that name, however often it is there.
    pub(super) fn remove(&mut self, name: &str) {
        while let Some(at) = self.place(name) {
            // A marker whose job somebody took away has nothing below it that is its own.
            let is_job = self.lines.get(at + 1).is_some_and(|line| self.named(name.to_owned(), line).is_some());
            let last = if is_job { at + 1 } else { at };
            self.lines.drain(at..=last);
        }
    }

    /// The value of an environment variable that the table sets.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| set(line).filter(|(known, _)| *known == name)).map(|(_, value)| value)
    }

    /// Sets an environment variable in its place, or before everything but the comments at the top.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        // Spaces at the ends would be lost without quotes.
        let quoted = if value.trim() == value && !value.is_empty() { value.to_owned() } else { format!("\"{value}\"") };
        let place = self.lines.iter().position(|line| set(line).is_some_and(|(known, _)| known == name));
        let is_comment = |line: &String| line.starts_with('#') && marked(line).is_none();
        let top = self.lines.iter().take_while(|line| is_comment(line)).count();
        let at = place.unwrap_or(top);
        self.remove_variable(name);
        self.lines.insert(at.min(self.lines.len()), format!("{name}={quoted}"));
    }

    pub(super) fn remove_variable(&mut self, name: &str) {
        self.lines.retain(|line| set(line).is_none_or(|(known, _)| known != name));
    }

    /// The text; cron wants each line ended.
    pub(super) fn finish(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| marked(line) == Some(name))
    }

    fn named(&self, name: String, line: &str) -> Option<Job> {
        let enabled = !line.trim_start().starts_with('#');
        let job = self.job(line.trim_start().trim_start_matches('#'))?;
        Some(Job { name, enabled, ..job })
    }

    fn job(&self, line: &str) -> Option<Job> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || set(line).is_some() {
            return None;
        }
        let (schedule, rest) = split_words(line, if line.starts_with('@') { 1 } else { 5 })?;
        let (user, command) = if self.has_users {
            let (user, command) = split_words(rest, 1)?;
            (Some(user), command)
        } else {
            (None, rest)
        };
        Some(Job { name: String::new(), schedule, command: command.to_owned(), user, enabled: true })
    }
}

fn marked(line: &str) -> Option<&str> {
    line.strip_prefix(MARKER).map(str::trim)
}

/// The name and value that a line sets.
fn set(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    let is_name = begins && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let value = value.trim();
    let inner = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    is_name.then_some((name, inner.unwrap_or(value)))
}

/// The first words, joined by one space, and what comes after them, which is not nothing.
fn split_words(text: &str, count: usize) -> Option<(String, &str)> {
    let mut rest = text.trim_start();
    let mut words = Vec::new();
    for _ in 0..count {
        let (word, after) = rest.split_once(char::is_whitespace)?;
        words.push(word);
        rest = after.trim_start();
    }
    (!rest.is_empty()).then(|| (words.join(" "), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# mine\nMAILTO=\"\"\n5 4 * * * /bin/foreign  a\n# SLOTH_NAME:one\n@daily /bin/one --x=1\n# SLOTH_NAME:two\n# 0 1 * * * /bin/two\n";

    fn job(name: &str, command: &str) -> Job {
        Job { name: name.into(), schedule: "0 2 * * *".into(), command: command.into(), user: None, enabled: true }
    }

    #[test]
    fn jobs_are_read_with_and_without_names() {
        let text = Text::new(TABLE, false);
        let jobs = text.jobs();
        let shown: Vec<_> = jobs.iter().map(|job| (job.name.as_str(), job.command.as_str(), job.enabled)).collect();
        assert_eq!(shown, [("", "/bin/foreign  a", true), ("one", "/bin/one --x=1", true), ("two", "/bin/two", false)]);
        assert_eq!((jobs[0].schedule.as_str(), jobs[1].schedule.as_str()), ("5 4 * * *", "@daily"));
        assert_eq!(text.finish(), TABLE);
        let with_users = Text::new("# SLOTH_NAME:a\n0 1 * * * root /bin/a b\n", true).jobs();
        assert_eq!((with_users[0].user.as_deref(), with_users[0].command.as_str()), (Some("root"), "/bin/a b"));
    }

    #[test]
    fn jobs_keep_their_place_and_leave_all_others() {
        let mut text = Text::new(TABLE, false);
        text.put(&job("one", "/bin/new"));
        assert_eq!(text.finish(), TABLE.replace("@daily /bin/one --x=1", "0 2 * * * /bin/new"));
        text.put(&Job { enabled: false, ..job("three", "/bin/three") });
        assert!(text.finish().ends_with("# SLOTH_NAME:three\n# 0 2 * * * /bin/three\n"));
        text.remove("one");
        text.remove("three");
        text.remove("none");
        assert_eq!(text.finish(), TABLE.replace("# SLOTH_NAME:one\n@daily /bin/one --x=1\n", ""));
    }

    #[test]
    fn a_marker_without_its_job_takes_no_other_with_it() {
        let mut text = Text::new("# SLOTH_NAME:gone\n# a comment\n1 1 1 1 1 /bin/foreign\n", false);
        assert_eq!(text.find("gone"), None);
        text.remove("gone");
        assert_eq!(text.finish(), "# a comment\n1 1 1 1 1 /bin/foreign\n");
    }

    #[test]
    fn variables_stand_at_the_top() {
        let mut text = Text::new(TABLE, false);
        assert_eq!(text.variable("MAILTO"), Some(""));
        text.set_variable("MAILTO", "ops@example.com");
        text.set_variable("PATH", "/bin:/sbin");
        assert!(text.finish().starts_with("# mine\nPATH=/bin:/sbin\nMAILTO=ops@example.com\n5 4 "));
        text.remove_variable("PATH");
        text.set_variable("MAILTO", "");
        assert_eq!(text.finish(), TABLE);
    }
}
