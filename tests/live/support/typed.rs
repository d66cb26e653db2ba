//! Reads a live server key by key through its typed commands.

#[path = "../../rdb/typed.rs"]
mod model;

pub use model::{
    Consumer, Contents, Entry, Functions, Group, Id, Pending, Stream, Typed, Value, from_json, parse_id, to_json,
};

use super::Redis;
use ::redis::Value as Reply;
use std::collections::BTreeMap;

/// Everything in every database. Nobody may write meanwhile.
pub fn read_all(redis: &mut Redis) -> Contents {
    let databases: u32 = redis.config("databases").parse().expect("a number of databases");
    let knows = Knows { expiry: knows(redis, "PEXPIRETIME"), field_expiry: knows(redis, "HPEXPIRETIME") };
    let mut contents = Contents::new();
    for database in 0..databases {
        redis.ask::<()>(&["SELECT", &database.to_string()]);
        for key in keys(redis) {
            let value = value(redis, &key, knows);
            let expires_at_ms = expiry(redis, &key, knows);
            contents.insert((database, key), Typed { value, expires_at_ms });
        }
        let size: usize = redis.ask(&["DBSIZE"]);
        assert_eq!(contents.keys().filter(|(number, _)| *number == database).count(), size, "keys in {database}");
    }
    redis.ask::<()>(&["SELECT", "0"]);
    contents
}

/// Function libraries by name, with their source.
pub fn functions(redis: &mut Redis) -> Functions {
    if !knows(redis, "FUNCTION") {
        return BTreeMap::new();
    }
    let libraries = array(redis.send(&[b"FUNCTION", b"LIST", b"WITHCODE"]));
    libraries
        .into_iter()
        .map(|library| {
            let mut library = named(library);
            let mut take = |name: &str| library.remove(name).map(bytes).expect("a part of a library");
            (lossless(take("library_name")), lossless(take("library_code")))
        })
        .collect()
}

/// Commands that only later servers have.
#[derive(Clone, Copy)]
struct Knows {
    expiry: bool,
    field_expiry: bool,
}

/// Asked beforehand: the refusal of an unknown command repeats its arguments, and the client cannot read one that is
/// not text.
fn knows(redis: &mut Redis, command: &str) -> bool {
    let answer = array(redis.send(&[b"COMMAND", b"INFO", command.as_bytes()]));
    answer.iter().any(|reply| matches!(reply, Reply::Array(description) if !description.is_empty()))
}

fn keys(redis: &mut Redis) -> Vec<Vec<u8>> {
    let mut keys = std::collections::BTreeSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut reply = array(redis.send(&[b"SCAN", &cursor, b"COUNT", b"1000"])).into_iter();
        cursor = bytes(reply.next().expect("a cursor"));
        keys.extend(array(reply.next().expect("keys")).into_iter().map(bytes));
        if cursor == b"0" {
            return keys.into_iter().collect();
        }
    }
}

fn expiry(redis: &mut Redis, key: &[u8], knows: Knows) -> Option<i64> {
    if knows.expiry {
        return Some(int(&redis.send(&[b"PEXPIRETIME", key]))).filter(|at| *at != -1);
    }
    // What is left tells when, if the clock stands still between looking at it and asking.
    loop {
        redis.send(&[b"MULTI"]);
        redis.send(&[b"TIME"]);
        redis.send(&[b"PTTL", key]);
        redis.send(&[b"TIME"]);
        let replies = array(redis.send(&[b"EXEC"]));
        let [before, left, after] = replies.as_slice() else { panic!("three replies: {replies:?}") };
        let left = int(left);
        if left == -1 {
            return None;
        }
        assert!(left >= 0, "{} is still there", key.escape_ascii());
        if milliseconds(before) == milliseconds(after) {
            return Some(milliseconds(before) + left);
        }
    }
}

/// Of the reply to `TIME`.
fn milliseconds(time: &Reply) -> i64 {
    let parts: Vec<i64> = array(time.clone()).iter().map(int).collect();
    parts[0] * 1000 + parts[1] / 1000
}

fn value(redis: &mut Redis, key: &[u8], knows: Knows) -> Value {
    let Reply::SimpleString(kind) = redis.send(&[b"TYPE", key]) else { panic!("TYPE answers with a word") };
    match kind.as_str() {
        "string" => Value::String(bytes(redis.send(&[b"GET", key]))),
        "list" => Value::List(strings(redis.send(&[b"LRANGE", key, b"0", b"-1"]))),
        "set" => {
            let members = strings(redis.send(&[b"SMEMBERS", key]));
            let count = members.len();
            let members = std::collections::BTreeSet::from_iter(members);
            assert_eq!(members.len(), count, "each member of {} once", key.escape_ascii());
            Value::Set(members)
        }
        "zset" => Value::Zset(zset(redis, key)),
        "hash" => Value::Hash(hash(redis, key, knows)),
        "stream" => Value::Stream(stream(redis, key)),
        kind => panic!("{} has the type {kind}", key.escape_ascii()),
    }
}

