//! What both command lines share: outcomes and exit codes, tables and JSON, logging, and a run's values.
//!
//! Standard output carries data only; everything else goes to standard error.

pub mod events;
pub mod logging;
pub mod outcome;
pub mod output;
pub mod parameters;
pub mod privacy;
pub mod signatures;
pub mod values;
pub mod window;

pub use logging::{LogArgs, LogFormat};
pub use outcome::{Failure, Outcome, report};
pub use output::{Format, OutputArgs, Table, print_json, print_line};
pub use privacy::keep_memory_private;
pub use signatures::{SIGNATURE_ENDING, signature_file, signature_files, signatures_beside};
