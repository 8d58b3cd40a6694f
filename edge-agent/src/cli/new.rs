//! `sloth-agent new`: a bundle to begin with.

use std::path::{Path, PathBuf};

use sloth_cli::{Failure, Outcome, print_line};
use sloth_core::fs::{self, Access};

/// What stands for the bundle's name in the files and in their names.
const NAME: &str = "NAME";
/// Most characters of a bundle's name.
const NAME_CHARS_MAX: usize = 64;

/// A file of a template: its path and its text.
type File = (&'static str, &'static str);

const BASIC: [File; 4] = [
    ("bundle.toml", include_str!("templates/basic/bundle.toml")),
    ("NAME.sloth", include_str!("templates/basic/workflow.sloth")),
    ("NAME_test.lua", include_str!("templates/basic/test.lua")),
    ("templates/greeting.j2", include_str!("templates/basic/greeting.j2")),
];
const MINIMAL: [File; 3] = [
    ("bundle.toml", include_str!("templates/minimal/bundle.toml")),
    ("NAME.sloth", include_str!("templates/minimal/workflow.sloth")),
    ("NAME_test.lua", include_str!("templates/minimal/test.lua")),
];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The bundle's name, which its directory gets too
    name: String,
    /// What to begin with
    #[arg(long, value_enum, default_value_t)]
    template: Template,
    /// Where the directory is made
    #[arg(long = "in", value_name = "DIR", default_value = ".")]
    parent: PathBuf,
}

/// What to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Template {
    /// Two tasks, a template and a test.
    #[default]
    Basic,
    /// One task and its test.
    Minimal,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let name = &arguments.name;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || NAME_CHARS_MAX < name.len() || !name.chars().all(is_plain) || name.starts_with('.') {
        let sentence = format!(
            "`{name}` cannot be a bundle's name: it takes 1 to {NAME_CHARS_MAX} lower-case letters, digits, `-`, `_`, `.`"
        );
        return Err(Failure::new(Outcome::Usage, sentence));
    }
    let dir = arguments.parent.join(name);
    if dir.exists() {
        let sentence =
            format!("`{}` is there already: choose another name, or `--in` another directory", dir.display());
        return Err(Failure::new(Outcome::Refused, sentence));
    }
    let files: &[File] = match arguments.template {
        Template::Basic => &BASIC,
        Template::Minimal => &MINIMAL,
    };
    for (path, text) in files {
        write(&dir.join(path.replace(NAME, name)), &text.replace(NAME, name))?;
    }
    let shown = dir.display();
    for line in [
        format!("made {shown}"),
        format!("run it with `sloth-agent run {shown}/{name}.sloth`"),
        format!("test it with `sloth-agent test {shown}`"),
    ] {
        print_line(&line).map_err(Outcome::Internal.because())?;
    }
    Ok(Outcome::Done)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir(dir, Access::Everyone).map_err(Outcome::Internal.because())?;
    fs::replace(path, text.as_bytes(), Access::Everyone).map_err(Outcome::Internal.because())
}
