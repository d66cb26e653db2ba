//! How the bytes of every value type and record lie, as tables: enough to find where each ends.
//!
//! Numbers mean different things in the two families from 22 on, so a layout is looked up by family, version and
//! number. An RDB holds no length per value: a number that is not in here cannot be stepped over.

use super::{Family, RdbErrorKind};

/// What `TYPE` answers for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    String,
    List,
    Set,
    Zset,
    Hash,
    Stream,
    Module,
    /// Sparse, by index (Redis 8.8).
    Array,
}

impl Type {
    pub const ALL: [Self; 8] =
        [Self::String, Self::List, Self::Set, Self::Zset, Self::Hash, Self::Stream, Self::Module, Self::Array];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
            Self::Array => "array",
        }
    }
}

/// How a value is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    String,
    /// A count, then that many strings.
    Items,
    Members,
    /// A count, then members with a score as text, or as eight bytes (since 4.0).
    TextScores,
    BinaryScores,
    /// A count, then fields with their values.
    Fields,
    /// As `Fields`, each followed by eight bytes of expiry (Valkey 9).
    FieldsThenExpiry,
    /// As `Fields`, each after a length that tells its expiry; since 7.4 proper behind the smallest expiry of the hash.
    ExpiryThenFields {
        smallest_first: bool,
    },
    /// One packed string. In a hash every pair may be followed by its expiry, and since 7.4 proper the smallest expiry
    /// of the hash comes first.
    PackedList,
    PackedSet(Packed),
    PackedZset(Packed),
    PackedHash(Packed),
    PackedHashWithExpiry {
        smallest_first: bool,
    },
    /// A count, then that many ziplists (3.2 to 6.2).
    Ziplists,
    /// A count, then that many plain elements or listpacks (since 7.0).
    Nodes,
    Stream(StreamVersion),
    Module,
    /// A count, perhaps the index for the next value, then index, tag and value of each (Redis 8.8).
    Slots,
    /// Values alone (Redis 8.10). Their names come from a template of the file, or lie ahead of them; the values are
    /// one listpack with a number ahead of them, or strings.
    Templated {
        own_names: bool,
        packed: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    Zipmap,
    Ziplist,
    Intset,
    Listpack,
}

/// Each adds fields to the one before: 5.0, 7.0, 7.2, 8.6 and 8.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamVersion {
    One,
    Two,
    Three,
    /// What producers have sent, so as not to take it twice.
    Four,
    /// Pending entries that were given back and that no consumer holds.
    Five,
}

pub(super) fn layout(family: Family, version: u32, number: u8) -> Result<(Type, Layout), RdbErrorKind> {
    use Family::{Redis, Valkey};
    Ok(match (number, family) {
        (0, _) => (Type::String, Layout::String),
        (1, _) => (Type::List, Layout::Items),
        (2, _) => (Type::Set, Layout::Members),
        (3, _) => (Type::Zset, Layout::TextScores),
        (4, _) => (Type::Hash, Layout::Fields),
        (5, _) => (Type::Zset, Layout::BinaryScores),
        (6, _) => return Err(RdbErrorKind::PreRelease(number)),
        (7, _) => (Type::Module, Layout::Module),
        (9, _) => (Type::Hash, Layout::PackedHash(Packed::Zipmap)),
        (10, _) => (Type::List, Layout::PackedList),
        (11, _) => (Type::Set, Layout::PackedSet(Packed::Intset)),
        (12, _) => (Type::Zset, Layout::PackedZset(Packed::Ziplist)),
        (13, _) => (Type::Hash, Layout::PackedHash(Packed::Ziplist)),
        (14, _) => (Type::List, Layout::Ziplists),
        (15, _) => (Type::Stream, Layout::Stream(StreamVersion::One)),
        (16, _) => (Type::Hash, Layout::PackedHash(Packed::Listpack)),
        (17, _) => (Type::Zset, Layout::PackedZset(Packed::Listpack)),
        (18, _) => (Type::List, Layout::Nodes),
        (19, _) => (Type::Stream, Layout::Stream(StreamVersion::Two)),
        (20, _) => (Type::Set, Layout::PackedSet(Packed::Listpack)),
        (21, _) => (Type::Stream, Layout::Stream(StreamVersion::Three)),
        (22, Redis) if version >= 12 => (Type::Hash, Layout::ExpiryThenFields { smallest_first: false }),
        (22, Valkey) => (Type::Hash, Layout::FieldsThenExpiry),
        (23, Redis) if version >= 12 => (Type::Hash, Layout::PackedHashWithExpiry { smallest_first: false }),
        (24, Redis) if version >= 12 => (Type::Hash, Layout::ExpiryThenFields { smallest_first: true }),
        (25, Redis) if version >= 12 => (Type::Hash, Layout::PackedHashWithExpiry { smallest_first: true }),
        // From here on the layout is that of librdb 2.3 and the support of version 15 behind it (MIT, `parser.c`). A
        // file saved by a server refers to its templates; the self-contained forms are those of `DUMP`, and loaders
        // take them anywhere. 33, a rate limiter, is only reserved there.
        (26, Redis) if version >= 13 => (Type::Stream, Layout::Stream(StreamVersion::Four)),
        (27, Redis) if version >= 14 => (Type::Stream, Layout::Stream(StreamVersion::Five)),
        (28, Redis) if version >= 14 => (Type::Array, Layout::Slots),
        (29, Redis) if version >= 15 => (Type::Hash, Layout::Templated { own_names: true, packed: true }),
        (30, Redis) if version >= 15 => (Type::Hash, Layout::Templated { own_names: false, packed: true }),
        (31, Redis) if version >= 15 => (Type::Hash, Layout::Templated { own_names: true, packed: false }),
        (32, Redis) if version >= 15 => (Type::Hash, Layout::Templated { own_names: false, packed: false }),
        (100..=102 | 107 | 121, Redis) => return Err(RdbErrorKind::EnterpriseType(number)),
        _ => return Err(RdbErrorKind::UnknownType(number)),
    })
}

