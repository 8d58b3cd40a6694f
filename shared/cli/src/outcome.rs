//! How a command ends, as a number for programs and a sentence for people.

use std::{
    error::Error,
    fmt, io,
    process::{ExitCode, Termination},
};

use sloth_core::error::Chain;

/// How a command ended. The numbers are part of the interface and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0: it did what it was asked.
    Done,
    /// 1: it was done, and what was run has failed.
    Failed,
    /// 2: the command line, a file or a value given to it makes no sense.
    Usage,
    /// 3: it was understood and refused: not allowed, not found, in conflict, or nothing matched.
    Refused,
    /// 4: nobody answered; trying again may help.
    Unreachable,
    /// 70: a fault of this program or this machine.
    Internal,
}

/// A command's failure: how it ends and why.
#[derive(Debug)]
pub struct Failure {
    /// How it ends.
    pub outcome: Outcome,
    /// Why.
    pub error: Box<dyn Error + Send + Sync>,
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::Internal => 70,
        }
    }

    /// The failure that ends so because of `error`; for use with `map_err`.
    pub fn because<E: Into<Box<dyn Error + Send + Sync>>>(self) -> impl Fn(E) -> Failure {
        move |error| Failure { outcome: self, error: error.into() }
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

impl Failure {
    /// A failure without a cause.
    pub fn new(outcome: Outcome, sentence: impl Into<String>) -> Self {
        Self { outcome, error: sentence.into().into() }
    }
}

impl Failure {
    /// Whether it is that nobody reads standard output any more.
    fn is_broken_pipe(&self) -> bool {
        let error = self.error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Chain(self.error.as_ref()), f)
    }
}

/// Tells a failure on standard error and gives its outcome: the last thing that `main` does.
pub fn report(result: Result<Outcome, Failure>) -> Outcome {
    match result {
        Ok(outcome) => outcome,
        // Whoever read the output, such as `head`, has seen enough.
        Err(failure) if failure.is_broken_pipe() => Outcome::Done,
        Err(failure) => {
            use std::io::Write as _;
            // Nothing is left to be done when even standard error is gone.
            let _ = writeln!(anstream::stderr(), "error: {failure}");
            failure.outcome
        }
    }
}
