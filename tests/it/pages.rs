//! What is said of the answers of two applications.

use lockstep::parity::pages::{Answered, Page, Pages, parts};

use crate::support::script::verified;

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn page(status: u16, first: &[(&str, &str)], second: &[(&str, &str)], body: &str) -> Page {
    let (first, second) = (headers(first), headers(second));
    let answered = |headers| Answered { status, headers, body };
    Page::of("GET /", answered(first.as_slice()), answered(second.as_slice()), "192.0.2.1:8080")
}

fn same(status: u16, headers: &[(&str, &str)], body: &str) -> Page {
    page(status, headers, headers, body)
}

/// The parts of `GET /` that differ.
fn unlike(left: Page, right: Page) -> Vec<String> {
    let mut verification = verified("compare staging production\n").0;
    let pages = |page| Pages::from([("web".to_owned(), Ok(vec![page]))]);
    verification.pages(("staging", &pages(left)), ("production", &pages(right)));
    let subjects = verification.findings.iter().map(|finding| finding.subject.clone().unwrap_or_default());
    subjects.map(|subject| subject.strip_prefix("container/web pages.GET /.").unwrap_or(&subject).to_owned()).collect()
}

#[test]
fn a_header_that_is_another_or_is_not_there_is_named() {
    let usual = || same(200, &[("x-frame-options", "DENY"), ("server", "site")], "<p>one</p>");
    assert_eq!(unlike(usual(), usual()), [""; 0]);
    let other = same(200, &[("x-frame-options", "SAMEORIGIN"), ("server", "site")], "<p>two</p>");
    assert_eq!(unlike(usual(), other), ["headers.x-frame-options"]);
    let less = same(200, &[("server", "site"), ("x-powered-by", "php")], "<p>three</p>");
    assert_eq!(unlike(usual(), less), ["headers.x-frame-options", "headers.x-powered-by"]);
}

#[test]
fn what_is_of_the_moment_is_no_difference() {
    let at = |time: &str, cache: [&str; 2], session: &str| {
        let cookie = format!("session={session}; HttpOnly; Max-Age={time}; Secure");
        let given = |cache| {
            [("date", time), ("etag", session), ("x-cache", cache), ("set-cookie", cookie.as_str())].map(|pair| pair)
        };
        page(200, &given(cache[0]), &given(cache[1]), "text")
    };
    assert_eq!(unlike(at("1", ["MISS", "HIT"], "aa"), at("2", ["HIT", "HIT"], "bb")), [""; 0]);
    let bare = page(200, &[("x-cache", "HIT")], &[("x-cache", "HIT")], "text");
    assert_eq!(unlike(at("1", ["MISS", "HIT"], "aa"), bare), ["headers.set-cookie"]);
    let here = same(200, &[("location", "http://192.0.2.1:8080/home")], "");
    let there = Page {
        headers: [("location".to_owned(), Some("http://(its address)/home".to_owned()))].into(),
        ..here.clone()
    };
    assert_eq!(unlike(here, there), [""; 0], "where it was asked is no difference");
}

#[test]
fn a_cookie_that_is_less_careful_is_another_header() {
    let with = |cookie: &str| same(200, &[("set-cookie", cookie)], "");
    assert_eq!(unlike(with("a=1; Secure; HttpOnly"), with("a=2; Secure")), ["headers.set-cookie"]);
}

#[test]
fn another_status_is_told_alone_and_another_body_by_its_parts() {
    let usual = || same(200, &[("a", "b")], r#"{"name": "x", "list": [{"id": 1}]}"#);
    assert_eq!(unlike(usual(), same(500, &[], "<h1>")), ["status"]);
    assert_eq!(unlike(usual(), same(200, &[("a", "b")], r#"{"list": [{"id": 2}, {"id": 3}], "name": "y"}"#)), [""; 0]);
    assert_eq!(unlike(usual(), same(200, &[("a", "b")], r#"{"list": [{"id": "2"}], "name": "y"}"#)), ["body"]);
    assert_eq!(parts("<!DOCTYPE html><P class=a>1<br/></p>").into_iter().collect::<Vec<_>>(), ["<br>", "<p>"]);
    assert_eq!(parts("plain"), [].into());
}

#[test]
fn an_application_that_does_not_answer_is_unknown() {
    let mut verification = verified("compare staging production\n").0;
    let silent = Pages::from([("web".to_owned(), Err("nobody listens".to_owned()))]);
    let spoken = Pages::from([("web".to_owned(), Ok(vec![same(200, &[], "")]))]);
    verification.pages(("staging", &spoken), ("production", &silent));
    assert_eq!(verification.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["unknown"]);
}
