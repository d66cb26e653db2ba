//! The packed forms of small collections: listpack, ziplist, intset, zipmap.
//!
//! Each is checked as far as it says anything about itself: its announced size and count, the lengths that its entries
//! repeat for reading backwards, and the byte that ends it.

/// Room for the announced count to say "more than fits here".
const MANY: u16 = u16::MAX;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'p> {
    Bytes(&'p [u8]),
    Integer(i64),
}

impl<'p> Piece<'p> {
    /// As the text that a client is given.
    #[inline]
    pub(super) fn show<'r>(self, room: &'r mut itoa::Buffer) -> &'r [u8]
    where
        'p: 'r,
    {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Integer(integer) => room.format(integer).as_bytes(),
        }
    }

    pub(super) fn integer(self) -> Option<i64> {
        match self {
            Piece::Integer(integer) => Some(integer),
            Piece::Bytes(_) => None,
        }
    }
}

/// The elements of one packed value, in order.
#[derive(Clone)]
pub(super) enum Pieces<'p> {
    Listpack(Entries<'p>),
    Ziplist(Entries<'p>),
    Intset { width: usize, left: &'p [u8], last: Option<i64> },
    Zipmap { left: &'p [u8], value: bool, count: Option<u8>, seen: u64 },
}

#[derive(Clone)]
pub(super) struct Entries<'p> {
    left: &'p [u8],
    /// How many are still to come, where the header tells.
    count: Option<u16>,
    /// Length of the entry before, which a ziplist repeats.
    before: usize,
}

/// What is wrong with a packed value.
pub(super) type Wrong = &'static str;

impl<'p> Pieces<'p> {
    pub(super) fn listpack(blob: &'p [u8]) -> Result<Self, Wrong> {
        const WRONG: Wrong = "listpack with a header that does not fit its bytes";
        let (size, rest) = blob.split_first_chunk::<4>().ok_or(WRONG)?;
        let (count, left) = rest.split_first_chunk::<2>().ok_or(WRONG)?;
        let left = body(blob, *size, left).ok_or(WRONG)?;
        Ok(Pieces::Listpack(Entries { left, count: counted(u16::from_le_bytes(*count)), before: 0 }))
    }

    pub(super) fn ziplist(blob: &'p [u8]) -> Result<Self, Wrong> {
        const WRONG: Wrong = "ziplist with a header that does not fit its bytes";
        let (size, rest) = blob.split_first_chunk::<4>().ok_or(WRONG)?;
        let (tail, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
        let (count, left) = rest.split_first_chunk::<2>().ok_or(WRONG)?;
        let left = body(blob, *size, left).ok_or(WRONG)?;
        let tail = usize::try_from(u32::from_le_bytes(*tail)).map_err(|_too_large| WRONG)?;
        if tail < 10 || tail >= blob.len() {
            return Err(WRONG);
        }
        Ok(Pieces::Ziplist(Entries { left, count: counted(u16::from_le_bytes(*count)), before: 0 }))
    }

    pub(super) fn intset(blob: &'p [u8]) -> Result<Self, Wrong> {
        const WRONG: Wrong = "intset with a header that does not fit its bytes";
        let (width, rest) = blob.split_first_chunk::<4>().ok_or(WRONG)?;
        let (count, left) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
        let width = match u32::from_le_bytes(*width) {
            2 => 2,
            4 => 4,
            8 => 8,
            _ => return Err(WRONG),
        };
        if u64::from(u32::from_le_bytes(*count)) * width as u64 != left.len() as u64 {
            return Err(WRONG);
        }
        Ok(Pieces::Intset { width, left, last: None })
    }

    pub(super) fn zipmap(blob: &'p [u8]) -> Result<Self, Wrong> {
        let (count, left) = blob.split_first().ok_or("zipmap without a header")?;
        Ok(Pieces::Zipmap { left, value: false, count: (*count < 254).then_some(*count), seen: 0 })
    }

    /// The next element; `None` behind the last.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Piece<'p>>, Wrong> {
        match self {
            Pieces::Listpack(entries) => entries.next_of_listpack(),
            Pieces::Ziplist(entries) => entries.next_of_ziplist(),
            Pieces::Intset { width, left, last } => next_of_intset(*width, left, last),
            Pieces::Zipmap { left, value, count, seen } => next_of_zipmap(left, value, *count, seen),
        }
    }

    /// An element that has to be there.
    #[inline]
    pub(super) fn expect(&mut self) -> Result<Piece<'p>, Wrong> {
        self.next()?.ok_or("packed value that ends in the middle of an item")
    }
}

fn body<'p>(blob: &[u8], size: [u8; 4], left: &'p [u8]) -> Option<&'p [u8]> {
    let fits = u64::from(u32::from_le_bytes(size)) == blob.len() as u64 && left.last() == Some(&0xff);
    fits.then_some(left)
}

