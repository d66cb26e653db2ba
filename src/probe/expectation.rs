//! What a person says beforehand that a change will bring about: `p95(article) < 20ms`, `hit_ratio > 90%`.
//!
//! A quantity, a comparison, a value in the quantity's own unit. Quantities are the names of measures; where a stack has
//! one Redis, its name may be left out.

use crate::finding::nearest;
use crate::measure::{self, Measure, Unit};
use crate::model::{Environment, Kind};
use std::fmt;

/// The words that quantities begin with, their unit, and what stands in their parentheses.
const QUANTITIES: [(&str, Unit, Of); 14] = [
    ("p50", Unit::Milliseconds, Of::Probe),
    ("p95", Unit::Milliseconds, Of::Probe),
    ("p99", Unit::Milliseconds, Of::Probe),
    ("status", Unit::Count, Of::Probe),
    ("body", Unit::Bytes, Of::Probe),
    ("hit_ratio", Unit::Ratio, Of::Server),
    ("evictions", Unit::PerSecond, Of::Server),
    ("expired", Unit::PerSecond, Of::Server),
    ("slow", Unit::PerSecond, Of::Server),
    ("commands", Unit::PerSecond, Of::Server),
    ("memory", Unit::Bytes, Of::Server),
    ("clients", Unit::Count, Of::Server),
    ("keys", Unit::Count, Of::Keys),
    ("ttl_coverage", Unit::Ratio, Of::Keys),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    /// A probe, or `service.command` for what a server says of its own times.
    Probe,
    Server,
    /// A rule of `keys:`, or a Redis for all that it has.
    Keys,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

impl Comparison {
    /// Longer signs come first: each begins with a shorter one.
    const ALL: [(&'static str, Comparison); 5] = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::More),
        ("=", Comparison::Equal),
    ];

    fn sign(self) -> &'static str {
        Comparison::ALL.iter().find(|(_, comparison)| *comparison == self).map_or("=", |(sign, _)| sign)
    }

    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::AtMost => left <= right,
            Comparison::More => left > right,
            Comparison::AtLeast => left >= right,
            // Values have come through a decimal form.
            Comparison::Equal => (left - right).abs() <= 1e-9 * right.abs().max(1.0),
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Expected {
    /// `p95`, `hit_ratio`, ...
    pub quantity: String,
    /// What stands in the parentheses.
    pub of: Option<String>,
    pub comparison: Comparison,
    pub unit: Unit,
    pub value: f64,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quantity)?;
        if let Some(of) = &self.of {
            write!(f, "({of})")?;
        }
        write!(f, " {} {}", self.comparison.sign(), self.unit.exact(self.value))
    }
}

/// Why a text is no expectation, and where.
#[derive(Clone, PartialEq, Debug)]
pub struct Mistake {
    /// Of the first character that is wrong, from 1.
    pub character: usize,
    pub message: String,
    pub help: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (character {})", self.message, self.character)
    }
}

impl std::error::Error for Mistake {}

fn mistake(text: &str, at: usize, message: String, help: impl Into<String>) -> Mistake {
    Mistake { character: text.get(..at).unwrap_or(text).chars().count() + 1, message, help: help.into() }
}

fn words() -> String {
    QUANTITIES.map(|(word, _, _)| word).join(", ")
}

