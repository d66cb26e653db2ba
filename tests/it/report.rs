//! Laws of reports: whatever a text holds, every form shows it and none acts on it; and the schemas' own rules.

use std::sync::LazyLock;

use lockstep::acceptance::Accepted;
use lockstep::finding::{Finding, Seen};
use lockstep::ledger::{Begin, Entry};
use lockstep::measure::{Expectation, Measure, Sample, Unit, Verdict};
use lockstep::parity::shape::{Group, Shape, Shaped};
use lockstep::parity::{self, LEVELS, Level, Side, Verification};
use lockstep::report::{Form, Mood, Report};
use lockstep::value::{Date, Name, Place};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use quick_xml::events::Event;
use serde_json::Value;

use crate::support::script::{play, verified};
use crate::support::spec::SENTINEL;

/// What the laws start from; made once, since each of them asks for it many times.
static VERIFICATION: LazyLock<Verification> = LazyLock::new(|| {
    verified("compare staging production\nunread ci nobody listens\nproduction: setting cache hz 50\n").0
});

/// A report in which every text that may come from outside is this one.
fn report(text: &str) -> Report {
    let mut report = Report::of_verification(&VERIFICATION, "shop", false, "2026-11-26T02:03:05Z");
    let finding = Finding::error("drift", text)
        .about(text)
        .sides(text, text)
        .at(&Place { file: text.into(), line: 3, column: 5, start: 10, end: 14 })
        .help(text)
        .seen(Seen {
            environment: "production".to_owned(),
            level: "process",
            source: "it",
            at: Some(text.to_owned()),
            since: Some(text.to_owned()),
        });
    let until = Date::parse("2027-01-31").expect("a day");
    let (by, why) = (text.to_owned(), text.to_owned());
    report.accepted.push(Accepted { finding: finding.clone(), by, why, until });
    report.findings.push(finding);
    report.matrix[2].unknown = Some(text.to_owned());
    report.matrix[1].read_at = Some(text.to_owned());
    report.stack = text.to_owned();
    report.command = text.to_owned();
    report.headline = text.to_owned();
    report.note = text.to_owned();
    report.facts.push(("Reason", text.to_owned()));
    report.steps.push((text.to_owned(), false));
    report.expectations.push(Expectation { text: text.to_owned(), measured: text.to_owned(), met: false });
    let sample = Some(Sample { value: 0.3, low: 0.2, high: 0.4 });
    let (unit, verdict) = (Unit::Ratio, Verdict::Same);
    let group = Group { keys: 1, biggest: vec![(text.to_owned(), 10)], ..Group::default() };
    let shape = Shape { keys: 1, read: 1, groups: [(text.to_owned(), group)].into(), ..Shape::default() };
    let (environment, service) = (text.to_owned(), text.to_owned());
    report.shapes.push(Shaped { environment, service, shape: Some(shape), unknown: None });
    report.measures.push(Measure { name: text.to_owned(), unit, before: sample, after: sample, verdict });
    report
}

/// The text as a form shows it: what is no text is one sign.
fn shown(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let nothing = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    text.chars().map(|c| if turns(c) || nothing(c) { '\u{fffd}' } else { c }).collect()
}

/// Any text, with the signs that forms act on more often than chance would have it.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "<",
            ">",
            "&",
            "\"",
            "'",
            "&lt;",
            "]]>",
            "<!--",
            "-->",
            "</script>",
            "<script>",
            "</style>",
            "|",
            "\\|",
            "\\",
            "`",
            "\n",
            "\r",
            "\t",
            " ",
            "*",
            "[x](y)",
            "![x](y)",
            "# ",
            "\u{202e}",
            "\u{0}",
            "\u{ffff}",
            "${x}",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 1..24).prop_map(|pieces| pieces.concat())
}

