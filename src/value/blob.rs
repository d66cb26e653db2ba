//! Bytes from a dataset as people and scripts read them: text where they are text, and base64 where they are not.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::fmt::{self, Write as _};

/// Bytes that may be text. In JSON a string, or `{"base64": "..."}` where they are not UTF-8; so nothing is ever lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blob<'b>(pub &'b [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &base64(self.0))?;
                map.end()
            }
        }
    }
}

/// Text as it is, without anything that would move a cursor or hide; other bytes escaped one by one.
impl fmt::Display for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(text) = std::str::from_utf8(self.0) else { return write!(f, "{}", self.0.escape_ascii()) };
        for c in text.chars() {
            match c {
                '"' | '\'' => f.write_char(c)?,
                c => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4usize {
            let digit = (group >> (18 - 6 * place)) as usize & 63;
            let digit = if place <= chunk.len() { DIGITS.get(digit).copied().unwrap_or(b'=') } else { b'=' };
            text.push(char::from(digit));
        }
    }
    text
}
