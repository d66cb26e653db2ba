//! A sample of keys, as lines of JSON, to a snapshot: what `mask test` reads besides a snapshot itself.
//!
//! The lines are those that `backup export --json-lines` writes, and shorter ones that a person writes: `key` and `value`
//! are enough. Without a `type`, a text is a string, an object a hash and an array a list. Streams are left to snapshots.

use crate::rdb::{Family, Made, Target, Type, Writer};
use serde_json::Value;

/// A line that is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

/// Plain collections, which every server reads.
const TARGET: Target = Target { family: Family::Redis, version: 9 };

/// The snapshot, and the lines that say nothing of a key a sample could hold.
///
/// # Errors
/// The first line that does not read.
pub fn snapshot(lines: &str) -> Result<Vec<u8>, Wrong> {
    let broken = |line: usize, what: &'static str| Wrong { line, what };
    let mut writer = Writer::begin(Vec::new(), TARGET).map_err(|_not_shown| broken(0, "cannot be written"))?;
    for (number, text) in (1..).zip(lines.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let line: Value = serde_json::from_str(text).map_err(|_not_shown| broken(number, "is not JSON"))?;
        // The first and the last line of an export, and function libraries.
        if ["format", "end", "function"].iter().any(|name| line.get(name).is_some()) {
            continue;
        }
        let key = line.get("key").and_then(bytes).ok_or(broken(number, "has no `key`"))?;
        let value = line.get("value").ok_or(broken(number, "has no `value`"))?;
        let kind = match (line.get("type").and_then(Value::as_str), value) {
            (Some("string"), _) | (None, Value::String(_)) => Type::String,
            (Some("list"), _) | (None, Value::Array(_)) => Type::List,
            (Some("hash"), _) | (None, Value::Object(_)) => Type::Hash,
            (Some("set"), _) => Type::Set,
            (Some("zset"), _) => Type::Zset,
            _ => return Err(broken(number, "is of a type that a sample cannot hold; use a snapshot")),
        };
        let pieces = pieces(kind, value).ok_or(broken(number, "has a `value` that is not of its `type`"))?;
        let database = line.get("database").and_then(Value::as_u64).unwrap_or(0);
        let expires_at_ms = line.get("expires_at_ms").and_then(Value::as_i64);
        let put = |made: &mut Made<'_>| {
            for (one, two, score) in &pieces {
                match kind {
                    Type::Zset => made.scored(one, *score),
                    Type::Hash => made.field(one, two, None),
                    _ => made.text(one),
                }
            }
        };
        let wrote = writer
            .own(database, &key, kind, expires_at_ms, put)
            .map_err(|_not_shown| broken(number, "does not fit"))?;
        if !wrote {
            return Err(broken(number, "has nothing in its `value`"));
        }
    }
    writer.finish().map_err(|_not_shown| broken(0, "cannot be written"))
}

type Pieces = Vec<(Vec<u8>, Vec<u8>, f64)>;

fn pieces(kind: Type, value: &Value) -> Option<Pieces> {
    let one = |value: &Value| bytes(value).map(|text| (text, Vec::new(), 0.0));
    let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([one, two]) => Some((one.clone(), two.clone())),
        _ => None,
    };
    match (kind, value) {
        (Type::String, value) => Some(vec![one(value)?]),
        (Type::Hash, Value::Object(fields)) if !fields.contains_key("base64") => {
            fields.iter().map(|(name, value)| Some((name.as_bytes().to_vec(), bytes(value)?, 0.0))).collect()
        }
        (Type::Hash, Value::Array(fields)) => fields
            .iter()
            .map(|field| pair(field).and_then(|(name, value)| Some((bytes(&name)?, bytes(&value)?, 0.0))))
            .collect(),
        (Type::Zset, Value::Array(members)) => members
            .iter()
            .map(|member| {
                let (member, score) = pair(member)?;
                let score = match &score {
                    Value::String(text) => text.parse().ok().filter(|score: &f64| !score.is_nan())?,
                    score => score.as_f64()?,
                };
                Some((bytes(&member)?, Vec::new(), score))
            })
            .collect(),
        (Type::List | Type::Set, Value::Array(items)) => items.iter().map(one).collect(),
        _ => None,
    }
}

/// A text, or `{"base64": ...}`; what is no text in itself is taken as it is written.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Object(fields) => decode(fields.get("base64").filter(|_| fields.len() == 1)?.as_str()?),
        _ => None,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for quad in text.as_bytes().chunks(4) {
        let digit = |byte: &u8| match byte {
            b'A'..=b'Z' => Some(u32::from(byte - b'A')),
            b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
            b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        };
        let digits: Vec<u8> = quad.iter().copied().filter(|byte| *byte != b'=').collect();
        let mut number = 0;
        for place in 0..4 {
            number = number << 6 | digits.get(place).map_or(Some(0), digit)?;
        }
        let count = digits.len().checked_sub(1)?;
        bytes.extend(number.to_be_bytes().into_iter().skip(1).take(count));
    }
    Some(bytes)
}
