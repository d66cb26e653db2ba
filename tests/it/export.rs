//! `backup export --json-lines`: what scripts read is what servers said, and an output that is not whole says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write};
use std::process::Stdio;

use lockstep::backup::State;
use lockstep::export::{ExportError, FORMAT, Header, Written, json_lines};
use lockstep::value::Glob;
use serde_json::{Value as Json, json};

use crate::backup_verbs::{damage, repository, shop, take_dump};
use crate::rdb::{Rdb, length, snapshot_of, text};
use crate::rdb_fixtures::typed::{
    Consumer, Contents, Entry, Functions, Group, Pending, Stream, Typed, Value, parse_id,
};
use crate::rdb_fixtures::{dumps, told};

const ID: &str = "cache-20261120T050000Z-aaaaaa";

fn header() -> Header<'static> {
    Header {
        format: FORMAT,
        backup: ID,
        stack: "shop",
        environment: "staging",
        service: "cache",
        taken_at: "2026-11-20T05:00:00Z",
        server: "redis 7.0.15",
        pattern: None,
    }
}

fn lines(dump: &[u8], pattern: Option<&str>) -> Result<(Vec<Json>, Written), ExportError> {
    let mut out = Vec::new();
    let glob = pattern.map(|pattern| Glob::new(pattern.as_bytes()));
    let written = json_lines(dump, &header(), glob.as_ref(), &mut out)?;
    let text = String::from_utf8(out).expect("JSON is text");
    assert!(text.ends_with('\n'));
    Ok((text.lines().map(parsed).collect(), written))
}

/// Scores are kept as they are written: serde_json reads numbers a bit less exactly than it writes them.
fn parsed(line: &str) -> Json {
    let _: Json = serde_json::from_str(line).expect("JSON on each line");
    if !line.contains("\"type\":\"zset\"") {
        return serde_json::from_str(line).expect("JSON");
    }
    let (mut text, mut is_string, mut is_escaped) = (String::new(), false, false);
    for c in line.chars() {
        let digit = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e');
        let last = text.chars().next_back().unwrap_or(' ');
        if !is_string && last == ',' && digit(c) {
            text.push('"');
        }
        if !is_string && c == ']' && digit(last) {
            text.push('"');
        }
        text.push(c);
        match c {
            '"' if !is_escaped => is_string = !is_string,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    serde_json::from_str(&text).expect("JSON still")
}

// ---------------------------------------------------------------------------------------------------------------------
// What the lines say, read back
// ---------------------------------------------------------------------------------------------------------------------

fn blob(json: &Json) -> Vec<u8> {
    match json {
        Json::String(text) => text.as_bytes().to_vec(),
        json => decode(json["base64"].as_str().expect("bytes that are no text")),
    }
}

fn decode(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = base64.bytes().filter(|b| *b != b'=').map(|b| DIGITS.iter().position(|d| *d == b).expect("a digit"));
    let digits: Vec<usize> = digits.collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let group = (0..4).fold(0, |group, at| group << 6 | four.get(at).copied().unwrap_or(0));
        [group >> 16, group >> 8, group].into_iter().take(four.len() - 1).map(|b| (b & 255) as u8).collect::<Vec<_>>()
    });
    bytes.collect()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("an array")
}

/// Names and values of an object, or of a list of pairs.
fn pairs(json: &Json) -> Vec<(Vec<u8>, &Json)> {
    match json {
        Json::Object(object) => object.iter().map(|(name, value)| (name.clone().into_bytes(), value)).collect(),
        json => list(json).iter().map(|pair| (blob(&pair[0]), &pair[1])).collect(),
    }
}

fn id(json: &Json) -> (u64, u64) {
    parse_id(json.as_str().expect("an id"))
}

fn value(line: &Json) -> Value {
    let value = &line["value"];
    match line["type"].as_str().expect("a type") {
        "string" => Value::String(blob(value)),
        "list" => Value::List(list(value).iter().map(blob).collect()),
        "set" => Value::Set(list(value).iter().map(blob).collect()),
        "zset" => {
            let score =
                |json: &Json| json.as_f64().unwrap_or_else(|| json.as_str().expect("inf").parse().expect("inf"));
            Value::Zset(list(value).iter().map(|pair| (blob(&pair[0]), score(&pair[1]).to_bits())).collect())
        }
        "hash" => {
            let expiries: BTreeMap<Vec<u8>, i64> = match line.get("fields_expire_at_ms") {
                Some(json) => pairs(json).into_iter().map(|(name, at)| (name, at.as_i64().expect("ms"))).collect(),
                None => BTreeMap::new(),
            };
            let with_expiry = |(name, value): (Vec<u8>, &Json)| {
                let expiry = expiries.get(&name).copied();
                (name, (blob(value), expiry))
            };
            Value::Hash(pairs(value).into_iter().map(with_expiry).collect())
        }
        "stream" => Value::Stream(stream(value)),
        other => panic!("{other}"),
    }
}

