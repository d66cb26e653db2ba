//! A survey to what a person and a script are told of it, and to reasons why nothing is refreshed.

use crate::finding::Finding;
use crate::mask::canary::{Found, Scanned, Where};
use crate::mask::pass::Problem;
use crate::mask::survey::{Counted, Equation, Surveyed};
use crate::mask::{Rule, Rules};
use crate::model::refresh::{Deed, Masker, Unmatched};
use crate::rdb::Type;
use crate::value::bytes::about;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Prefixes and problems that are named.
const NAMED: usize = 10;
/// What a key costs a server besides its value.
const PER_KEY: u64 = 96;

/// What a refresh came to, or would come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub format: u32,
    pub source: Size,
    pub result: Size,
    pub kept: u64,
    pub masked: u64,
    pub dropped: u64,
    pub functions: u64,
    pub rules: Vec<RuleReport>,
    /// What no rule of the spec decides.
    pub others: BTreeMap<&'static str, u64>,
    pub algebra: Vec<Equation>,
    /// Texts of the source that are looked for in what is made.
    pub canaries: usize,
    /// Bytes of memory that the server will use for it.
    pub memory: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    pub keys: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleReport {
    pub pattern: String,
    pub does: String,
    pub keys: u64,
    pub bytes: u64,
    pub kept: u64,
    pub masked: u64,
    pub dropped: BTreeMap<&'static str, u64>,
    /// Keys that are copied, by type.
    pub types: BTreeMap<&'static str, u64>,
    pub parts: Vec<PartReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartReport {
    pub part: String,
    pub mask: &'static str,
    pub masked: u64,
    pub unchanged: u64,
    /// What some of them became.
    pub examples: Vec<String>,
}

impl Report {
    pub fn of(rules: &Rules, surveyed: &Surveyed, canaries: usize) -> Report {
        let survey = &surveyed.survey;
        let lines = rules.rules.iter().zip(&survey.rules).filter(|(rule, _)| rule.deed.is_some());
        Report {
            format: 1,
            source: Size { keys: surveyed.keys(), bytes: surveyed.source.bytes },
            result: Size { keys: surveyed.keyspace.keys, bytes: surveyed.result.bytes },
            kept: surveyed.kept(),
            masked: surveyed.masked(),
            dropped: surveyed.dropped(),
            functions: survey.functions,
            rules: lines.map(|(rule, counted)| of_rule(rule, counted)).collect(),
            others: survey.others.dropped.iter().map(|(why, count)| (why.as_str(), *count)).collect(),
            algebra: surveyed.algebra(),
            canaries,
            memory: memory(surveyed),
        }
    }

    /// In lines for a person and for the note of the change.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for rule in &self.rules {
            let mut line = format!("`{}` ({}): {} keys", rule.pattern, rule.does, rule.keys);
            for (count, what) in [(rule.kept, "kept"), (rule.masked, "masked")] {
                if count > 0 {
                    let _ = write!(line, ", {count} {what}");
                }
            }
            for (why, count) in &rule.dropped {
                let _ = write!(line, ", {count} dropped ({why})");
            }
            lines.push(line);
            for part in &rule.parts {
                let mut line = format!("  {} → {}: {} texts", part.part, part.mask, part.masked);
                if part.unchanged > 0 {
                    let _ = write!(line, ", {} stay as they are", part.unchanged);
                }
                if !part.examples.is_empty() {
                    let _ = write!(line, ", such as {}", part.examples.join(", "));
                }
                lines.push(line);
            }
        }
        for (why, count) in &self.others {
            lines.push(format!("{why}: {count} keys dropped"));
        }
        for equation in &self.algebra {
            lines.push(format!("{}: {}", equation.says, if equation.holds { "proven" } else { "does NOT hold" }));
        }
        lines
    }
}

fn of_rule(rule: &Rule, counted: &Counted) -> RuleReport {
    let parts = match &rule.deed {
        Some(Deed::Copy(copy)) => copy.parts.as_slice(),
        _ => &[],
    };
    let parts = parts.iter().zip(&counted.parts).map(|(part, texts)| PartReport {
        part: part.text.clone(),
        mask: part.masker.as_str(),
        masked: texts.masked,
        unchanged: texts.unchanged,
        examples: texts.examples.clone(),
    });
    RuleReport {
        pattern: rule.pattern.clone(),
        does: rule.told(),
        keys: counted.keys,
        bytes: counted.bytes,
        kept: counted.kept,
        masked: counted.masked,
        dropped: counted.dropped.iter().map(|(why, count)| (why.as_str(), *count)).collect(),
        types: counted.types.clone(),
        parts: parts.collect(),
    }
}

