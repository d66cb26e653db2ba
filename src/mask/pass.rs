//! Reads a snapshot and writes what another environment may have of it, in one go.
//!
//! What is kept is written as it is; what is masked is put together anew, element by element, from masked texts. Memory
//! is a batch, or the largest value and what is made of it.

use crate::mask::json;
use crate::mask::survey::{Dropped, Survey};
use crate::mask::{Decided, Places, Rule, Rules};
use crate::model::refresh::{Copy, Deed, Masker, Part, Path, Target as Aim, Ttl, Unmatched};
use crate::rdb::{Element, Entry, Form, Frames, Made, RdbError, Record, Room, Target, Type, WriteError, Writer};
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{Read, Write};

/// How it is written, and when.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub target: Target,
    /// Of what is kept as it is.
    pub form: Form,
    pub now_ms: i64,
    /// When the source was captured, where that is known better than the snapshot knows it.
    pub created_ms: Option<i64>,
}

/// Why a key cannot be refreshed.
#[derive(Debug)]
pub enum Problem {
    /// No rule says anything of it.
    Unmatched {
        key: Vec<u8>,
    },
    /// The rule is for another type, or masks parts that a value of this type does not have.
    Type {
        rule: String,
        key: Vec<u8>,
        found: &'static str,
    },
    /// A JSON text was expected.
    Json {
        rule: String,
        part: String,
        key: Vec<u8>,
        wrong: json::Wrong,
    },
    /// What modules keep outside of keys is of no key that a rule could name.
    ModuleRecord,
    Functions,
    Write(WriteError),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unmatched { key } => write!(f, "no rule says what becomes of `{}`", key.escape_ascii()),
            Problem::Type { rule, key, found } => {
                write!(f, "`{}` is a {found}, which the rule `{rule}` is not for", key.escape_ascii())
            }
            Problem::Json { rule, part, key, wrong } => {
                let (key, wrong) = (key.escape_ascii(), wrong.as_str());
                write!(f, "`{key}` {wrong}, which the rule `{rule}` masks at `{part}`")
            }
            Problem::ModuleRecord => f.write_str("the snapshot has records that modules keep outside of keys"),
            Problem::Functions => f.write_str("the snapshot has functions, and the server does not"),
            Problem::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Problem {}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Problem {
        Problem::Write(error)
    }
}

impl From<RdbError> for Problem {
    fn from(error: RdbError) -> Problem {
        Problem::Write(error.into())
    }
}

impl Problem {
    /// Whether it is not about the data: then nothing behind it is worth looking at.
    fn ends(&self) -> bool {
        matches!(self, Problem::Write(WriteError::Io(_) | WriteError::Value(_)))
    }
}

/// Writes what the rules make of a snapshot. With a survey, what is wrong with a key is noted in it and the rest is still
/// looked at; without one it is the end.
///
/// # Errors
/// What keeps it from its end.
pub fn run(
    rules: &Rules,
    way: Way,
    source: impl Read,
    out: impl Write,
    mut survey: Option<&mut Survey>,
) -> anyhow::Result<()> {
    let mut frames = Frames::new(source);
    let mut writer = Writer::begin(out, way.target)?;
    let mut work = Work::default();
    while let Some(batch) = frames.next_batch()? {
        let summary = frames.summary();
        let created = summary.created_unix.map_or(way.now_ms, |seconds| seconds.saturating_mul(1000));
        let mut pass = Pass { rules, way, created_ms: way.created_ms.unwrap_or(created), work: &mut work };
        for record in batch.records() {
            let record = record?;
            let done = match record {
                Record::Key(entry) => pass.key(&entry, &mut writer, &mut survey),
                // A hint, and wrong as soon as a key is left out.
                Record::Announced { .. } => Ok(()),
                Record::Function(_) if way.target.version < 10 => Err(Problem::Functions),
                Record::Function(written) => {
                    if let Some(survey) = survey.as_deref_mut() {
                        survey.function(written);
                    }
                    writer.function(written).map_err(|error| Problem::Write(error.into()))
                }
                Record::ModuleAux(_) if rules.unmatched == Unmatched::Drop => {
                    if let Some(survey) = survey.as_deref_mut() {
                        survey.module_records += 1;
                    }
                    Ok(())
                }
                Record::ModuleAux(_) => Err(Problem::ModuleRecord),
            };
            match (done, survey.as_deref_mut()) {
                (Ok(()), _) => {}
                (Err(problem), Some(survey)) if !problem.ends() => {
                    if let Record::Key(entry) = &record {
                        survey.refused(entry, &mut pass.work.room)?;
                    }
                    survey.problem(problem);
                }
                (Err(problem), _) => return Err(problem.into()),
            }
        }
        frames.recycle(batch);
    }
    writer.finish()?;
    Ok(())
}

/// Memory that is used again and again.
#[derive(Default)]
struct Work {
    room: Room,
    other: Room,
    name: Vec<u8>,
    places: Places,
    texts: Texts,
}

