//! How the results of tests are told: for people, as TAP, as JUnit's XML, as JSON.

use std::{io, path::Path, time::Duration};

use serde_json::json;
use sloth_cli::{events::printable, print_json, print_line};
use sloth_workflow::testing::{TestEnd, TestOutcome};

/// Most lines of a failed test's log that people are shown.
const LOG_LINES_MAX: usize = 20;

/// How results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Style {
    /// For people.
    #[default]
    Text,
    /// The Test Anything Protocol.
    Tap,
    /// The XML that continuous integration reads.
    Junit,
    /// One JSON object a line, as `-o json`.
    Json,
}

/// The tests of one file.
pub(super) struct FileEnd {
    pub(super) file: String,
    pub(super) took: Duration,
    pub(super) tests: Vec<TestEnd>,
}

/// What there is to tell.
pub(super) struct Report {
    style: Style,
    files: Vec<FileEnd>,
    /// How many tests were told.
    count: usize,
}

impl Report {
    pub(super) const fn new(style: Style) -> Self {
        Self { style, files: Vec::new(), count: 0 }
    }

    pub(super) fn begins(&self, file: &Path) -> io::Result<()> {
        match self.style {
            Style::Text => print_line(&file.display().to_string()),
            Style::Tap | Style::Junit | Style::Json => Ok(()),
        }
    }

    /// Tells a test that ended.
    pub(super) fn ended(&mut self, file: &Path, end: &TestEnd) -> io::Result<()> {
        self.count += 1;
        let file = file.display();
        match self.style {
            Style::Text => text(end).iter().try_for_each(|line| print_line(line)),
            Style::Tap => {
                let ok = if end.outcome == TestOutcome::Failed { "not ok" } else { "ok" };
                let skipped = if end.outcome == TestOutcome::Skipped { " # SKIP" } else { "" };
                print_line(&format!("{ok} {} - {file}: {}{skipped}", self.count, plain(&end.name)))?;
                end.message.lines().try_for_each(|line| print_line(&format!("# {}", printable(line))))
            }
            // An XML document is told as a whole.
            Style::Junit => Ok(()),
            Style::Json => print_json(&json!({
                "file": file.to_string(), "test": end.name, "outcome": word(end.outcome), "message": end.message,
                "duration_ms": u64::try_from(end.took.as_millis()).unwrap_or(u64::MAX),
                "log": end.log.iter().map(|line| &line.text).collect::<Vec<_>>(),
            })),
        }
    }

    pub(super) fn keep(&mut self, end: FileEnd) {
        self.files.push(end);
    }

    /// Tells what all of it came to; whether no test failed.
    pub(super) fn finish(self) -> io::Result<bool> {
        let count = |outcome| self.tests().filter(|test| test.outcome == outcome).count();
        let (failed, skipped) = (count(TestOutcome::Failed), count(TestOutcome::Skipped));
        let took: Duration = self.files.iter().map(|file| file.took).sum();
        match self.style {
            Style::Text => {
                let tests = if self.count == 1 { "test" } else { "tests" };
                let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
                print_line(&format!("\n{} {tests}, {failed} failed{skipped} in {}", self.count, seconds(took)))?;
            }
            Style::Tap => print_line(&format!("1..{}", self.count))?,
            Style::Junit => print_line(&junit(&self.files))?,
            Style::Json => {}
        }
        Ok(failed == 0)
    }

    fn tests(&self) -> impl Iterator<Item = &TestEnd> {
        self.files.iter().flat_map(|file| &file.tests)
    }
}

const fn word(outcome: TestOutcome) -> &'static str {
    match outcome {
        TestOutcome::Passed => "passed",
        TestOutcome::Failed => "failed",
        TestOutcome::Skipped => "skipped",
    }
}

/// A test for people; of one that failed why, and the end of what it printed.
fn text(end: &TestEnd) -> Vec<String> {
    let name = plain(&end.name);
    match end.outcome {
        TestOutcome::Passed => vec![format!("  ok      {name} ({})", seconds(end.took))],
        TestOutcome::Skipped => vec![format!("  skipped {name}")],
        TestOutcome::Failed => {
            let mut lines = vec![format!("  FAILED  {name} ({})", seconds(end.took))];
            lines.extend(end.message.lines().map(|line| format!("          {}", printable(line))));
            let first = end.log.len().saturating_sub(LOG_LINES_MAX);
            lines.extend(end.log[first..].iter().map(|line| format!("          log: {}", plain(&line.text))));
            lines
        }
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.2}s", took.as_secs_f64())
}

fn plain(text: &str) -> String {
    printable(text).replace('\n', " ")
}

fn junit(files: &[FileEnd]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for file in files {
        let count = |outcome| file.tests.iter().filter(|test| test.outcome == outcome).count();
        xml.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n",
            escaped(&file.file),
            file.tests.len(),
            count(TestOutcome::Failed),
            count(TestOutcome::Skipped),
            file.took.as_secs_f64()
        ));
        for test in &file.tests {
            let (name, class) = (escaped(&test.name), escaped(&file.file));
            let time = test.took.as_secs_f64();
            xml.push_str(&format!("    <testcase name=\"{name}\" classname=\"{class}\" time=\"{time:.3}\""));
            xml.push_str(&match test.outcome {
                TestOutcome::Passed => "/>\n".to_owned(),
                TestOutcome::Skipped => "><skipped/></testcase>\n".to_owned(),
                TestOutcome::Failed => {
                    let first = escaped(test.message.lines().next().unwrap_or_default());
                    let all = escaped(&test.message);
                    format!(">\n      <failure message=\"{first}\">{all}</failure>\n    </testcase>\n")
                }
            });
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>");
    xml
}

/// A text as XML holds it; what XML cannot hold at all is left out.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\n' => xml.push_str("&#10;"),
            c if c.is_control() && c != '\t' => {}
            c => xml.push(c),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_holds_any_text() {
        let test = |name: &str, outcome| TestEnd {
            name: name.to_owned(),
            outcome,
            message: "a < b & \"c\"\nsecond\u{1b}[2J".to_owned(),
            took: Duration::from_millis(1_500),
            log: Vec::new(),
        };
        let tests = vec![
            test("<one>", TestOutcome::Passed),
            test("two", TestOutcome::Failed),
            test("three", TestOutcome::Skipped),
        ];
        let xml = junit(&[FileEnd { file: "a_test.lua".to_owned(), took: Duration::from_secs(2), tests }]);
        for expected in [
            "<testsuite name=\"a_test.lua\" tests=\"3\" failures=\"1\" skipped=\"1\" time=\"2.000\">",
            "<testcase name=\"&lt;one&gt;\" classname=\"a_test.lua\" time=\"1.500\"/>",
            "<failure message=\"a &lt; b &amp; &quot;c&quot;\">a &lt; b &amp; &quot;c&quot;&#10;second[2J</failure>",
            "<skipped/>",
        ] {
            assert!(xml.contains(expected), "{expected}: {xml}");
        }
    }
}