/// The tags of a page by name, without those that set words as code.
fn tags(page: &str) -> Vec<String> {
    let body = &page[page.find("<body>").expect("a body")..];
    let name = |rest: &str| {
        let end = rest.find(|c: char| c == '>' || c.is_whitespace()).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let tags = body.split('<').skip(1).map(name);
    tags.filter(|tag| !["code", "/code"].contains(&tag.as_str())).collect()
}

/// A line of Markdown without what it sets as code.
fn without_code(line: &str) -> String {
    let (mut rest, mut said) = (line, String::new());
    while let Some(at) = rest.find('`') {
        let (before, from) = rest.split_at(at);
        said.push_str(before);
        if before.ends_with('\\') && !before.ends_with("\\\\") {
            said.push('x');
            rest = &from[1..];
            continue;
        }
        let length = from.len() - from.trim_start_matches('`').len();
        let inner = &from[length..];
        let runs = inner.match_indices(&from[..length]);
        let whole = |at: usize| !inner[..at].ends_with('`') && !inner[at + length..].starts_with('`');
        let end =
            runs.map(|(at, _)| at).find(|at| whole(*at)).unwrap_or_else(|| panic!("code that does not end: {line}"));
        rest = &inner[end + length..];
    }
    said + rest
}

fn unescaped(markup: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#10;", "\n"), ("&amp;", "&")];
    named.iter().fold(markup.to_owned(), |text, (name, sign)| text.replace(name, sign))
}

/// An element of a document with what it holds.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("{} has no attribute {name}", self.name), |(_, value)| value.as_str())
    }

    fn count(&self, name: &str) -> usize {
        self.attribute(name).parse().expect("a number")
    }
}

/// Reads XML; panics where it is not well formed.
fn xml(text: &str) -> Element {
    let mut reader = quick_xml::Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(start) | Event::Empty(start) => {
                let attributes = start.attributes().map(|attribute| {
                    let attribute = attribute.expect("an attribute");
                    let name = String::from_utf8(attribute.key.as_ref().to_vec()).expect("text");
                    let value = String::from_utf8(attribute.value.to_vec()).expect("text");
                    assert!(!value.contains('<'), "{value}");
                    (name, unescaped(&value))
                });
                let name = String::from_utf8(start.name().as_ref().to_vec()).expect("text");
                open.push(Element { name, attributes: attributes.collect(), ..Element::default() });
                if empty {
                    close(&mut open);
                }
            }
            Event::End(_) => close(&mut open),
            Event::Text(text) => {
                open.last_mut().expect("open").text.push_str(std::str::from_utf8(&text).expect("text"))
            }
            Event::GeneralRef(name) => {
                let name = std::str::from_utf8(&name).expect("text").to_owned();
                open.last_mut().expect("open").text.push_str(&unescaped(&format!("&{name};")));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open.len(), 1, "everything is closed");
    open.pop().and_then(|mut root| root.children.pop()).expect("a root")
}

fn close(open: &mut Vec<Element>) {
    let element = open.pop().expect("open");
    open.last_mut().expect("a parent").children.push(element);
}

/// The rules of the schema of Ant's JUnit reports, and those of Jenkins that it does not have.
fn check_junit(root: &Element) {
    assert_eq!((root.name.as_str(), root.attributes.len()), ("testsuites", 0));
    for (id, suite) in root.children.iter().enumerate() {
        assert_eq!((suite.name.as_str(), suite.count("id")), ("testsuite", id));
        for name in ["name", "package", "hostname"] {
            let value = suite.attribute(name);
            let token = value.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!value.is_empty() && value == token, "`{value}` of {name} is a token");
        }
        let at = suite.attribute("timestamp");
        assert!(at.len() == 19 && at.as_bytes()[10] == b'T' && !at.contains('Z'), "{at}");
        assert!(suite.attribute("time").parse::<f64>().is_ok());
        let names: Vec<&str> = suite.children.iter().map(|child| child.name.as_str()).collect();
        let (first, rest) = names.split_first().expect("properties");
        let (cases, end) = rest.split_at(rest.len() - 2);
        assert_eq!((*first, end), ("properties", &["system-out", "system-err"][..]));
        assert!(cases.iter().all(|name| *name == "testcase"), "{names:?}");
        for property in &suite.children[0].children {
            assert!(property.name == "property" && !property.attribute("name").is_empty());
            property.attribute("value");
        }
        let cases: Vec<&Element> = suite.children.iter().filter(|child| child.name == "testcase").collect();
        let mut of = [("failures", "failure", 0), ("errors", "error", 0), ("skipped", "skipped", 0)];
        for case in &cases {
            assert!(!case.attribute("name").is_empty() && !case.attribute("classname").is_empty());
            assert!(case.attribute("time").parse::<f64>().is_ok() && case.children.len() <= 1, "one result at most");
            for result in &case.children {
                let kind = of.iter_mut().find(|(_, name, _)| *name == result.name).expect("a known result");
                kind.2 += 1;
                assert!(kind.1 == "skipped" || !result.attribute("type").is_empty());
            }
        }
        assert_eq!(suite.count("tests"), cases.len());
        of.iter().for_each(|(attribute, _, count)| assert_eq!(suite.count(attribute), *count, "{attribute}"));
    }
}

