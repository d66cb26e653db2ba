//! Lines of JSON to a snapshot that every server loads: what `export` writes, or what a person wrote in the same form.
//!
//! `docs/json-lines.md` describes the form. Strings, lists, sets, sorted sets, hashes and function libraries are read;
//! streams, arrays, values of modules and expiries of single fields are refused, since the plain form has none for them.
//! The first and the last line may be missing; where they are there, they have to be right.

use crate::rdb::{Family, Made, Target, Type, Writer};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::error::Error;
use std::fmt;

/// The most that is read: a larger fixture is a snapshot.
pub const MOST: u64 = 64 << 20;

/// What was made of the lines.
#[derive(Clone, Debug)]
pub struct Imported {
    pub rdb: Vec<u8>,
    pub keys: u64,
    pub functions: u64,
}

/// What is wrong, and on which line (from 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportError {
    pub line: usize,
    pub what: String,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Error for ImportError {}

/// A value as a line has it.
enum Read {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    Scored(Vec<(Vec<u8>, f64)>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
}

impl Read {
    fn kind(&self) -> Type {
        match self {
            Read::Text(_) => Type::String,
            Read::List(_) => Type::List,
            Read::Set(_) => Type::Set,
            Read::Scored(_) => Type::Zset,
            Read::Hash(_) => Type::Hash,
        }
    }

    fn put(&self, made: &mut Made<'_>) {
        match self {
            Read::Text(text) => made.text(text),
            Read::List(texts) | Read::Set(texts) => texts.iter().for_each(|text| made.text(text)),
            Read::Scored(members) => members.iter().for_each(|(member, score)| made.scored(member, *score)),
            Read::Hash(fields) => fields.iter().for_each(|(name, value)| made.field(name, value, None)),
        }
    }
}

enum Line {
    Key { database: u64, key: Vec<u8>, expires_at_ms: Option<i64>, value: Read },
    Function(Vec<u8>),
    End { keys: u64, functions: u64 },
    Nothing,
}

/// Makes a snapshot of the lines.
///
/// # Errors
/// The first line that is not as it has to be.
pub fn lines(text: &str) -> Result<Imported, ImportError> {
    let mut read = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |what: String| ImportError { line: index + 1, what };
        read.push(self::line(line).map_err(at)?);
    }
    let functions = read.iter().any(|line| matches!(line, Line::Function(_)));
    // The oldest form that has what is needed: every later server reads it.
    let target = Target { family: Family::Redis, version: if functions { 10 } else { 9 } };
    let io = |error: std::io::Error| ImportError { line: 0, what: error.to_string() };
    let mut writer = Writer::begin(Vec::new(), target).map_err(io)?;
    let (mut keys, mut functions) = (0, 0);
    let mut known = HashSet::new();
    let mut ended = false;
    for (index, line) in read.iter().enumerate() {
        let at = |what: String| ImportError { line: index + 1, what };
        if ended && !matches!(line, Line::Nothing) {
            return Err(at("there is something behind the end".to_owned()));
        }
        match line {
            Line::Key { database, key, expires_at_ms, value } => {
                if !known.insert((*database, key.as_slice())) {
                    return Err(at(format!("the key `{}` comes twice", key.escape_ascii())));
                }
                writer.own(*database, key, value.kind(), *expires_at_ms, |made| value.put(made)).map_err(io)?;
                keys += 1;
            }
            Line::Function(source) => {
                writer.library(source).map_err(io)?;
                functions += 1;
            }
            Line::End { keys: wanted, functions: libraries } if (*wanted, *libraries) == (keys, functions) => {
                ended = true;
            }
            Line::End { .. } => return Err(at("it ends with another number of keys or functions".to_owned())),
            Line::Nothing => {}
        }
    }
    Ok(Imported { rdb: writer.finish().map_err(io)?, keys, functions })
}

fn line(text: &str) -> Result<Line, String> {
    if text.trim().is_empty() {
        return Ok(Line::Nothing);
    }
    let value: Value = serde_json::from_str(&quoted(text)).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(line) = value else { return Err("it is no object".to_owned()) };
    if let Some(format) = line.get("format") {
        return match number(format) {
            Some(1_u32) => Ok(Line::Nothing),
            _ => Err(format!("format {format} is not one that this version reads")),
        };
    }
    if let Some(end) = line.get("end") {
        let count = |name: &str| end.get(name).and_then(number).unwrap_or(0);
        return Ok(Line::End { keys: count("keys"), functions: count("functions") });
    }
    if line.contains_key("function") {
        return line.get("source").and_then(self::text).map(Line::Function).ok_or_else(|| missing("source"));
    }
    key(&line)
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing, or no text")
}

