//! Lines of JSON to a snapshot: what was exported comes back, and what would not load is refused with its line.

use lockstep::export::{FORMAT, Header, json_lines};
use lockstep::import;
use lockstep::rdb::walk;
use proptest::prelude::*;
use std::fs;

use crate::rdb_fixtures::dumps;

fn exported(dump: &[u8]) -> Vec<String> {
    let header = Header {
        format: FORMAT,
        backup: "cache-20261120T050000Z-aaaaaa",
        stack: "shop",
        environment: "staging",
        service: "cache",
        taken_at: "2026-11-20T05:00:00Z",
        server: "redis 7.0.15",
        pattern: None,
    };
    let mut out = Vec::new();
    json_lines(dump, &header, None, &mut out).expect("a whole dump");
    String::from_utf8(out).expect("JSON is text").lines().map(str::to_owned).collect()
}

#[test]
fn what_was_exported_comes_back_whoever_wrote_it() {
    let mut seen = 0;
    for path in dumps() {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let lines = exported(&fs::read(&path).expect("a dump"));
        let text = lines.join("\n");
        let made = import::lines(&text);
        let beyond = ["fields_expire_at_ms", "\"type\":\"stream\"", "\"type\":\"module\"", "\"type\":\"array\""];
        if let Some(what) = beyond.iter().find(|what| text.contains(**what)) {
            assert!(made.is_err(), "{name} holds {what}, and loses nothing of it unseen");
            continue;
        }
        let made = made.unwrap_or_else(|error| panic!("{name}: {error}"));
        let summary = walk(made.rdb.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(summary.keys(), made.keys, "{name}");
        assert_eq!(exported(&made.rdb), lines, "{name}");
        seen += 1;
    }
    assert!(seen > 40, "{seen} dumps came back");
}

fn refused(text: &str) -> String {
    import::lines(text).expect_err("it would not load").to_string()
}

#[test]
fn a_line_that_would_not_load_is_refused_by_its_number() {
    let key = |rest: &str| format!("\n{{\"key\":\"a\",{rest}}}");
    assert_eq!(refused(&key("\"type\":\"stream\",\"value\":{}")), "line 2: a key of type stream needs a snapshot");
    assert_eq!(refused(&key("\"type\":\"sett\",\"value\":[]")), "line 2: `sett` is no type of a key");
    assert_eq!(refused(&key("\"type\":\"set\",\"value\":[\"x\",\"x\"]")), "line 2: the member `x` comes twice");
    assert_eq!(refused(&key("\"type\":\"zset\",\"value\":[[\"x\",\"nan\"]]")), "line 2: `value` is none of a zset");
    assert_eq!(refused("{\"format\":2}"), "line 1: format \"2\" is not one that this version reads");
    let twice =
        "{\"key\":\"a\",\"type\":\"string\",\"value\":\"1\"}\n{\"key\":\"a\",\"type\":\"string\",\"value\":\"2\"}";
    assert_eq!(refused(twice), "line 2: the key `a` comes twice");
    assert_eq!(
        refused("{\"end\":{\"keys\":1,\"functions\":0}}"),
        "line 1: it ends with another number of keys or functions"
    );
    assert!(refused("{\"key\":").starts_with("line 1: it is not JSON"));
}

#[test]
fn a_number_stands_for_its_text_and_what_is_empty_is_left_out() {
    let text = "{\"key\":\"a\",\"type\":\"hash\",\"value\":{\"n\":1.50,\"m\":\"-\"}}\n{\"key\":\"b\",\"type\":\"list\",\"value\":[]}";
    let made = import::lines(text).expect("lines");
    let lines = exported(&made.rdb);
    assert!(lines[1].contains("\"value\":{\"n\":\"1.50\",\"m\":\"-\"}"), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

proptest! {
    #[test]
    fn any_text_at_all_comes_to_an_end(text in "\\PC{0,200}") {
        let _ = import::lines(&text);
    }

    #[test]
    fn any_key_and_score_come_back_to_the_last_bit(key in ".{1,20}", score in any::<f64>().prop_filter("one zero, no NaN", |s| !s.is_nan() && *s != 0.0)) {
        let shown = if score.is_infinite() { format!("\"{score}\"") } else { format!("{score:?}") };
        let line = format!("{{\"key\":{},\"type\":\"zset\",\"value\":[[\"m\",{shown}]]}}", serde_json::json!(key));
        let made = import::lines(&line).expect("a line");
        let back = import::lines(&exported(&made.rdb).join("\n")).expect("its own lines");
        prop_assert_eq!(made.rdb, back.rdb);
    }
}
