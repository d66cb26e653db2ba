//! What a stack does, in numbers: one of them before and after a change, and what was expected of it.

use crate::value::{Bytes, Span, bytes};
use serde::{Deserialize, Serialize};

/// One measured quantity, such as the 95th percentile of a probe.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// As it is called in an expectation: `p95(article)`, `hit_ratio(cache)`, `keys(page:*)`.
    pub name: String,
    pub unit: Unit,
    /// Absent where it could not be measured, or there was nothing to measure yet.
    pub before: Option<Sample>,
    pub after: Option<Sample>,
    pub verdict: Verdict,
}

/// A value and the interval in which repeating the measurement would have put it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Milliseconds,
    Bytes,
    /// From 0 to 1.
    Ratio,
    Count,
    PerSecond,
}

/// What may be said of a difference. `Same` where the intervals overlap: noise is no improvement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Better,
    Worse,
    Same,
    /// It differs, and neither way is good or bad by itself.
    Changed,
    /// One side is missing.
    Unknown,
}

/// What was said beforehand that the change would bring about.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Expectation {
    /// As it was written: `p95(article) < 20ms`.
    pub text: String,
    /// What was measured, for people; `not measured` when nothing was.
    pub measured: String,
    pub met: bool,
}

impl Unit {
    /// Reads a value as an expectation writes it: `20ms`, `100mb`, `0.9` or `90%`, `1000`, `5/s`.
    pub fn read(self, text: &str) -> Option<f64> {
        let text = text.trim();
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            text.trim().parse::<f64>().ok().filter(|number| plain && number.is_finite())
        };
        match self {
            Unit::Milliseconds => {
                // `m` alone means minutes, and ends `ms` as well: the longer ones come first.
                let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
                let simple = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
                let simple = simple.and_then(|(digits, factor)| Some(number(digits)? * factor));
                simple.or_else(|| Span::parse(text).map(|span| span.milliseconds as f64))
            }
            Unit::Bytes => Bytes::parse(text).map(|bytes| bytes.0 as f64),
            Unit::Ratio => match text.strip_suffix('%') {
                Some(percent) => number(percent).map(|percent| percent / 100.0),
                None => number(text),
            }
            .filter(|ratio| *ratio <= 1.0),
            Unit::Count => number(text),
            Unit::PerSecond => number(text.strip_suffix("/s").unwrap_or(text)),
        }
    }

    /// A value exactly, as [`Unit::read`] reads it.
    pub fn exact(self, value: f64) -> String {
        match self {
            Unit::Milliseconds => format!("{value}ms"),
            Unit::Bytes => Bytes(whole(value)).to_string(),
            Unit::Ratio | Unit::Count => value.to_string(),
            Unit::PerSecond => format!("{value}/s"),
        }
    }

    /// A value for people, rounded.
    pub fn about(self, value: f64) -> String {
        match self {
            Unit::Milliseconds if value < 0.1 => format!("{:.0} us", value * 1000.0),
            Unit::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Unit::Milliseconds => format!("{value:.0} ms"),
            Unit::Bytes => bytes::about(whole(value)),
            Unit::Ratio => format!("{:.1}%", value * 100.0),
            Unit::Count => format!("{value:.0}"),
            Unit::PerSecond if value > 0.0 && value < 10.0 => format!("{value:.2}/s"),
            Unit::PerSecond => format!("{value:.0}/s"),
        }
    }

    /// How a value of it is written, for messages.
    pub fn example(self) -> &'static str {
        match self {
            Unit::Milliseconds => "20ms",
            Unit::Bytes => "100mb",
            Unit::Ratio => "0.9 or 90%",
            Unit::Count => "1000",
            Unit::PerSecond => "5/s",
        }
    }
}

/// No measured size is negative, or too large for the number.
fn whole(value: f64) -> u64 {
    value.round() as u64
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Same => "same",
            Verdict::Changed => "changed",
            Verdict::Unknown => "unknown",
        }
    }
}
