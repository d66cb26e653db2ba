//! What a refresh makes of the keys that an application keeps, complete: rules, maskers, and where the data comes from.

use crate::finding::{Finding, nearest};
use crate::model::resolve::Resolver;
use crate::spec::refresh::{DeedSpec, MaskerSpec, PartSpec, RefreshRuleSpec, RefreshSpec};
use crate::value::{Glob, Located, Name, Place, Span};
use std::collections::BTreeSet;

/// A text that is looked for has to be this long: a shorter one is found everywhere.
pub const SHORTEST_CANARY: usize = 8;
const MOST_CANARIES: usize = 1000;
/// As deep as a JSON path may go.
const MOST_STEPS: usize = 32;

/// `refresh:`, complete.
#[derive(Clone, Debug)]
pub struct RefreshPlan {
    pub place: Place,
    /// The environment whose data the others may get.
    pub from: Name,
    /// Name of the secret that masks are made with.
    pub secret: Option<String>,
    pub unmatched: Unmatched,
    /// Whether every refresh makes the same of the same.
    pub stable: bool,
    /// Texts that may be nowhere in what is loaded.
    pub canaries: Vec<String>,
}

/// What becomes of keys of which no rule says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// Nothing is refreshed.
    Refuse,
    Drop,
}

/// What becomes of the keys of one rule.
#[derive(Clone, Debug)]
pub struct RefreshRule {
    pub place: Place,
    pub deed: Deed,
}

#[derive(Clone, Debug)]
pub enum Deed {
    Drop,
    Copy(Copy),
}

#[derive(Clone, Debug)]
pub struct Copy {
    pub share: Share,
    /// What keys belong to that stay together; the key itself where nothing is said.
    pub entity: Vec<Piece>,
    pub ttl: Ttl,
    /// Nothing is masked where there are none.
    pub parts: Vec<Part>,
    /// Whether it may match nothing.
    pub optional: bool,
}

/// Of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    pub const ALL: Share = Share(1_000_000);

    /// `10%`, `0.5%` or `all`.
    pub fn parse(text: &str) -> Option<Share> {
        if text == "all" {
            return Some(Share::ALL);
        }
        let percent = text.strip_suffix('%')?.trim().parse::<f64>().ok()?;
        // Bounded by the condition.
        (percent > 0.0 && percent <= 100.0).then(|| Share((percent * 10_000.0).round().max(1.0) as u32))
    }

    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

/// A piece of the name of what a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// What a `*` of the pattern stands for, counted from 0.
    Captured(usize),
}

/// What becomes of expiries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// They stay the moments that they are.
    Keep,
    /// Every key has the time left that it had when the source was captured.
    Shift,
    /// Nothing expires.
    Never,
    /// This long from now.
    Set(Span),
}

/// One part of a value, and what it is masked with.
#[derive(Clone, Debug)]
pub struct Part {
    pub place: Place,
    /// As it was written.
    pub text: String,
    pub target: Target,
    pub masker: Masker,
}

#[derive(Clone, Debug)]
pub enum Target {
    /// All that has no entry of its own: the whole string, every item and member, every other field.
    Rest,
    /// The field of a hash or of a stream's entries.
    Field(Glob),
    /// Leaves of a JSON text: the whole string, an item or a member, or the field.
    Json { field: Option<Glob>, path: Path },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Masker {
    /// Stays as it is, although other parts do not.
    Keep,
    Redact,
    /// Letters and digits become others, everything else stays.
    Digits,
    Email,
    Name,
    Token,
    Null,
    Constant(String),
}

impl Masker {
    const NAMED: [(&'static str, Masker); 7] = [
        ("keep", Masker::Keep),
        ("redact", Masker::Redact),
        ("digits", Masker::Digits),
        ("email", Masker::Email),
        ("name", Masker::Name),
        ("token", Masker::Token),
        ("null", Masker::Null),
    ];

    pub fn as_str(&self) -> &'static str {
        let known = Masker::NAMED.iter().find(|(_, masker)| masker == self);
        known.map_or("constant", |(name, _)| name)
    }

    /// Whether it takes the secret.
    pub fn is_keyed(&self) -> bool {
        matches!(self, Masker::Digits | Masker::Email | Masker::Name | Masker::Token)
    }
}

/// `$.user.emails[*]`, `$..email`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Name(String),
    /// Every name of an object, or every place of an array.
    Any,
    /// At any depth from here.
    Deep,
}

impl Path {
    /// Reads what follows a `$`.
    pub fn parse(text: &str) -> Option<Path> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if steps.len() >= MOST_STEPS {
                return None;
            }
            if let Some(behind) = rest.strip_prefix("[*]") {
                steps.push(Step::Any);
                rest = behind;
                continue;
            }
            rest = rest.strip_prefix('.')?;
            if let Some(behind) = rest.strip_prefix('.') {
                steps.push(Step::Deep);
                rest = behind;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, behind) = rest.split_at_checked(end)?;
            match name {
                "" => return None,
                "*" => steps.push(Step::Any),
                name => steps.push(Step::Name(name.to_owned())),
            }
            rest = behind;
        }
        Some(Path { steps })
    }
}