/// Reads `p95(article) < 20ms`.
///
/// # Errors
/// The first character that is wrong, and what would have been right there.
pub fn parse(text: &str) -> Result<Expected, Mistake> {
    let begin = text.len() - text.trim_start().len();
    let rest = text.get(begin..).unwrap_or_default();
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, behind) = rest.split_at(length);
    let Some((_, unit, kind)) = QUANTITIES.iter().find(|(known, _, _)| *known == word).copied() else {
        let help = match nearest(word, QUANTITIES.map(|(known, _, _)| known)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("an expectation begins with one of {}", words()),
        };
        return Err(mistake(text, begin, format!("`{word}` is nothing that is measured"), help));
    };
    let mut at = begin + length;
    let of = match behind.trim_start().strip_prefix('(') {
        Some(inside) => {
            at = text.len() - inside.len();
            // Patterns may hold parentheses; values cannot.
            let Some(end) = inside.rfind(')') else {
                return Err(mistake(text, text.len(), "a `(` is not closed".to_owned(), "write p95(article) < 20ms"));
            };
            let of = inside.get(..end).unwrap_or_default();
            if of.is_empty() || of.trim() != of {
                let message = format!("`{of}` is no name: spaces do not belong around it");
                return Err(mistake(text, at, message, "write p95(article) < 20ms"));
            }
            at += end + 1;
            Some(of.to_owned())
        }
        None => None,
    };
    if of.is_none() && kind == Of::Probe {
        let help = format!("write the probe's name: {word}(article) < {}", unit.example());
        return Err(mistake(text, at, format!("`{word}` of what?"), help));
    }
    let rest = text.get(at..).unwrap_or_default();
    at += rest.len() - rest.trim_start().len();
    let rest = rest.trim_start();
    let Some((sign, comparison)) = Comparison::ALL.iter().find(|(sign, _)| rest.starts_with(sign)).copied() else {
        let message = match rest.chars().next() {
            Some(found) => format!("`{found}` is not a comparison"),
            None => "the comparison is missing".to_owned(),
        };
        return Err(mistake(text, at, message, "one of <, <=, >, >=, ="));
    };
    at += sign.len();
    let value = text.get(at..).unwrap_or_default();
    at += value.len() - value.trim_start().len();
    let written = value.trim();
    let Some(value) = unit.read(written) else {
        let message = if written.is_empty() {
            "the value is missing".to_owned()
        } else {
            format!("`{written}` is not a value of {word}")
        };
        return Err(mistake(text, at, message, format!("write it as {}", unit.example())));
    };
    Ok(Expected { quantity: word.to_owned(), of, comparison, unit, value })
}

/// Whether what an expectation names is there in an environment.
///
/// # Errors
/// The name that is not, and the nearest that is.
pub fn known(text: &str, expected: &Expected, environment: &Environment) -> Result<(), Mistake> {
    let Some((_, _, kind)) = QUANTITIES.iter().find(|(word, _, _)| *word == expected.quantity) else { return Ok(()) };
    let servers: Vec<&str> = environment
        .services
        .values()
        .filter(|service| matches!(service.kind, Kind::Redis(_)))
        .map(|service| service.name.as_str())
        .collect();
    let probes = environment.probes.keys().map(String::as_str);
    let rules = environment.keys.iter().map(|rule| rule.pattern.as_str());
    let names: Vec<&str> = match kind {
        Of::Probe => probes.collect(),
        Of::Server => servers.clone(),
        Of::Keys if expected.quantity == "keys" => rules.chain(servers.iter().copied()).collect(),
        Of::Keys => rules.collect(),
    };
    let Some(of) = expected.of.as_deref() else {
        if names.len() == 1 || *kind != Of::Probe && expected.quantity == "keys" && servers.len() == 1 {
            return Ok(());
        }
        let help =
            format!("write {}({}); there are {}", expected.quantity, names.first().unwrap_or(&"name"), list(&names));
        return Err(mistake(text, expected.quantity.len(), format!("`{}` of what?", expected.quantity), help));
    };
    let command = *kind == Of::Probe && of.split_once('.').is_some_and(|(server, _)| servers.contains(&server));
    if names.contains(&of) || command {
        return Ok(());
    }
    let help = match nearest(of, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", list(&names)),
    };
    let at = text.find('(').map_or(0, |at| at + 1);
    Err(mistake(text, at, format!("there is no `{of}` that has a {}", expected.quantity), help))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none in the spec".to_owned() } else { names.join(", ") }
}

/// Compares an expectation with what was measured last. What was not measured is not met.
pub fn evaluate(expected: &Expected, measures: &[Measure]) -> measure::Expectation {
    let found = match &expected.of {
        Some(of) => {
            let name = format!("{}({of})", expected.quantity);
            measures.iter().find(|measure| measure.name == name)
        }
        None => {
            let begin = format!("{}(", expected.quantity);
            measures.iter().find(|measure| measure.name.starts_with(&begin))
        }
    };
    let text = expected.to_string();
    match found.and_then(|measure| Some((measure.unit, measure.after?))) {
        Some((unit, sample)) => {
            let spread = sample.low < sample.high;
            let interval = format!(" ({} to {})", unit.about(sample.low), unit.about(sample.high));
            let measured = format!("{}{}", unit.about(sample.value), if spread { interval } else { String::new() });
            measure::Expectation { text, measured, met: expected.comparison.holds(sample.value, expected.value) }
        }
        None => measure::Expectation { text, measured: "not measured".to_owned(), met: false },
    }
}
