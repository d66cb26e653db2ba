//! Keyspaces made up by chance, and files that hold them: one logical content in ever other encodings and orders.

use std::collections::{BTreeMap, BTreeSet};

use crc::{CRC_64_REDIS, Crc};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

pub(crate) type Bytes = Vec<u8>;
pub(crate) type Id = (u64, u64);
/// Keys by database and name.
pub(crate) type Keyspace = BTreeMap<(u64, Bytes), Key>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) expiry: Option<i64>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(Bytes),
    List(Vec<Bytes>),
    Set(BTreeSet<Bytes>),
    Zset(BTreeMap<Bytes, f64>),
    Hash(BTreeMap<Bytes, (Bytes, Option<i64>)>),
    Stream(Stream),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stream {
    pub(crate) entries: BTreeMap<Id, Vec<(Bytes, Bytes)>>,
    pub(crate) last: Id,
    pub(crate) groups: BTreeMap<Bytes, Group>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) last: Id,
    pub(crate) read: Option<u64>,
    pub(crate) consumers: BTreeSet<Bytes>,
    /// Which of the consumers holds an entry, when it was delivered, and how often.
    pub(crate) pending: BTreeMap<Id, (usize, i64, u64)>,
}

// ---------------------------------------------------------------------------------------------------------------------
// Made up
// ---------------------------------------------------------------------------------------------------------------------

fn text() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        3 => any::<i8>().prop_map(|number| number.to_string().into_bytes()),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        2 => any::<i16>().prop_map(|number| number.to_string().into_bytes()),
        2 => (any::<u8>(), 20usize..400).prop_map(|(byte, count)| vec![byte; count]),
        1 => vec(prop::sample::select(vec![b'a', b'b']), 60..5_000),
        1 => prop::sample::select(vec!["007", "-0", "+1", " 1", "9223372036854775808", "1e3"]).prop_map(|s| s.into()),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<i16>().prop_map(f64::from),
        any::<i32>().prop_map(|quarters| f64::from(quarters) / 4.0),
        any::<f64>().prop_filter("a score is a number", |score| !score.is_nan()).prop_map(|score| score + 0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
    ]
}

fn expiry() -> impl Strategy<Value = Option<i64>> {
    option::weighted(0.3, 1_000_000_000_000i64..2_000_000_000_000)
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![(0u64..5, 0u64..5), (1_700_000_000_000u64..1_700_000_100_000, 0u64..3), any::<(u64, u64)>()]
}

fn group() -> impl Strategy<Value = Group> {
    let pending = btree_map(id(), (any::<usize>(), any::<i64>(), 0u64..1000), 0..5);
    (id(), option::of(0u64..1_000_000), btree_set(text(), 1..4), pending).prop_map(
        |(last, read, consumers, pending)| {
            let count = consumers.len();
            let held = |(consumer, at, times): (usize, i64, u64)| (consumer % count, at, times);
            let pending = pending.into_iter().map(|(id, pending)| (id, held(pending))).collect();
            Group { last, read, consumers, pending }
        },
    )
}

fn stream() -> impl Strategy<Value = Stream> {
    let fields = vec((text(), text()), 0..4);
    (btree_map(id(), fields, 0..8), id(), btree_map(text(), group(), 0..3)).prop_map(|(entries, last, groups)| Stream {
        entries,
        last,
        groups,
    })
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::Text),
        vec(text(), 1..12).prop_map(Value::List),
        btree_set(text(), 1..12).prop_map(Value::Set),
        btree_set(any::<i32>().prop_map(|number| number.to_string().into_bytes()), 1..12).prop_map(Value::Set),
        btree_map(text(), score(), 1..12).prop_map(Value::Zset),
        btree_map(text(), (text(), Just(None)), 1..12).prop_map(Value::Hash),
        btree_map(text(), (text(), expiry()), 1..12).prop_map(Value::Hash),
        stream().prop_map(Value::Stream),
    ]
}

pub(crate) fn keyspace() -> impl Strategy<Value = Keyspace> {
    let key = (expiry(), value()).prop_map(|(expiry, value)| Key { expiry, value });
    btree_map((prop::sample::select(vec![0u64, 1, 9, 300]), text()), key, 0..10)
}

