//! Follows the records of an RDB from the header to the checksum and counts what they hold.
//!
//! The order of records is held to as far as it carries meaning: an expiry belongs to the key behind it. Announced
//! counts are reported and not compared, since not every writer means them exactly. Nothing behind the checksum is
//! touched.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::mem;

use super::reader::Reader;
use super::string::Prefix;
use super::value::{self, Type};
use super::{Checksum, Database, Family, KEY_SHOWN, RdbError, RdbErrorKind, Summary, Walked, fail};

const BUFFER: usize = 128 * 1024;
/// A summary's own texts are short; no writer comes near this.
const AUX_KEPT: usize = 64 * 1024;
/// Sixteen is the default. The limit keeps a file of nothing but database numbers from filling memory with counts.
const DATABASES: usize = 16_384;
const SLOTS: u64 = 16_384;

/// The first record that is not a key. Of this number and the next, each family makes its own use.
const HASH_TEMPLATE_OR_UPDATE: u8 = 242;
const KEY_META_OR_SLOT_IMPORT: u8 = 243;
const SLOT_INFO: u8 = 244;
const FUNCTION: u8 = 245;
const FUNCTION_PRE_RELEASE: u8 = 246;
const MODULE_AUX: u8 = 247;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
const AUX: u8 = 250;
const RESIZE: u8 = 251;
const EXPIRY_MS: u8 = 252;
const EXPIRY: u8 = 253;
const SELECT: u8 = 254;
const END: u8 = 255;

/// Walks an RDB to its end. The source may hold more; whether it does shows in [`Summary::bytes`].
///
/// # Errors
/// Anything that keeps the input from being a complete RDB of a known version, with its byte offset.
pub fn walk(source: impl Read) -> Result<Summary, RdbError> {
    walk_prefix(&mut BufReader::with_capacity(BUFFER, source))
}

/// As [`walk`], leaving the source right behind the RDB: no more than the RDB is consumed, and once its last byte is in
/// the buffer the source is not asked for another. Bytes are consumed in the order and in the number they are walked.
///
/// # Errors
/// As [`walk`]. How much of the source was consumed is then not defined.
pub fn walk_prefix<B: BufRead + ?Sized>(source: &mut B) -> Result<Summary, RdbError> {
    Walk::begin(source).and_then(Walk::complete).map_err(|error| *error)
}

struct Walk<'s, B: ?Sized> {
    reader: Reader<'s, B>,
    summary: Summary,
    database: u64,
    tally: Tally,
    /// What came ahead of a key and belongs to it.
    attributes: Attributes,
    key: Prefix,
}

#[derive(Default)]
struct Attributes {
    any: bool,
    expiry: bool,
}

/// A database while it is counted, without a map to search for every key.
#[derive(Default)]
struct Tally {
    expires: u64,
    by_type: [u64; Type::ALL.len()],
    declared: Option<(u64, u64)>,
}

impl<'s, B: BufRead + ?Sized> Walk<'s, B> {
    fn begin(source: &'s mut B) -> Walked<Self> {
        let mut reader = Reader::new(source);
        let (family, version) = header(&mut reader)?;
        let summary = Summary {
            family,
            version,
            server_version: None,
            replication_id: None,
            replication_offset: None,
            used_memory: None,
            created_unix: None,
            databases: BTreeMap::new(),
            functions: 0,
            module_aux: 0,
            empty_keys: 0,
            checksum: Checksum::Absent,
            bytes: 0,
        };
        Ok(Self {
            reader,
            summary,
            database: 0,
            tally: Tally::default(),
            attributes: Attributes::default(),
            key: Prefix::new(KEY_SHOWN),
        })
    }

    fn complete(mut self) -> Walked<Summary> {
        while self.record()? {}
        self.end()
    }

