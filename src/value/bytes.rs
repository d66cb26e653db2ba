//! A size in bytes: `256mb` in, `256mb` out.

use std::fmt;

/// A size in bytes.
///
/// Units follow `redis.conf`: `k`, `m`, `g` are powers of 1000 and `kb`, `mb`, `gb` powers of 1024
/// (Redis `memtoull`, all versions), so that a size means the same in the spec and in the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("b", 1),
    ("", 1),
];

impl Bytes {
    /// Reads a whole number with an optional unit; `None` when it is not one or does not fit.
    pub fn parse(text: &str) -> Option<Bytes> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        number.parse::<u64>().ok()?.checked_mul(factor).map(Bytes)
    }
}

impl fmt::Display for Bytes {
    /// The largest binary unit that divides the size, so that printing and parsing agree exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("gb", 1u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}b", self.0)
    }
}

/// A size for people: rounded to three figures, never parsed again.
pub fn about(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    for unit in ["bytes", "KB", "MB", "GB"] {
        if scaled < 1024.0 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                _ if scaled < 10.0 => format!("{scaled:.1} {unit}"),
                _ => format!("{scaled:.0} {unit}"),
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TB")
}
