//! A dataset to what another environment may have of it: keys chosen by rule, private values masked, all of it counted.
//!
//! [`Rules`] say what becomes of a key, [`keyed`] masks a text, [`pass`] reads a snapshot and writes the other one in one
//! go and in bounded memory, [`survey`] does the same for the counts and proves by digests that source = kept + dropped +
//! masked, and [`canary`] finds source texts where none may be. Whatever cannot be decided is an error: nothing is copied
//! because nobody said anything of it. Names of keys are never masked; deliberately absent: files, servers and clocks.

pub mod canary;
pub mod json;
pub mod keyed;
pub mod pass;
pub mod report;
pub mod sample;
pub mod survey;

use crate::model::behaviour::KeyRule;
use crate::model::refresh::{Copy, Deed, Masker, Piece, RefreshPlan, Share, Ttl, Unmatched};
use crate::value::{Glob, Name};
use keyed::Keyed;

/// Names of keys that make something happen rather than keep something: queues of jobs, whose copies would be carried out
/// once more, and locks, which would be held by nobody. They are dropped unless a rule of the spec says otherwise.
pub const QUEUES: [&str; 24] = [
    // Bull and BullMQ, Bee-Queue, Kue.
    "bull:*",
    "bullmq:*",
    "bq:*",
    "q:*",
    // Sidekiq and Resque.
    "queue:*",
    "queues",
    "schedule",
    "retry",
    "dead",
    "resque:*",
    "sidekiq:*",
    // Celery and RQ.
    "celery",
    "celery-task-meta-*",
    "_kombu.*",
    "unacked*",
    "rq:*",
    // Laravel.
    "*queues:*",
    "*horizon:*",
    // Locks.
    "lock:*",
    "locks:*",
    "*:lock",
    "*:lock:*",
    "redlock:*",
    "mutex:*",
];

/// What becomes of the keys of one Redis.
#[derive(Clone, Debug)]
pub struct Rules {
    pub rules: Vec<Rule>,
    queues: Vec<Glob>,
    pub unmatched: Unmatched,
    pub keyed: Keyed,
    /// Texts that may be nowhere in what is made.
    pub canaries: Vec<String>,
}

/// One entry of `keys:`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub pattern: String,
    glob: Glob,
    /// As `TYPE` answers.
    pub kind: Option<String>,
    /// Absent where the entry says nothing of a refresh.
    pub deed: Option<Deed>,
}

/// Which rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    Rule(usize),
    /// A queue or a lock by its name.
    Queue,
    Nobody,
}

impl Rules {
    /// The rules for the keys of a service. Without a secret there are none, so a caller without needs for it draws one.
    pub fn of(plan: &RefreshPlan, keys: &[KeyRule], service: &Name, secret: &[u8], salt: &[u8]) -> Rules {
        let rules = keys.iter().filter(|rule| rule.on == *service).map(|rule| Rule {
            pattern: rule.pattern.clone(),
            glob: rule.glob.clone(),
            kind: rule.kind.clone(),
            deed: rule.refresh.as_ref().map(|refresh| refresh.deed.clone()),
        });
        Rules {
            rules: rules.collect(),
            queues: QUEUES.iter().map(|pattern| Glob::new(pattern.as_bytes())).collect(),
            unmatched: plan.unmatched,
            keyed: Keyed::new(secret, salt),
            canaries: plan.canaries.clone(),
        }
    }

    /// A name for what these rules make of a source and for a server that are told so; `None` where it is something else at
    /// another moment.
    pub fn name(&self, source: &str, server: &str) -> Option<String> {
        let moves =
            |rule: &Rule| matches!(&rule.deed, Some(Deed::Copy(copy)) if !matches!(copy.ttl, Ttl::Keep | Ttl::Never));
        let Rules { rules, unmatched, canaries, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        let told = || format!("{version} {source} {server} {rules:?} {unmatched:?} {canaries:?}");
        (!rules.iter().any(moves)).then(|| self.keyed.label(&told()))
    }

    /// Whether any rule says anything of a refresh.
    pub fn say_anything(&self) -> bool {
        self.rules.iter().any(|rule| rule.deed.is_some())
    }

    /// Who decides about a key: the first rule that matches it, if it says anything of a refresh.
    pub fn decide(&self, key: &[u8]) -> Decided {
        let first = self.rules.iter().position(|rule| rule.glob.matches(key));
        match first {
            Some(number) if self.rules.get(number).is_some_and(|rule| rule.deed.is_some()) => Decided::Rule(number),
            _ if self.queues.iter().any(|queue| queue.matches(key)) => Decided::Queue,
            _ => Decided::Nobody,
        }
    }

    /// Whether a key is in the share of its rule.
    fn chooses(&self, rule: &Rule, copy: &Copy, key: &[u8], room: &mut Places) -> bool {
        if copy.share >= Share::ALL {
            return true;
        }
        if copy.entity.is_empty() {
            return self.keyed.chooses(copy.share, key);
        }
        let Places { places, name } = room;
        rule.glob.captures(key, places);
        name.clear();
        for piece in &copy.entity {
            match piece {
                Piece::Text(text) => name.extend_from_slice(text.as_bytes()),
                Piece::Captured(number) => {
                    let place = places.get(*number).and_then(|(from, to)| key.get(*from..*to));
                    name.extend_from_slice(place.unwrap_or_default());
                }
            }
        }
        self.keyed.chooses(copy.share, name)
    }
}

/// Memory that is used again and again.
#[derive(Debug, Default)]
struct Places {
    places: Vec<(usize, usize)>,
    name: Vec<u8>,
}

impl Ttl {
    /// The expiry of a key, in milliseconds since 1970.
    pub fn of_key(self, expires_at_ms: Option<i64>, created_ms: i64, now_ms: i64) -> Option<i64> {
        match self {
            Ttl::Set(span) => Some(now_ms.saturating_add_unsigned(span.milliseconds)),
            other => other.of_field(expires_at_ms, created_ms, now_ms),
        }
    }

    /// The expiry of a field, which is not set where it has none.
    pub fn of_field(self, expires_at_ms: Option<i64>, created_ms: i64, now_ms: i64) -> Option<i64> {
        match self {
            Ttl::Keep | Ttl::Set(_) => expires_at_ms,
            // A source from the future, which is one of two clocks being wrong, moves nothing.
            Ttl::Shift => expires_at_ms.map(|at| at.saturating_add(now_ms.saturating_sub(created_ms).max(0))),
            Ttl::Never => None,
        }
    }

    fn moves_fields(self) -> bool {
        matches!(self, Ttl::Shift | Ttl::Never)
    }
}

impl Rule {
    /// In the words of the spec.
    pub fn told(&self) -> String {
        let Some(deed) = &self.deed else { return "nothing said".to_owned() };
        let copy = match deed {
            Deed::Drop => return "drop".to_owned(),
            Deed::Copy(copy) => copy,
        };
        let mut words = match copy.share.percent() {
            100.0 => "keep".to_owned(),
            percent => format!("keep {percent}%"),
        };
        if copy.parts.iter().any(|part| part.masker != Masker::Keep) {
            words.push_str(", mask");
        }
        match copy.ttl {
            Ttl::Keep => {}
            Ttl::Shift => words.push_str(", expiry shifted"),
            Ttl::Never => words.push_str(", without expiry"),
            Ttl::Set(span) => words.push_str(&format!(", expiry {span}")),
        }
        words
    }
}
