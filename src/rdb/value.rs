//! Knows the layout of every value type and steps over one value.
//!
//! Numbers mean different things in the two families from 22 on, so a layout is looked up by family, version and
//! number. Packed blobs are stepped over as the strings they are stored as; only their length is looked at, because it
//! tells an empty blob. Identifiers in a stream's consumers are not matched with those of their group.

use std::io::BufRead;

use super::reader::Reader;
use super::string::Written;
use super::{Family, RdbErrorKind, Walked, fail};

/// The format can hold such a score, but no command makes one and servers refuse to load it.
const NOT_A_NUMBER: RdbErrorKind = RdbErrorKind::Malformed("score that is not a number");

/// What `TYPE` answers for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    String,
    List,
    Set,
    Zset,
    Hash,
    Stream,
    Module,
}

impl Type {
    pub(super) const ALL: [Self; 7] =
        [Self::String, Self::List, Self::Set, Self::Zset, Self::Hash, Self::Stream, Self::Module];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
        }
    }
}

/// How the bytes behind a key lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    String,
    /// A count, then that many strings.
    Strings,
    /// A count, then members with a score as text, or as eight bytes (since 4.0).
    TextScores,
    BinaryScores,
    /// A count, then fields with their values.
    Pairs,
    /// As `Pairs`, each followed by eight bytes of expiry (Valkey 9).
    PairsThenExpiry,
    /// As `Pairs`, each after a length that tells its expiry; since 7.4 proper behind the smallest expiry of the hash.
    ExpiryThenPairs {
        smallest_first: bool,
    },
    /// One packed string; since 7.4 possibly behind the smallest expiry of the hash.
    Blob(Blob),
    SmallestExpiryThenBlob(Blob),
    /// A count, then that many ziplists (3.2 to 6.2).
    Ziplists,
    /// A count, then that many plain elements or listpacks (since 7.0).
    Nodes,
    Stream(StreamVersion),
    Module,
}

/// A packed form, known here by the length it has when it holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blob {
    Zipmap,
    Ziplist,
    Intset,
    Listpack,
}

impl Blob {
    fn empty_length(self) -> u64 {
        match self {
            Self::Zipmap => 2,
            Self::Ziplist => 11,
            Self::Intset => 8,
            Self::Listpack => 7,
        }
    }
}

/// Each adds fields to the one before: 5.0, 7.0 and 7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamVersion {
    One,
    Two,
    Three,
}

pub(super) fn layout(family: Family, version: u32, number: u8) -> Result<(Type, Layout), RdbErrorKind> {
    use Family::{Redis, Valkey};
    Ok(match (number, family) {
        (0, _) => (Type::String, Layout::String),
        (1, _) => (Type::List, Layout::Strings),
        (2, _) => (Type::Set, Layout::Strings),
        (3, _) => (Type::Zset, Layout::TextScores),
        (4, _) => (Type::Hash, Layout::Pairs),
        (5, _) => (Type::Zset, Layout::BinaryScores),
        (6, _) => return Err(RdbErrorKind::PreRelease(number)),
        (7, _) => (Type::Module, Layout::Module),
        (9, _) => (Type::Hash, Layout::Blob(Blob::Zipmap)),
        (10, _) => (Type::List, Layout::Blob(Blob::Ziplist)),
        (11, _) => (Type::Set, Layout::Blob(Blob::Intset)),
        (12, _) => (Type::Zset, Layout::Blob(Blob::Ziplist)),
        (13, _) => (Type::Hash, Layout::Blob(Blob::Ziplist)),
        (14, _) => (Type::List, Layout::Ziplists),
        (15, _) => (Type::Stream, Layout::Stream(StreamVersion::One)),
        (16, _) => (Type::Hash, Layout::Blob(Blob::Listpack)),
        (17, _) => (Type::Zset, Layout::Blob(Blob::Listpack)),
        (18, _) => (Type::List, Layout::Nodes),
        (19, _) => (Type::Stream, Layout::Stream(StreamVersion::Two)),
        (20, _) => (Type::Set, Layout::Blob(Blob::Listpack)),
        (21, _) => (Type::Stream, Layout::Stream(StreamVersion::Three)),
        (22, Redis) if version >= 12 => (Type::Hash, Layout::ExpiryThenPairs { smallest_first: false }),
        (22, Valkey) => (Type::Hash, Layout::PairsThenExpiry),
        (23, Redis) if version >= 12 => (Type::Hash, Layout::Blob(Blob::Listpack)),
        (24, Redis) if version >= 12 => (Type::Hash, Layout::ExpiryThenPairs { smallest_first: true }),
        (25, Redis) if version >= 12 => (Type::Hash, Layout::SmallestExpiryThenBlob(Blob::Listpack)),
        (100..=102 | 107 | 121, Redis) => return Err(RdbErrorKind::EnterpriseType(number)),
        _ => return Err(RdbErrorKind::UnknownType(number)),
    })
}

