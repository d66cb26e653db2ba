//! LZF, the compression of strings: runs of literal bytes, and repetitions of what came up to 8 KiB before.

/// The most text that a compressed byte can stand for: three bytes refer back to 264 at best.
const BEST: usize = 88;
/// How far back a repetition can reach.
const REACH: usize = 8 * 1024;
/// How much text is kept before it is shown.
const PIECE: usize = 256 * 1024;

/// A literal run at its longest. So many bytes are copied whatever the run's length, and there is room for them.
const RUN: usize = 32;
const STEP: usize = 16;

/// Whether a text of this length can come out of so many bytes. Nothing is set aside before this holds.
pub(super) fn plausible(packed: u64, length: u64) -> bool {
    packed > 0 && length > 0 && length / (BEST as u64) <= packed
}

/// Expands into `text`, which is cleared first. `None` where the bytes are not LZF or do not give `length` bytes.
pub(super) fn expand(packed: &[u8], length: usize, text: &mut Vec<u8>) -> Option<()> {
    // What an earlier text has left is written over; only the difference is cleared.
    text.truncate(length);
    text.resize(length.checked_add(RUN)?, 0);
    let produced = fill(packed, length, text);
    text.truncate(length);
    (produced? == length).then_some(())
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn put<const N: usize>(out: &mut [u8], at: usize, chunk: [u8; N]) -> Option<()> {
    *out.get_mut(at..)?.first_chunk_mut()? = chunk;
    Some(())
}

/// Expands into `out`, which is longer by [`RUN`] than the text may be. Copies are of a fixed size, since those are
/// single instructions; what they write too much, the next one writes over.
fn fill(packed: &[u8], length: usize, out: &mut [u8]) -> Option<usize> {
    let mut left = packed;
    let mut at = 0;
    while let Some((control, rest)) = left.split_first() {
        let control = usize::from(*control);
        if control < RUN {
            let count = control + 1;
            if at + count > length {
                return None;
            }
            match chunk::<RUN>(rest, 0) {
                Some(literal) => put(out, at, literal)?,
                None => out.get_mut(at..at + count)?.copy_from_slice(rest.get(..count)?),
            }
            left = rest.get(count..)?;
            at += count;
            continue;
        }
        let (count, rest) = match control >> 5 {
            7 => {
                let (more, rest) = rest.split_first()?;
                (9 + usize::from(*more), rest)
            }
            short => (2 + short, rest),
        };
        let (low, rest) = rest.split_first()?;
        left = rest;
        let back = (((control & 0x1f) << 8) | usize::from(*low)) + 1;
        let from = at.checked_sub(back)?;
        let end = at + count;
        if end > length {
            return None;
        }
        if back >= STEP {
            let (mut from, mut to) = (from, at);
            while to < end {
                put(out, to, chunk::<STEP>(out, from)?)?;
                (from, to) = (from + STEP, to + STEP);
            }
        } else {
            // What is repeated overlaps what it makes.
            let seen: [u8; STEP] = chunk(out, from)?;
            let mut pattern = [0; STEP];
            for (place, byte) in pattern.iter_mut().zip(seen.get(..back)?.iter().cycle()) {
                *place = *byte;
            }
            let step = STEP - STEP % back;
            let mut to = at;
            while to < end {
                put(out, to, pattern)?;
                to += step;
            }
        }
        at = end;
    }
    Some(at)
}

/// Expands piece by piece, so that a text of any length takes constant memory.
pub(super) fn pieces(packed: &[u8], length: usize, text: &mut Vec<u8>, mut show: impl FnMut(&[u8])) -> Option<()> {
    text.clear();
    let mut shown = 0;
    let produced = run(packed, length, text, |text| {
        if text.len() >= PIECE {
            show(text.get(shown..).unwrap_or_default());
            text.drain(..text.len().saturating_sub(REACH));
            shown = text.len();
        }
    })?;
    show(text.get(shown..).unwrap_or_default());
    (produced == length).then_some(())
}

fn run(packed: &[u8], length: usize, text: &mut Vec<u8>, mut after: impl FnMut(&mut Vec<u8>)) -> Option<usize> {
    let mut left = packed;
    let mut produced: usize = 0;
    while let Some((control, rest)) = left.split_first() {
        left = rest;
        let control = usize::from(*control);
        if control < 32 {
            let (literal, rest) = left.split_at_checked(control + 1)?;
            text.extend_from_slice(literal);
            left = rest;
            produced += literal.len();
        } else {
            let count = match control >> 5 {
                7 => {
                    let (more, rest) = left.split_first()?;
                    left = rest;
                    9 + usize::from(*more)
                }
                short => 2 + short,
            };
            let (low, rest) = left.split_first()?;
            left = rest;
            let back = (((control & 0x1f) << 8) | usize::from(*low)) + 1;
            let from = text.len().checked_sub(back)?;
            if back >= count {
                text.extend_from_within(from..from + count);
            } else {
                // What is repeated overlaps what it makes: whole repetitions until it is long enough.
                let end = text.len() + count;
                while text.len() < end {
                    let piece = back.min(end - text.len());
                    text.extend_from_within(from..from + piece);
                }
            }
            produced += count;
        }
        if produced > length {
            return None;
        }
        after(text);
    }
    Some(produced)
}
