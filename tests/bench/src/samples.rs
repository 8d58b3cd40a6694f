//! Repeated measurements and what is said of them.

/// What was measured, in rising order. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// The samples in `values`, or none when there is no value.
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// One measurement.
    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that `permille` of a thousand do not exceed (nearest rank).
    pub(crate) fn quantile(&self, permille: usize) -> f64 {
        let rank = (self.0.len() * permille).div_ceil(1000).clamp(1, self.0.len());
        self.0[rank - 1]
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(500)
    }

    /// The least.
    pub(crate) fn min(&self) -> f64 {
        self.0[0]
    }

    /// The greatest.
    pub(crate) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "what is counted here stays far below 2^52")]
pub(crate) fn number(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(0) as f64
}

/// A span in milliseconds.
pub(crate) fn millis(span: std::time::Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let hundred = (1..=100_u32).rev().map(f64::from).collect();
        let samples = Samples::new(hundred).unwrap();
        for (permille, expected) in [(0, 1.0), (500, 50.0), (990, 99.0), (1000, 100.0)] {
            assert!((samples.quantile(permille) - expected).abs() < f64::EPSILON, "{permille}");
        }
        assert_eq!(Samples::new(Vec::new()), None);
    }
}