fn zset(redis: &mut Redis, key: &[u8]) -> BTreeMap<Vec<u8>, u64> {
    let words = strings(redis.send(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]));
    let members = words.chunks_exact(2).map(|pair| {
        let score: f64 = lossless(pair[1].clone()).parse().expect("a score");
        // A sum with zero makes -0 into 0, and changes nothing else.
        (pair[0].clone(), (score + 0.0).to_bits())
    });
    members.collect()
}

fn hash(redis: &mut Redis, key: &[u8], knows: Knows) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> {
    let words = strings(redis.send(&[b"HGETALL", key]));
    let mut fields: BTreeMap<_, _> =
        words.chunks_exact(2).map(|pair| (pair[0].clone(), (pair[1].clone(), None))).collect();
    if !knows.field_expiry {
        return fields;
    }
    let names: Vec<Vec<u8>> = fields.keys().cloned().collect();
    for names in names.chunks(500) {
        let count = names.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
        words.extend(names.iter().map(Vec::as_slice));
        for (name, at) in names.iter().zip(array(redis.send(&words))) {
            let at = int(&at);
            assert_ne!(at, -2, "a field that was there a moment ago");
            fields.get_mut(name).expect("one of the fields").1 = (at != -1).then_some(at);
        }
    }
    fields
}

fn stream(redis: &mut Redis, key: &[u8]) -> Stream {
    let mut report = named(redis.send(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"]));
    let entries = array(report.remove("entries").expect("entries"));
    let entries: Vec<Entry> = entries
        .into_iter()
        .map(|entry| {
            let mut entry = array(entry).into_iter();
            let id = id(entry.next().expect("an id"));
            let words = strings(entry.next().expect("fields"));
            Entry { id, fields: words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect() }
        })
        .collect();
    assert_eq!(entries.len() as i64, int(&report["length"]), "entries of {}", key.escape_ascii());
    let mut groups: Vec<Group> = array(report.remove("groups").expect("groups")).into_iter().map(group).collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    Stream {
        entries,
        last: id(report.remove("last-generated-id").expect("the last id")),
        first: report.remove("recorded-first-entry-id").map(id),
        max_deleted: report.remove("max-deleted-entry-id").map(id),
        entries_added: report.remove("entries-added").map(|added| count(&added)),
        groups,
    }
}

fn group(reply: Reply) -> Group {
    let mut report = named(reply);
    let mut pending: Vec<Pending> = array(pending_of(&mut report))
        .into_iter()
        .map(|one| {
            let mut parts = array(one).into_iter();
            let mut next = || parts.next().expect("a part of a pending entry");
            let (entry, consumer) = (id(next()), bytes(next()));
            Pending { id: entry, consumer, delivered_ms: int(&next()), count: count(&next()) }
        })
        .collect();
    pending.sort_by_key(|one| one.id);
    let mut held = 0;
    let mut consumers: Vec<Consumer> = array(report.remove("consumers").expect("consumers"))
        .into_iter()
        .map(|consumer| {
            let mut consumer = named(consumer);
            held += array(pending_of(&mut consumer)).len();
            Consumer {
                name: bytes(consumer.remove("name").expect("a name")),
                seen_ms: int(&consumer["seen-time"]),
                active_ms: consumer.get("active-time").map(int),
            }
        })
        .collect();
    assert_eq!(held, pending.len(), "each pending entry has one consumer");
    consumers.sort_by(|one, other| one.name.cmp(&other.name));
    Group {
        name: bytes(report.remove("name").expect("a name")),
        last: id(report.remove("last-delivered-id").expect("the last id")),
        entries_read: report.remove("entries-read").filter(|read| *read != Reply::Nil).map(|read| count(&read)),
        pending,
        consumers,
    }
}

fn pending_of(report: &mut BTreeMap<String, Reply>) -> Reply {
    report.remove("pending").or_else(|| report.remove("pel")).expect("pending entries")
}

fn id(reply: Reply) -> Id {
    parse_id(&lossless(bytes(reply)))
}

fn bytes(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::BulkString(bytes) => bytes,
        Reply::SimpleString(text) => text.into_bytes(),
        other => panic!("not a string: {other:?}"),
    }
}

fn lossless(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn strings(reply: Reply) -> Vec<Vec<u8>> {
    array(reply).into_iter().map(bytes).collect()
}

fn array(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(replies) => replies,
        other => panic!("not an array: {other:?}"),
    }
}

fn int(reply: &Reply) -> i64 {
    match reply {
        Reply::Int(number) => *number,
        other => lossless(bytes(other.clone())).parse().expect("a number"),
    }
}

fn count(reply: &Reply) -> u64 {
    u64::try_from(int(reply)).expect("a count")
}

fn named(reply: Reply) -> BTreeMap<String, Reply> {
    let mut words = array(reply).into_iter();
    let mut named = BTreeMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        named.insert(lossless(bytes(name)), value);
    }
    named
}
