//! What an application answers, beside what it answers in another environment: status, headers, what the body is made of,
//! and how long that takes.
//!
//! A header whose value changes from one answer to the next says something by being there, and nothing by its value. Of a
//! body its parts are compared, the keys of a JSON object or the elements of a page: texts are data.

use super::{Level, Verification};
use crate::finding::{Finding, Seen};
use crate::measure::{Sample, Unit};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Headers that follow from the content or from the moment.
const OF_THE_MOMENT: [&str; 11] = [
    "age",
    "connection",
    "content-length",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "transfer-encoding",
    "x-request-id",
    "server-timing",
];
/// Parts of a body that are kept, and those that a finding names.
const PARTS: usize = 500;
const NAMED: usize = 5;

/// What came of asking for one page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// `GET /healthz`
    pub request: String,
    pub status: u16,
    /// By name in lower case; `None` where the value is of the moment.
    pub headers: BTreeMap<String, Option<String>>,
    /// What the body is made of.
    pub body: BTreeSet<String>,
}

/// An answer as it came.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub status: u16,
    pub headers: &'a [(String, String)],
    pub body: &'a str,
}

impl Page {
    /// Of two answers to the same request; `address` is where they came from, which is no difference.
    pub fn of(request: &str, first: Answered<'_>, second: Answered<'_>, address: &str) -> Page {
        let values = |answer: Answered<'_>| {
            let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (name, value) in answer.headers {
                let value = match name.as_str() {
                    "set-cookie" => cookie(value),
                    _ => value.trim().replace(address, "(its address)"),
                };
                values.entry(name.clone()).or_default().push(value);
            }
            values
        };
        let (one, two) = (values(first), values(second));
        let headers = one.iter().map(|(name, value)| {
            let stays = two.get(name) == Some(value) && !OF_THE_MOMENT.contains(&name.as_str());
            (name.clone(), stays.then(|| value.join(", ")))
        });
        let mut headers: BTreeMap<String, Option<String>> = headers.collect();
        for name in two.keys() {
            headers.entry(name.clone()).or_insert(None);
        }
        Page { request: request.to_owned(), status: second.status, headers, body: parts(second.body) }
    }
}

/// The name of a cookie and its attributes, without its value and how long it lasts.
fn cookie(header: &str) -> String {
    let mut parts = header.split(';').map(|part| part.trim().to_ascii_lowercase());
    let name = parts.next().unwrap_or_default().split('=').next().unwrap_or_default().to_owned();
    let lasting = |part: &String| !part.starts_with("expires=") && !part.starts_with("max-age=");
    std::iter::once(name).chain(parts.filter(lasting)).collect::<Vec<_>>().join("; ")
}

/// What a body is made of.
pub fn parts(body: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match serde_json::from_str::<serde_json::Value>(body) {
        Ok(value) => keys(&value, String::new(), &mut found),
        Err(_) if body.trim_start().starts_with('<') => {
            for tag in body.split('<').skip(1).filter(|tag| tag.starts_with(|c: char| c.is_ascii_alphabetic())) {
                let end = tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(tag.len());
                found.insert(format!("<{}>", tag.get(..end).unwrap_or_default().to_ascii_lowercase()));
            }
        }
        Err(_) => {}
    }
    while found.len() > PARTS {
        found.pop_last();
    }
    found
}

fn keys(value: &serde_json::Value, path: String, found: &mut BTreeSet<String>) {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String as Text};
    if found.len() > PARTS {
        return;
    }
    match value {
        Object(entries) => entries.iter().for_each(|(name, value)| keys(value, format!("{path}.{name}"), found)),
        Array(items) => items.iter().take(50).for_each(|item| keys(item, format!("{path}[]"), found)),
        Null | Bool(_) | Number(_) | Text(_) => {
            let kind = match value {
                Null => "null",
                Bool(_) => "boolean",
                Number(_) => "number",
                _ => "text",
            };
            found.insert(format!("{path} {kind}"));
        }
    }
}

/// How long one probe takes in one environment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    pub environment: String,
    pub probe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Sample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<Sample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Sample>,
    /// Why there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The pages of an application, or why there are none.
pub type Pages = BTreeMap<String, Result<Vec<Page>, String>>;