impl<B: BufRead + ?Sized> Reader<'_, B> {
    /// Steps over one value and tells whether it held anything.
    #[inline]
    pub(super) fn skip_value(&mut self, layout: Layout) -> Walked<bool> {
        match layout {
            Layout::String => self.skip_string().map(|_| true),
            Layout::Strings => self.skip_each(|reader| reader.skip_string().map(drop)),
            Layout::TextScores => self.skip_each(|reader| {
                reader.skip_string()?;
                reader.skip_text_score()
            }),
            Layout::BinaryScores => self.skip_each(|reader| {
                reader.skip_string()?;
                reader.skip_binary_score()
            }),
            Layout::Pairs => self.skip_each(Self::skip_pair),
            Layout::PairsThenExpiry => self.skip_each(|reader| {
                reader.skip_pair()?;
                reader.skip(8)
            }),
            Layout::ExpiryThenPairs { smallest_first } => {
                self.skip(if smallest_first { 8 } else { 0 })?;
                self.skip_each(|reader| {
                    reader.length()?;
                    reader.skip_pair()
                })
            }
            Layout::Blob(blob) => self.skip_blob(blob),
            Layout::SmallestExpiryThenBlob(blob) => {
                self.skip(8)?;
                self.skip_blob(blob)
            }
            Layout::Ziplists => self.skip_nodes(|reader| reader.skip_blob(Blob::Ziplist)),
            Layout::Nodes => self.skip_nodes(Self::skip_node),
            Layout::Stream(version) => self.skip_stream(version).map(|()| true),
            Layout::Module => {
                self.length()?;
                self.skip_module_fields().map(|()| true)
            }
        }
    }

    /// A module's fields up to the one that ends them. Their numbers mean nothing outside of the module.
    pub(super) fn skip_module_fields(&mut self) -> Walked<()> {
        loop {
            let at = self.offset();
            match self.length()? {
                0 => return Ok(()),
                1 | 2 => self.length().map(drop)?,
                3 => self.skip(4)?,
                4 => self.skip(8)?,
                5 => self.skip_string().map(drop)?,
                _ => return fail(at, RdbErrorKind::Malformed("unknown field in a module's value")),
            }
        }
    }

    // A count of items is safe to follow as far as it goes: an item takes a byte at least, so the input ends the loop.
    #[inline]
    fn skip_each(&mut self, mut skip: impl FnMut(&mut Self) -> Walked<()>) -> Walked<bool> {
        let count = self.length()?;
        for _ in 0..count {
            skip(self)?;
        }
        Ok(count > 0)
    }

    /// A list of nodes holds something when one of them does: servers drop the empty ones while loading.
    fn skip_nodes(&mut self, mut skip: impl FnMut(&mut Self) -> Walked<bool>) -> Walked<bool> {
        let mut holds = false;
        self.skip_each(|reader| {
            holds |= skip(reader)?;
            Ok(())
        })?;
        Ok(holds)
    }

    fn skip_node(&mut self) -> Walked<bool> {
        let at = self.offset();
        match self.length()? {
            1 => self.skip_string().map(|_| true),
            2 => self.skip_blob(Blob::Listpack),
            _ => fail(at, RdbErrorKind::Malformed("unknown kind of list node")),
        }
    }

    fn skip_pair(&mut self) -> Walked<()> {
        self.skip_string()?;
        self.skip_string().map(drop)
    }

    fn skip_text_score(&mut self) -> Walked<()> {
        let at = self.offset();
        match self.byte()? {
            253 => fail(at, NOT_A_NUMBER),
            // Plus and minus infinity.
            254 | 255 => Ok(()),
            length => self.skip(u64::from(length)),
        }
    }

    fn skip_binary_score(&mut self) -> Walked<()> {
        let at = self.offset();
        if f64::from_le_bytes(self.array()?).is_nan() { fail(at, NOT_A_NUMBER) } else { Ok(()) }
    }

    fn skip_blob(&mut self, blob: Blob) -> Walked<bool> {
        let at = self.offset();
        match self.skip_string()? {
            Written::Bytes(length) if length > blob.empty_length() => Ok(true),
            // Servers drop the former two while loading and refuse the latter two (tried on 8.2).
            Written::Bytes(length) if length == blob.empty_length() => match blob {
                Blob::Ziplist | Blob::Listpack => Ok(false),
                Blob::Zipmap | Blob::Intset => fail(at, RdbErrorKind::Malformed("packed value without an element")),
            },
            _ => fail(at, RdbErrorKind::Malformed("packed value too short for its header")),
        }
    }

    fn skip_stream(&mut self, version: StreamVersion) -> Walked<()> {
        self.skip_each(Self::skip_stream_node)?;
        self.length()?;
        self.skip_stream_id()?;
        if version >= StreamVersion::Two {
            // First id, greatest deleted id, entries ever added.
            self.skip_stream_id()?;
            self.skip_stream_id()?;
            self.length()?;
        }
        self.skip_each(|reader| reader.skip_group(version)).map(drop)
    }

    fn skip_stream_node(&mut self) -> Walked<()> {
        let at = self.offset();
        if self.skip_string()? != Written::Bytes(16) {
            return fail(at, RdbErrorKind::Malformed("stream node without an id of 16 bytes"));
        }
        let at = self.offset();
        if self.skip_blob(Blob::Listpack)? { Ok(()) } else { fail(at, RdbErrorKind::Malformed("empty stream node")) }
    }

    fn skip_stream_id(&mut self) -> Walked<()> {
        self.length()?;
        self.length().map(drop)
    }

    fn skip_group(&mut self, version: StreamVersion) -> Walked<()> {
        self.skip_string()?;
        self.skip_stream_id()?;
        if version >= StreamVersion::Two {
            // Entries read; -1, which is the greatest length, where the server does not know.
            self.length()?;
        }
        // Entries delivered and not acknowledged: id, time of delivery, number of deliveries.
        self.skip_each(|reader| {
            reader.skip(16 + 8)?;
            reader.length().map(drop)
        })?;
        self.skip_each(|reader| reader.skip_consumer(version)).map(drop)
    }

    fn skip_consumer(&mut self, version: StreamVersion) -> Walked<()> {
        self.skip_string()?;
        // Seen, and since 7.2 active.
        self.skip(if version >= StreamVersion::Three { 16 } else { 8 })?;
        self.skip_each(|reader| reader.skip(16)).map(drop)
    }
}
