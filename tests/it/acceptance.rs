//! What is accepted is set apart, for as long as it is.

use lockstep::acceptance::{Acceptance, apply};
use lockstep::finding::Finding;
use lockstep::value::{Date, Located, Place};

fn acceptance(what: &str, until: &str) -> Acceptance {
    let what = Located::new(what.to_owned(), Place::file("stack.yaml"));
    Acceptance { what, why: "known".to_owned(), until: Date::parse(until).expect("a day") }
}

/// What stays open and what is accepted, by its subject, on 2026-11-26.
fn on(acceptances: &[Acceptance], findings: &[Finding]) -> (Vec<String>, Vec<String>) {
    let today = Date::parse("2026-11-26").expect("a day");
    let mut open = findings.to_vec();
    let accepted = apply(acceptances, &mut open, today);
    let named = |finding: &Finding| format!("{} {}", finding.rule, finding.subject.as_deref().unwrap_or_default());
    (open.iter().map(named).collect(), accepted.iter().map(|accepted| named(&accepted.finding)).collect())
}

#[test]
fn what_is_accepted_is_set_apart_for_as_long_as_it_is() {
    let drift = Finding::error("drift", "it moved").about("container/cache settings.timeout");
    let subject = "drift container/cache settings.timeout".to_owned();
    for what in ["container/cache settings.timeout", "container/*timeout", "drift", "*settings*"] {
        let found = on(&[acceptance(what, "2026-11-26")], std::slice::from_ref(&drift));
        assert_eq!(found, (vec![], vec![subject.clone()]), "{what} on its last day");
    }
    for what in ["container/cache settings.timeou?", "container/cache", "settings", "parity", "drif[t]"] {
        let (open, accepted) = on(&[acceptance(what, "2027-01-31")], std::slice::from_ref(&drift));
        assert_eq!((open, accepted.len()), (vec![subject.clone(), format!("acceptance {what}")], 0), "{what}");
    }
    let expired = on(&[acceptance("drift", "2026-11-25")], std::slice::from_ref(&drift));
    assert_eq!(expired, (vec![subject.clone(), "acceptance drift".to_owned()], vec![]));
    let renewed = on(&[acceptance("drift", "2026-11-25"), acceptance("dr*", "2027-01-01")], &[drift]);
    assert_eq!(renewed, (vec!["acceptance drift".to_owned()], vec![subject]), "the later one holds");
}

#[test]
fn what_nobody_could_read_is_accepted_by_nobody() {
    let unknown = Finding::error("unknown", "no answer").about("container/cache");
    let (open, accepted) =
        on(&[acceptance("container/*", "2027-01-31"), acceptance("unknown", "2027-01-31")], &[unknown]);
    assert_eq!(accepted.len(), 0);
    assert_eq!(open, ["unknown container/cache", "acceptance container/*", "acceptance unknown"]);
}
