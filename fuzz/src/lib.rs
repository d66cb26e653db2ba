//! What is tried on made-up bytes, and what has to hold for them.
//!
//! The packed forms and LZF are tried from where they are in use: as values of a small file without a checksum. So a
//! target needs nothing of the library that its other users do not have.

use lockstep::backup::Manifest;
use lockstep::digest::{self, Hasher, Keyspace, Lane};
use lockstep::rdb::{self, Family, Form, Frames, RdbError, Record, Room, Tally, Target, WriteError, Writer};

fn hasher() -> Hasher {
    Hasher::new(&digest::Key::new([7; 32]), None)
}

fn digest_of(bytes: &[u8]) -> Result<Keyspace, RdbError> {
    let mut frames = Frames::new(bytes);
    let (mut hasher, mut tally, mut room) = (hasher(), Tally::default(), Room::default());
    while let Some(batch) = frames.next_batch()? {
        hasher.add_batch(&batch, &mut tally, &mut room)?;
        frames.recycle(batch);
    }
    Ok(hasher.keyspace)
}

fn length(count: usize) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
    [0x80, a, b, c, d]
}

fn file(magic: &[u8; 9], number: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut file = magic.to_vec();
    file.extend([number, 1, b'k']);
    parts.iter().for_each(|part| file.extend_from_slice(part));
    file.push(255);
    file.extend([0; 8]);
    file
}

/// Any bytes are read or refused, and who counts agrees with who hashes.
pub fn reader(bytes: &[u8]) {
    let walked = rdb::walk(bytes);
    let hashed = digest_of(bytes);
    match (walked, hashed) {
        (Ok(summary), Ok(keyspace)) => assert_eq!(summary.keys(), keyspace.keys),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
}

/// The first byte says which type the rest is read as, in each of three files.
pub fn value(bytes: &[u8]) {
    let Some((number, value)) = bytes.split_first() else { return };
    for magic in [b"REDIS0009", b"REDIS0015", b"VALKEY080"] {
        reader(&file(magic, *number, &[value]));
    }
}

pub fn listpack(bytes: &[u8]) {
    let size = length(bytes.len());
    for number in [16, 17, 20, 30] {
        reader(&file(b"REDIS0015", number, &[&size, bytes]));
    }
    reader(&file(b"REDIS0015", 18, &[&[1, 2], &size, bytes]));
    reader(&file(b"REDIS0015", 25, &[&[0; 8], &size, bytes]));
    // A stream of one node, and nothing but it.
    reader(&file(b"REDIS0015", 21, &[&[1, 16], &[0; 16], &size, bytes, &[1, 1, 0, 0, 0, 0, 0, 0, 0]]));
}

pub fn ziplist(bytes: &[u8]) {
    let size = length(bytes.len());
    // The two older packed forms share the target.
    for number in [9, 10, 11, 12, 13] {
        reader(&file(b"REDIS0009", number, &[&size, bytes]));
    }
    reader(&file(b"REDIS0009", 14, &[&[1], &size, bytes]));
}

/// The first two bytes say how long the text is to be.
pub fn lzf(bytes: &[u8]) {
    let Some(([low, high], packed)) = bytes.split_first_chunk::<2>() else { return };
    let claimed = usize::from(u16::from_le_bytes([*low, *high]));
    for claimed in [claimed, claimed * 64] {
        reader(&file(b"REDIS0009", 0, &[&[0xc3], &length(packed.len()), &length(claimed), packed]));
        reader(&file(b"REDIS0009", 1, &[&[1, 0xc3], &length(packed.len()), &length(claimed), packed]));
    }
}

/// What is taken for a manifest is written and read as the same.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
    let text = serde_json::to_string(&manifest).expect("a manifest is text");
    assert_eq!(serde_json::from_str::<Manifest>(&text).expect("its own text"), manifest);
}

const TARGETS: [Target; 4] = [
    Target { family: Family::Redis, version: 9 },
    Target { family: Family::Redis, version: 12 },
    Target { family: Family::Redis, version: 15 },
    Target { family: Family::Valkey, version: 80 },
];

/// Writes everything again; `None` where something would be lost.
fn rewritten(bytes: &[u8], target: Target, form: Form) -> Option<Vec<u8>> {
    let mut frames = Frames::new(bytes);
    let mut writer = Writer::begin(Vec::new(), target).expect("memory");
    let (mut room, mut payload, mut loses) = (Room::default(), Vec::new(), false);
    while let Some(batch) = frames.next_batch().expect("it was read before") {
        for record in batch.records() {
            match record.expect("it was read before") {
                Record::Key(entry) => {
                    match writer.key(&entry, entry.expires_at_ms, form, &mut room) {
                        Ok(_) => {}
                        Err(WriteError::Loses { .. }) => loses = true,
                        Err(error) => panic!("{error}"),
                    }
                    match rdb::dump(&entry, target, form, &mut room, &mut payload) {
                        Ok(_) | Err(WriteError::Loses { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                Record::Announced { database, keys, expires } => {
                    writer.announce(database, keys, expires).expect("memory");
                }
                Record::Function(written) => writer.function(written).expect("memory"),
                Record::ModuleAux(written) => writer.module_aux(written).expect("memory"),
            }
        }
    }
    let again = writer.finish().expect("memory");
    (!loses).then_some(again)
}

/// The first byte says what it is written for.
pub fn round_trip(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let Ok(before) = digest_of(bytes) else { return };
    let target = TARGETS[usize::from(choice >> 1) % TARGETS.len()];
    let form = if choice & 1 == 0 { Form::Plain } else { Form::AsWritten };
    let Some(again) = rewritten(bytes, target, form) else { return };
    let after = digest_of(&again).unwrap_or_else(|error| panic!("{error}"));
    // Only the counters of streams may be left out without a word, where the target keeps none.
    let differs = before.differs(&after);
    assert!(differs.iter().all(|lane| *lane == Lane::StreamCounters), "{differs:?} for {target:?}");
    assert_eq!(before.keys, after.keys);
    let told = digest::read(bytes, &hasher(), |_| Ok(())).expect("it was read before");
    assert_eq!(told.keyspace, before);
}