    /// Follows one record and tells whether another comes.
    fn record(&mut self) -> Walked<bool> {
        let at = self.reader.offset();
        let number = self.reader.byte()?;
        if number < HASH_TEMPLATE_OR_UPDATE {
            return self.entry(at, number).map(|()| true);
        }
        match number {
            EXPIRY_MS => self.attribute(8, true)?,
            EXPIRY => self.attribute(4, true)?,
            FREQUENCY => self.attribute(1, false)?,
            IDLE => {
                self.reader.length()?;
                self.attribute(0, false)?;
            }
            KEY_META_OR_SLOT_IMPORT if self.is(Family::Redis, 13) => self.key_meta()?,
            _ if self.attributes.any => {
                return fail(at, RdbErrorKind::Malformed("expiry or idle time without its key"));
            }
            SELECT => {
                let database = self.reader.length()?;
                self.leave_database()?;
                self.database = database;
            }
            RESIZE => self.tally.declared = Some((self.reader.length()?, self.reader.length()?)),
            // Files without a checksum end at version 4 and know no such record, since 3.2 wrote the first. One that
            // has both is a newer file with a damaged header, and its checksum would go unread.
            AUX if self.summary.version >= 7 => self.aux()?,
            FUNCTION => {
                self.reader.skip_string()?;
                self.summary.functions += 1;
            }
            MODULE_AUX => self.module_aux()?,
            SLOT_INFO => self.slot_info()?,
            KEY_META_OR_SLOT_IMPORT if self.is(Family::Valkey, 80) => self.slot_import()?,
            HASH_TEMPLATE_OR_UPDATE if self.is(Family::Redis, 15) => self.hash_template()?,
            FUNCTION_PRE_RELEASE => return fail(at, RdbErrorKind::PreRelease(number)),
            END => return Ok(false),
            _ => return fail(at, RdbErrorKind::UnknownOpcode(number)),
        }
        Ok(true)
    }

    /// A key and its value.
    fn entry(&mut self, at: u64, number: u8) -> Walked<()> {
        let layout = value::layout(self.summary.family, self.summary.version, number);
        let key = self.reader.string(&mut self.key);
        let named = |mut error: Box<RdbError>| {
            error.key = Some(self.key.bytes().to_vec());
            error
        };
        let (kind, layout) = match (layout, key) {
            (Ok(known), Ok(_)) => known,
            (Ok(_), Err(error)) => return Err(error),
            // The key lies between the type and the value, so even the key of an unknown type can be told.
            (Err(kind), Ok(_)) => return fail(at, kind).map_err(named),
            (Err(kind), Err(_)) => return fail(at, kind),
        };
        let holds = self.reader.skip_value(layout).map_err(named)?;
        let attributes = mem::take(&mut self.attributes);
        if !holds {
            self.summary.empty_keys += 1;
            return Ok(());
        }
        self.tally.expires += u64::from(attributes.expiry);
        if let Some(count) = self.tally.by_type.get_mut(kind as usize) {
            *count += 1;
        }
        Ok(())
    }

    fn attribute(&mut self, bytes: u64, expiry: bool) -> Walked<()> {
        self.reader.skip(bytes)?;
        self.attributes.any = true;
        self.attributes.expiry |= expiry;
        Ok(())
    }

    /// What modules attach to a key (Redis 8.6): classes, each with four bytes of its own and a module's fields.
    fn key_meta(&mut self) -> Walked<()> {
        for _ in 0..self.reader.length()? {
            self.reader.skip(4)?;
            self.reader.skip_module_fields()?;
        }
        self.attribute(0, false)
    }

    fn aux(&mut self) -> Walked<()> {
        let mut name = Prefix::new(KEY_SHOWN);
        let mut text = Prefix::new(AUX_KEPT);
        self.reader.string(&mut name)?;
        self.reader.string(&mut text)?;
        let text = String::from_utf8_lossy(text.bytes());
        match name.bytes() {
            b"redis-ver" | b"valkey-ver" => self.summary.server_version = Some(text.into_owned()),
            b"repl-id" => self.summary.replication_id = Some(text.into_owned()),
            b"repl-offset" => self.summary.replication_offset = text.parse().ok(),
            b"used-mem" => self.summary.used_memory = text.parse().ok(),
            b"ctime" => self.summary.created_unix = text.parse().ok(),
            _ => {}
        }
        Ok(())
    }