// ---------------------------------------------------------------------------------------------------------------------
// Chance, from a seed
// ---------------------------------------------------------------------------------------------------------------------

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 31)) >> 8) as usize % bound.max(1)
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    fn shuffled<T>(&mut self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Strings and packed forms, in any of the ways that the format allows
// ---------------------------------------------------------------------------------------------------------------------

pub(crate) fn length(value: u64) -> Bytes {
    match value {
        0..=0x3f => vec![value as u8],
        0x40..=0x3fff => vec![0x40 | (value >> 8) as u8, value as u8],
        _ if u32::try_from(value).is_ok() => [&[0x80][..], &(value as u32).to_be_bytes()].concat(),
        _ => [&[0x81][..], &value.to_be_bytes()].concat(),
    }
}

pub(crate) fn plain(text: &[u8]) -> Bytes {
    [&length(text.len() as u64), text].concat()
}

/// The number that a text is the only way to write.
fn number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// LZF by looking a little way back for the longest repetition.
pub(crate) fn lzf(text: &[u8]) -> Bytes {
    let (mut packed, mut literal, mut at) = (Vec::new(), Vec::new(), 0);
    let flush = |packed: &mut Bytes, literal: &mut Bytes| {
        for run in literal.chunks(32) {
            packed.push(run.len() as u8 - 1);
            packed.extend(run);
        }
        literal.clear();
    };
    while at < text.len() {
        let same =
            |back: usize| text[at..].iter().zip(&text[at - back..]).take(264).take_while(|(a, b)| a == b).count();
        let best = (1..=at.min(40)).map(|back| (same(back), back)).max_by_key(|(count, _)| *count);
        match best {
            Some((count, back)) if count >= 3 => {
                flush(&mut packed, &mut literal);
                let high = ((back - 1) >> 8) as u8;
                match count - 2 {
                    short @ ..7 => packed.push((short as u8) << 5 | high),
                    long => packed.extend([7 << 5 | high, (long - 7) as u8]),
                }
                packed.push((back - 1) as u8);
                at += count;
            }
            _ => {
                literal.push(text[at]);
                at += 1;
            }
        }
    }
    flush(&mut packed, &mut literal);
    packed
}

pub(crate) fn string(text: &[u8], dice: &mut Dice) -> Bytes {
    match (dice.below(4), number(text)) {
        (0, Some(number)) if i8::try_from(number).is_ok() => vec![0xc0, number as u8],
        (0 | 1, Some(number)) if i16::try_from(number).is_ok() => {
            [&[0xc1][..], &(number as i16).to_le_bytes()].concat()
        }
        (0..=2, Some(number)) if i32::try_from(number).is_ok() => {
            [&[0xc2][..], &(number as i32).to_le_bytes()].concat()
        }
        (0, _) if !text.is_empty() => {
            let packed = lzf(text);
            [&[0xc3][..], &length(packed.len() as u64), &length(text.len() as u64), &packed].concat()
        }
        // A length may be longer than it has to be.
        (1, _) => [&[0x80][..], &(text.len() as u32).to_be_bytes(), text].concat(),
        (2, _) => [&[0x81][..], &(text.len() as u64).to_be_bytes(), text].concat(),
        _ => plain(text),
    }
}

/// The shortest form that fits is the first of these; a reader takes any.
fn fitting(number: i64, dice: &mut Dice) -> usize {
    let widths = [8, 16, 24, 32, 64].into_iter().enumerate();
    let fits = |bits: u32| number.unsigned_abs() < 1 << (bits - 1);
    let fitting: Vec<usize> = widths.filter(|(_, bits)| *bits == 64 || fits(*bits)).map(|(index, _)| index).collect();
    fitting[dice.below(fitting.len())]
}

fn listpack_entry(text: &[u8], dice: &mut Dice) -> Bytes {
    let mut entry = match number(text) {
        Some(number) if dice.below(4) > 0 => match number {
            0..=127 if dice.flip() => vec![number as u8],
            -4096..=4095 if dice.flip() => ((number as u16 & 0x1fff) | 0xc000).to_be_bytes().to_vec(),
            _ => {
                let (code, bytes) = [(0xf1, 2), (0xf1, 2), (0xf2, 3), (0xf3, 4), (0xf4, 8)][fitting(number, dice)];
                [&[code][..], &number.to_le_bytes()[..bytes]].concat()
            }
        },
        _ => match text.len() {
            count @ ..64 if dice.flip() => [&[0x80 | count as u8], text].concat(),
            count @ ..4096 if dice.flip() => [&[0xe0 | (count >> 8) as u8, count as u8], text].concat(),
            count => [&[0xf0][..], &(count as u32).to_le_bytes(), text].concat(),
        },
    };
    let size = entry.len();
    let bytes = match size {
        0..=127 => 1,
        128..=16_382 => 2,
        _ => 3,
    };
    for index in 0..bytes {
        let part = (size >> (7 * (bytes - 1 - index))) as u8 & 0x7f;
        entry.push(if index == 0 { part } else { part | 0x80 });
    }
    entry
}

fn announced(count: usize, dice: &mut Dice) -> [u8; 2] {
    // Large ones do not say how many they hold, and no other has to.
    if dice.below(4) == 0 { [255, 255] } else { (count as u16).to_le_bytes() }
}

pub(crate) fn listpack(items: &[Bytes], dice: &mut Dice) -> Bytes {
    let entries: Bytes = items.iter().flat_map(|item| listpack_entry(item, dice)).collect();
    let size = (6 + entries.len() + 1) as u32;
    [&size.to_le_bytes()[..], &announced(items.len(), dice), &entries, &[255]].concat()
}

pub(crate) fn ziplist(items: &[Bytes], dice: &mut Dice) -> Bytes {
    let (mut entries, mut last, mut tail) = (Vec::new(), 0, 10);
    for text in items {
        tail = 10 + entries.len();
        let before = match last {
            ..254 if dice.below(4) > 0 => vec![last as u8],
            _ => [&[254][..], &(last as u32).to_le_bytes()].concat(),
        };
        let body = match number(text) {
            Some(number) if dice.below(4) > 0 => match number {
                0..=12 if dice.flip() => vec![0xf1 + number as u8],
                _ => {
                    let (code, bytes) = [(0xfe, 1), (0xc0, 2), (0xf0, 3), (0xd0, 4), (0xe0, 8)][fitting(number, dice)];
                    [&[code][..], &number.to_le_bytes()[..bytes]].concat()
                }
            },
            _ => match text.len() {
                count @ ..64 if dice.flip() => [&[count as u8], &text[..]].concat(),
                count @ ..16_384 if dice.flip() => [&[0x40 | (count >> 8) as u8, count as u8], &text[..]].concat(),
                count => [&[0x80][..], &(count as u32).to_be_bytes(), text].concat(),
            },
        };
        last = before.len() + body.len();
        entries.extend([before, body].concat());
    }
    let size = (10 + entries.len() + 1) as u32;
    let header = [size.to_le_bytes(), (tail as u32).to_le_bytes()].concat();
    [&header[..], &announced(items.len(), dice), &entries, &[255]].concat()
}

fn zipmap(pairs: &[(Bytes, Bytes)], dice: &mut Dice) -> Bytes {
    let size = |text: &[u8]| match text.len() {
        count @ ..254 => vec![count as u8],
        count => [&[254][..], &(count as u32).to_le_bytes()].concat(),
    };
    let mut bytes = vec![if dice.flip() { pairs.len() as u8 } else { 254 }];
    for (name, value) in pairs {
        let spare = dice.below(5);
        bytes
            .extend([size(name), name.clone(), size(value), vec![spare as u8], value.clone(), vec![7; spare]].concat());
    }
    bytes.push(255);
    bytes
}

fn intset(numbers: &mut [i64], dice: &mut Dice) -> Bytes {
    numbers.sort_unstable();
    let fits = |bits: u32| numbers.iter().all(|number| number.unsigned_abs() < 1 << (bits - 1));
    let width = match dice.below(3) {
        0 if fits(16) => 2,
        0 | 1 if fits(32) => 4,
        _ => 8,
    };
    let mut bytes = [(width as u32).to_le_bytes(), (numbers.len() as u32).to_le_bytes()].concat();
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()[..width].to_vec()));
    bytes
}