/// The first version that has a value type; servers of an older one refuse it.
pub(super) fn since(number: u8) -> u32 {
    match number {
        0..=4 | 9..=13 => 1,
        14 => 7,
        5 | 7 => 8,
        15 => 9,
        16..=19 => 10,
        20 | 21 => 11,
        // Told apart by family above.
        _ => 12,
    }
}

/// One step on the way to the end of a value or record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Text,
    Length,
    /// So many in a row.
    Lengths(u8),
    Bytes(u8),
    /// A score as text: one byte of length or meaning, then the text.
    Score,
    /// A count, then the steps that many times.
    Each(&'static [Step]),
    /// A module's fields up to the one that ends them. Their numbers mean nothing outside of the module.
    ModuleFields,
    /// The number of a template, then as many strings as it has names.
    TemplateValues,
    /// Names, then either the steps or, without any, as many strings.
    OwnNames(&'static [Step]),
    /// The head of an array, then the steps for each slot.
    Slots(&'static [Step]),
    /// A tag and the value that it tells how to read.
    Slot,
}

pub(super) const TEXT: &[Step] = &[Step::Text];
const PAIR: &[Step] = &[Step::Text, Step::Text];
const CLAIM: &[Step] = &[Step::Bytes(16), Step::Bytes(8), Step::Length];
const IDS: &[Step] = &[Step::Bytes(16)];
const CONSUMER: &[Step] = &[Step::Text, Step::Bytes(8), Step::Each(IDS)];
const CONSUMER_3: &[Step] = &[Step::Text, Step::Bytes(16), Step::Each(IDS)];
const GROUP: &[Step] = &[Step::Text, Step::Lengths(2), Step::Each(CLAIM), Step::Each(CONSUMER)];
const GROUP_2: &[Step] = &[Step::Text, Step::Lengths(3), Step::Each(CLAIM), Step::Each(CONSUMER)];
const GROUP_3: &[Step] = &[Step::Text, Step::Lengths(3), Step::Each(CLAIM), Step::Each(CONSUMER_3)];
const GROUP_5: &[Step] = &[Step::Text, Step::Lengths(3), Step::Each(CLAIM), Step::Each(CONSUMER_3), Step::Each(IDS)];
/// A producer's name, then what it has sent: its own id for the entry, and the entry's.
const PRODUCER: &[Step] = &[Step::Text, Step::Each(&[Step::Text, Step::Length, Step::Length])];
const STREAM: &[Step] = &[Step::Each(PAIR), Step::Lengths(3), Step::Each(GROUP)];
const STREAM_2: &[Step] = &[Step::Each(PAIR), Step::Lengths(8), Step::Each(GROUP_2)];
const STREAM_3: &[Step] = &[Step::Each(PAIR), Step::Lengths(8), Step::Each(GROUP_3)];
const STREAM_4: &[Step] = &[
    Step::Each(PAIR),
    Step::Lengths(8),
    Step::Each(GROUP_3),
    Step::Lengths(2),
    Step::Each(PRODUCER),
    Step::Lengths(2),
];
const STREAM_5: &[Step] = &[
    Step::Each(PAIR),
    Step::Lengths(8),
    Step::Each(GROUP_5),
    Step::Lengths(2),
    Step::Each(PRODUCER),
    Step::Lengths(2),
];

impl Layout {
    pub(super) fn steps(self) -> &'static [Step] {
        match self {
            Layout::String
            | Layout::PackedList
            | Layout::PackedSet(_)
            | Layout::PackedZset(_)
            | Layout::PackedHash(_)
            | Layout::PackedHashWithExpiry { smallest_first: false } => &[Step::Text],
            Layout::PackedHashWithExpiry { smallest_first: true } => &[Step::Bytes(8), Step::Text],
            Layout::Items | Layout::Members | Layout::Ziplists => &[Step::Each(&[Step::Text])],
            Layout::TextScores => &[Step::Each(&[Step::Text, Step::Score])],
            Layout::BinaryScores => &[Step::Each(&[Step::Text, Step::Bytes(8)])],
            Layout::Fields => &[Step::Each(PAIR)],
            Layout::FieldsThenExpiry => &[Step::Each(&[Step::Text, Step::Text, Step::Bytes(8)])],
            Layout::ExpiryThenFields { smallest_first: false } => {
                &[Step::Each(&[Step::Length, Step::Text, Step::Text])]
            }
            Layout::ExpiryThenFields { smallest_first: true } => {
                &[Step::Bytes(8), Step::Each(&[Step::Length, Step::Text, Step::Text])]
            }
            Layout::Nodes => &[Step::Each(&[Step::Length, Step::Text])],
            Layout::Stream(StreamVersion::One) => STREAM,
            Layout::Stream(StreamVersion::Two) => STREAM_2,
            Layout::Stream(StreamVersion::Three) => STREAM_3,
            Layout::Stream(StreamVersion::Four) => STREAM_4,
            Layout::Stream(StreamVersion::Five) => STREAM_5,
            Layout::Module => &[Step::Length, Step::ModuleFields],
            Layout::Slots => &[Step::Slots(&[Step::Length, Step::Slot])],
            Layout::Templated { own_names: false, packed: true } => TEXT,
            Layout::Templated { own_names: false, packed: false } => &[Step::TemplateValues],
            Layout::Templated { own_names: true, packed: true } => &[Step::OwnNames(TEXT)],
            Layout::Templated { own_names: true, packed: false } => &[Step::OwnNames(&[])],
        }
    }
}

/// A record that is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Expiry,
    ExpiryMs,
    Idle,
    Frequency,
    KeyMeta,
    Select,
    Resize,
    Aux,
    Function,
    ModuleAux,
    SlotInfo,
    SlotImport,
    HashTemplate,
    End,
}