    fn module_aux(&mut self) -> Walked<()> {
        self.reader.length()?;
        let at = self.reader.offset();
        // An unsigned field that tells whether the record belongs before or after the keys.
        if self.reader.length()? != 2 {
            return fail(at, RdbErrorKind::Malformed("module record without its place"));
        }
        self.reader.length()?;
        self.reader.skip_module_fields()?;
        self.summary.module_aux += 1;
        Ok(())
    }

    fn slot_info(&mut self) -> Walked<()> {
        let at = self.reader.offset();
        if self.reader.length()? >= SLOTS {
            return fail(at, RdbErrorKind::Malformed("slot number beyond the last slot"));
        }
        self.reader.length()?;
        self.reader.length().map(drop)
    }

    /// A slot migration under way (Valkey 9): its name and its ranges of slots.
    fn slot_import(&mut self) -> Walked<()> {
        self.reader.skip_string()?;
        for _ in 0..self.reader.length()? {
            self.reader.length()?;
            self.reader.length()?;
        }
        Ok(())
    }

    /// Field names that hashes share (Redis 8.10). The hashes that refer to them are unknown types.
    fn hash_template(&mut self) -> Walked<()> {
        self.reader.length()?;
        for _ in 0..self.reader.length()? {
            self.reader.skip_string()?;
        }
        Ok(())
    }

    fn is(&self, family: Family, since: u32) -> bool {
        self.summary.family == family && self.summary.version >= since
    }

    /// Moves the counts into the summary. A database that is selected again adds to what it had.
    fn leave_database(&mut self) -> Walked<()> {
        let tally = mem::take(&mut self.tally);
        let keys: u64 = tally.by_type.iter().sum();
        if keys == 0 && tally.declared.is_none() {
            return Ok(());
        }
        let databases = &mut self.summary.databases;
        if databases.len() >= DATABASES && !databases.contains_key(&self.database) {
            return self.reader.fail(RdbErrorKind::TooManyDatabases(DATABASES));
        }
        let database: &mut Database = databases.entry(self.database).or_default();
        database.keys += keys;
        database.expires += tally.expires;
        for (kind, count) in Type::ALL.into_iter().zip(tally.by_type) {
            if count > 0 {
                *database.by_type.entry(kind.name()).or_default() += count;
            }
        }
        if let Some((keys, expires)) = tally.declared {
            (database.declared_keys, database.declared_expires) = (Some(keys), Some(expires));
        }
        Ok(())
    }

    /// Compares the checksum, which covers everything up to and including the record that ends the file.
    fn end(mut self) -> Walked<Summary> {
        self.leave_database()?;
        if self.summary.version >= 5 {
            let computed = self.reader.checksum();
            let at = self.reader.offset();
            self.summary.checksum = match u64::from_le_bytes(self.reader.array()?) {
                0 => Checksum::Absent,
                stored if stored == computed => Checksum::Verified(stored),
                stored => return fail(at, RdbErrorKind::Checksum { stored, computed }),
            };
        }
        self.summary.bytes = self.reader.finish();
        Ok(self.summary)
    }
}

fn header<B: BufRead + ?Sized>(reader: &mut Reader<'_, B>) -> Walked<(Family, u32)> {
    let magic: [u8; 9] = reader.array()?;
    let (family, digits) = if let Some(digits) = magic.strip_prefix(b"REDIS") {
        (Family::Redis, digits)
    } else if let Some(digits) = magic.strip_prefix(b"VALKEY") {
        (Family::Valkey, digits)
    } else {
        return fail(0, RdbErrorKind::NotAnRdb);
    };
    let mut version = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return fail(0, RdbErrorKind::NotAnRdb);
        }
        version = version * 10 + u32::from(digit - b'0');
    }
    // Valkey leaves 12 to 79 to others and counts on from 80. A Redis beyond 12 is walked as far as its records are
    // known.
    match (family, version) {
        (Family::Redis, 1..=79) | (Family::Valkey, 80..) => Ok((family, version)),
        _ => fail(0, RdbErrorKind::UnknownVersion(family, version)),
    }
}