/// What the schema of SARIF 2.1.0 requires, and what viewers need on top of it.
fn check_sarif(log: &Value) {
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|schema| schema.ends_with("sarif-schema-2.1.0.json")));
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert!(driver["name"].is_string() && run["columnKind"] == "unicodeCodePoints");
    assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
    let rules = driver["rules"].as_array().expect("rules");
    for rule in rules {
        assert!(
            rule["id"].is_string() && rule["shortDescription"]["text"].is_string() && rule["help"]["text"].is_string()
        );
    }
    let mut prints = std::collections::BTreeSet::new();
    for result in run["results"].as_array().expect("results") {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().expect("a level")));
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
        let place = &result["locations"][0]["physicalLocation"];
        assert!(
            place["artifactLocation"]["uri"]
                .as_str()
                .is_some_and(|uri| uri.bytes().all(|byte| byte.is_ascii_graphic()))
        );
        let region = &place["region"];
        assert!(["startLine", "startColumn"].iter().all(|field| region[*field].as_u64().is_some_and(|at| at > 0)));
        let print = result["partialFingerprints"]["lockstepFinding/v1"].as_str().expect("a fingerprint");
        assert!(prints.insert(print.to_owned()), "every result is told from every other: {print}");
        for suppression in result["suppressions"].as_array().into_iter().flatten() {
            assert_eq!((&suppression["kind"], &suppression["status"]), (&"external".into(), &"accepted".into()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        rng_seed: RngSeed::Fixed(43),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn junit_says_what_was_written_and_is_valid_whatever_that_is(text in hostile()) {
        let document = report(&text).render(Form::Junit);
        let root = xml(&document);
        check_junit(&root);
        let results = root.children.iter().flat_map(|suite| &suite.children).flat_map(|case| &case.children);
        let failure = results.filter(|result| result.name == "failure").find(|result| result.text.contains("[drift]"));
        let failure = failure.expect("the finding is a failure");
        prop_assert!(failure.text.contains(&shown(&text)), "{:?} in {:?}", shown(&text), failure.text);
    }

    #[test]
    fn sarif_says_what_was_written_and_is_valid_whatever_that_is(text in hostile()) {
        let log: Value = serde_json::from_str(&report(&text).render(Form::Sarif)).expect("JSON");
        check_sarif(&log);
        let results = log["runs"][0]["results"].as_array().expect("results");
        let drift: Vec<&Value> = results.iter().filter(|result| result["ruleId"] == "drift").collect();
        prop_assert_eq!(drift.len(), 2);
        let linkless = shown(&text).replace("](", "] (");
        for result in drift {
            prop_assert!(result["message"]["text"].as_str().is_some_and(|said| said.starts_with(&linkless)));
            prop_assert_eq!(&result["properties"]["observed"], &Value::from(shown(&text)));
        }
    }

    #[test]
    fn a_page_shows_what_was_written_and_has_the_same_tags_whatever_that_is(text in hostile()) {
        let page = report(&text).render(Form::Html);
        prop_assert_eq!(tags(&page), tags(&report("plain").render(Form::Html)));
        prop_assert!(unescaped(&page).contains(&shown(&text)));
    }

    #[test]
    fn a_comment_has_the_same_shape_whatever_was_written(text in hostile()) {
        let shape = |markdown: &str| -> Vec<(usize, usize)> {
            let count = |line: &str, sign: &str| {
                line.replace("\\\\", "").replace(&format!("\\{sign}"), "").matches(sign).count()
            };
            // Elsewhere than in a table a bar ends nothing.
            let cells = |line: &str| if line.starts_with('|') { count(line, "|") } else { 0 };
            markdown.lines().map(|line| (cells(line), count(&without_code(line), "<"))).collect()
        };
        let markdown = report(&text).render(Form::Markdown);
        prop_assert_eq!(shape(&markdown), shape(&report("plain").render(Form::Markdown)), "{}", markdown);
    }
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = report("plain").render(Form::Html);
    for word in ["<script", "http:", "https:", "src=", "href", "@import", "url(", "style=\"", "<link", "javascript:"] {
        assert!(!page.contains(word), "{word}");
    }
    let policy = page.split("Content-Security-Policy\" content=\"").nth(1).and_then(|rest| rest.split('"').next());
    let policy = policy.expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn a_comment_calls_nobody() {
    let markdown = report("rules are +@read -@dangerous of issue #7").render(Form::Markdown);
    let called: Vec<&str> =
        markdown.lines().filter(|line| line.contains("+@read") && !line.contains("`+@read`")).collect();
    assert_eq!(called, [""; 0], "{markdown}");
}

#[test]
fn a_comment_fits_where_comments_go() {
    let mut report = report(&"*|<".repeat(2_000));
    let (finding, accepted) = (report.findings[0].clone(), report.accepted[0].clone());
    report.findings = vec![finding; 500];
    report.accepted = vec![accepted; 500];
    assert!(
        report.render(Form::Markdown).chars().count() < 65_536,
        "{}",
        report.render(Form::Markdown).chars().count()
    );
    assert!(report.render(Form::Markdown).contains("And 475 more."));
}

#[test]
fn a_finding_is_known_again_when_its_value_and_its_line_moved() {
    let print = |value: &str, line: u32| {
        let mut report = report("plain");
        let place = Place { line, ..Place::file("environments/stack.yaml") };
        let seen = Seen { environment: "production".to_owned(), level: "process", source: "it", at: None, since: None };
        report.accepted.clear();
        report.findings = vec![
            Finding::error("drift", value)
                .about("container/cache settings.hz")
                .sides("10", value)
                .at(&place)
                .seen(seen),
        ];
        let log: Value = serde_json::from_str(&report.render(Form::Sarif)).expect("JSON");
        log["runs"][0]["results"][0]["partialFingerprints"].clone()
    };
    assert_eq!(print("50", 3), print("60", 9));
    let mut other = report("plain");
    other.findings[0].subject = Some("container/cache settings.timeout".to_owned());
    let log: Value = serde_json::from_str(&other.render(Form::Sarif)).expect("JSON");
    assert_ne!(log["runs"][0]["results"][0]["partialFingerprints"], print("50", 3));
}

#[test]
fn of_several_environments_each_is_compared_with_the_first_one() {
    let script = "compare staging production\nproduction: setting cache hz 50\nsetting cache timeout 7\n";
    let (staging, production) = (play(script, "staging"), play(script, "production"));
    let mut ci = play("compare staging\nsetting cache timeout 7\n", "staging");
    ci.want.environment = Name::parse("ci").expect("a name");
    let have = [staging.stage.observed(), production.stage.observed(), ci.stage.observed()];
    let side = |at: usize| Side { want: [&staging.want, &production.want, &ci.want][at], have: &have[at] };
    let verification = parity::matrix(side(0), &[side(1), side(2)]);
    let found: Vec<(&str, &str, &str)> = verification
        .findings
        .iter()
        .map(|finding| {
            (
                finding.rule,
                finding.seen.as_ref().expect("seen").environment.as_str(),
                finding.subject.as_deref().expect("a subject"),
            )
        })
        .collect();
    // Changed alike in all of them, it is told of each once; so is what only one of them has.
    let timeout = "container/cache settings.timeout";
    assert_eq!(
        found.iter().filter(|(rule, _, subject)| (*rule, *subject) == ("drift", timeout)).count(),
        3,
        "{found:?}"
    );
    assert!(found.contains(&("parity", "production", "container/cache settings.hz")), "{found:?}");
    assert_eq!(found.iter().filter(|(_, _, subject)| subject.ends_with(".hz")).count(), 1, "{found:?}");
    assert!(found.iter().any(|(rule, environment, _)| (*rule, *environment) == ("shared-secret", "ci")), "{found:?}");
    let states: Vec<String> = verification.matrix.iter().map(|row| row.state(Level::Process).to_string()).collect();
    assert_eq!(states[..2], ["reference", "1 finding"], "{states:?}");
    for level in LEVELS {
        let sum = |count: fn(&parity::Proof) -> u64| -> u64 {
            verification.matrix.iter().flat_map(|row| &row.levels).filter(|proof| proof.level == level).map(count).sum()
        };
        let whole = verification.levels.iter().find(|proof| proof.level == level).expect("every level");
        assert_eq!((whole.compared, whole.findings), (sum(|proof| proof.compared), sum(|proof| proof.findings)));
    }
    for declared in &verification.declared {
        assert_eq!(declared.values.len(), 3, "{declared:?}");
    }
}

#[test]
fn what_was_not_read_is_never_right() {
    let (verification, _) = verified("compare staging production\nunread ci nobody listens\n");
    assert_eq!(verification.verdict(), "staging and production match: ci is unknown");
    assert!(verification.is_right(false) && !verification.is_right(true));
    let report = Report::of_verification(&verification, "shop", false, "2026-11-26T02:03:05Z");
    assert_eq!(report.mood, Mood::Unknown);
    let junit = xml(&report.render(Form::Junit));
    let errors: Vec<usize> = junit.children.iter().map(|suite| suite.count("errors")).collect();
    assert_eq!(errors, [0, 0, 5, 0]);
    let log: Value = serde_json::from_str(&report.render(Form::Sarif)).expect("JSON");
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], "unreachable");
}

#[test]
fn no_form_has_the_value_of_a_secret() {
    let script = "compare staging production\nstaging: secret cache_password sentinel-one\n\
                  staging: had-secret cache_password sentinel-two\nproduction: had-secret cache_password sentinel-two\n\
                  production: secret cache_password sentinel-two\nproduction: env web PASSWORD x\n";
    let (verification, _) = verified(script);
    let rules: Vec<&str> = verification.findings.iter().map(|finding| finding.rule).collect();
    assert!(rules.contains(&"shared-secret") && rules.contains(&"drift"), "{rules:?}");
    let report = Report::of_verification(&verification, "shop", false, "2026-11-26T02:03:05Z");
    for form in [Form::Junit, Form::Sarif, Form::Markdown, Form::Html] {
        let said = report.render(form);
        assert!(said.contains("cache_password") && !said.contains(SENTINEL), "{form:?}: {said}");
    }
}

#[test]
fn a_change_that_did_not_end_or_does_not_read_has_a_page_that_says_so() {
    let begun =
        Entry { number: 3, begin: Some(Begin { reason: "more".to_owned(), ..Begin::default() }), ..Entry::default() };
    let unread = Entry { number: 4, problem: Some("00000004-begin.json is missing".to_owned()), ..Entry::default() };
    for (entry, says) in
        [(begun, ["<span>more</span>", "unfinished"]), (unread, ["cannot be read", "begin.json is missing"])]
    {
        let report = Report::of_change(&entry);
        assert_eq!(report.mood, Mood::Unknown);
        let page = report.render(Form::Html);
        says.iter().for_each(|said| assert!(page.contains(said), "{said}: {page}"));
    }
}

#[test]
fn two_that_share_a_secret_are_found_although_the_first_one_has_another() {
    let (staging, production) = (play("", "staging"), play("", "production"));
    let mut ci = play("", "production");
    ci.want.environment = Name::parse("ci").expect("a name");
    let have = [staging.stage.observed(), production.stage.observed(), ci.stage.observed()];
    let side = |at: usize| Side { want: [&staging.want, &production.want, &ci.want][at], have: &have[at] };
    let verification = parity::matrix(side(0), &[side(1), side(2)]);
    let shared = verification.findings.iter().filter(|finding| finding.rule == "shared-secret");
    let messages: Vec<&str> = shared.map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages.len(), 5, "passwords of users, and the files that hold them: {messages:?}");
    assert!(messages.iter().all(|message| message.ends_with("in production and ci")), "{messages:?}");
    // All three have one: told of each once, beside the first one.
    let alike = parity::matrix(side(1), &[side(2), side(2)]);
    let shared = alike.findings.iter().filter(|finding| finding.rule == "shared-secret").count();
    assert_eq!(shared, 10);
}

#[test]
fn what_neither_of_two_could_be_asked_is_not_the_same() {
    let (verification, _) = verified("compare staging production\nunknown cache settings.hz NOPERM\n");
    let found: Vec<String> = verification.findings.iter().map(|finding| finding.message.clone()).collect();
    assert_eq!(found, ["in production, container/cache settings.hz could not be compared: NOPERM"]);
}
