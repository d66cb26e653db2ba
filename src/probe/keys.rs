//! Keys by rule: how many there are, how many expire, and which are not what the rule says. Reads a snapshot in one
//! pass; no value is looked at, and of names only prefixes are kept.

use crate::model::behaviour::KeyRule;
use crate::probe::{Broken, Counted, RuleCount};
use crate::rdb::{Entry, Frames, RdbError, Record};
use std::collections::BTreeMap;
use std::io::Read;

/// Prefixes that are kept for each way to break a rule.
const EXAMPLES: usize = 5;
/// Prefixes of keys without a rule that are counted while reading.
const PREFIXES: usize = 1_000;
/// Bytes of a name within which its prefix ends.
const LONGEST_PREFIX: usize = 40;
/// Clocks of two machines, and the time that a snapshot takes: a lifetime may look so much longer than it is.
const CLOCKS_MS: i64 = 60_000;

/// Reads a snapshot to its end. `now_ms` is when it was taken; what had expired by then is not there any more.
///
/// # Errors
/// What is wrong with the snapshot.
pub fn count(source: impl Read, rules: &[&KeyRule], now_ms: i64) -> Result<Counted, RdbError> {
    let mut frames = Frames::new(source);
    let mut counts: Vec<(&KeyRule, RuleCount)> = rules.iter().map(|rule| (*rule, RuleCount::default())).collect();
    let mut unruled = 0;
    let mut prefixes: BTreeMap<String, u64> = BTreeMap::new();
    let mut room = Vec::new();
    while let Some(batch) = frames.next_batch()? {
        for record in batch.records() {
            let Record::Key(entry) = record? else { continue };
            if entry.expires_at_ms.is_some_and(|at| at <= now_ms) {
                continue;
            }
            let name = entry.key(&mut room)?;
            match counts.iter_mut().find(|(rule, _)| rule.glob.matches(name)) {
                Some((rule, found)) => found.add(rule, &entry, name, now_ms),
                None => {
                    unruled += 1;
                    let prefix = prefix(name);
                    if prefixes.len() < PREFIXES || prefixes.contains_key(&prefix) {
                        *prefixes.entry(prefix).or_default() += 1;
                    }
                }
            }
        }
        frames.recycle(batch);
    }
    let mut most: Vec<(String, u64)> = prefixes.into_iter().collect();
    most.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    most.truncate(EXAMPLES);
    Ok(Counted {
        rules: counts.into_iter().map(|(rule, found)| (rule.pattern.clone(), found)).collect(),
        unruled,
        unruled_prefixes: most.into_iter().collect(),
        problem: None,
    })
}

impl RuleCount {
    fn add(&mut self, rule: &KeyRule, entry: &Entry<'_>, name: &[u8], now_ms: i64) {
        self.keys += 1;
        self.with_expiry += u64::from(entry.expires_at_ms.is_some());
        if rule.kind.as_ref().is_some_and(|kind| kind != entry.kind.name()) {
            self.wrong_type.add(name);
        }
        let Some(lifetime) = rule.lifetime else { return };
        match (entry.expires_at_ms, lifetime.most) {
            (None, _) => self.endless.add(name),
            (Some(at), Some(most)) => {
                // What is left of a life is all that a snapshot shows, so that one too short cannot be told from one
                // that is nearly over.
                let most = i64::try_from(most.milliseconds).unwrap_or(i64::MAX);
                if at.saturating_sub(now_ms) > most.saturating_add(CLOCKS_MS.min(most / 10 + 1_000)) {
                    self.too_long.add(name);
                }
            }
            (Some(_), None) => {}
        }
    }
}

impl Broken {
    fn add(&mut self, name: &[u8]) {
        self.keys += 1;
        if self.prefixes.len() < EXAMPLES {
            self.prefixes.insert(prefix(name));
        }
    }
}

/// The beginning of a name up to its last `:` or `/` within so many bytes; what follows may be anybody's.
pub fn prefix(name: &[u8]) -> String {
    let head = name.get(..LONGEST_PREFIX).unwrap_or(name);
    match head.iter().rposition(|byte| matches!(byte, b':' | b'/')) {
        Some(end) => head.get(..=end).unwrap_or_default().escape_ascii().to_string(),
        None => "(no prefix)".to_owned(),
    }
}