// ---------------------------------------------------------------------------------------------------------------------
// Values and files
// ---------------------------------------------------------------------------------------------------------------------

/// What a file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis12,
    Valkey80,
}

fn score_text(score: f64) -> Bytes {
    format!("{score}").into_bytes()
}

fn id_bytes((ms, seq): Id) -> Bytes {
    [ms.to_be_bytes(), seq.to_be_bytes()].concat()
}

fn id_lengths((ms, seq): Id) -> Bytes {
    [length(ms), length(seq)].concat()
}

fn strings<'t>(texts: impl IntoIterator<Item = &'t Bytes>, dice: &mut Dice) -> Bytes {
    texts.into_iter().flat_map(|text| string(text, dice)).collect()
}

/// A node of a stream; ids count from its own, which need not be that of its first entry.
fn node(entries: &[(Id, &Vec<(Bytes, Bytes)>)], dice: &mut Dice) -> Bytes {
    let ((ms, seq), first) = entries[0];
    let own = (ms - dice.below(3).min(ms as usize) as u64, seq);
    let names: Vec<Bytes> = first.iter().map(|(name, _)| name.clone()).collect();
    let text = |number: usize| number.to_string().into_bytes();
    let mut items = Vec::new();
    let mut deleted = 0;
    for ((ms, seq), fields) in entries {
        let mut copies = vec![false];
        // What was deleted stays until its node is rewritten.
        copies.resize(1 + dice.below(2), true);
        for is_deleted in dice.shuffled(copies) {
            deleted += usize::from(is_deleted);
            let same = fields.iter().map(|(name, _)| name).eq(&names) && dice.flip();
            items.push(text(usize::from(is_deleted) + if same { 2 } else { 0 }));
            items.push(ms.wrapping_sub(own.0).cast_signed().to_string().into_bytes());
            items.push(seq.wrapping_sub(own.1).cast_signed().to_string().into_bytes());
            if !same {
                items.push(text(fields.len()));
                items.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
                items.push(text(4 + 2 * fields.len()));
            } else {
                items.extend(fields.iter().map(|(_, value)| value.clone()));
                items.push(text(3 + fields.len()));
            }
        }
    }
    let mut head = vec![text(entries.len()), text(deleted), text(names.len())];
    head.extend(names);
    head.push(text(0));
    head.extend(items);
    let blob = listpack_of_numbers(&head, dice);
    [string(&id_bytes(own), &mut Dice(3)), string(&blob, dice)].concat()
}