fn counted(count: u16) -> Option<u16> {
    (count != MANY).then_some(count)
}

fn split(left: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    left.split_at_checked(count)
}

impl<'p> Entries<'p> {
    /// Whether the end is reached; an error where it is not where the header says.
    #[inline]
    fn ended(&mut self, wrong: Wrong) -> Result<bool, Wrong> {
        let end = self.left.len() == 1;
        match &mut self.count {
            Some(0) if end => Ok(true),
            Some(0) => Err(wrong),
            Some(_) if end => Err(wrong),
            Some(count) => {
                *count -= 1;
                Ok(false)
            }
            None => Ok(end),
        }
    }

    #[inline]
    fn next_of_listpack(&mut self) -> Result<Option<Piece<'p>>, Wrong> {
        const WRONG: Wrong = "listpack with an entry that does not fit";
        if self.ended("listpack with another number of entries than it announces")? {
            return Ok(None);
        }
        let (first, rest) = self.left.split_first().ok_or(WRONG)?;
        let first = *first;
        let (piece, rest) = match first {
            0..=0x7f => (Piece::Integer(i64::from(first)), rest),
            0x80..=0xbf => bytes(rest, usize::from(first & 0x3f)).ok_or(WRONG)?,
            0xc0..=0xdf => {
                let (low, rest) = rest.split_first().ok_or(WRONG)?;
                let number = (u16::from(first & 0x1f) << 8) | u16::from(*low);
                // Thirteen bits with a sign.
                (Piece::Integer(i64::from((number << 3).cast_signed() >> 3)), rest)
            }
            0xe0..=0xef => {
                let (low, rest) = rest.split_first().ok_or(WRONG)?;
                bytes(rest, (usize::from(first & 0x0f) << 8) | usize::from(*low)).ok_or(WRONG)?
            }
            0xf0 => {
                let (length, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
                let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_too_large| WRONG)?;
                bytes(rest, length).ok_or(WRONG)?
            }
            0xf1 => integer::<2>(rest).ok_or(WRONG)?,
            0xf2 => integer::<3>(rest).ok_or(WRONG)?,
            0xf3 => integer::<4>(rest).ok_or(WRONG)?,
            0xf4 => integer::<8>(rest).ok_or(WRONG)?,
            0xf5..=0xff => return Err(WRONG),
        };
        // The length of the entry follows it, for reading backwards: seven bits a byte, the highest first.
        let length = self.left.len() - rest.len();
        let (back, rest) = split(rest, back_length(length)).ok_or(WRONG)?;
        let mut told = 0;
        for (index, byte) in back.iter().enumerate() {
            if (*byte >= 0x80) != (index > 0) {
                return Err(WRONG);
            }
            told = (told << 7) | usize::from(*byte & 0x7f);
        }
        if told != length || rest.is_empty() {
            return Err(WRONG);
        }
        self.left = rest;
        Ok(Some(piece))
    }

    #[inline]
    fn next_of_ziplist(&mut self) -> Result<Option<Piece<'p>>, Wrong> {
        const WRONG: Wrong = "ziplist with an entry that does not fit";
        if self.ended("ziplist with another number of entries than it announces")? {
            return Ok(None);
        }
        let (before, rest) = match self.left.split_first().ok_or(WRONG)? {
            (0xff, _) => return Err(WRONG),
            (0xfe, rest) => {
                let (length, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
                (usize::try_from(u32::from_le_bytes(*length)).map_err(|_too_large| WRONG)?, rest)
            }
            (length, rest) => (usize::from(*length), rest),
        };
        if before != self.before {
            return Err(WRONG);
        }
        let (first, rest) = rest.split_first().ok_or(WRONG)?;
        let first = *first;
        let (piece, rest) = match first {
            0..=0x3f => bytes(rest, usize::from(first)).ok_or(WRONG)?,
            0x40..=0x7f => {
                let (low, rest) = rest.split_first().ok_or(WRONG)?;
                bytes(rest, (usize::from(first & 0x3f) << 8) | usize::from(*low)).ok_or(WRONG)?
            }
            0x80..=0xbf => {
                let (length, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
                let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_too_large| WRONG)?;
                bytes(rest, length).ok_or(WRONG)?
            }
            0xc0 => integer::<2>(rest).ok_or(WRONG)?,
            0xd0 => integer::<4>(rest).ok_or(WRONG)?,
            0xe0 => integer::<8>(rest).ok_or(WRONG)?,
            0xf0 => integer::<3>(rest).ok_or(WRONG)?,
            0xfe => integer::<1>(rest).ok_or(WRONG)?,
            0xf1..=0xfd => (Piece::Integer(i64::from(first & 0x0f) - 1), rest),
            _ => return Err(WRONG),
        };
        if rest.is_empty() {
            return Err(WRONG);
        }
        self.before = self.left.len() - rest.len();
        self.left = rest;
        Ok(Some(piece))
    }
}

