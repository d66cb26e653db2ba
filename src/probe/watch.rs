//! What is seen while a change is watched, and what of it is wrong.

use crate::finding::Finding;
use crate::measure::Unit;
use crate::model::behaviour::Watch;
use crate::probe::compare::{hit_ratio, hit_ratio_since};
use crate::probe::{Life, Served};
use crate::value::Span;
use serde::Serialize;

/// How a watch ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Watched {
    /// Errors end a watch; warnings and notes do not.
    pub findings: Vec<Finding>,
    /// How often everything was looked at.
    pub looks: u32,
    pub lasted_ms: u64,
    /// Whether it lasted as long as the spec says.
    pub complete: bool,
}

impl Watched {
    pub fn lasted(&self) -> Span {
        Span { milliseconds: self.lasted_ms }
    }
}

/// A container as it was when the watch began, or before the change where that is known.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub service: &'a str,
    pub before: Option<&'a Life>,
    pub now: &'a Life,
}

/// Whether a container lived on.
pub fn lived(sight: Sight<'_>) -> Option<Finding> {
    let Sight { service, before, now } = sight;
    let subject = format!("container/{service}");
    let killed = if now.out_of_memory { ", killed for want of memory" } else { "" };
    if !now.running {
        let message = format!("{service} does not run: exit code {}{killed}", now.exit_code);
        return Some(Finding::error("watch-crash", message).about(subject));
    }
    let known = before.filter(|before| before.id == now.id);
    let restarts = now.restarts.saturating_sub(known.map_or(0, |before| before.restarts));
    if restarts > 0 {
        let times = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
        let message = format!("{service} ended and was started again {times}{killed}");
        return Some(Finding::error("watch-crash", message).about(subject));
    }
    None
}

/// The text of `refuse` that stands in a line, as a finding that shows the line.
pub fn line_refused(watch: &Watch, service: &str, line: &str) -> Option<Finding> {
    let refused = watch.refuse.iter().find(|refused| line.contains(&refused.value))?;
    let message = format!("{service} wrote `{}` to its log: {}", refused.value, bounded(line));
    let finding = Finding::error("watch-log", message).at(&refused.place);
    Some(finding.about(format!("log {service} {}", refused.value)).sides("no such line", bounded(line)))
}

/// Whether fewer lookups hit than the spec allows, beyond what chance may do.
pub fn cooled(watch: &Watch, service: &str, before: &Served, now: &Served) -> Option<Finding> {
    let drop = watch.hit_ratio_drop.as_ref()?;
    const LOOKUPS: u64 = 20;
    let since = |from: u64, to: u64| if before.run == now.run { to.saturating_sub(from) } else { to };
    let lookups = since(before.end.hits, now.end.hits).saturating_add(since(before.end.misses, now.end.misses));
    let (was, is) = (hit_ratio(before)?, hit_ratio_since(before, now)?);
    if lookups < LOOKUPS || is.high >= was.value - drop.value {
        return None;
    }
    let about = |value| Unit::Ratio.about(value);
    let message = format!(
        "the hit ratio of {service} is {} ({} to {}) since then, and was {}: more than {} lower",
        about(is.value),
        about(is.low),
        about(is.high),
        about(was.value),
        about(drop.value),
    );
    let finding = Finding::error("watch-hit-ratio", message).at(&drop.place).about(format!("hit_ratio({service})"));
    Some(finding.sides(about(was.value), about(is.value)))
}

fn bounded(line: &str) -> String {
    const SHOWN: usize = 200;
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}
