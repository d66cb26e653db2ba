//! The shape of a Redis' keys from a snapshot, or from the beginning of one.
//!
//! A server writes its keys in the order of a hash with a secret of its own, so those that come first are a sample in which
//! every key is as likely as any other. Where there are several databases, which come one after the other, all is read.

use crate::model::behaviour::KeyRule;
use crate::parity::shape::{BIGGEST, Group, Shape, UNRULED};
use crate::probe::keys::prefix;
use crate::rdb::{Entry, Frames, RdbError, Record};
use std::collections::BTreeMap;
use std::io::Read;

/// Prefixes of keys without a rule that are counted while reading, and that are kept.
const PREFIXES: usize = 1_000;
const EXAMPLES: usize = 5;

/// Looks at this many keys, or at all; `now_ms` is when the snapshot was taken. The number of keys and the cost are for the
/// caller to fill in.
///
/// # Errors
/// What is wrong with the snapshot, as far as it was read.
pub fn shape(source: impl Read, rules: &[&KeyRule], most: u64, now_ms: i64) -> Result<Shape, RdbError> {
    let mut frames = Frames::new(source);
    let mut groups: Vec<Group> = vec![Group::default(); rules.len()];
    let mut unruled = Group::default();
    let (mut read, mut room) = (0, Vec::new());
    'reading: while let Some(batch) = frames.next_batch()? {
        for record in batch.records() {
            let Record::Key(entry) = record? else { continue };
            if entry.expires_at_ms.is_some_and(|at| at <= now_ms) {
                continue;
            }
            if read == most {
                break 'reading;
            }
            read += 1;
            let name = entry.key(&mut room)?;
            let rule = rules.iter().position(|rule| rule.glob.matches(name));
            match rule.and_then(|at| groups.get_mut(at)) {
                Some(group) => add(group, &entry, name, now_ms),
                None => {
                    add(&mut unruled, &entry, name, now_ms);
                    let prefix = prefix(name);
                    if unruled.prefixes.len() < PREFIXES || unruled.prefixes.contains_key(&prefix) {
                        *unruled.prefixes.entry(prefix).or_default() += 1;
                    }
                }
            }
        }
        frames.recycle(batch);
    }
    let mut prefixes: Vec<(String, u64)> = std::mem::take(&mut unruled.prefixes).into_iter().collect();
    prefixes.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    prefixes.truncate(EXAMPLES);
    unruled.prefixes = prefixes.into_iter().collect();
    let patterns = rules.iter().map(|rule| rule.pattern.clone());
    let mut groups: BTreeMap<String, Group> = patterns.zip(groups).collect();
    groups.insert(UNRULED.to_owned(), unruled);
    Ok(Shape { read, groups, ..Shape::default() })
}

fn add(group: &mut Group, entry: &Entry<'_>, name: &[u8], now_ms: i64) {
    group.keys += 1;
    let count = |of: &mut BTreeMap<String, u64>, name: &str| match of.get_mut(name) {
        Some(count) => *count += 1,
        None => _ = of.insert(name.to_owned(), 1),
    };
    count(&mut group.types, entry.kind.name());
    count(&mut group.encodings, entry.encoding());
    if let Some(at) = entry.expires_at_ms {
        group.with_expiry += 1;
        group.ttl_seconds.add(u64::try_from(at.saturating_sub(now_ms) / 1000).unwrap_or(0));
    }
    let bytes = u64::try_from(entry.size()).unwrap_or(u64::MAX);
    group.bytes.add(bytes);
    let least = group.biggest.last().map_or(0, |(_, bytes)| *bytes);
    if group.biggest.len() < BIGGEST || bytes > least {
        let at = group.biggest.partition_point(|(_, larger)| *larger >= bytes);
        group.biggest.insert(at, (prefix(name), bytes));
        group.biggest.truncate(BIGGEST);
    }
}
