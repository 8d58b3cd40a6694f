//! Where the programs are.

use std::path::PathBuf;

/// One of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `sloth-coord`.
    Coordinator,
    /// `sloth-agent`.
    Agent,
}

impl Program {
    /// Its file's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "sloth-coord",
            Self::Agent => "sloth-agent",
        }
    }
}

/// The program that was built into the same target directory and profile as the test that asks.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn binary(program: Program) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // Tests are in `target/<profile>/deps`, programs in `target/<profile>`.
    let profile = test.parent().and_then(std::path::Path::parent).expect("tests are two levels down");
    let path = profile.join(program.name());
    assert!(
        path.is_file(),
        "`{}` is missing: build the programs first, with `cargo build --workspace --bins`",
        path.display()
    );
    path
}
