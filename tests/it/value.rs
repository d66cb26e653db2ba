//! What values mean and how they are written.

use lockstep::value::blob::{Blob, base64};
use lockstep::value::{Date, Glob, Secret};

#[test]
fn base64_is_that_of_the_standard() {
    let known =
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
    for (plain, encoded) in known {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
    assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
}

#[test]
fn text_stays_text_and_the_rest_is_told_apart() {
    let json = |bytes: &[u8]| serde_json::to_string(&Blob(bytes)).unwrap_or_default();
    assert_eq!(json("naïve \"x\"\n".as_bytes()), "\"naïve \\\"x\\\"\\n\"");
    assert_eq!(json(&[0xff, 0]), r#"{"base64":"/wA="}"#);
    assert_eq!(Blob("é\u{1b}[1m\u{202e} 'a'".as_bytes()).to_string(), "é\\u{1b}[1m\\u{202e} 'a'");
    assert_eq!(Blob(&[b'a', 0xff]).to_string(), "a\\xff");
}

fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern.as_bytes()).matches(name.as_bytes())
}

#[test]
fn patterns_mean_what_they_mean_to_redis() {
    let yes = [
        ("", ""),
        ("*", ""),
        ("*", "anything"),
        ("user:*", "user:"),
        ("user:*:name", "user:1:2:name"),
        ("h?llo", "hallo"),
        ("h[ae]llo", "hello"),
        ("h[^e]llo", "hallo"),
        ("h[a-c]llo", "hbllo"),
        ("h[c-a]llo", "hbllo"),
        (r"h\*llo", "h*llo"),
        (r"[\]a]", "]"),
        ("[abc", "b"),
        ("[^]", "x"),
        ("a**b*", "a--b"),
        ("\\", "\\"),
        ("a-b", "a-b"),
    ];
    let no = [
        ("", "a"),
        ("?", ""),
        ("user:*", "user"),
        ("h[^e]llo", "hello"),
        ("h[ae]llo", "hillo"),
        (r"h\*llo", "hello"),
        ("[]", "]"),
        ("[]a]", "a]"),
        ("*a", "ab"),
        ("abc", "ab"),
    ];
    for (pattern, name) in yes {
        assert!(matches(pattern, name), "{pattern} {name}");
    }
    for (pattern, name) in no {
        assert!(!matches(pattern, name), "{pattern} {name}");
    }
    assert!(Glob::new(&[b'?', 0xff]).matches(&[0xfe, 0xff]), "names are bytes");
}

#[test]
fn what_a_run_stands_for_is_told() {
    let captured = |pattern: &str, name: &str| {
        let mut places = Vec::new();
        let matches = Glob::new(pattern.as_bytes()).captures(name.as_bytes(), &mut places);
        matches
            .then(|| places.iter().map(|(from, to)| name.get(*from..*to).unwrap_or("?").to_owned()).collect::<Vec<_>>())
    };
    let some = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    assert_eq!(captured("user:*:cart", "user:7:cart"), some(&["7"]));
    assert_eq!(captured("user:*", "user:7:cart"), some(&["7:cart"]));
    assert_eq!(captured("*:*:x*", "a:b:x"), some(&["a", "b", ""]));
    assert_eq!(captured("a*b*c", "abbcbc"), some(&["", "bcb"]));
    assert_eq!(captured("user:*:cart", "user:7"), None);
}

#[test]
fn a_hostile_pattern_takes_no_time_of_its_own() {
    let pattern = "a*".repeat(2_000) + "b";
    assert!(!matches(&pattern, &"a".repeat(20_000)));
}

#[test]
fn a_day_is_one_that_exists() {
    for right in ["2027-01-31", "2028-02-29", "2000-02-29", "0001-01-01", "9999-12-31"] {
        assert_eq!(Date::parse(right).map(|date| date.to_string()).as_deref(), Some(right));
    }
    let wrong = [
        "",
        "2027-1-31",
        "2027-02-29",
        "1900-02-29",
        "2027-04-31",
        "2027-13-01",
        "2027-00-10",
        "2027-01-00",
        "0000-01-01",
        "31.01.2027",
        "2027/01/31",
        "2027-01-31 ",
        "+027-01-31",
        "2027-01-3é",
    ];
    for wrong in wrong {
        assert_eq!(Date::parse(wrong), None, "{wrong}");
    }
    assert!(Date::parse("2027-01-31") < Date::parse("2027-02-01"));
    assert_eq!(Date::of_time("2026-11-26T01:44:01Z"), Date::parse("2026-11-26"));
}

#[test]
fn a_secret_is_known_again_in_an_address_however_that_is_written() {
    let secret = Secret::new("p/W+=AB");
    let forms = secret.forms(4);
    for form in ["p/W+=AB", "p%2FW%2B%3DAB", "p%2fW%2b%3dAB"] {
        assert!(forms.iter().any(|known| known == form), "{form} is none of {forms:?}");
    }
    assert!(Secret::new("abc").forms(4).is_empty(), "so few signs stand anywhere by chance");
}