#[derive(Default)]
struct Texts {
    whole: Vec<u8>,
    masked: Vec<u8>,
    seen: HashSet<u128>,
    states: (RandomState, RandomState),
}

struct Pass<'p> {
    rules: &'p Rules,
    way: Way,
    created_ms: i64,
    work: &'p mut Work,
}

impl Pass<'_> {
    fn key(
        &mut self,
        entry: &Entry<'_>,
        writer: &mut Writer<impl Write>,
        survey: &mut Option<&mut Survey>,
    ) -> Result<(), Problem> {
        let Work { room, other, name, places, texts } = &mut *self.work;
        let key = entry.key(name)?;
        let (rule, deed) = match self.rules.decide(key) {
            Decided::Rule(number) => match self.rules.rules.get(number) {
                Some(rule @ Rule { deed: Some(deed), .. }) => ((number, rule), deed),
                _ => return Err(Problem::Unmatched { key: key.to_vec() }),
            },
            Decided::Queue => return dropped(survey, entry, None, Dropped::Queue, room),
            Decided::Nobody if self.rules.unmatched == Unmatched::Drop => {
                return dropped(survey, entry, None, Dropped::Unmatched, room);
            }
            Decided::Nobody => {
                if let Some(survey) = survey.as_deref_mut()
                    && survey.is_empty(entry, room)?
                {
                    return Ok(());
                }
                return Err(Problem::Unmatched { key: key.to_vec() });
            }
        };
        let (number, rule) = rule;
        let copy = match deed {
            Deed::Drop => return dropped(survey, entry, Some(number), Dropped::Rule, room),
            Deed::Copy(copy) => copy,
        };
        if rule.kind.as_deref().is_some_and(|kind| kind != entry.kind.name()) {
            return Err(clash(rule, key, entry));
        }
        if !self.rules.chooses(rule, copy, key, places) {
            return dropped(survey, entry, Some(number), Dropped::Sampled, room);
        }
        let expiry = copy.ttl.of_key(entry.expires_at_ms, self.created_ms, self.way.now_ms);
        if expiry.is_some_and(|at| at <= self.way.now_ms) {
            return dropped(survey, entry, Some(number), Dropped::Expired, room);
        }
        let masks = copy.parts.iter().any(|part| part.masker != Masker::Keep);
        let moves_fields = copy.ttl.moves_fields() && entry.expires_fields();
        if !masks && !moves_fields {
            let written = writer.key(entry, expiry, self.way.form, room)?;
            if let Some(survey) = survey.as_deref_mut().filter(|_| written) {
                survey.kept(entry, expiry, |at| at, number, room)?;
            }
            return Ok(());
        }
        if masks && !fits(entry.kind, &copy.parts) {
            return Err(clash(rule, key, entry));
        }
        let (ttl, created_ms, now_ms) = (copy.ttl, self.created_ms, self.way.now_ms);
        let field_expiry = move |at| Ttl::of_field(ttl, at, created_ms, now_ms);
        if let Some(survey) = survey.as_deref_mut().filter(|_| !masks) {
            survey.kept(entry, expiry, field_expiry, number, room)?;
        }
        let mut changed = *entry;
        changed.expires_at_ms = expiry;
        let masking = Masking { rules: self.rules, rule, copy, key, entry: &changed };
        match survey.as_deref_mut().filter(|_| masks) {
            None => {
                let mut made = |made: &mut Made<'_>, room: &mut Room| {
                    masking.value(made, &mut |_| (), &field_expiry, &mut |_, _, _, _| (), texts, room)
                };
                writer.made(&changed, expiry, field_expiry, room, |into, room| made(into, room))?;
            }
            Some(survey) => {
                let (hasher, mut noted) = survey.masking();
                hasher.add_made(&changed, |show| {
                    writer
                        .made(&changed, expiry, field_expiry, room, |made, room| {
                            let mut note = |part: usize, source: &[u8], masked: &[u8], changed: bool| {
                                noted.text((number, part), source, masked, changed);
                            };
                            masking.value(made, show, &field_expiry, &mut note, texts, room)
                        })
                        .map(drop)
                })?;
                survey.masked(entry, expiry, number, other)?;
            }
        }
        Ok(())
    }
}

fn clash(rule: &Rule, key: &[u8], entry: &Entry<'_>) -> Problem {
    Problem::Type { rule: rule.pattern.clone(), key: key.to_vec(), found: entry.kind.name() }
}

fn dropped(
    survey: &mut Option<&mut Survey>,
    entry: &Entry<'_>,
    rule: Option<usize>,
    why: Dropped,
    room: &mut Room,
) -> Result<(), Problem> {
    match survey {
        Some(survey) => Ok(survey.dropped(entry, rule, why, room)?),
        None => Ok(()),
    }
}

/// Whether a value of this type has all the parts that are masked.
fn fits(kind: Type, parts: &[Part]) -> bool {
    let has_fields = match kind {
        Type::Hash | Type::Stream => true,
        Type::String | Type::List | Type::Set | Type::Zset => false,
        // What is in them cannot be put together anew.
        Type::Module | Type::Array => return false,
    };
    parts.iter().all(|part| match &part.target {
        Aim::Rest => true,
        Aim::Field(_) | Aim::Json { field: Some(_), .. } => has_fields,
        Aim::Json { field: None, .. } => !has_fields,
    })
}