#[inline]
fn bytes(rest: &[u8], length: usize) -> Option<(Piece<'_>, &[u8])> {
    let (bytes, rest) = split(rest, length)?;
    Some((Piece::Bytes(bytes), rest))
}

/// A signed integer of `N` bytes, the lowest first.
#[inline]
fn integer<const N: usize>(rest: &[u8]) -> Option<(Piece<'static>, &[u8])> {
    let (bytes, rest) = split(rest, N)?;
    Some((Piece::Integer(signed(bytes)), rest))
}

#[inline]
fn signed(bytes: &[u8]) -> i64 {
    let mut number = 0i64;
    for byte in bytes.iter().rev() {
        number = (number << 8) | i64::from(*byte);
    }
    let unused = 64 - 8 * u32::try_from(bytes.len()).unwrap_or(8);
    (number << unused) >> unused
}

/// Bytes that the length of a listpack entry takes behind it.
fn back_length(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

fn next_of_intset<'p>(width: usize, left: &mut &[u8], last: &mut Option<i64>) -> Result<Option<Piece<'p>>, Wrong> {
    if left.is_empty() {
        return Ok(None);
    }
    let (bytes, rest) = split(left, width).ok_or("intset that breaks off")?;
    let number = signed(bytes);
    // Servers look members up by bisection: out of order, they would not find them.
    if last.is_some_and(|last| last >= number) {
        return Err("intset out of order");
    }
    (*left, *last) = (rest, Some(number));
    Ok(Some(Piece::Integer(number)))
}

fn next_of_zipmap<'p>(
    left: &mut &'p [u8],
    value: &mut bool,
    count: Option<u8>,
    seen: &mut u64,
) -> Result<Option<Piece<'p>>, Wrong> {
    const WRONG: Wrong = "zipmap with an entry that does not fit";
    let (length, rest) = match left.split_first().ok_or(WRONG)? {
        (0xff, []) if !*value => {
            return match count {
                Some(count) if u64::from(count) * 2 != *seen => Err("zipmap with another number of entries"),
                _ => Ok(None),
            };
        }
        (0xff, _) => return Err(WRONG),
        (0xfe, rest) => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
            (usize::try_from(u32::from_le_bytes(*length)).map_err(|_too_large| WRONG)?, rest)
        }
        (length, rest) => (usize::from(*length), rest),
    };
    // A value may have room to spare behind it.
    let (spare, rest) = if *value {
        let (spare, rest) = rest.split_first().ok_or(WRONG)?;
        (usize::from(*spare), rest)
    } else {
        (0, rest)
    };
    let (bytes, rest) = split(rest, length).ok_or(WRONG)?;
    let (_, rest) = split(rest, spare).ok_or(WRONG)?;
    *left = rest;
    *value = !*value;
    *seen += 1;
    Ok(Some(Piece::Bytes(bytes)))
}
