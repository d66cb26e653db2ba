//! Turns a buffered source into the primitives of the format, with an offset for messages and a running CRC-64.
//!
//! It works on a copy of what the source shows, and consumes there only what was taken, so whatever follows the RDB is
//! still there for the source's owner. What the bytes mean is decided elsewhere.

use std::io::{BufRead, ErrorKind};

use crc::{CRC_64_REDIS, Crc, Digest, Table};

use super::{RdbErrorKind, Walked, fail};

// Sixteen tables take 32 KiB and sum three times as fast as one, which would be the slowest part of a walk by far.
static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Small enough to stay in the fastest cache between being copied, walked and summed.
const WINDOW: usize = 32 * 1024;

pub(super) struct Reader<'s, B: ?Sized> {
    source: &'s mut B,
    /// Bytes handed back to the source, all of them summed.
    before: u64,
    /// A copy of what the source shows now. Asking the source for every byte costs more than the copy.
    window: Vec<u8>,
    /// Bytes of the window that were taken; of those, bytes summed.
    taken: usize,
    summed: usize,
    crc: Digest<'static, u64, Table<16>>,
}

/// The first field of a string: either a length, or one of four shorter ways to write the string.
pub(super) enum Length {
    Plain(u64),
    Special(u8),
}

impl<'s, B: BufRead + ?Sized> Reader<'s, B> {
    pub(super) fn new(source: &'s mut B) -> Self {
        Self { source, before: 0, window: Vec::with_capacity(WINDOW), taken: 0, summed: 0, crc: CRC.digest() }
    }

    /// Bytes taken so far.
    pub(super) fn offset(&self) -> u64 {
        self.before + self.taken as u64
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Walked<u8> {
        let Some(byte) = self.chunk()?.first().copied() else { return self.fail(RdbErrorKind::Truncated) };
        self.taken += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Walked<[u8; N]> {
        if let Some(array) = self.chunk()?.first_chunk::<N>().copied() {
            self.taken += N;
            return Ok(array);
        }
        let mut array = [0; N];
        for slot in &mut array {
            *slot = self.byte()?;
        }
        Ok(array)
    }

    /// Steps over `count` bytes without keeping them.
    #[inline]
    pub(super) fn skip(&mut self, count: u64) -> Walked<()> {
        self.scan(count, |_| ())
    }

    /// Shows `count` bytes to `look`, in pieces as they lie in the buffer.
    #[inline]
    pub(super) fn scan(&mut self, count: u64, mut look: impl FnMut(&[u8])) -> Walked<()> {
        // A sum that does not fit is beyond any file: refused now, not after reading the whole source.
        if self.offset().checked_add(count).is_none() {
            return self.fail(RdbErrorKind::Length);
        }
        let mut left = count;
        while left > 0 {
            let chunk = self.chunk()?;
            let piece = chunk.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(chunk);
            let length = piece.len();
            look(piece);
            self.taken += length;
            left -= length as u64;
        }
        Ok(())
    }

    /// A length that has to be one.
    #[inline]
    pub(super) fn length(&mut self) -> Walked<u64> {
        let at = self.offset();
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => fail(at, RdbErrorKind::Length),
        }
    }

    #[inline]
    pub(super) fn length_or_special(&mut self) -> Walked<Length> {
        let at = self.offset();
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(low)),
            (1, _) => Length::Plain((u64::from(low) << 8) | u64::from(self.byte()?)),
            (2, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (2, _) => return fail(at, RdbErrorKind::Length),
            _ => Length::Special(low),
        })
    }

    /// CRC-64 of everything taken so far.
    pub(super) fn checksum(&mut self) -> u64 {
        self.sum();
        self.crc.clone().finalize()
    }

    /// Hands the last bytes back and tells how many were taken in all.
    pub(super) fn finish(mut self) -> u64 {
        self.hand_back();
        self.before
    }

    #[cold]
    pub(super) fn fail<T>(&self, kind: RdbErrorKind) -> Walked<T> {
        fail(self.offset(), kind)
    }

    /// What was not taken yet; never empty.
    #[inline]
    fn chunk(&mut self) -> Walked<&[u8]> {
        if self.taken == self.window.len() {
            self.next_window()?;
        }
        Ok(self.window.get(self.taken..).unwrap_or_default())
    }

    #[cold]
    fn next_window(&mut self) -> Walked<()> {
        self.hand_back();
        loop {
            match self.source.fill_buf() {
                Ok([]) => return self.fail(RdbErrorKind::Truncated),
                Ok(bytes) => {
                    self.window.extend_from_slice(bytes.get(..WINDOW).unwrap_or(bytes));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(RdbErrorKind::Io(error)),
            }
        }
    }

    fn hand_back(&mut self) {
        self.sum();
        self.source.consume(self.taken);
        self.before = self.offset();
        (self.taken, self.summed) = (0, 0);
        self.window.clear();
    }

    /// Brings the CRC up to what was taken. Whole windows at a time: byte by byte the tables would gain nothing.
    fn sum(&mut self) {
        self.crc.update(self.window.get(self.summed..self.taken).unwrap_or_default());
        self.summed = self.taken;
    }
}
