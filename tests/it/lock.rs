//! `stack.lock`: what it holds, and what it refuses to guess.

use lockstep::spec::lock::{self, Lock, LockedImage};
use proptest::collection::btree_map;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const ID: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn refused(text: &str) -> String {
    format!("{:#}", lock::parse(text).expect_err(text))
}

#[test]
fn what_the_lock_pins_is_what_the_engine_is_asked_for() {
    let text = format!(
        "lockstep: 1\nimages:\n  \"web:1.0\":\n    id: {ID}\n  \"redis:7.0\":\n    digest: redis@{ID}\n    server: redis 7.0.15\n"
    );
    let lock = lock::parse(&text).expect("a lock");
    assert_eq!(lock.images["web:1.0"].reference(), Some(ID));
    assert_eq!(lock.images["redis:7.0"].reference(), Some(format!("redis@{ID}").as_str()));
    assert_eq!(lock.images["redis:7.0"].server.as_deref(), Some("redis 7.0.15"));
}

#[test]
fn a_digest_is_asked_for_before_an_id() {
    let image = LockedImage { digest: Some(format!("web@{ID}")), id: Some("sha256:b".to_owned()), server: None };
    assert_eq!(image.reference(), Some(format!("web@{ID}").as_str()));
}

#[test]
fn an_unknown_key_is_refused() {
    assert!(refused("lockstep: 1\nimages: {}\nsigned: true\n").contains("signed"));
    assert!(
        refused(&format!("lockstep: 1\nimages: {{ \"web:1.0\": {{ id: \"{ID}\", arch: arm64 }} }}\n")).contains("arch")
    );
}

#[test]
fn a_newer_format_is_refused() {
    assert_eq!(refused("lockstep: 2\nimages: {}\n"), "stack.lock has format 2, and this binary reads format 1");
}

#[test]
fn what_is_no_sha256_is_refused() {
    let short = &ID[..70];
    let wide = format!("{}g", &ID[..70]);
    for pin in ["latest", "sha256:", short, &wide, &ID.to_uppercase(), &format!("{ID}0"), ""] {
        let text = format!("lockstep: 1\nimages:\n  \"web:1.0\":\n    id: \"{pin}\"\n");
        assert_eq!(refused(&text), "stack.lock pins `web:1.0` to something that is not a sha256", "{pin}");
    }
    let nothing = "lockstep: 1\nimages: { \"web:1.0\": { server: redis 7.0.15 } }\n";
    assert_eq!(refused(nothing), "stack.lock pins `web:1.0` to something that is not a sha256");
}

#[test]
fn a_lock_names_each_image_once() {
    let one = format!("  \"web:1.0\": {{ id: \"{ID}\" }}\n");
    refused(&format!("lockstep: 1\nimages:\n{one}{one}"));
}

#[test]
fn text_that_is_no_lock_is_refused() {
    for text in ["", "[]", "lockstep: one\nimages: {}", "lockstep: 1", "lockstep: 1\nimages: []", "\u{0}", "a: &a [*a]"]
    {
        assert!(refused(text).starts_with("stack.lock"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lock_that_is_printed_reads_as_itself(images in btree_map("[a-z0-9./:_-]{1,30}", image(), 0..5)) {
        let written = Lock { lockstep: 1, images };
        let text = lock::print(&written).expect("a lock is text");
        prop_assert!(text.starts_with("# "));
        prop_assert_eq!(lock::parse(&text).expect("what was printed reads"), written);
    }
}

fn image() -> impl Strategy<Value = LockedImage> {
    let server = option::of(prop_oneof![Just("redis 7.0.15".to_owned()), Just("valkey 8.1.1".to_owned())]);
    ("[0-9a-f]{64}", any::<bool>(), server).prop_map(|(hex, pulled, server)| LockedImage {
        digest: pulled.then(|| format!("name@sha256:{hex}")),
        id: (!pulled).then(|| format!("sha256:{hex}")),
        server,
    })
}
