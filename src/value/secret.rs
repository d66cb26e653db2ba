//! A secret value: it can be compared and delivered, and is never printed.

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
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