/// The value of one key on its way.
struct Masking<'m> {
    rules: &'m Rules,
    rule: &'m Rule,
    copy: &'m Copy,
    key: &'m [u8],
    entry: &'m Entry<'m>,
}

/// The number of the part, what was there, what is there now, and whether that is something else.
type Note<'n> = &'n mut dyn FnMut(usize, &[u8], &[u8], bool);

impl Masking<'_> {
    fn value(
        &self,
        made: &mut Made<'_>,
        show: &mut dyn FnMut(Element<'_>),
        field_expiry: &impl Fn(Option<i64>) -> Option<i64>,
        note: Note<'_>,
        texts: &mut Texts,
        room: &mut Room,
    ) -> Result<(), Problem> {
        let Texts { whole, masked, seen, states } = texts;
        whole.clear();
        seen.clear();
        let mut problem = None;
        let mut is_new = |text: &[u8]| {
            let hash = |state: &RandomState| u128::from(state.hash_one(text));
            seen.insert(hash(&states.0) << 64 | hash(&states.1))
        };
        self.entry.read(room, |element| {
            if problem.is_some() {
                return;
            }
            let mut text = |field: Option<&[u8]>, text: &[u8], masked: &mut Vec<u8>| {
                masked.clear();
                if let Err(wrong) = self.text(field, text, masked, note) {
                    problem = Some(wrong);
                }
            };
            match element {
                // In pieces where it is long.
                Element::Text(piece) => whole.extend_from_slice(piece),
                Element::Item(item) => {
                    text(None, item, masked);
                    show(Element::Item(masked));
                    made.text(masked);
                }
                Element::Member(member) => {
                    text(None, member, masked);
                    if is_new(masked) {
                        show(Element::Member(masked));
                        made.text(masked);
                    }
                }
                Element::Scored(member, score) => {
                    text(None, member, masked);
                    if is_new(masked) {
                        show(Element::Scored(masked, score));
                        made.scored(masked, score);
                    }
                }
                Element::Field { name, value, expires_at_ms } => {
                    text(Some(name), value, masked);
                    let expires_at_ms = field_expiry(expires_at_ms);
                    show(Element::Field { name, value: masked, expires_at_ms });
                    made.field(name, masked, expires_at_ms);
                }
                Element::StreamEntry(id) => {
                    show(element);
                    made.stream_entry(id);
                }
                Element::StreamField(name, value) => {
                    text(Some(name), value, masked);
                    show(Element::StreamField(name, masked));
                    made.stream_field(name, masked);
                }
                other => show(other),
            }
        })?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        if self.entry.kind == Type::String {
            masked.clear();
            self.text(None, whole, masked, note)?;
            show(Element::Text(masked));
            made.text(masked);
            // The largest value is not kept for the next one.
            whole.shrink_to(1 << 20);
            masked.shrink_to(1 << 20);
        }
        Ok(())
    }

    /// Writes what a text becomes into `masked`.
    fn text(&self, field: Option<&[u8]>, text: &[u8], masked: &mut Vec<u8>, note: Note<'_>) -> Result<(), Problem> {
        let mut rest = None;
        let mut paths: Vec<(usize, &Path, &Masker)> = Vec::new();
        let named = |glob: &crate::value::Glob| field.is_some_and(|field| glob.matches(field));
        for (number, part) in self.copy.parts.iter().enumerate() {
            match &part.target {
                Aim::Field(glob) if paths.is_empty() && named(glob) => {
                    self.whole(number, part, text, masked, note);
                    return Ok(());
                }
                Aim::Rest => rest = rest.or(Some((number, part))),
                Aim::Json { field: None, path } if field.is_none() => paths.push((number, path, &part.masker)),
                Aim::Json { field: Some(glob), path } if named(glob) => paths.push((number, path, &part.masker)),
                Aim::Field(_) | Aim::Json { .. } => {}
            }
        }
        let Some((first, ..)) = paths.first() else {
            match rest {
                Some((number, part)) => self.whole(number, part, text, masked, note),
                None => masked.extend_from_slice(text),
            }
            return Ok(());
        };
        // Nothing is nothing private.
        if text.is_empty() {
            return Ok(());
        }
        let mut leaf = |(number, source, masked, changed): json::Leaf<'_>| note(number, source, masked, changed);
        json::mask(text, &paths, &self.rules.keyed, masked, &mut leaf).map_err(|wrong| {
            let part = self.copy.parts.get(*first).map(|part| part.text.clone()).unwrap_or_default();
            Problem::Json { rule: self.rule.pattern.clone(), part, key: self.key.to_vec(), wrong }
        })
    }

    fn whole(&self, number: usize, part: &Part, text: &[u8], masked: &mut Vec<u8>, note: Note<'_>) {
        let changed = self.rules.keyed.mask(&part.masker, text, masked);
        note(number, text, masked, changed);
    }
}
