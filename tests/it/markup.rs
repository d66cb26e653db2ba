//! What pages are made of: text that does nothing, and pictures of measures.

use lockstep::measure::{Measure, Sample, Unit, Verdict};
use lockstep::report::chart::bars;
use lockstep::report::escape::{brief, markup, uri};

#[test]
fn bars_have_one_scale_and_stay_in_the_picture() {
    let sample = |value: f64| Some(Sample { value, low: value / 2.0, high: value * 2.0 });
    let measure = |before, after| Measure {
        name: "p95(page)".to_owned(),
        unit: Unit::Milliseconds,
        before,
        after,
        verdict: Verdict::Same,
    };
    let svg = bars(&measure(sample(1.0), sample(4.0)), "label");
    assert!(svg.contains("width=\"120.2\"") && svg.contains("width=\"480.8\""), "{svg}");
    for odd in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let svg = bars(&measure(sample(odd), None), "label");
        assert!(!svg.contains("inf") && !svg.contains("\"-") && !svg.contains("NaN"), "{svg}");
    }
}

#[test]
fn text_is_shown_and_does_nothing() {
    assert_eq!(
        markup("<a href='x'>&\u{1b}[1m\u{202e}\n\""),
        "&lt;a href=&#39;x&#39;&gt;&amp;\u{fffd}[1m\u{fffd}&#10;&quot;"
    );
    assert_eq!(uri("environments/a b#é.yaml"), "environments/a%20b%23%C3%A9.yaml");
    let digest = "0123456789abcdef".repeat(4);
    assert_eq!(brief(&format!("is sha256:{digest} and sha256:12")), "is sha256:0123456789ab… and sha256:12");
}