/// What the source's server used for it, for the share of bytes that is left, or twice the bytes.
fn memory(surveyed: &Surveyed) -> u64 {
    let weight = |bytes: u64, keys: u64| u128::from(bytes.saturating_add(keys.saturating_mul(PER_KEY)));
    let all = weight(surveyed.source.bytes, surveyed.keys());
    let left = weight(surveyed.result.bytes, surveyed.keyspace.keys);
    match surveyed.source.used_memory {
        // What is masked is written plain here, and a server packs it again: never more than what it took.
        Some(used) if all > 0 => u64::try_from(u128::from(used) * left.min(all) / all).unwrap_or(u64::MAX),
        _ => surveyed.result.bytes.saturating_mul(2).saturating_add(surveyed.keyspace.keys * PER_KEY),
    }
}

/// Reasons why nothing is refreshed, and what else is worth a look.
pub fn findings(rules: &Rules, surveyed: &Surveyed) -> Vec<Finding> {
    let mut findings = Vec::new();
    let survey = &surveyed.survey;
    if survey.unmatched_keys > 0 {
        let mut prefixes: Vec<(&Vec<u8>, &u64)> = survey.unmatched.iter().collect();
        prefixes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = |(prefix, count): &(&Vec<u8>, &u64)| match prefix.ends_with(b":") {
            true => format!("`{}*` {count}", prefix.escape_ascii()),
            false => format!("`{}` {count}", prefix.escape_ascii()),
        };
        let shown: Vec<String> = prefixes.iter().take(NAMED).map(named).collect();
        let rest = if prefixes.len() > NAMED { ", and others" } else { "" };
        let what = format!("{} keys match no rule: {}{rest}", survey.unmatched_keys, shown.join(", "));
        findings.push(match rules.unmatched {
            Unmatched::Refuse => Finding::error("refresh-unmatched", what)
                .help("say under `keys:` what becomes of them (`refresh: keep`, `drop` or `mask`)"),
            Unmatched::Drop => Finding::warning("refresh-unmatched", format!("{what}; they are dropped")),
        });
    }
    let others: Vec<&Problem> =
        survey.problems.iter().filter(|problem| !matches!(problem, Problem::Unmatched { .. })).collect();
    for problem in others.iter().take(NAMED) {
        let (rule, help) = match problem {
            Problem::Unmatched { .. } => continue,
            Problem::Type { .. } => {
                ("refresh-type", "give keys of another type a rule of their own, ahead of this one")
            }
            Problem::Json { .. } => {
                ("refresh-json", "mask the whole text, or mask what the path leads to with `redact`")
            }
            Problem::ModuleRecord => ("refresh-module", "`unmatched: drop` leaves them out"),
            Problem::Functions => ("refresh-functions", "refresh a server of 7.0 or newer"),
            Problem::Write(_) => ("refresh-form", "refresh a server of the same version as the source"),
        };
        findings.push(Finding::error(rule, problem.to_string()).help(help));
    }
    if survey.problem_count > survey.unmatched_keys && others.len() > NAMED {
        let what = format!("and others: {} keys cannot be refreshed", survey.problem_count);
        findings.push(Finding::error("refresh-type", what));
    }
    if survey.module_records > 0 {
        let what = format!("{} records that modules keep outside of keys are dropped", survey.module_records);
        findings.push(Finding::warning("refresh-module", what));
    }
    for (rule, counted) in rules.rules.iter().zip(&survey.rules) {
        let Some(deed) = &rule.deed else { continue };
        let pattern = &rule.pattern;
        let copy = match deed {
            Deed::Copy(copy) => copy,
            Deed::Drop => continue,
        };
        if counted.keys == 0 {
            let what = format!("the rule `{pattern}` matches no key");
            findings.push(match copy.optional {
                true => Finding::note("refresh-nothing", what),
                false => Finding::error("refresh-nothing", what)
                    .help("mend the pattern, or write `optional: yes` where there may be none"),
            });
            continue;
        }
        // What is kept hides nothing by being written wrong.
        let hiding = copy.parts.iter().zip(&counted.parts).filter(|(part, _)| part.masker != Masker::Keep);
        for (part, texts) in hiding {
            if texts.masked + texts.unchanged == 0 && counted.masked > 0 && !copy.optional {
                let what =
                    format!("the rule `{pattern}` masks `{}`, which none of {} keys has", part.text, counted.masked);
                let help = "mend its name, or write `optional: yes` where there may be none";
                findings.push(Finding::error("refresh-part", what).help(help));
            }
        }
    }
    for (rule, counted) in rules.rules.iter().zip(&survey.rules) {
        let sets = counted.types.get(Type::Zset.name()).copied().unwrap_or(0);
        if sets > 0 && counted.masked > 0 {
            let what = format!(
                "the scores of {sets} sorted sets of `{}` stay as they are; a position of `GEOADD` is a score",
                rule.pattern
            );
            findings.push(Finding::warning("refresh-score", what).help("write `refresh: drop` where they are private"));
        }
    }
    for equation in surveyed.algebra().into_iter().filter(|equation| !equation.holds) {
        // A masking that broke off in the middle is in what was made of it, and refused already.
        if survey.problem_count == 0 {
            let what = format!("the digests do not add up: {}", equation.says);
            findings
                .push(Finding::error("refresh-proof", what).help("this is a defect of lockstep; nothing was loaded"));
        }
    }
    findings
}

