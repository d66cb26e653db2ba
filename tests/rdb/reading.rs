//! What this project reads out of a dump, in the words of `typed.rs`.

use super::typed::{Consumer, Contents, Entry, Functions, Group, Id, Pending, Stream, Typed, Value};
use lockstep::rdb::{Element, Frames, Record, Room, StreamId, Type};
use std::collections::{BTreeMap, BTreeSet};

fn id(id: StreamId) -> Id {
    (id.ms, id.seq)
}

/// Everything in the dump; panics where it does not read.
pub fn contents(dump: &[u8]) -> (Contents, Functions) {
    let (mut contents, mut functions) = (Contents::new(), Functions::new());
    let mut frames = Frames::new(dump);
    let mut room = Room::default();
    while let Some(batch) = frames.next_batch().expect("an RDB") {
        for record in batch.records() {
            match record.expect("a record") {
                Record::Key(entry) => {
                    let mut value = empty(entry.kind);
                    let count = entry.read(&mut room, |element| put(&mut value, element)).expect("a value");
                    assert!(count > 0, "a key without elements");
                    let mut name = Vec::new();
                    let key = entry.key(&mut name).expect("a key").to_vec();
                    let database = u32::try_from(entry.database).expect("a small number");
                    let typed = Typed { value, expires_at_ms: entry.expires_at_ms };
                    assert!(contents.insert((database, key), typed).is_none(), "a key twice");
                }
                Record::Function(written) => {
                    let mut room = Vec::new();
                    let source = lockstep::rdb::text(written, &mut room).expect("a source");
                    let source = String::from_utf8(source.to_vec()).expect("text");
                    let name = source.split("name=").nth(1).and_then(|rest| rest.split_whitespace().next());
                    functions.insert(name.expect("a name").to_owned(), source.clone());
                }
                _ => {}
            }
        }
        frames.recycle(batch);
    }
    for typed in contents.values_mut() {
        if let Value::Stream(stream) = &mut typed.value {
            stream.groups.sort_by(|one, other| one.name.cmp(&other.name));
            for group in &mut stream.groups {
                group.pending.sort_by_key(|pending| pending.id);
                group.consumers.sort_by(|one, other| one.name.cmp(&other.name));
            }
        }
    }
    (contents, functions)
}

fn empty(kind: Type) -> Value {
    match kind {
        Type::String => Value::String(Vec::new()),
        Type::List => Value::List(Vec::new()),
        Type::Set => Value::Set(BTreeSet::new()),
        Type::Zset => Value::Zset(BTreeMap::new()),
        Type::Hash => Value::Hash(BTreeMap::new()),
        Type::Stream => Value::Stream(Stream {
            entries: Vec::new(),
            last: (0, 0),
            first: None,
            max_deleted: None,
            entries_added: None,
            groups: Vec::new(),
        }),
        Type::Array | Type::Module => panic!("no server here has arrays or modules"),
    }
}

fn put(value: &mut Value, element: Element<'_>) {
    match (value, element) {
        (Value::String(text), Element::Text(piece)) => text.extend_from_slice(piece),
        (Value::List(items), Element::Item(item)) => items.push(item.to_vec()),
        (Value::Set(members), Element::Member(member)) => assert!(members.insert(member.to_vec()), "a member twice"),
        (Value::Zset(members), Element::Scored(member, score)) => {
            assert!(members.insert(member.to_vec(), score.to_bits()).is_none(), "a member twice");
        }
        (Value::Hash(fields), Element::Field { name, value, expires_at_ms }) => {
            assert!(fields.insert(name.to_vec(), (value.to_vec(), expires_at_ms)).is_none(), "a field twice");
        }
        (Value::Stream(stream), element) => put_stream(stream, element),
        (value, element) => panic!("{element:?} in a {}", value.kind()),
    }
}

fn put_stream(stream: &mut Stream, element: Element<'_>) {
    match element {
        Element::StreamEntry(entry) => stream.entries.push(Entry { id: id(entry), fields: Vec::new() }),
        Element::StreamField(name, value) => {
            stream.entries.last_mut().expect("an entry").fields.push((name.to_vec(), value.to_vec()));
        }
        Element::Stream(facts) => {
            assert_eq!(facts.length, stream.entries.len() as u64);
            stream.last = id(facts.last);
            if let Some(counters) = facts.counters {
                stream.first = Some(id(counters.first));
                stream.max_deleted = Some(id(counters.greatest_deleted));
                stream.entries_added = Some(counters.entries_added);
            }
        }
        Element::Group { name, last, read } => stream.groups.push(Group {
            name: name.to_vec(),
            last: id(last),
            entries_read: read,
            pending: Vec::new(),
            consumers: Vec::new(),
        }),
        Element::Pending { id: pending, delivered_ms, deliveries } => {
            let group = stream.groups.last_mut().expect("a group");
            group.pending.push(Pending { id: id(pending), consumer: Vec::new(), delivered_ms, count: deliveries });
        }
        Element::Consumer { name, seen_ms, active_ms } => {
            let group = stream.groups.last_mut().expect("a group");
            group.consumers.push(Consumer { name: name.to_vec(), seen_ms, active_ms });
        }
        Element::Owned(owned) => {
            let group = stream.groups.last_mut().expect("a group");
            let owner = group.consumers.last().expect("a consumer").name.clone();
            let pending = group.pending.iter_mut().find(|pending| pending.id == id(owned));
            pending.expect("pending with its group").consumer = owner;
        }
        // No typed command tells what a stream remembers of those who add to it.
        Element::Producer(_) | Element::Produced { .. } | Element::Producers { .. } => {}
        element => panic!("{element:?} in a stream"),
    }
}
