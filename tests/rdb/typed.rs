//! What a server holds, as its typed commands tell it, and the JSON form of that which lies beside each dump.
//!
//! Nothing in here knows how an RDB is laid out: that is the point of it.

use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A whole server: database and key, and what is there.
pub type Contents = BTreeMap<(u32, Vec<u8>), Typed>;
/// Function libraries by name, with their source.
pub type Functions = BTreeMap<String, String>;
pub type Id = (u64, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    pub value: Value,
    pub expires_at_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// Scores as the bits of their `f64`, with -0 as 0.
    Zset(BTreeMap<Vec<u8>, u64>),
    /// Values with the expiry of their field, in milliseconds since 1970.
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>),
    Stream(Stream),
}

impl Value {
    /// As `TYPE` answers.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Set(_) => "set",
            Value::Zset(_) => "zset",
            Value::Hash(_) => "hash",
            Value::Stream(_) => "stream",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub entries: Vec<Entry>,
    pub last: Id,
    /// These three from 7.0 on.
    pub first: Option<Id>,
    pub max_deleted: Option<Id>,
    pub entries_added: Option<u64>,
    /// By name.
    pub groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: Id,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Vec<u8>,
    pub last: Id,
    /// From 7.0 on, and there only where the server knows it.
    pub entries_read: Option<u64>,
    /// By id.
    pub pending: Vec<Pending>,
    /// By name.
    pub consumers: Vec<Consumer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: Id,
    pub consumer: Vec<u8>,
    pub delivered_ms: i64,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: Vec<u8>,
    pub seen_ms: i64,
    /// From 7.2 on; -1 for one that never was given anything.
    pub active_ms: Option<i64>,
}

/// One database per group of lines and one key per line, so that a change of one key is a change of one line.
pub fn to_json(contents: &Contents, functions: &Functions) -> String {
    let mut databases: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for ((database, key), typed) in contents {
        let mut line = Map::new();
        line.insert("key".to_owned(), text(key));
        if let Some(at) = typed.expires_at_ms {
            line.insert("expires_at_ms".to_owned(), at.into());
        }
        line.insert(typed.value.kind().to_owned(), value_to_json(&typed.value));
        databases.entry(*database).or_default().push(Json::Object(line).to_string());
    }
    let databases: Vec<String> =
        databases.iter().map(|(number, keys)| format!("\"{number}\": [\n{}\n]", keys.join(",\n"))).collect();
    let all = format!("{{\"functions\": {},\n\"databases\": {{{}}}}}\n", json!(functions), databases.join(",\n"));
    let mut readable = String::with_capacity(all.len());
    for c in all.chars() {
        // What an editor or a terminal could make something else of stands as its number. That is inside of strings:
        // outside of them there is nothing but lines of ASCII.
        if c == '\n' || (' '..='~').contains(&c) || (c > '\u{a0}' && c != '\u{ad}') {
            readable.push(c);
        } else {
            let _ = write!(readable, "\\u{:04x}", u32::from(c));
        }
    }
    readable
}

/// What [`to_json`] wrote; panics on anything else.
pub fn from_json(text: &str) -> (Contents, Functions) {
    let json: Json = serde_json::from_str(text).expect("JSON");
    let functions = serde_json::from_value(json["functions"].clone()).expect("names and sources");
    let mut contents = Contents::new();
    for (database, keys) in json["databases"].as_object().expect("databases") {
        let database: u32 = database.parse().expect("the number of a database");
        for line in array(keys) {
            let mut line = line.as_object().expect("a key").clone();
            let key = bytes(&line.remove("key").expect("the name of a key"));
            let expires_at_ms = line.remove("expires_at_ms").map(|at| at.as_i64().expect("milliseconds"));
            let (kind, value) = line.iter().next().expect("a value");
            let value = value_from_json(kind, value);
            contents.insert((database, key), Typed { value, expires_at_ms });
        }
    }
    (contents, functions)
}

/// How many times a byte stands in a row before it is counted instead of repeated.
const RUN: usize = 50;

/// Each byte is the character of its number. With long runs it is parts in order, and a run is `{"x": 1000}`.
fn text(bytes: &[u8]) -> Json {
    let plain = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let mut parts: Vec<Json> = Vec::new();
    let mut between: Vec<u8> = Vec::new();
    for run in bytes.chunk_by(|one, next| one == next) {
        if run.len() < RUN {
            between.extend(run);
            continue;
        }
        if !between.is_empty() {
            parts.push(Json::String(plain(&between)));
            between.clear();
        }
        parts.push(json!({ plain(&run[..1]): run.len() }));
    }
    if parts.is_empty() {
        return Json::String(plain(&between));
    }
    if !between.is_empty() {
        parts.push(Json::String(plain(&between)));
    }
    Json::Array(parts)
}