impl Resolver<'_, '_> {
    pub(super) fn refresh(&mut self, spec: &RefreshSpec, secrets: &BTreeSet<String>) -> Option<RefreshPlan> {
        let from = spec.from.as_ref().and_then(|from| self.text(from));
        let from = from.and_then(|from| match Name::parse(&from.value) {
            Some(name) if self.inputs.all.contains_key(&name) => Some(name),
            _ => {
                let message = format!("there is no environment `{}`", from.value);
                let near = nearest(&from.value, self.inputs.all.keys().map(Name::as_str));
                let mut finding = Finding::error("refresh", message).at(&from.place);
                finding.help = near.map(|near| format!("did you mean `{near}`?"));
                self.findings.push(finding);
                None
            }
        });
        let secret = spec.secret.as_ref().and_then(|secret| self.text(secret));
        let secret = secret.filter(|secret| self.secret_name(secret).is_some());
        if let Some(written) = secret.as_ref().filter(|secret| secrets.contains(&secret.value)) {
            let message = format!("`{}` is a secret of a service as well, which could undo the masks", written.value);
            let help = "name a secret that nothing but the refresh uses";
            self.findings.push(Finding::error("refresh", message).at(&written.place).help(help));
        }
        let unmatched = match &spec.unmatched {
            None => Some(Unmatched::Refuse),
            Some(text) => self
                .reading(text, "refresh", "what becomes of keys that no rule names", "write refuse or drop", |text| {
                    match text {
                        "refuse" => Some(Unmatched::Refuse),
                        "drop" => Some(Unmatched::Drop),
                        _ => None,
                    }
                })
                .map(|written| written.value),
        };
        let mut canaries = Vec::new();
        for text in &spec.canaries {
            let help = format!("from {SHORTEST_CANARY} bytes on it is not found everywhere");
            let long = |text: &str| (text.len() >= SHORTEST_CANARY).then(|| text.to_owned());
            canaries.extend(self.reading(text, "refresh", "long enough to look for", &help, long).map(|w| w.value));
        }
        if canaries.len() > MOST_CANARIES {
            let message = format!("{} canaries are more than {MOST_CANARIES}", canaries.len());
            self.findings.push(Finding::error("refresh", message).at(&spec.place));
        }
        let (place, stable) = (spec.place.clone(), spec.stable);
        let secret = secret.map(|secret| secret.value);
        let plan = RefreshPlan { place, from: from?, secret, unmatched: unmatched?, stable, canaries };
        spec.enabled.then_some(plan)
    }

    /// `entity` is of the key rule, and how many `*` its pattern has.
    pub(super) fn refresh_rule(
        &mut self,
        spec: &RefreshRuleSpec,
        kind: Option<&str>,
        pattern: &Glob,
        entity: Option<&Located<String>>,
    ) -> Option<RefreshRule> {
        let place = spec.place.clone();
        let entity = entity.map(|entity| self.entity(entity, pattern));
        let entity = match entity {
            None => Vec::new(),
            Some(entity) => entity?,
        };
        let deed = match &spec.deed {
            DeedSpec::Word(word) => {
                let what = "what becomes of keys at a refresh";
                let help = "write keep, drop, or { keep: 10%, mask: { email: email }, ttl: shift }";
                let copy = Copy { share: Share::ALL, entity, ttl: Ttl::Keep, parts: Vec::new(), optional: true };
                let read = self.reading(word, "refresh", what, help, |text| match text {
                    "keep" => Some(Deed::Copy(copy.clone())),
                    "drop" => Some(Deed::Drop),
                    _ => None,
                });
                read?.value
            }
            DeedSpec::Copy { keep, ttl, optional, mask } => {
                let share = match keep {
                    None => Some(Share::ALL),
                    Some(text) => {
                        let help = "write all, 10% or 0.5%";
                        self.reading(text, "refresh", "a share of keys", help, Share::parse).map(|w| w.value)
                    }
                };
                let ttl = match ttl {
                    None => Some(Ttl::Keep),
                    Some(text) => {
                        let help = "write keep, shift, never, or a time such as 1h";
                        self.reading(text, "refresh", "what becomes of expiries", help, |text| match text {
                            "keep" => Some(Ttl::Keep),
                            "shift" => Some(Ttl::Shift),
                            "never" => Some(Ttl::Never),
                            text => Span::parse(text).filter(|span| span.milliseconds > 0).map(Ttl::Set),
                        })
                        .map(|written| written.value)
                    }
                };
                let parts: Vec<Option<Part>> = mask.iter().map(|part| self.part(part, kind)).collect();
                let parts: Vec<Part> = parts.into_iter().collect::<Option<_>>()?;
                self.fit(&parts);
                let optional = *optional || parts.is_empty();
                Deed::Copy(Copy { share: share?, entity, ttl: ttl?, parts, optional })
            }
        };
        let keyed = match &deed {
            Deed::Drop => false,
            Deed::Copy(copy) => copy.share < Share::ALL || copy.parts.iter().any(|part| part.masker.is_keyed()),
        };
        let section = self.inputs.spec.refresh.as_ref();
        if keyed && section.is_some_and(|section| section.secret.is_none()) {
            let message = "a share, and most masks, are made with a secret, and `refresh:` names none";
            let help = "write `refresh: { secret: mask_key }`, and give each environment that secret";
            self.findings.push(Finding::error("refresh", message).at(&place).help(help));
        }
        Some(RefreshRule { place, deed })
    }

