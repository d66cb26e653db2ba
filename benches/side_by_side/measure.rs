//! Samples, what they amount to, and how that is shown.

use crate::workshop::{self, Facts};
use serde_json::{Value, json};

/// What was measured of one contender, one sample per round.
#[derive(Clone, Debug, Default)]
pub struct Series(pub Vec<f64>);

impl Series {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The value below which this share of the samples lies, between neighbours.
    fn quantile(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        let at = share * sorted.len().saturating_sub(1) as f64;
        let low = sorted.get(at.floor() as usize).copied().unwrap_or(f64::NAN);
        let high = sorted.get(at.ceil() as usize).copied().unwrap_or(f64::NAN);
        low + (high - low) * at.fract()
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The middle half of many samples, all of few.
    fn spread(&self) -> (f64, f64) {
        if self.0.len() >= 8 {
            (self.quantile(0.25), self.quantile(0.75))
        } else {
            (self.quantile(0.0), self.quantile(1.0))
        }
    }

    /// Round by round, what this is in terms of the other.
    fn over(&self, other: &Series) -> Series {
        Series(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect())
    }

    fn json(&self) -> Value {
        json!({
            "median": self.median(), "q1": self.quantile(0.25), "q3": self.quantile(0.75),
            "min": self.quantile(0.0), "max": self.quantile(1.0), "samples": self.0,
        })
    }
}

/// Something that lockstep is measured beside.
#[derive(Clone, Debug)]
pub struct Beside {
    pub name: &'static str,
    pub series: Series,
}

pub fn beside(name: &'static str, series: &Series) -> Option<Beside> {
    Some(Beside { name, series: series.clone() })
}

#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Median over the rival's median.
    Ratio(f64),
    /// Seconds or bytes.
    Below(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    Seconds,
    Bytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "-".to_owned(),
            Unit::Bytes => format!("{:.1} MB", value / 1e6),
            Unit::Seconds if value >= 1.0 => format!("{value:.2} s"),
            Unit::Seconds if value >= 0.0995 => format!("{:.0} ms", value * 1e3),
            Unit::Seconds => format!("{:.1} ms", value * 1e3),
        }
    }
}

/// One comparison: one line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub group: &'static str,
    pub what: String,
    pub unit: Unit,
    pub lockstep: Series,
    pub rival: Option<Beside>,
    /// What no tool can be faster than.
    pub floor: Option<Beside>,
    pub target: Option<Target>,
}

impl Row {
    fn ratio(&self, other: &Beside) -> f64 {
        self.lockstep.median() / other.series.median()
    }

    /// Whether the target is reached; `None` where there is none. What could not be computed is not reached.
    pub fn met(&self) -> Option<bool> {
        let reached = match (self.target?, &self.rival) {
            (Target::Ratio(most), Some(rival)) => self.ratio(rival) <= most,
            (Target::Ratio(_), None) => false,
            (Target::Below(most), _) => self.lockstep.median() < most,
        };
        Some(reached)
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "LOST",
        }
    }

    fn shown_ratio(&self, other: &Beside) -> String {
        let (low, high) = self.lockstep.over(&other.series).spread();
        let two = |value: f64| if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        format!("{}x ({}..{})", two(self.ratio(other)), two(low), two(high))
    }

    fn cells(&self) -> Vec<String> {
        let named = |other: &Beside| format!("{} {}", self.unit.show(other.series.median()), other.name);
        let target = match self.target {
            None => String::new(),
            Some(Target::Ratio(most)) => format!("<= {most:.2}x"),
            Some(Target::Below(most)) => format!("< {}", self.unit.show(most)),
        };
        vec![
            self.what.clone(),
            self.unit.show(self.lockstep.median()),
            self.rival.as_ref().map(named).unwrap_or_default(),
            self.rival.as_ref().map(|rival| self.shown_ratio(rival)).unwrap_or_default(),
            self.floor.as_ref().map(named).unwrap_or_default(),
            self.floor.as_ref().map(|floor| self.shown_ratio(floor)).unwrap_or_default(),
            target,
            self.verdict().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let other = |other: &Beside| {
            let (low, high) = self.lockstep.over(&other.series).spread();
            json!({ "name": other.name, "measured": other.series.json(),
                "ratio": { "of_medians": self.ratio(other), "low": low, "high": high } })
        };
        let target = self.target.map(|target| match target {
            Target::Ratio(most) => json!({ "ratio_at_most": most }),
            Target::Below(most) => json!({ "below": most }),
        });
        json!({
            "group": self.group, "what": self.what,
            "unit": match self.unit { Unit::Seconds => "seconds", Unit::Bytes => "bytes" },
            "lockstep": self.lockstep.json(),
            "rival": self.rival.as_ref().map(other), "floor": self.floor.as_ref().map(other),
            "target": target, "met": self.met(),
        })
    }
}

const HEADINGS: [&str; 8] = ["what", "lockstep", "rival", "ratio", "floor", "distance", "target", "verdict"];

/// The rows for people: medians, and each ratio with how far it went from round to round.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let width =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(
        "\nMedians. A ratio is lockstep over the other, with the middle half of the rounds' own ratios in brackets \
         (all of them where there were fewer than 8 rounds).\n",
    );
    text
}

/// The rows for programs, with every sample.
pub fn report(rows: &[Row], facts: &Facts, quick: bool, failed: &[&str]) -> String {
    let report = json!({
        "format": 1,
        "date": lockstep::store::now().to_string(),
        "machine": {
            "cores": facts.cores, "engine": facts.engine, "load_at_start": facts.load, "load_at_end": workshop::load(),
        },
        "lockstep": env!("CARGO_PKG_VERSION"),
        "compose": crate::compose::VERSION,
        "quick": quick,
        "not_measured": failed,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

/// Runs every contender once per round, each round beginning with another one; a sample is what a contender returns.
pub fn rounds<const N: usize>(
    count: usize,
    mut contenders: [(&str, &mut dyn FnMut() -> anyhow::Result<f64>); N],
) -> anyhow::Result<[Series; N]> {
    let mut measured: [Series; N] = std::array::from_fn(|_| Series::default());
    for round in 0..count {
        for turn in 0..N {
            let index = (round + turn) % N;
            if let (Some((name, contender)), Some(series)) = (contenders.get_mut(index), measured.get_mut(index)) {
                workshop::go_on()?;
                let sample = contender().map_err(|error| error.context(format!("{name}, round {}", round + 1)))?;
                series.0.push(sample);
            }
        }
        eprintln!("  round {} of {count}", round + 1);
    }
    Ok(measured)
}