/// As `listpack`, with every number written as one.
fn listpack_of_numbers(items: &[Bytes], dice: &mut Dice) -> Bytes {
    let entries: Bytes = items
        .iter()
        .flat_map(|item| {
            loop {
                let entry = listpack_entry(item, dice);
                let is_text = (0x80..0xc0).contains(&entry[0]) || (0xe0..=0xf0).contains(&entry[0]);
                if number(item).is_none() || !is_text {
                    break entry;
                }
            }
        })
        .collect();
    let size = (6 + entries.len() + 1) as u32;
    [&size.to_le_bytes()[..], &announced(items.len(), dice), &entries, &[255]].concat()
}

pub(crate) fn stream_value(stream: &Stream, version: u8, dice: &mut Dice) -> Bytes {
    let entries: Vec<_> = stream.entries.iter().map(|(id, fields)| (*id, fields)).collect();
    let mut nodes = Vec::new();
    let mut left = &entries[..];
    while !left.is_empty() {
        let (some, rest) = left.split_at(1 + dice.below(left.len()));
        nodes.push(node(some, dice));
        left = rest;
    }
    let count = entries.len() as u64;
    let mut value = [length(nodes.len() as u64), nodes.concat(), length(count), id_lengths(stream.last)].concat();
    if version >= 2 {
        let first = entries.first().map_or((0, 0), |(id, _)| *id);
        value.extend([id_lengths(first), id_lengths((0, 0)), length(count)].concat());
    }
    value.extend(length(stream.groups.len() as u64));
    for (name, group) in dice.shuffled(&stream.groups) {
        value.extend([string(name, dice), id_lengths(group.last)].concat());
        if version >= 2 {
            value.extend(length(group.read.unwrap_or(u64::MAX)));
        }
        value.extend(length(group.pending.len() as u64));
        for (id, (_, at, times)) in dice.shuffled(&group.pending) {
            value.extend([id_bytes(*id), at.to_le_bytes().to_vec(), length(*times)].concat());
        }
        value.extend(length(group.consumers.len() as u64));
        for (index, name) in dice.shuffled(group.consumers.iter().enumerate()) {
            value.extend([string(name, dice), vec![dice.below(256) as u8; 8]].concat());
            if version >= 3 {
                value.extend(vec![dice.below(256) as u8; 8]);
            }
            let held: Vec<_> = group.pending.iter().filter(|(_, pending)| pending.0 == index).collect();
            value.extend(length(held.len() as u64));
            value.extend(dice.shuffled(held).into_iter().flat_map(|(id, _)| id_bytes(*id)));
        }
    }
    value
}