    fn entity(&mut self, text: &Located<String>, pattern: &Glob) -> Option<Vec<Piece>> {
        // Its braces are not those of a template, so it is taken as it was written.
        let runs = pattern.runs();
        let mut pieces = Vec::new();
        let mut rest = text.value.as_str();
        let read = loop {
            let Some((before, behind)) = rest.split_once('{') else {
                if !rest.is_empty() {
                    pieces.push(Piece::Text(rest.to_owned()));
                }
                break true;
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let Some((number, behind)) = behind.split_once('}') else { break false };
            match number.parse::<usize>() {
                Ok(number) if (1..=runs).contains(&number) => pieces.push(Piece::Captured(number - 1)),
                _ => break false,
            }
            rest = behind;
        };
        if read && pieces.iter().any(|piece| matches!(piece, Piece::Captured(_))) {
            return Some(pieces);
        }
        let message = format!("`{}` does not say what a key belongs to", text.value);
        let help = match runs {
            0 => "the pattern has no `*` that could say it".to_owned(),
            _ => format!("write \"{{1}}\" for what the first `*` stands for; the pattern has {runs}"),
        };
        self.findings.push(Finding::error("refresh", message).at(&text.place).help(help));
        None
    }

    fn part(&mut self, spec: &PartSpec, kind: Option<&str>) -> Option<Part> {
        let masker = match &spec.masker {
            MaskerSpec::Null => Some(Masker::Null),
            MaskerSpec::Constant(text) => self.text(text).map(|written| Masker::Constant(written.value)),
            MaskerSpec::Named(text) => {
                let written = self.text(text)?;
                let known = Masker::NAMED.iter().find(|(name, _)| *name == written.value);
                if known.is_none() {
                    let message = format!("`{}` is not a mask", written.value);
                    let names = Masker::NAMED.iter().map(|(name, _)| *name);
                    let help = match nearest(&written.value, names.clone()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            format!("masks are {}, or {{ constant: text }}", names.collect::<Vec<_>>().join(", "))
                        }
                    };
                    self.findings.push(Finding::error("mask", message).at(&written.place).help(help));
                }
                known.map(|(_, masker)| masker.clone())
            }
        };
        let written = &spec.target;
        let target = match written.value.split_once('$') {
            _ if written.value == "*" => Some(Target::Rest),
            Some((field, path)) => Path::parse(path).map(|path| {
                let field = (!field.is_empty()).then(|| Glob::new(field.as_bytes()));
                Target::Json { field, path }
            }),
            None => Some(Target::Field(Glob::new(written.value.as_bytes()))),
        };
        let Some(target) = target else {
            let message = format!("`{}` is not a path into a JSON text", written.value);
            let help = "write $.user.email, $.emails[*], $..email, or field$.email";
            self.findings.push(Finding::error("mask", message).at(&written.place).help(help));
            return None;
        };
        let has_fields = matches!(&target, Target::Field(_) | Target::Json { field: Some(_), .. });
        let only_fields = matches!(kind, Some("hash" | "stream"));
        let clash = match &target {
            Target::Rest => false,
            _ if has_fields => kind.is_some_and(|_| !only_fields),
            _ => only_fields,
        };
        if let Some(kind) = kind.filter(|_| clash) {
            let message = format!("a {kind} has no `{}`", written.value);
            let help = match has_fields {
                true => "write `mask: token` for the whole of it, or $.path for a JSON text",
                false => "write field$.path for a field that holds a JSON text",
            };
            self.findings.push(Finding::error("mask", message).at(&written.place).help(help));
        }
        Some(Part { place: written.place.clone(), text: written.value.clone(), target, masker: masker? })
    }

    /// Finds parts that could never be reached, or that say two things at once.
    fn fit(&mut self, parts: &[Part]) {
        let whole = |part: &&Part| matches!(part.target, Target::Json { field: None, .. });
        let rest = parts.iter().find(|part| matches!(part.target, Target::Rest));
        if let (Some(rest), Some(_)) = (rest, parts.iter().find(whole)) {
            let message = "`*` says what becomes of the whole text, and a path of a part of it";
            let help = "write $..* for all leaves of a JSON text, or one rule for texts and another for JSON";
            self.findings.push(Finding::error("mask", message).at(&rest.place).help(help));
        }
        if !parts.is_empty()
            && parts.iter().all(|part| part.masker == Masker::Keep)
            && let Some(first) = parts.first()
        {
            let message = "`mask` keeps everything";
            let help = "write `refresh: keep` if that is meant";
            self.findings.push(Finding::error("mask", message).at(&first.place).help(help));
        }
    }
}