/// The least of the numbers that stand for such records. Of this and the next, each family makes its own use.
pub(super) const FIRST_OPCODE: u8 = 242;

pub(super) fn record(family: Family, version: u32, number: u8) -> Result<(Kind, &'static [Step]), RdbErrorKind> {
    Ok(match number {
        // Names that hashes refer to (Redis 8.10): a number, a count, the names.
        242 if family == Family::Redis && version >= 15 => {
            (Kind::HashTemplate, &[Step::Length, Step::Each(&[Step::Text])])
        }
        // What modules attach to a key (Redis 8.6): classes, each with four bytes of its own and a module's fields.
        243 if family == Family::Redis && version >= 13 => {
            (Kind::KeyMeta, &[Step::Each(&[Step::Bytes(4), Step::ModuleFields])])
        }
        // A slot migration under way (Valkey 9): its name and its ranges of slots.
        243 if family == Family::Valkey => (Kind::SlotImport, &[Step::Text, Step::Each(&[Step::Length, Step::Length])]),
        244 => (Kind::SlotInfo, &[Step::Length, Step::Length, Step::Length]),
        245 => (Kind::Function, &[Step::Text]),
        246 => return Err(RdbErrorKind::PreRelease(number)),
        247 => (Kind::ModuleAux, &[Step::Length, Step::Length, Step::Length, Step::ModuleFields]),
        248 => (Kind::Idle, &[Step::Length]),
        249 => (Kind::Frequency, &[Step::Bytes(1)]),
        250 => (Kind::Aux, PAIR),
        251 => (Kind::Resize, &[Step::Length, Step::Length]),
        252 => (Kind::ExpiryMs, &[Step::Bytes(8)]),
        253 => (Kind::Expiry, &[Step::Bytes(4)]),
        254 => (Kind::Select, &[Step::Length]),
        255 => (Kind::End, &[]),
        _ => return Err(RdbErrorKind::UnknownOpcode(number)),
    })
}
