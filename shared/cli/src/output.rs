//! Data on standard output: tables for people, JSON for programs.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, presets};
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables and sentences
    // The other names are those of the old program.
    #[default]
    #[value(aliases = ["basic", "enhanced", "rich", "modern"])]
    Text,
    /// One JSON value; streams print one a line.
    Json,
}

/// The option that every command with data on its standard output takes.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct OutputArgs {
    /// How to print: for people or for programs
    #[arg(short = 'o', long = "output", value_enum, default_value_t, global = true)]
    pub format: Format,
}

/// A table for people. A narrow terminal wraps its cells, a pipe gets them whole.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(columns.to_vec());
        Self(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.add_row(cells);
    }

    /// Prints it.
    ///
    /// # Errors
    ///
    /// When standard output is gone.
    pub fn print(&self) -> io::Result<()> {
        let mut out = anstream::stdout();
        for line in self.0.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()
    }
}

/// Prints a value as JSON on one line.
///
/// # Errors
///
/// When standard output is gone.
pub fn print_json<T: Serialize>(value: &T) -> io::Result<()> {
    let text = serde_json::to_string(value).map_err(io::Error::other)?;
    print_line(&text)
}

/// Prints a line.
///
/// # Errors
///
/// When standard output is gone.
pub fn print_line(line: &str) -> io::Result<()> {
    let mut out = anstream::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
