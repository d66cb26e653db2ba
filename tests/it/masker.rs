//! The parts of masking: what a masker writes, what a share chooses, and how a canary is found.

use lockstep::mask::canary::{Canaries, Sample};
use lockstep::mask::keyed::Keyed;
use lockstep::model::refresh::{Masker, Share};

fn masked(keyed: &Keyed, masker: &Masker, text: &str) -> String {
    let mut into = Vec::new();
    keyed.mask(masker, text.as_bytes(), &mut into);
    String::from_utf8(into).expect("text")
}

#[test]
fn a_mask_keeps_its_form_and_depends_on_the_secret() {
    let (one, other) = (Keyed::new(b"one", b""), Keyed::new(b"other", b""));
    let phone = masked(&one, &Masker::Digits, "+49 (170) 123-456");
    assert_eq!(phone.len(), 17);
    assert!(phone.starts_with('+') && phone.contains(" (") && phone.contains(") "), "{phone}");
    assert_ne!(phone, masked(&other, &Masker::Digits, "+49 (170) 123-456"));
    assert_ne!(phone, masked(&Keyed::new(b"one", b"salt"), &Masker::Digits, "+49 (170) 123-456"));
    assert!(masked(&one, &Masker::Email, "ann@shop.test").ends_with("@example.com"));
    assert_ne!(masked(&one, &Masker::Digits, "7"), "7");
    assert_eq!(masked(&one, &Masker::Null, "7"), "");
    assert_eq!(masked(&one, &Masker::Token, ""), "", "nothing is nothing private");
}

#[test]
fn what_another_secret_has_masked_is_masked_again() {
    let (one, other) = (Keyed::new(b"one", b""), Keyed::new(b"other", b""));
    for masker in [Masker::Token, Masker::Email, Masker::Name] {
        let once = masked(&one, &masker, "ann");
        assert_eq!(masked(&one, &masker, &once), once);
        assert_ne!(masked(&other, &masker, &once), once);
    }
}

#[test]
fn a_share_holds_every_smaller_one() {
    let keyed = Keyed::new(b"one", b"");
    let chosen = |share| (0..10_000u32).filter(|n| keyed.chooses(Share(share), &n.to_le_bytes())).count();
    let (tenth, half) = (chosen(100_000), chosen(500_000));
    assert!((850..1150).contains(&tenth), "{tenth}");
    assert!((4700..5300).contains(&half), "{half}");
    let nested = (0..10_000u32).map(u32::to_le_bytes).filter(|n| keyed.chooses(Share(100_000), n));
    assert!(nested.into_iter().all(|n| keyed.chooses(Share(500_000), &n)));
    assert_eq!(chosen(1_000_000), 10_000);
}

#[test]
fn a_text_is_found_wherever_it_stands() {
    let mut sample = Sample::default();
    sample.offer(b"ann@shop.test", (3, 1));
    sample.offer(b"short", (3, 1));
    let canaries = Canaries::new(sample, &["sentinel".to_owned()]);
    assert_eq!(canaries.len(), 2, "what is short stands everywhere");
    assert_eq!(canaries.find(b"mailto:ann@shop.test?"), Some(Some((3, 1))));
    assert_eq!(canaries.find(b"sentinel"), Some(None));
    assert_eq!(canaries.find(b"ann@shop.tes"), None);
    assert_eq!(canaries.find(b""), None);
}

#[test]
fn a_text_that_comes_again_and_again_is_a_word() {
    let mut sample = Sample::default();
    (0..9).for_each(|_| sample.offer(b"Frankfurt am Main", (0, 0)));
    sample.offer(b"Ann of Frankfurt", (0, 0));
    assert_eq!(Canaries::new(sample, &[]).len(), 1);
}
