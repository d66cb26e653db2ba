//! Packs the entries of a stream into nodes, as servers keep them.
//!
//! A node is a listpack that begins with the id and the field names of its first entry; entries that have the same names
//! do not repeat them. Nothing that was deleted is packed.

use super::decode::StreamId;
use super::write::{put_length, put_text};

/// What servers put into a node unless they are told otherwise.
const ENTRIES: u64 = 100;
const BYTES: usize = 4096;
/// Header of a listpack: its bytes and its elements.
const HEADER: usize = 6;

/// The nodes of a stream.
#[derive(Default)]
pub(super) struct Nodes {
    out: Vec<u8>,
    count: u64,
    /// The node that is being filled, without its beginning.
    master: StreamId,
    names: Vec<u8>,
    body: Vec<u8>,
    elements: u64,
    entries: u64,
    /// The entry that is being filled: names and values, each with its length ahead of it.
    id: Option<StreamId>,
    fields: Vec<(usize, usize, usize)>,
    texts: Vec<u8>,
}

impl Nodes {
    pub fn entry(&mut self, id: StreamId) {
        self.end_entry();
        self.id = Some(id);
    }

    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let at = self.texts.len();
        self.texts.extend_from_slice(name);
        self.texts.extend_from_slice(value);
        self.fields.push((at, at + name.len(), self.texts.len()));
    }

    /// All nodes, ahead of them how many there are.
    pub fn put(mut self, out: &mut Vec<u8>) {
        self.end_entry();
        self.end_node();
        put_length(out, self.count);
        out.extend_from_slice(&self.out);
    }

    fn end_entry(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (fields, texts) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.texts));
        let cut = |from: usize, to: usize| texts.get(from..to).unwrap_or_default();
        let mut names = Vec::new();
        put_integer(&mut names, fields.len() as i64);
        for (at, between, _) in &fields {
            put_string(&mut names, cut(*at, *between));
        }
        // Servers walk a node's ids as differences that fit its first one's.
        if self.entries >= ENTRIES || self.body.len() + texts.len() > BYTES && self.entries > 0 {
            self.end_node();
        }
        if self.entries == 0 {
            (self.master, self.elements) = (id, fields.len() as u64 + 4);
            self.names.clone_from(&names);
        }
        let same = names == self.names;
        put_integer(&mut self.body, if same { 2 } else { 0 });
        put_integer(&mut self.body, id.ms.wrapping_sub(self.master.ms).cast_signed());
        put_integer(&mut self.body, id.seq.wrapping_sub(self.master.seq).cast_signed());
        let count = fields.len() as i64;
        if !same {
            put_integer(&mut self.body, count);
        }
        for (at, between, end) in &fields {
            if !same {
                put_string(&mut self.body, cut(*at, *between));
            }
            put_string(&mut self.body, cut(*between, *end));
        }
        let pieces = if same { count + 3 } else { count * 2 + 4 };
        put_integer(&mut self.body, pieces);
        self.elements += pieces.unsigned_abs() + 1;
        self.entries += 1;
        // What was taken is given back empty, for the next entry.
        (self.fields, self.texts) = (fields, texts);
        self.fields.clear();
        self.texts.clear();
    }

    fn end_node(&mut self) {
        if self.entries == 0 {
            return;
        }
        let mut blob = vec![0; HEADER];
        put_integer(&mut blob, self.entries.cast_signed());
        put_integer(&mut blob, 0);
        blob.extend_from_slice(&self.names);
        put_integer(&mut blob, 0);
        blob.extend_from_slice(&self.body);
        blob.push(0xff);
        let length = u32::try_from(blob.len()).unwrap_or(u32::MAX);
        // A number of elements that does not fit is not told, and has to be counted.
        let elements = u16::try_from(self.elements).unwrap_or(u16::MAX);
        for (slot, byte) in blob.iter_mut().zip(length.to_le_bytes().into_iter().chain(elements.to_le_bytes())) {
            *slot = byte;
        }
        let mut id = self.master.ms.to_be_bytes().to_vec();
        id.extend_from_slice(&self.master.seq.to_be_bytes());
        put_text(&mut self.out, &id);
        put_text(&mut self.out, &blob);
        self.count += 1;
        self.body.clear();
        (self.entries, self.elements) = (0, 0);
    }
}

fn put_integer(out: &mut Vec<u8>, number: i64) {
    let at = out.len();
    match number {
        0..=127 => out.push(number as u8),
        -4096..=4095 => {
            let bits = (number as u16) & 0x1fff;
            out.extend_from_slice(&[0xc0 | (bits >> 8) as u8, bits as u8]);
        }
        _ => {
            let bytes = number.to_le_bytes();
            let (tag, width) = match number {
                -0x8000..=0x7fff => (0xf1, 2),
                -0x80_0000..=0x7f_ffff => (0xf2, 3),
                -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
                _ => (0xf4, 8),
            };
            out.push(tag);
            out.extend_from_slice(bytes.get(..width).unwrap_or(&bytes));
        }
    }
    put_back_length(out, at);
}

/// As a server would: what is a number in its plainest form is kept as one.
fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    if let Some(number) = integer(text) {
        return put_integer(out, number);
    }
    let (at, length) = (out.len(), text.len());
    match length {
        0..=63 => out.push(0x80 | length as u8),
        64..=4095 => out.extend_from_slice(&[0xe0 | (length >> 8) as u8, length as u8]),
        _ => {
            out.push(0xf0);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
    }
    out.extend_from_slice(text);
    put_back_length(out, at);
}

fn integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 20 || !matches!(text.first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == text).then_some(number)
}

/// How long the element before this was, for those who walk backwards: seven bits a byte, the highest first.
fn put_back_length(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at;
    let bytes = match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    };
    for place in (0..bytes).rev() {
        let bits = (length >> (7 * place)) as u8 & 0x7f;
        out.push(if place + 1 == bytes { bits } else { bits | 0x80 });
    }
}
