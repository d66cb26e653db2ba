//! The note of a change: every folder of `tests/cases/note` holds the two records of one, `entry.json`, and its note.

use std::fs;
use std::path::Path;

use lockstep::ledger::note::{anchor, draft_name, names, note};
use lockstep::ledger::{Begin, End, Entry, Outcome, Performed, Who};
use lockstep::value::Digest;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;

use crate::support::project::entries;
use crate::support::{golden, repository};

pub fn entry(folder: &Path) -> Entry {
    let text = fs::read_to_string(folder.join("entry.json")).expect("an entry.json");
    let records: Value = serde_json::from_str(&text).expect("JSON");
    let begin: Begin = serde_json::from_value(records["begin"].clone()).expect("a begin");
    let end: Option<End> = serde_json::from_value(records["end"].clone()).expect("an end");
    Entry {
        number: begin.number,
        begin: Some(begin),
        begin_sha256: Digest::of(b"begin").to_string(),
        end_sha256: end.as_ref().map(|_| Digest::of(b"end").to_string()).unwrap_or_default(),
        end,
        problem: None,
    }
}

#[test]
fn a_note_says_why_what_was_measured_what_was_done_and_how_to_take_it_back() {
    let folders = entries(&repository().join("tests/cases/note"));
    let wrong: Vec<String> = folders
        .iter()
        .filter_map(|folder| {
            let why = golden::compare(&folder.join("expected.txt"), &note(&entry(folder))).err()?;
            Some(format!("{}\n{why}", folder.display()))
        })
        .collect();
    assert!(!folders.is_empty() && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The bars of a line that end a cell.
fn bars(line: &str) -> usize {
    let (mut bars, mut escaped) = (0, false);
    for c in line.chars() {
        bars += usize::from(c == '|' && !escaped);
        escaped = c == '\\' && !escaped;
    }
    bars
}

/// Headings, tables and their columns, lists: what a reader sees of a note beside its words.
fn shape(note: &str) -> Vec<String> {
    let mut fence: Option<String> = None;
    let mut shape = Vec::new();
    for line in note.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if ticks.len() > 2 => {
                shape.push("block".to_owned());
                fence = Some(ticks);
            }
            None if line.starts_with("## ") => shape.push(line.to_owned()),
            None if line.starts_with("# ") => shape.push("title".to_owned()),
            None if line.starts_with('|') => shape.push(format!("row of {}", bars(line) - 1)),
            None if line.starts_with("- ") => shape.push("item".to_owned()),
            None if line.starts_with("<!-- ") => shape.push("anchor".to_owned()),
            None => assert!(!line.trim_start().starts_with(['#', '>', '|', '~', '<']), "{line}"),
        }
    }
    assert_eq!(fence, None, "every block ends");
    shape
}

fn change(written: &str) -> Entry {
    let text = written.to_owned();
    let begin = Begin {
        number: 3,
        stack: "shop".to_owned(),
        environment: "live".to_owned(),
        at: "2026-11-23T14:32:10Z".to_owned(),
        reason: text.clone(),
        owner: Some(text.clone()),
        who: Who { user: text.clone(), host: text.clone(), process: 1 },
        assumptions: vec![text.clone()],
        command: vec!["lockstep".to_owned(), text.clone()],
        ..Begin::default()
    };
    let action = Performed { number: 1, summary: text.clone(), outcome: text.clone(), ..Performed::default() };
    let end = End {
        outcome: Outcome::Failed,
        problem: Some(text.clone()),
        hand_steps: vec![text.clone()],
        actions: vec![action],
        verification: Some(text.clone()),
        watched: Some(text),
        ..End::default()
    };
    Entry {
        number: 3,
        begin: Some(begin),
        end: Some(end),
        begin_sha256: Digest::of(b"begin").to_string(),
        end_sha256: Digest::of(b"end").to_string(),
        problem: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        rng_seed: RngSeed::Fixed(41),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_that_a_person_writes_changes_the_shape_of_a_note(
        words in prop::collection::vec(prop_oneof![
            "[ -~]{0,12}", Just("|".to_owned()), Just("`".to_owned()), Just("```".to_owned()), Just("\\|".to_owned()),
            Just("\n".to_owned()), Just("\n# x".to_owned()), Just("\n- x".to_owned()), Just("<!-- ".to_owned()),
            Just("\u{1b}[2J".to_owned()), Just("\u{202e}".to_owned()), Just("\u{85}".to_owned()), Just("é".to_owned()),
        ], 1..12),
    ) {
        let written = format!("a{}", words.concat());
        let text = note(&change(&written));
        prop_assert_eq!(shape(&text), shape(&note(&change("a"))), "{}", text);
        let moves = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        prop_assert!(!text.contains(moves), "{:?}", text);
        let found = anchor("x", &text, "shop", "live").expect("an anchor");
        prop_assert_eq!(found.head.sha256, Digest::of(b"end").to_string());
    }
}

#[test]
fn a_note_is_named_after_its_day_and_reason_and_a_draft_is_nobody_elses() {
    let entry = change("Raise cache memory\nbecause");
    let begin = entry.begin.expect("a begin");
    assert_eq!(
        names(&begin),
        ["2026-11-23-raise-cache-memory-because.md", "2026-11-23-raise-cache-memory-because-live-3.md"]
    );
    assert_eq!(draft_name(&begin), "2026-11-23-raise-cache-memory-because-live-3.draft.md");
}

#[test]
fn a_change_whose_begin_does_not_read_has_a_note_that_says_so() {
    let entry = Entry { number: 4, problem: Some("00000004-begin.json does not read".to_owned()), ..Entry::default() };
    assert_eq!(note(&entry), "# Change 4\n\n00000004-begin.json does not read\n");
}