/// A value in one of its encodings: the number and the bytes.
pub(crate) fn encoded(value: &Value, kind: Kind, dice: &mut Dice) -> (u8, Bytes) {
    let blob = |bytes: Bytes, dice: &mut Dice| string(&bytes, dice);
    match value {
        Value::Text(text) => (0, string(text, dice)),
        Value::List(items) => match dice.below(4) {
            0 => (1, [length(items.len() as u64), strings(items, dice)].concat()),
            1 => (10, blob(ziplist(items, dice), dice)),
            two_or_three => {
                let (mut nodes, mut left) = (Vec::new(), &items[..]);
                let is_new = two_or_three == 3;
                while !left.is_empty() || dice.below(6) == 0 {
                    let (some, rest) = left.split_at(dice.below(left.len() + 1));
                    left = rest;
                    nodes.push(match (is_new, some) {
                        (true, [item]) => [length(1), string(item, dice)].concat(),
                        (true, some) => [length(2), blob(listpack(some, dice), dice)].concat(),
                        (false, some) => blob(ziplist(some, dice), dice),
                    });
                }
                (if is_new { 18 } else { 14 }, [length(nodes.len() as u64), nodes.concat()].concat())
            }
        },
        Value::Set(members) => {
            let members: Vec<Bytes> = dice.shuffled(members.iter().cloned());
            let numbers: Option<Vec<i64>> = members.iter().map(|member| number(member)).collect();
            match (dice.below(3), numbers) {
                (0, Some(mut numbers)) => (11, blob(intset(&mut numbers, dice), dice)),
                (1, _) => (20, blob(listpack(&members, dice), dice)),
                _ => (2, [length(members.len() as u64), strings(&members, dice)].concat()),
            }
        }
        Value::Zset(members) => {
            let members = dice.shuffled(members.iter().map(|(member, score)| (member.clone(), *score)));
            let count = length(members.len() as u64);
            let flat =
                || members.iter().flat_map(|(member, score)| [member.clone(), score_text(*score)]).collect::<Vec<_>>();
            match dice.below(4) {
                0 => {
                    let member = |(member, score): &(Bytes, f64), dice: &mut Dice| {
                        let score = match *score {
                            f64::INFINITY => vec![254],
                            f64::NEG_INFINITY => vec![255],
                            // Longer than a length byte allows are only numbers that nobody writes in full.
                            score => {
                                let text = if score.abs() < 1e15 && score.abs() > 1e-5 {
                                    score_text(score)
                                } else {
                                    format!("{score:e}").into_bytes()
                                };
                                [vec![text.len() as u8], text].concat()
                            }
                        };
                        [string(member, dice), score].concat()
                    };
                    let members: Vec<Bytes> = members.iter().map(|pair| member(pair, dice)).collect();
                    (3, [count, members.concat()].concat())
                }
                1 => (12, blob(ziplist(&flat(), dice), dice)),
                2 => (17, blob(listpack(&flat(), dice), dice)),
                _ => {
                    let members: Vec<Bytes> = members
                        .iter()
                        .map(|(member, score)| [string(member, dice), score.to_le_bytes().to_vec()].concat())
                        .collect();
                    (5, [count, members.concat()].concat())
                }
            }
        }
        Value::Hash(fields) => {
            let fields =
                dice.shuffled(fields.iter().map(|(name, (value, expiry))| (name.clone(), value.clone(), *expiry)));
            let count = length(fields.len() as u64);
            let pairs = || fields.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect::<Vec<_>>();
            let flat = || fields.iter().flat_map(|(name, value, _)| [name.clone(), value.clone()]).collect::<Vec<_>>();
            let smallest = fields.iter().filter_map(|(_, _, expiry)| *expiry).min();
            match (smallest, kind, dice.below(4)) {
                (None, _, 0) => (9, blob(zipmap(&pairs(), dice), dice)),
                (None, _, 1) => (13, blob(ziplist(&flat(), dice), dice)),
                (None, _, 2) => (16, blob(listpack(&flat(), dice), dice)),
                (None, _, 3) => (4, [count, strings(&flat(), dice)].concat()),
                (_, Kind::Valkey80, _) => {
                    let fields = fields.iter().map(|(name, value, expiry)| {
                        [string(name, dice), string(value, dice), expiry.unwrap_or(-1).to_le_bytes().to_vec()].concat()
                    });
                    (22, [count, fields.collect::<Vec<_>>().concat()].concat())
                }
                (smallest, Kind::Redis12, form @ (0 | 1)) => {
                    let base = smallest.unwrap_or(1);
                    let base = if form == 0 { base - dice.below(1000) as i64 } else { 1 };
                    let fields = fields.iter().map(|(name, value, expiry)| {
                        let after = expiry.map_or(0, |expiry| (expiry - base + 1) as u64);
                        [length(after), string(name, dice), string(value, dice)].concat()
                    });
                    let fields = fields.collect::<Vec<_>>().concat();
                    match form {
                        0 => (24, [base.to_le_bytes().to_vec(), count, fields].concat()),
                        _ => (22, [count, fields].concat()),
                    }
                }
                (smallest, Kind::Redis12, form) => {
                    let flat: Vec<Bytes> = fields
                        .iter()
                        .flat_map(|(name, value, expiry)| {
                            [name.clone(), value.clone(), expiry.unwrap_or(0).to_string().into_bytes()]
                        })
                        .collect();
                    let blob = blob(listpack_of_numbers(&flat, dice), dice);
                    match form {
                        2 => (25, [smallest.unwrap_or(0).to_le_bytes().to_vec(), blob].concat()),
                        _ => (23, blob),
                    }
                }
            }
        }
        Value::Stream(stream) => match dice.flip() {
            true => (19, stream_value(stream, 2, dice)),
            false => (21, stream_value(stream, 3, dice)),
        },
    }
}