fn bytes(json: &Json) -> Vec<u8> {
    let plain = |text: &str| -> Vec<u8> { text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect() };
    match json {
        Json::String(text) => plain(text),
        Json::Array(parts) => parts.iter().flat_map(bytes).collect(),
        Json::Object(run) => {
            let (byte, times) = run.iter().next().expect("a byte and how often");
            plain(byte).repeat(usize::try_from(times.as_u64().expect("a count")).expect("a count"))
        }
        other => panic!("no string of bytes: {other}"),
    }
}

fn array(json: &Json) -> &[Json] {
    json.as_array().expect("an array")
}

fn id_to_json((ms, seq): Id) -> Json {
    Json::String(format!("{ms}-{seq}"))
}

fn id_from_json(json: &Json) -> Id {
    parse_id(json.as_str().expect("an id"))
}

pub fn parse_id(text: &str) -> Id {
    let (ms, seq) = text.split_once('-').expect("an id");
    (ms.parse().expect("milliseconds"), seq.parse().expect("a sequence number"))
}

fn value_to_json(value: &Value) -> Json {
    match value {
        Value::String(string) => text(string),
        Value::List(elements) => elements.iter().map(|element| text(element)).collect(),
        Value::Set(members) => members.iter().map(|member| text(member)).collect(),
        Value::Zset(members) => {
            members.iter().map(|(member, bits)| json!([text(member), f64::from_bits(*bits).to_string()])).collect()
        }
        Value::Hash(fields) => fields
            .iter()
            .map(|(field, (value, expiry))| match expiry {
                Some(at) => json!([text(field), text(value), at]),
                None => json!([text(field), text(value)]),
            })
            .collect(),
        Value::Stream(stream) => stream_to_json(stream),
    }
}

fn value_from_json(kind: &str, json: &Json) -> Value {
    match kind {
        "string" => Value::String(bytes(json)),
        "list" => Value::List(array(json).iter().map(bytes).collect()),
        "set" => Value::Set(array(json).iter().map(bytes).collect()),
        "zset" => Value::Zset(
            array(json)
                .iter()
                .map(|pair| {
                    let score: f64 = pair[1].as_str().and_then(|text| text.parse().ok()).expect("a score");
                    (bytes(&pair[0]), score.to_bits())
                })
                .collect(),
        ),
        "hash" => Value::Hash(
            array(json).iter().map(|field| (bytes(&field[0]), (bytes(&field[1]), field[2].as_i64()))).collect(),
        ),
        "stream" => Value::Stream(stream_from_json(json)),
        kind => panic!("no kind of value: {kind}"),
    }
}

fn stream_to_json(stream: &Stream) -> Json {
    let entry = |entry: &Entry| {
        let fields: Vec<Json> = entry.fields.iter().flat_map(|(field, value)| [text(field), text(value)]).collect();
        json!([id_to_json(entry.id), fields])
    };
    let group = |group: &Group| {
        let pending: Vec<Json> = group
            .pending
            .iter()
            .map(|one| json!([id_to_json(one.id), text(&one.consumer), one.delivered_ms, one.count]))
            .collect();
        let consumers: Vec<Json> =
            group.consumers.iter().map(|one| json!([text(&one.name), one.seen_ms, one.active_ms])).collect();
        json!({
            "name": text(&group.name),
            "last": id_to_json(group.last),
            "entries_read": group.entries_read,
            "pending": pending,
            "consumers": consumers,
        })
    };
    json!({
        "entries": stream.entries.iter().map(entry).collect::<Vec<Json>>(),
        "last": id_to_json(stream.last),
        "first": stream.first.map(id_to_json),
        "max_deleted": stream.max_deleted.map(id_to_json),
        "entries_added": stream.entries_added,
        "groups": stream.groups.iter().map(group).collect::<Vec<Json>>(),
    })
}

fn stream_from_json(json: &Json) -> Stream {
    let entry = |entry: &Json| {
        let words: Vec<Vec<u8>> = array(&entry[1]).iter().map(bytes).collect();
        let fields = words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Entry { id: id_from_json(&entry[0]), fields }
    };
    let pending = |one: &Json| Pending {
        id: id_from_json(&one[0]),
        consumer: bytes(&one[1]),
        delivered_ms: one[2].as_i64().expect("milliseconds"),
        count: one[3].as_u64().expect("a count"),
    };
    let consumer = |one: &Json| Consumer {
        name: bytes(&one[0]),
        seen_ms: one[1].as_i64().expect("milliseconds"),
        active_ms: one[2].as_i64(),
    };
    let group = |group: &Json| Group {
        name: bytes(&group["name"]),
        last: id_from_json(&group["last"]),
        entries_read: group["entries_read"].as_u64(),
        pending: array(&group["pending"]).iter().map(pending).collect(),
        consumers: array(&group["consumers"]).iter().map(consumer).collect(),
    };
    let id = |name: &str| Some(&json[name]).filter(|id| !id.is_null()).map(id_from_json);
    Stream {
        entries: array(&json["entries"]).iter().map(entry).collect(),
        last: id_from_json(&json["last"]),
        first: id("first"),
        max_deleted: id("max_deleted"),
        entries_added: json["entries_added"].as_u64(),
        groups: array(&json["groups"]).iter().map(group).collect(),
    }
}