fn key(line: &Map<String, Value>) -> Result<Line, String> {
    let key = line.get("key").and_then(text).ok_or_else(|| missing("key"))?;
    let kind = line.get("type").and_then(Value::as_str).ok_or_else(|| missing("type"))?;
    let database = match line.get("database") {
        None => 0,
        Some(database) => number(database).filter(|database| *database < 1 << 16).ok_or("`database` is no database")?,
    };
    let expires_at_ms = match line.get("expires_at_ms") {
        None | Some(Value::Null) => None,
        Some(moment) => Some(number(moment).ok_or("`expires_at_ms` is no number of milliseconds")?),
    };
    if line.contains_key("fields_expire_at_ms") {
        return Err("fields that expire by themselves need a snapshot".to_owned());
    }
    let written = line.get("value").ok_or("`value` is missing")?;
    let value = value(kind, written)?;
    Ok(Line::Key { database, key, expires_at_ms, value })
}

fn value(kind: &str, written: &Value) -> Result<Read, String> {
    let wrong = || format!("`value` is none of a {kind}");
    match kind {
        "string" => text(written).map(Read::Text).ok_or_else(wrong),
        "list" => texts(written).map(Read::List).ok_or_else(wrong),
        "set" => {
            let members = texts(written).ok_or_else(wrong)?;
            once(members.iter(), "member")?;
            Ok(Read::Set(members))
        }
        "zset" => {
            let members = written.as_array().ok_or_else(wrong)?.iter().map(scored);
            let members: Vec<_> = members.collect::<Option<_>>().ok_or_else(wrong)?;
            once(members.iter().map(|(member, _)| member), "member")?;
            Ok(Read::Scored(members))
        }
        "hash" => {
            let fields: Option<Vec<_>> = match written {
                Value::Object(fields) => {
                    fields.iter().map(|(name, value)| Some((name.clone().into_bytes(), text(value)?))).collect()
                }
                Value::Array(fields) => fields.iter().map(pair).collect(),
                _ => None,
            };
            let fields = fields.ok_or_else(wrong)?;
            once(fields.iter().map(|(name, _)| name), "field")?;
            Ok(Read::Hash(fields))
        }
        "stream" | "array" | "module" => Err(format!("a key of type {kind} needs a snapshot")),
        other => Err(format!("`{other}` is no type of a key")),
    }
}

/// A server takes a snapshot that names something twice for damaged.
fn once<'t>(mut all: impl Iterator<Item = &'t Vec<u8>>, what: &str) -> Result<(), String> {
    let mut known = HashSet::new();
    match all.find(|text| !known.insert(text.as_slice())) {
        Some(twice) => Err(format!("the {what} `{}` comes twice", twice.escape_ascii())),
        None => Ok(()),
    }
}

fn texts(value: &Value) -> Option<Vec<Vec<u8>>> {
    value.as_array()?.iter().map(text).collect()
}

fn pair(value: &Value) -> Option<(Vec<u8>, Vec<u8>)> {
    match value.as_array()?.as_slice() {
        [name, value] => Some((text(name)?, text(value)?)),
        _ => None,
    }
}

fn scored(value: &Value) -> Option<(Vec<u8>, f64)> {
    let [member, score] = value.as_array()?.as_slice() else { return None };
    let score = number::<f64>(score).filter(|score| !score.is_nan())?;
    Some((text(member)?, score))
}

/// Numbers as text: the reader of JSON rounds some of them, and a score has to be the same to its last bit.
fn quoted(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    let (mut is_text, mut is_escaped, mut is_number) = (false, false, false);
    for c in line.chars() {
        let of_number = c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'E') || (is_number && c == 'e');
        if !is_text && of_number != is_number {
            out.push('"');
            is_number = of_number;
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            _ => {}
        }
        out.push(c);
    }
    out
}

fn number<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

/// A string or a number, or `{"base64": "..."}`.
fn text(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(object) if object.len() == 1 => base64(object.get("base64")?.as_str()?),
        _ => None,
    }
}

/// Text in base64, with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let sextet = |byte: u8| -> Option<u32> {
        Some(match byte {
            b'A'..=b'Z' => u32::from(byte - b'A'),
            b'a'..=b'z' => u32::from(byte - b'a') + 26,
            b'0'..=b'9' => u32::from(byte - b'0') + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.as_bytes().chunks(4) {
        let mut number = 0;
        for at in 0..4 {
            number = number << 6 | group.get(at).map_or(Some(0), |byte| sextet(*byte))?;
        }
        let [_, one, two, three] = number.to_be_bytes();
        bytes.extend([one, two, three].into_iter().take(group.len().saturating_sub(1)));
    }
    Some(bytes)
}
