//! The primitives of the format, read from bytes that are all there.

use super::{RdbErrorKind, Walked, fail, lzf};

const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// A cursor. Offsets in its errors count from its first byte.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A string as it was written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text<'a> {
    Plain(&'a [u8]),
    Number(i32),
    Packed { bytes: &'a [u8], length: usize },
}

/// The first field of a string: either a length, or one of four shorter ways to write the string.
pub(super) enum Length {
    Plain(u64),
    Special(u8),
}

impl<'a> Cut<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// What lies between an earlier position and this one.
    pub(super) fn since(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..self.at).unwrap_or_default()
    }

    #[cold]
    pub(super) fn fail<T>(&self, at: usize, what: &'static str) -> Walked<T> {
        fail(at as u64, RdbErrorKind::Malformed(what))
    }

    #[cold]
    fn short<T>(&self) -> Walked<T> {
        fail(self.bytes.len() as u64, RdbErrorKind::Truncated)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Walked<u8> {
        let Some(byte) = self.bytes.get(self.at).copied() else { return self.short() };
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Walked<[u8; N]> {
        let Some(array) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).copied() else {
            return self.short();
        };
        self.at += N;
        Ok(array)
    }

    #[inline]
    pub(super) fn take(&mut self, count: u64) -> Walked<&'a [u8]> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let Some((end, taken)) = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) else {
            return self.short();
        };
        self.at = end;
        Ok(taken)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Walked<&'a [u8]> {
        self.take(self.bytes.len().saturating_sub(self.at) as u64)
    }

    /// A length that has to be one.
    #[inline]
    pub(super) fn length(&mut self) -> Walked<u64> {
        let at = self.at;
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => fail(at as u64, RdbErrorKind::Length),
        }
    }

    #[inline]
    pub(super) fn length_or_special(&mut self) -> Walked<Length> {
        let at = self.at;
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(low)),
            (1, _) => Length::Plain((u64::from(low) << 8) | u64::from(self.byte()?)),
            (2, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (2, _) => return fail(at as u64, RdbErrorKind::Length),
            _ => Length::Special(low),
        })
    }

    #[inline]
    pub(super) fn text(&mut self) -> Walked<Text<'a>> {
        let at = self.at;
        match self.length_or_special()? {
            Length::Plain(length) => self.take(length).map(Text::Plain),
            Length::Special(encoding) => self.special(at, encoding),
        }
    }

    fn special(&mut self, at: usize, encoding: u8) -> Walked<Text<'a>> {
        Ok(match encoding {
            INT8 => Text::Number(i32::from(i8::from_le_bytes(self.array()?))),
            INT16 => Text::Number(i32::from(i16::from_le_bytes(self.array()?))),
            INT32 => Text::Number(i32::from_le_bytes(self.array()?)),
            LZF => {
                let packed = self.length()?;
                let length = self.length()?;
                if !lzf::plausible(packed, length) {
                    return self.fail(at, "compressed string with lengths that cannot belong together");
                }
                let bytes = self.take(packed)?;
                let Ok(length) = usize::try_from(length) else { return fail(at as u64, RdbErrorKind::Length) };
                Text::Packed { bytes, length }
            }
            _ => return self.fail(at, "unknown string encoding"),
        })
    }
}

impl<'a> Text<'a> {
    /// The text itself; `room` holds it where it does not lie in the input as it is.
    #[inline]
    pub(super) fn show<'r>(self, room: &'r mut Vec<u8>) -> Option<&'r [u8]>
    where
        'a: 'r,
    {
        match self {
            Text::Plain(bytes) => Some(bytes),
            Text::Number(number) => {
                room.clear();
                room.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                Some(room)
            }
            Text::Packed { bytes, length } => {
                lzf::expand(bytes, length, room)?;
                Some(room)
            }
        }
    }
}
