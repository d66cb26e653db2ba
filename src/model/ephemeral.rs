//! Environments that exist for a while alone: what they are called, what marks them, and what they are of their base.
//!
//! Three things have to agree before one is taken for such: its name, its mark, and that no file of the project is called so.

use crate::finding::Finding;
use crate::model::resolve::Inputs;
use crate::model::{Environment, Kind};
use crate::value::{Name, Span};

/// Bytes that are drawn for a name; twice as many digits stand behind its base.
pub const RANDOM: usize = 3;
/// The base where none is named.
pub const USUAL: &str = "ci";
/// How long one stays that nobody holds, where nothing else is said.
pub const USUAL_TTL: Span = Span { milliseconds: 3_600_000 };
/// The longest that one may be told to stay.
pub const LONGEST_TTL: Span = Span { milliseconds: 7 * 86_400_000 };

/// What its objects carry, beside the labels that all have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The environment that it is a copy of.
    pub base: Name,
    pub until: Until,
    /// The process that makes it, as others on its machine know it (`store::who::maker`); empty where that is not known.
    pub maker: String,
}

/// When nobody wants it any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Until {
    /// With whoever holds it, however that ends.
    Holder,
    /// From this moment on (seconds since 1970, by the engine's clock), unless somebody holds it.
    Time(i64),
}

impl Until {
    /// Whether it may go, where nobody holds it.
    pub fn is_over(self, now: i64) -> bool {
        match self {
            Until::Holder => true,
            Until::Time(end) => end <= now,
        }
    }
}

/// `ci-7f3a21` of `ci` and `7f3a21`; `None` where the base leaves no room for it.
pub fn name(base: &Name, random: &str) -> Option<Name> {
    Name::parse(&format!("{base}-{random}")).filter(|name| self::base(name.as_str()).as_ref() == Some(base))
}

/// The base in the name of an ephemeral environment.
pub fn base(name: &str) -> Option<Name> {
    let (base, random) = name.rsplit_once('-')?;
    let is_random = random.len() == RANDOM * 2 && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    Name::parse(base).filter(|_| is_random && Name::parse(name).is_some())
}

/// The environment that a copy of `base` is: the same stack with the same values and secrets, on ports that the engine
/// chooses, followed and protected by nobody.
pub fn of(base: &Environment, name: Name, mark: Option<Mark>) -> Environment {
    let mut copy = Environment { name, protected: false, follows: None, seed: None, mark, ..base.clone() };
    for service in copy.services.values_mut() {
        let Kind::App(app) = &mut service.kind else { continue };
        for port in &mut app.ports {
            port.value.host = 0;
            if port.uses.is_empty() {
                port.uses.push("a port that the engine chooses".to_owned());
            }
        }
    }
    copy
}

/// An environment with a file of its own must not be taken for the copy of another one, nor the other way round.
pub(super) fn name_of_a_copy(inputs: &Inputs<'_>, environment: &Environment, findings: &mut Vec<Finding>) {
    let name = &environment.name;
    if let Some(base) = base(name.as_str()).filter(|base| inputs.all.contains_key(base)) {
        let message = format!("`{name}` is called like an ephemeral environment of {base}");
        let help = format!("`lockstep run {base}` launches and removes what is called so; call it something else");
        findings.push(Finding::error("name", message).at(&environment.place).help(help));
    }
}