/// Whether what the server will use is there.
pub fn room(report: &Report, maxmemory: u64, limit: Option<u64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let memory = report.memory;
    // Buffers, fragmentation and a fork's copies need a tenth at the very least.
    let most = limit.map(|limit| limit - limit / 11);
    let bounds = [(maxmemory, "maxmemory"), (most.unwrap_or(0), "what its container may use")];
    let bounds = bounds.into_iter().filter(|(bound, _)| *bound > 0 && memory > *bound);
    if let Some((bound, name)) = bounds.min_by_key(|(bound, _)| *bound) {
        // Tables and buffers do not shrink with the keys: a tenth is left for them.
        let share = u128::from(bound) * 90 / u128::from(memory.max(1));
        let what = format!("about {} will be used, and {name} is {}", about(memory), about(bound));
        let help = match share {
            0 => "raise it: not even a hundredth would fit".to_owned(),
            share => format!("raise it, or keep a share: with `keep: {share}%` of these keys it would fit"),
        };
        findings.push(Finding::error("refresh-room", what).help(help));
    }
    findings
}

/// What a scan has found that may not be there, or not found that has to be.
pub fn leaks(rules: &Rules, surveyed: &Surveyed, scanned: &Scanned) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Found { place, from } in &scanned.found {
        let help = match place {
            Where::Name => "names are never masked: drop these keys",
            Where::Value(_) | Where::Function => "mask it there as well, or drop these keys",
        };
        let place = match place {
            Where::Value(key) => format!("in the value of `{}`", key.escape_ascii()),
            Where::Name => "in the name of a key".to_owned(),
            Where::Function => "in the source of a function".to_owned(),
        };
        let part = from.and_then(|(rule, part)| {
            let rule = rules.rules.get(rule)?;
            let Some(Deed::Copy(copy)) = &rule.deed else { return None };
            Some((rule.pattern.as_str(), copy.parts.get(part)?.text.as_str()))
        });
        let what = match part {
            Some((rule, part)) => format!("a text that `{rule}` masks at `{part}` stands unmasked {place}"),
            None => format!("a text of `refresh.canaries` stands {place}"),
        };
        findings.push(Finding::error("refresh-leak", what).help(help));
    }
    if scanned.finds > scanned.found.len() as u64 {
        let what = format!("and others: {} keys hold a text that may not be there", scanned.finds);
        findings.push(Finding::error("refresh-leak", what));
    }
    if scanned.unruled > 0 {
        let what = format!("{} keys are there that no rule lets through", scanned.unruled);
        findings.push(Finding::error("refresh-leak", what));
    }
    for (number, (rule, counted)) in rules.rules.iter().zip(&surveyed.survey.rules).enumerate() {
        let there = scanned.rules.get(&number).cloned().unwrap_or_default();
        if there != counted.types {
            let told = |types: &BTreeMap<&'static str, u64>| match types.is_empty() {
                true => "none".to_owned(),
                false => types.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", "),
            };
            let what = format!("of `{}` there are {}, and not {}", rule.pattern, told(&there), told(&counted.types));
            findings.push(Finding::error("refresh-shape", what));
        }
    }
    findings
}
