//! The table: what was measured, beside what, and the bar.

use std::fmt;

use anyhow::Result;

use crate::{Bench, Depth, host::Host, rows::Row, samples::Samples};

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    what: String,
    unit: &'static str,
    samples: Samples,
    beside: Option<(String, Samples)>,
    bar: Option<Bar>,
}

/// What a figure must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// The median itself, at most.
    AtMost(f64),
    /// The median itself, at least.
    AtLeast(f64),
    /// The median over the peer's, at most.
    RatioAtMost(f64),
    /// The median over the peer's, at least.
    RatioAtLeast(f64),
}

impl Figure {
    /// What was measured, in which unit.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, samples: Samples) -> Self {
        Self { what: what.into(), unit, samples, beside: None, bar: None }
    }

    /// The peer's figure for the same.
    pub(crate) fn beside(mut self, peer: impl Into<String>, samples: Samples) -> Self {
        self.beside = Some((peer.into(), samples));
        self
    }

    /// What it must reach.
    pub(crate) const fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|(_, peer)| self.samples.median() / peer.median())
    }

    fn verdict(&self) -> &'static str {
        let Some(bar) = self.bar else { return "" };
        let (value, ratio) = (self.samples.median(), self.ratio().unwrap_or(f64::NAN));
        let met = match bar {
            Bar::AtMost(limit) => value <= limit,
            Bar::AtLeast(limit) => limit <= value,
            Bar::RatioAtMost(limit) => ratio <= limit,
            Bar::RatioAtLeast(limit) => limit <= ratio,
        };
        if met { "met" } else { "**missed**" }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} {} |", self.what, Spread(&self.samples), self.unit)?;
        match &self.beside {
            Some((peer, samples)) => write!(f, " {peer}: {} |", Spread(samples))?,
            None => f.write_str(" |")?,
        }
        match self.ratio() {
            Some(ratio) => write!(f, " {ratio:.2} |")?,
            None => f.write_str(" |")?,
        }
        match self.bar {
            Some(Bar::AtMost(limit)) => write!(f, " ≤ {} |", Number(limit))?,
            Some(Bar::AtLeast(limit)) => write!(f, " ≥ {} |", Number(limit))?,
            Some(Bar::RatioAtMost(limit)) => write!(f, " ≤ {limit} × |")?,
            Some(Bar::RatioAtLeast(limit)) => write!(f, " ≥ {limit} × |")?,
            None => f.write_str(" |")?,
        }
        writeln!(f, " {} |", self.verdict())
    }
}

/// The median, and between which values all lie.
struct Spread<'a>(&'a Samples);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(samples) = self;
        write!(f, "{}", Number(samples.median()))?;
        if 1 < samples.count() {
            write!(f, " ({}–{})", Number(samples.min()), Number(samples.max()))?;
        }
        Ok(())
    }
}

/// Three digits that count, thousands apart.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        let size = value.abs();
        if size < 1.0 {
            return write!(f, "{value:.3}");
        }
        if size < 10.0 {
            return write!(f, "{value:.2}");
        }
        if size < 100.0 {
            return write!(f, "{value:.1}");
        }
        let digits = format!("{size:.0}");
        if value < 0.0 {
            f.write_str("-")?;
        }
        for (index, digit) in digits.chars().enumerate() {
            if index != 0 && (digits.len() - index) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// All rows of one run.
#[derive(Debug)]
pub(crate) struct Report {
    host: Host,
    depth: Depth,
    rows: Vec<(Row, Result<Vec<Figure>, String>)>,
}

impl Report {
    /// An empty report of this machine.
    pub(crate) fn new(bench: &Bench) -> Result<Self> {
        Ok(Self { host: Host::read(bench)?, depth: bench.depth, rows: Vec::new() })
    }

    /// Adds what a row measured.
    pub(crate) fn add(&mut self, row: Row, figures: Vec<Figure>) {
        self.rows.push((row, Ok(figures)));
    }

    /// Adds a row that could not be measured.
    pub(crate) fn fail(&mut self, row: Row, error: &anyhow::Error) {
        self.rows.push((row, Err(format!("{error:#}"))));
    }

    /// How many rows could not be measured.
    pub(crate) fn failures(&self) -> usize {
        self.rows.iter().filter(|(_, row)| row.is_err()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.host)?;
        if self.depth == Depth::Quick {
            writeln!(f, "A quick run: it shows that everything works, its figures mean nothing.\n")?;
        }
        writeln!(f, "| what | median (least–most) | beside, in the same run | ratio | bar | |")?;
        writeln!(f, "|---|---|---|--:|--:|---|")?;
        for (row, figures) in &self.rows {
            writeln!(f, "| **{}** | | | | | |", row.title())?;
            match figures {
                Ok(figures) => figures.iter().try_for_each(|figure| write!(f, "{figure}"))?,
                Err(error) => writeln!(f, "| not measured: {error} | | | | | |")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines_with_their_verdict() {
        let samples = |values: &[f64]| Samples::new(values.to_vec()).unwrap();
        let plain = Figure::new("start", "ms", samples(&[12.0, 11.0, 1234.0]));
        for (figure, expected) in [
            (plain.clone(), "| start | 12.0 (11.0–1,234) ms | | | | |"),
            (plain.clone().bar(Bar::AtMost(20.0)), "| start | 12.0 (11.0–1,234) ms | | | ≤ 20.0 | met |"),
            (plain.clone().bar(Bar::AtLeast(20.0)), "| start | 12.0 (11.0–1,234) ms | | | ≥ 20.0 | **missed** |"),
            (
                plain.clone().beside("bare", samples(&[10.0])).bar(Bar::RatioAtMost(1.2)),
                "| start | 12.0 (11.0–1,234) ms | bare: 10.0 | 1.20 | ≤ 1.2 × | met |",
            ),
            (
                plain.beside("bare", samples(&[24.0])).bar(Bar::RatioAtLeast(0.8)),
                "| start | 12.0 (11.0–1,234) ms | bare: 24.0 | 0.50 | ≥ 0.8 × | **missed** |",
            ),
        ] {
            let line = figure.to_string().replace("  |", " |");
            assert_eq!(line.trim_end(), expected);
        }
    }

    #[test]
    fn numbers_keep_three_digits_and_part_thousands() {
        for (value, expected) in [
            (0.0123, "0.012"),
            (1.005, "1.00"),
            (99.95, "100.0"),
            (999.4, "999"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(Number(value).to_string(), expected);
        }
    }
}
