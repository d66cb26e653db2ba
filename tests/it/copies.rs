//! Copies that exist for a while alone: nothing else can be taken for one, and one for nothing else.

use lockstep::engine::Names;
use lockstep::engine::names::{self, ephemeral as claimed};
use lockstep::model::ephemeral::{self, Mark, Until};
use lockstep::value::{Name, ResourceId};
use proptest::prelude::*;
use std::collections::HashMap;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|| panic!("`{text}` is a name"))
}

fn copy(until: Until) -> Names {
    let mark = Some(Mark { base: name("ci"), until, maker: "1 of this machine".to_owned() });
    Names { stack: name("shop"), environment: name("ci-7f3a21"), mark }
}

fn resources() -> [(ResourceId, &'static str); 4] {
    [
        (ResourceId::container("cache"), "redis"),
        (ResourceId::container("lock"), "lock"),
        (ResourceId::volume("cache.data"), "data"),
        (ResourceId::network("private"), "network"),
    ]
}

#[test]
fn what_a_copy_makes_is_known_again() {
    for until in [Until::Holder, Until::Time(1_795_000_000)] {
        let names = copy(until);
        for (id, role) in resources() {
            let labels = names.labels(&id, role);
            let (known, resource) = claimed(&name("shop"), &labels, &names.of(&id)).expect("it is ours");
            assert_eq!((known.environment, known.mark, resource), (names.environment.clone(), names.mark.clone(), id));
        }
    }
}

#[test]
fn what_lacks_one_of_the_things_that_have_to_agree_is_somebody_elses() {
    let names = copy(Until::Holder);
    for (id, role) in resources() {
        let own = names.of(&id);
        let labels = names.labels(&id, role);
        for missing in [names::STACK, names::ENVIRONMENT, names::RESOURCE, names::EPHEMERAL, names::UNTIL] {
            let mut labels = labels.clone();
            labels.remove(missing);
            assert!(claimed(&name("shop"), &labels, &own).is_none(), "without {missing}");
            labels.insert(missing.to_owned(), "production".to_owned());
            assert!(claimed(&name("shop"), &labels, &own).is_none(), "with another {missing}");
        }
        assert!(claimed(&name("shop"), &labels, &format!("{own}2")).is_none(), "under another name");
        assert!(claimed(&name("other"), &labels, &own).is_none(), "of another stack");
    }
}

/// Whatever its objects are marked with: an environment with a file of its own is never one that may be swept.
#[test]
fn an_environment_that_lasts_is_never_taken_for_a_copy() {
    for lasting in ["production", "staging", "ci", "eu-west", "ci-7f3a2", "ci-7f3a211", "ci-7F3A21", "7f3a21", "ci-"] {
        let Some(environment) = Name::parse(lasting) else { continue };
        assert_eq!(ephemeral::base(lasting), None, "{lasting}");
        let names = Names { environment, ..copy(Until::Holder) };
        for (id, role) in resources() {
            assert!(claimed(&name("shop"), &names.labels(&id, role), &names.of(&id)).is_none(), "{lasting}");
        }
    }
}

proptest! {
    #[test]
    fn a_copy_is_called_after_its_base_and_after_no_other(base in "[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,6})?", random in "[0-9a-f]{6}") {
        let base = name(&base);
        match ephemeral::name(&base, &random) {
            Some(copy) => prop_assert_eq!(ephemeral::base(copy.as_str()), Some(base)),
            None => prop_assert!(base.as_str().len() > 33),
        }
    }

    #[test]
    fn no_labels_at_all_make_anything_a_copy(values in proptest::collection::vec("[a-z0-9-]{0,12}", 5), object in "[a-z0-9.-]{0,30}") {
        let labels = [names::STACK, names::ENVIRONMENT, names::RESOURCE, names::EPHEMERAL, names::UNTIL];
        let labels: HashMap<String, String> = labels.iter().map(|label| (*label).to_owned()).zip(values).collect();
        if let Some((names, id)) = claimed(&name("shop"), &labels, &object) {
            prop_assert_eq!(names.of(&id), object);
            prop_assert!(ephemeral::base(names.environment.as_str()).is_some());
        }
    }
}
