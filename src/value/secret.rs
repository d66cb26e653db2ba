//! A secret value: it can be compared and delivered, and is never printed.

use crate::value::url::urlencoded;
use std::fmt;

/// Bytes that must not appear in output, labels, plans or reports.
///
/// There is no `Display`, and `Debug` shows a placeholder; [`Secret::reveal`] is the one way in, so
/// that a search for it lists every place that handles a secret's bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(Vec<u8>);

/// What people see where a secret stands.
pub const HIDDEN: &str = "(secret)";

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// How its value may stand in a text that somebody else wrote, the longest first: each line that has so many
    /// bytes that it does not stand there by chance, as it is, and as it stands in an address, which is what programs say when they cannot connect.
    pub fn forms(&self, shortest: usize) -> Vec<String> {
        let value = String::from_utf8_lossy(&self.0);
        let mut forms = Vec::new();
        for line in value.lines().map(str::trim).filter(|line| line.len() >= shortest) {
            let encoded = urlencoded(line);
            forms.extend([lower_hex(&encoded), encoded, line.to_owned()]);
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        forms
    }
}

/// What some programs write instead of `%2F`.
fn lower_hex(encoded: &str) -> String {
    let mut digits = 0_u8;
    let lowered = encoded.chars().map(|c| {
        let is_digit = digits > 0;
        digits = if c == '%' { 2 } else { digits.saturating_sub(1) };
        if is_digit { c.to_ascii_lowercase() } else { c }
    });
    lowered.collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
