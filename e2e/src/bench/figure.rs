//! What a measurement gives: samples become one figure, a figure becomes one line of JSON.

use serde_json::{Map, Value, json};
use std::time::Duration;

/// Samples of one kind, at least one.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes the samples in any order; `None` if there are none.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// Times in milliseconds.
    pub fn milliseconds(times: &[Duration]) -> Option<Self> {
        Self::new(times.iter().copied().map(milliseconds).collect())
    }

    /// The value at or below which `percent` of the samples are (nearest rank).
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank.min(self.0.len()) - 1]
    }

    /// The middle of the samples: the mean of the two middle ones if their number is even.
    pub fn median(&self) -> f64 {
        let (below, above) = ((self.0.len() - 1) / 2, self.0.len() / 2);
        f64::midpoint(self.0[below], self.0[above])
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A time in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One row as measured once, with what explains it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The row's id.
    pub row: &'static str,
    /// The figure: the median where there are several samples.
    pub value: f64,
    /// The 99th percentile, where it is worth something.
    pub p99: Option<f64>,
    /// How many samples it was made of.
    pub samples: usize,
    /// Details: name and value, such as the phases of a pod's start.
    pub details: Vec<(&'static str, f64)>,
}

impl Figure {
    /// A figure made of one sample.
    pub fn single(row: &'static str, value: f64) -> Self {
        Self {
            row,
            value,
            p99: None,
            samples: 1,
            details: Vec::new(),
        }
    }

    /// A figure made of several: their median and 99th percentile.
    pub fn spread(row: &'static str, samples: &Samples) -> Self {
        Self {
            row,
            value: samples.median(),
            p99: Some(samples.percentile(99)),
            samples: samples.count(),
            details: Vec::new(),
        }
    }

    /// The line that `table` reads.
    pub fn line(&self, runtime: &str) -> Value {
        let details: Map<String, Value> = self
            .details
            .iter()
            .map(|&(name, value)| (name.to_owned(), json!(rounded(value))))
            .collect();
        json!({
            "runtime": runtime,
            "row": self.row,
            "value": rounded(self.value),
            "p99": self.p99.map(rounded),
            "samples": self.samples,
            "details": details,
        })
    }
}

/// Three decimals say more than any of these figures is worth.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians() {
        for (values, median, p99) in [
            (vec![5.0], 5.0, 5.0),
            (vec![3.0, 1.0], 2.0, 3.0),
            (vec![9.0, 1.0, 2.0], 2.0, 9.0),
            ((1..=100).map(f64::from).collect(), 50.5, 99.0),
            ((1..=200).map(f64::from).collect(), 100.5, 198.0),
        ] {
            let samples = Samples::new(values).unwrap();
            assert!((samples.median() - median).abs() < 1e-9);
            assert!((samples.percentile(99) - p99).abs() < 1e-9);
        }
        assert!(Samples::new(Vec::new()).is_none());
    }

    #[test]
    fn a_line_has_what_the_table_reads() {
        let samples = Samples::new(vec![1.23456, 2.0]).unwrap();
        let mut figure = Figure::spread("exec", &samples);
        figure.details.push(("start", 0.5));
        let line = figure.line("insula");
        assert_eq!(line["runtime"], "insula");
        assert_eq!(line["value"], 1.617);
        assert_eq!(line["p99"], 2.0);
        assert_eq!(line["details"]["start"], 0.5);
    }
}