impl Verification {
    /// Takes in what the applications of an environment answer beside those of the reference.
    pub fn pages(&mut self, (reference, left): (&str, &Pages), (environment, right): (&str, &Pages)) {
        for (service, pages) in right {
            let Some(others) = left.get(service) else { continue };
            let (others, pages) = match (others, pages) {
                (Ok(others), Ok(pages)) => (others, pages),
                (Err(why), _) => {
                    self.unasked(reference, service, why);
                    continue;
                }
                (_, Err(why)) => {
                    self.unasked(environment, service, why);
                    continue;
                }
            };
            for page in pages {
                let Some(other) = others.iter().find(|other| other.request == page.request) else { continue };
                let facts = u64::try_from(page.headers.len() + 2).unwrap_or(u64::MAX);
                self.counted(environment, facts);
                for (what, one, two) in unlike(other, page) {
                    let said = format!(
                        "container/{service} answers {} with {} in {reference} and {} in {environment}: {what}",
                        page.request,
                        shown(&one),
                        shown(&two)
                    );
                    let subject = format!("container/{service} pages.{}.{what}", page.request);
                    let finding = Finding::error("page", said).about(subject).sides(shown(&one), shown(&two));
                    let help = "what it is built of and told is compared as well; look at what it was given by hand";
                    self.findings.push(seen(environment, finding.help(help)));
                }
            }
        }
    }

    fn unasked(&mut self, environment: &str, service: &str, why: &str) {
        let subject = format!("container/{service} pages");
        let said = format!("the pages of container/{service} could not be compared: {why}");
        self.findings.push(seen(environment, Finding::error("unknown", said).about(subject)));
    }

    /// A probe that takes another time than in the reference, as somebody judged it.
    pub fn slower(&mut self, reference: &str, environment: &str, probe: &str, (one, two): (Sample, Sample)) {
        let word = if two.value > one.value { "slower" } else { "faster" };
        let (one, two) = (Unit::Milliseconds.about(one.value), Unit::Milliseconds.about(two.value));
        let said =
            format!("probe {probe} is {word} in {environment} than in {reference}: {two} at the middle, and {one}");
        let finding = Finding::warning("latency", said).about(format!("probes.{probe}")).sides(one, two);
        self.findings.push(seen(environment, finding));
    }

    fn counted(&mut self, environment: &str, facts: u64) {
        let row = self.matrix.iter_mut().filter(|row| row.environment == environment).flat_map(|row| &mut row.levels);
        for proof in row.chain(&mut self.levels).filter(|proof| proof.level == Level::Process) {
            proof.compared += facts;
        }
    }
}

/// A part of an answer with what it is on either side.
type Difference = (String, Option<String>, Option<String>);

fn unlike(left: &Page, right: &Page) -> Vec<Difference> {
    let mut found = Vec::new();
    if left.status != right.status {
        found.push(("status".to_owned(), Some(left.status.to_string()), Some(right.status.to_string())));
        // Another page altogether has other headers and another body.
        return found;
    }
    let names: BTreeSet<&String> = left.headers.keys().chain(right.headers.keys()).collect();
    for name in names {
        match (left.headers.get(name), right.headers.get(name)) {
            (Some(Some(one)), Some(Some(two))) if one != two => {
                found.push((format!("headers.{name}"), Some(one.clone()), Some(two.clone())));
            }
            (Some(_), Some(_)) => {}
            // How an answer is sent is for the connection to say.
            _ if OF_THE_MOMENT.contains(&name.as_str()) => {}
            (one, two) => {
                let word =
                    |side: Option<&Option<String>>| side.map(|value| value.clone().unwrap_or("a value".to_owned()));
                found.push((format!("headers.{name}"), word(one), word(two)));
            }
        }
    }
    if left.body != right.body {
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
            let parts: Vec<&str> = one.difference(other).map(String::as_str).take(NAMED).collect();
            Some(parts.join(", ")).filter(|parts| !parts.is_empty())
        };
        found.push(("body".to_owned(), only(&left.body, &right.body), only(&right.body, &left.body)));
    }
    found
}

fn shown(side: &Option<String>) -> String {
    side.clone().unwrap_or_else(|| "nothing".to_owned())
}

fn seen(environment: &str, finding: Finding) -> Finding {
    finding.seen(Seen {
        environment: environment.to_owned(),
        level: Level::Process.as_str(),
        source: "the answers of the application",
        at: None,
        since: None,
    })
}