fn stream(json: &Json) -> Stream {
    let known = |json: &Json| Some(json).filter(|json| !json.is_null()).map(id);
    let entry = |json: &Json| Entry {
        id: id(&json["id"]),
        fields: pairs(&json["fields"]).into_iter().map(|(name, value)| (name, blob(value))).collect(),
    };
    let facts = &json["facts"];
    assert_eq!(facts["length"], list(&json["entries"]).len());
    Stream {
        entries: list(&json["entries"]).iter().map(entry).collect(),
        last: id(&facts["last_id"]),
        first: known(&facts["first_id"]),
        max_deleted: known(&facts["max_deleted_id"]),
        entries_added: facts["entries_added"].as_u64(),
        groups: sorted(list(&json["groups"]).iter().map(group).collect(), |group: &Group| group.name.clone()),
    }
}

fn group(json: &Json) -> Group {
    let owner = |pending: &Json| {
        let owns = |consumer: &&Json| list(&consumer["pending"]).contains(pending);
        blob(&list(&json["consumers"]).iter().find(owns).expect("somebody has it")["name"])
    };
    let pending = |json: &Json| Pending {
        id: id(&json[0]),
        consumer: owner(&json[0]),
        delivered_ms: json[1].as_i64().expect("ms"),
        count: json[2].as_u64().expect("a count"),
    };
    let consumer = |json: &Json| Consumer {
        name: blob(&json["name"]),
        seen_ms: json["seen_ms"].as_i64().expect("ms"),
        active_ms: json["active_ms"].as_i64(),
    };
    Group {
        name: blob(&json["name"]),
        last: id(&json["last_id"]),
        entries_read: json["entries_read"].as_u64(),
        pending: sorted(list(&json["pending"]).iter().map(pending).collect(), |pending: &Pending| pending.id),
        consumers: sorted(list(&json["consumers"]).iter().map(consumer).collect(), |one: &Consumer| one.name.clone()),
    }
}

fn sorted<T, K: Ord>(mut items: Vec<T>, key: impl FnMut(&T) -> K) -> Vec<T> {
    items.sort_by_key(key);
    items
}

#[test]
fn every_dump_of_a_server_is_exported_as_what_the_server_said() {
    for path in dumps() {
        let dump = fs::read(&path).expect("a dump");
        let (lines, written) = lines(&dump, None).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (contents, functions) = told(&path);
        let (mut read, mut libraries) = (Contents::new(), Functions::new());
        assert_eq!((&lines[0]["format"], &lines[0]["backup"]), (&json!(1), &json!(ID)));
        let end = lines.last().expect("a last line");
        assert_eq!(*end, json!({ "end": { "keys": contents.len(), "functions": functions.len() } }));
        assert_eq!((written.keys, written.functions), (contents.len() as u64, functions.len() as u64));
        for line in &lines[1..lines.len() - 1] {
            if let Some(name) = line.get("function") {
                let (name, source) = (name.as_str().expect("a name"), line["source"].as_str().expect("text"));
                libraries.insert(name.to_owned(), source.to_owned());
                continue;
            }
            let database = u32::try_from(line["database"].as_u64().expect("a number")).expect("small");
            let typed = Typed { value: value(line), expires_at_ms: line["expires_at_ms"].as_i64() };
            assert!(read.insert((database, blob(&line["key"])), typed).is_none(), "a key twice");
        }
        for (key, typed) in &contents {
            assert_eq!(read.get(key), Some(typed), "{key:?} of {}", path.display());
        }
        assert_eq!((read.len(), libraries), (contents.len(), functions), "{}", path.display());
    }
}

#[test]
fn values_have_the_form_that_the_page_shows() {
    let hash = |fields: &[(&[u8], &str)]| {
        let fields: Vec<u8> = fields.iter().flat_map(|(name, value)| [text(name), text(value)].concat()).collect();
        fields
    };
    let score = |score: f64| score.to_le_bytes().to_vec();
    let dump = Rdb::begin("REDIS0010")
        .select(2)
        .put([252])
        .put(5_000i64.to_le_bytes())
        .set("s", "tab\t")
        .entry(4, "h", [length(1), hash(&[(b"f", "v")])].concat())
        .entry(4, "twice", [length(2), hash(&[(b"f", "v"), (b"f", "w")])].concat())
        .entry(4, "binary", [length(2), hash(&[(b"f", "v"), (b"\xff", "w")])].concat())
        .entry(1, "none", length(0))
        .entry(5, "z", [length(2), text("a"), score(1.5), text("b"), score(f64::NEG_INFINITY)].concat())
        .put([245])
        .put(text("#!lua name=lib\nx"))
        .end();
    let (lines, written) = lines(&dump, None).expect("whole");
    let key = |key: &str, kind: &str, expires_at_ms: Option<i64>, value: Json| json!({ "database": 2, "key": key, "type": kind, "expires_at_ms": expires_at_ms, "value": value });
    let expected = [
        key("s", "string", Some(5_000), json!("tab\t")),
        key("h", "hash", None, json!({ "f": "v" })),
        key("twice", "hash", None, json!([["f", "v"], ["f", "w"]])),
        key("binary", "hash", None, json!([["f", "v"], [{ "base64": "/w==" }, "w"]])),
        key("z", "zset", None, json!([["a", "1.5"], ["b", "-inf"]])),
        json!({ "function": "lib", "source": "#!lua name=lib\nx" }),
    ];
    assert_eq!(lines[1..lines.len() - 1], expected, "and a collection of nothing is no key");
    assert_eq!(written, Written { keys: 5, functions: 1 });
}