pub(crate) fn end(mut file: Bytes) -> Bytes {
    file.push(255);
    let checksum = Crc::<u64>::new(&CRC_64_REDIS).checksum(&file);
    file.extend(checksum.to_le_bytes());
    file
}

/// A file of the keyspace: any order, any encodings, any of the records that say nothing of the data.
pub(crate) fn file(keyspace: &Keyspace, kind: Kind, seed: u64) -> Bytes {
    let dice = &mut Dice(seed);
    let mut file = match kind {
        Kind::Redis12 => b"REDIS0012".to_vec(),
        Kind::Valkey80 => b"VALKEY080".to_vec(),
    };
    if dice.flip() {
        file.extend([vec![250], string(b"ctime", dice), string(b"1700000000", dice)].concat());
    }
    let mut selected = 0;
    for ((database, name), key) in dice.shuffled(keyspace) {
        if *database != selected || dice.below(5) == 0 {
            selected = *database;
            file.extend([vec![254], length(selected)].concat());
            if dice.flip() {
                file.extend([251, dice.below(60) as u8, 0]);
            }
        }
        if let Some(expiry) = key.expiry {
            match expiry % 1000 {
                0 if dice.flip() && expiry / 1000 < i64::from(i32::MAX) => {
                    file.push(253);
                    file.extend(((expiry / 1000) as i32).to_le_bytes());
                }
                _ => {
                    file.push(252);
                    file.extend(expiry.to_le_bytes());
                }
            }
        }
        match dice.below(4) {
            0 => file.extend([248, 9]),
            1 => file.extend([249, 200]),
            _ => {}
        }
        let (number, value) = encoded(&key.value, kind, dice);
        file.push(number);
        file.extend(string(name, dice));
        file.extend(value);
    }
    end(file)
}
