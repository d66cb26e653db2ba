//! Steps over strings in all their encodings, and keeps the beginning of those that a message or a summary needs.
//!
//! A string is plain bytes, a small integer, or LZF. Compressed ones are followed token by token, which proves both of
//! their lengths without ever holding the text.

use std::io::BufRead;

use super::reader::{Length, Reader};
use super::{RdbErrorKind, Walked, fail};

const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// The most text that a compressed byte can stand for: three bytes refer back to 264 at best.
const LZF_BEST: u64 = 88;

/// How a string was written; its length is known only where it was written as bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Bytes(u64),
    Integer,
}

/// The beginning of a string, up to a limit that the input has no say in.
pub(super) struct Prefix {
    bytes: Vec<u8>,
    limit: usize,
}

impl Prefix {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    fn extend(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more.get(..self.room()).unwrap_or(more));
    }

    /// Repeats `count` bytes from `back` bytes before the end. The two may overlap, so it goes byte by byte. While
    /// there is room nothing was dropped, and the end of what is kept is the end of the text.
    fn repeat(&mut self, back: u64, count: u64) {
        let Ok(back) = usize::try_from(back) else { return };
        for _ in 0..count.min(self.room() as u64) {
            let Some(byte) = self.bytes.len().checked_sub(back).and_then(|at| self.bytes.get(at)) else { return };
            self.bytes.push(*byte);
        }
    }
}

impl<B: BufRead + ?Sized> Reader<'_, B> {
    #[inline]
    pub(super) fn skip_string(&mut self) -> Walked<Written> {
        match self.length_or_special()? {
            Length::Plain(length) => self.skip(length).map(|()| Written::Bytes(length)),
            Length::Special(encoding) => self.special_string(encoding, &mut Prefix::new(0)),
        }
    }

    /// Steps over a string, leaving its beginning in `kept`.
    #[inline]
    pub(super) fn string(&mut self, kept: &mut Prefix) -> Walked<Written> {
        kept.clear();
        match self.length_or_special()? {
            Length::Plain(length) => self.scan(length, |piece| kept.extend(piece)).map(|()| Written::Bytes(length)),
            Length::Special(encoding) => self.special_string(encoding, kept),
        }
    }

    fn special_string(&mut self, encoding: u8, kept: &mut Prefix) -> Walked<Written> {
        let at = self.offset().saturating_sub(1);
        let number = match encoding {
            INT8 => i32::from(i8::from_le_bytes(self.array()?)),
            INT16 => i32::from(i16::from_le_bytes(self.array()?)),
            INT32 => i32::from_le_bytes(self.array()?),
            LZF => return self.compressed_string(at, kept).map(Written::Bytes),
            _ => return fail(at, RdbErrorKind::Malformed("unknown string encoding")),
        };
        if kept.limit > 0 {
            kept.extend(number.to_string().as_bytes());
        }
        Ok(Written::Integer)
    }

    /// Follows the tokens of an LZF string and returns the length of its text.
    fn compressed_string(&mut self, at: u64, kept: &mut Prefix) -> Walked<u64> {
        let wrong = |what| fail(at, RdbErrorKind::Malformed(what));
        let packed = self.length()?;
        let text = self.length()?;
        if packed == 0 || text == 0 || text / LZF_BEST > packed {
            return wrong("compressed string with lengths that cannot belong together");
        }
        let Some(end) = self.offset().checked_add(packed) else {
            return fail(at, RdbErrorKind::Length);
        };
        let mut produced = 0;
        while self.offset() < end && produced < text {
            let control = u64::from(self.byte()?);
            if control < 32 {
                let count = control + 1;
                self.scan(count, |piece| kept.extend(piece))?;
                produced += count;
            } else {
                let count = match control >> 5 {
                    7 => 9 + u64::from(self.byte()?),
                    short => 2 + short,
                };
                let back = (((control & 0x1f) << 8) | u64::from(self.byte()?)) + 1;
                if back > produced {
                    return wrong("compressed string that refers to before its beginning");
                }
                kept.repeat(back, count);
                produced += count;
            }
        }
        if self.offset() == end && produced == text {
            Ok(text)
        } else {
            wrong("compressed string that does not have its announced length")
        }
    }
}