#[test]
fn a_stream_says_the_same_whether_it_has_groups_or_not() {
    let dump = Rdb::begin("REDIS0010").select(0).entry(19, "s", crate::rdb::stream(2)).end();
    let (lines, _) = lines(&dump, None).expect("whole");
    let value = &lines[1]["value"];
    let names: BTreeSet<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["entries", "facts", "groups"]));
    let consumers = list(&value["groups"][0]["consumers"]);
    assert_eq!((consumers.len(), &consumers[0]["pending"][0]), (1, &json!("7-1")));
}

#[test]
fn a_pattern_chooses_keys() {
    let dump = snapshot_of(20, 10);
    let (lines, written) = lines(&dump, Some("key:1?")).expect("whole");
    assert_eq!((written.keys, lines.len()), (10, 12));
    assert!(lines[1..11].iter().all(|line| line["key"].as_str().is_some_and(|key| key.starts_with("key:1"))));
    assert_eq!(lines[11], json!({ "end": { "keys": 10, "functions": 0 } }));
}

#[test]
fn what_breaks_off_has_no_last_line() {
    let dump = snapshot_of(20, 10);
    for length in 0..dump.len() {
        let mut out = Vec::new();
        json_lines(&dump[..length], &header(), None, &mut out).expect_err("it breaks off");
        assert!(!String::from_utf8(out).expect("text").contains("\"end\""), "with its first {length} bytes");
    }
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn whatever_cannot_be_written_is_an_error() {
    let dump = Rdb::begin("REDIS0010").select(0).entry(19, "s", crate::rdb::stream(2)).set("a", "b").end();
    let mut whole = Vec::new();
    json_lines(dump.as_slice(), &header(), None, &mut whole).expect("whole");
    for room in 0..whole.len() {
        let error = json_lines(dump.as_slice(), &header(), None, Full(room)).expect_err("no room");
        assert!(matches!(error, ExportError::Write(_)), "{room}: {error}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// From outside
// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn lines_go_to_standard_output_or_into_a_file() {
    let project = shop("");
    take_dump(&repository(&project), ID, &snapshot_of(3, 10), State::Verified);
    let ran = project.lockstep(&["backup", "export", "aaaaaa", "--json-lines"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let header = format!(
        r#"{{"format":1,"backup":"{ID}","stack":"shop","environment":"staging","service":"cache","taken_at":"2026-11-20T05:00:00Z","server":"redis 7.0.15","match":null}}"#
    );
    assert_eq!(lines[0], header);
    assert_eq!(lines[1], r#"{"database":0,"key":"key:0","type":"string","expires_at_ms":null,"value":"value"}"#);
    assert_eq!((lines.len(), lines[4]), (5, r#"{"end":{"keys":3,"functions":0}}"#));
    let out = project.path().join("keys.jsonl");
    let out_text = out.to_str().expect("text");
    let arguments = ["backup", "export", "aaaaaa", "--json-lines", "--out", out_text];
    let wrote = project.lockstep(&arguments);
    assert_eq!(wrote.code, 0, "{wrote:?}");
    assert_eq!(fs::read_to_string(&out).expect("a file"), ran.stdout);
    let again = project.lockstep(&arguments);
    assert!(again.code == 1 && again.stderr.contains("there already"), "{}", again.stderr);
    let some = project.lockstep(&["backup", "export", "aaaaaa", "--json-lines", "--match", "*:[02]"]);
    assert_eq!((some.code, some.stdout.lines().count()), (0, 4));
    assert_eq!(project.lockstep(&["backup", "export", "aaaaaa", "--match", "*"]).code, 2, "of lines alone");
}

#[test]
fn a_reader_that_has_enough_is_not_an_error() {
    let project = shop("");
    take_dump(&repository(&project), ID, &snapshot_of(50_000, 10), State::Verified);
    let mut command = project.command(&["backup", "export", ID, "--json-lines"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut first = [0; 100];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("the first bytes");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_damaged_backup_ends_with_what_is_missing() {
    let project = shop("");
    take_dump(&repository(&project), ID, &snapshot_of(3, 10), State::Verified);
    damage(&project, ID);
    let ran = project.lockstep(&["backup", "export", ID, "--json-lines"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("damaged") && ran.stderr.contains("hash differs"), "{}", ran.stderr);
    assert!(ran.stderr.contains("not whole") && !ran.stdout.contains("\"end\""), "{ran:?}");
    let out = project.path().join("keys.jsonl");
    let ran = project.lockstep(&["backup", "export", ID, "--json-lines", "--out", out.to_str().expect("text")]);
    assert!(ran.code == 3 && ran.stderr.contains("was not written") && !out.exists(), "{ran:?}");
}
