//! Two captures beside each other: each quantity before and after, with its spread, and what may be said of them.

use crate::measure::{Measure, Sample, Unit, Verdict};
use crate::probe::statistics::{self, Good, Times, judge, judge_times};
use crate::probe::{Capture, Counted, Counters, Histogram, Probed, Served};
use std::collections::{BTreeMap, BTreeSet};

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.50), ("p95", 0.95), ("p99", 0.99)];
/// A ratio of fewer lookups says nothing.
const LOOKUPS: u64 = 20;
/// Commands of one server whose times are compared, those with the most calls.
const COMMANDS: usize = 8;
/// What lockstep itself asks: no work of the stack.
const OWN: [&str; 18] = [
    "acl|cat",
    "acl|list",
    "auth",
    "client|setname",
    "config|get",
    "dbsize",
    "function|list",
    "hello",
    "info",
    "latency|histogram",
    "module|list",
    "ping",
    "psync",
    "replconf",
    "slowlog|get",
    "slowlog|len",
    "acl|whoami",
    "config|set",
];

/// Everything that was measured once: on the side of `after`, with nothing to compare it with.
pub fn measures(capture: &Capture) -> Vec<Measure> {
    all(None, capture)
}

/// What a change did: the same quantities before and after it.
pub fn compare(before: &Capture, after: &Capture) -> Vec<Measure> {
    all(Some(before), after)
}

fn all(before: Option<&Capture>, after: &Capture) -> Vec<Measure> {
    let mut list = Vec::new();
    for (name, after) in &after.probes {
        probe(&mut list, name, before.and_then(|before| before.probes.get(name)), after);
    }
    for (name, after) in &after.servers {
        let before = before.and_then(|before| before.servers.get(name));
        server(&mut list, name, before.filter(|served| served.problem.is_none()), after);
    }
    for (name, after) in &after.keys {
        keys(&mut list, before.and_then(|before| before.keys.get(name)), after);
    }
    list
}

fn push(list: &mut Vec<Measure>, name: String, unit: Unit, before: Option<Sample>, after: Option<Sample>, good: Good) {
    let verdict = judge(before, after, good, 0.0);
    list.push(Measure { name, unit, before, after, verdict });
}

fn exact(value: u64) -> Sample {
    let value = value as f64;
    Sample { value, low: value, high: value }
}

fn between(one: u64, other: u64) -> Sample {
    Sample { value: other as f64, low: one.min(other) as f64, high: one.max(other) as f64 }
}

fn probe(list: &mut Vec<Measure>, name: &str, before: Option<&Probed>, after: &Probed) {
    let times: (Option<Times>, Times) = (before.map(Probed::times), after.times());
    for (word, share) in PERCENTILES {
        let verdict = times.0.as_ref().map_or(Verdict::Unknown, |before| judge_times(before, &times.1, share));
        list.push(Measure {
            name: format!("{word}({name})"),
            unit: Unit::Milliseconds,
            before: times.0.as_ref().and_then(|times| times.percentile(share)),
            after: times.1.percentile(share),
            verdict,
        });
    }
    let statuses = (before.and_then(status), status(after));
    if statuses.1.is_some() || statuses.0.is_some() {
        let sample = |status: Option<u16>| status.map(|status| exact(u64::from(status)));
        let fine = |status: u16| status < 400;
        let verdict = match statuses {
            (Some(b), Some(a)) if a == b => Verdict::Same,
            (Some(b), Some(a)) if fine(b) && !fine(a) => Verdict::Worse,
            (Some(b), Some(a)) if !fine(b) && fine(a) => Verdict::Better,
            (Some(_), Some(_)) => Verdict::Changed,
            _ => Verdict::Unknown,
        };
        let (before, after) = (sample(statuses.0), sample(statuses.1));
        list.push(Measure { name: format!("status({name})"), unit: Unit::Count, before, after, verdict });
    }
    let size = |probed: &Probed| probed.body_bytes.map(exact);
    if let Some(size_after) = size(after) {
        // A page that is another one each time says nothing by being another one.
        let stable = |probed: &Probed| (probed.bodies.len() == 1).then(|| probed.bodies.clone());
        let verdict = match (before.map(stable), stable(after)) {
            (Some(Some(b)), Some(a)) if b != a => Verdict::Changed,
            (Some(Some(_)), Some(_)) => Verdict::Same,
            _ => Verdict::Unknown,
        };
        let before = before.and_then(size);
        list.push(Measure {
            name: format!("body({name})"),
            unit: Unit::Bytes,
            before,
            after: Some(size_after),
            verdict,
        });
    }
}

/// The status of a probe's answers, the worst where they differ.
fn status(probed: &Probed) -> Option<u16> {
    probed.statuses.keys().next_back().copied()
}

/// Counters as they grew between two moments of one server; since its start where it is another run.
struct Window {
    counters: Counters,
    seconds: f64,
}

impl Window {
    fn since_start(counters: &Counters) -> Window {
        // Of a server that has just started, as of a short while.
        Window { counters: *counters, seconds: counters.uptime_seconds.max(1) as f64 }
    }

    fn between(from: &Counters, to: &Counters) -> Window {
        let counters = Counters {
            uptime_seconds: to.uptime_seconds.saturating_sub(from.uptime_seconds),
            hits: to.hits.saturating_sub(from.hits),
            misses: to.misses.saturating_sub(from.misses),
            evicted: to.evicted.saturating_sub(from.evicted),
            expired: to.expired.saturating_sub(from.expired),
            commands: to.commands.saturating_sub(from.commands),
            slow: to.slow.saturating_sub(from.slow),
            ..*to
        };
        // Whole seconds are all that a server tells; less than one is counted as one.
        Window { seconds: counters.uptime_seconds.max(1) as f64, counters }
    }

    fn lookups(&self) -> u64 {
        self.counters.hits.saturating_add(self.counters.misses)
    }

    fn hit_ratio(&self) -> Option<Sample> {
        statistics::share(self.counters.hits, self.lookups())
    }
}

/// The hit ratio since the server started, lockstep's own probes of this capture left out where others asked enough.
pub(super) fn hit_ratio(served: &Served) -> Option<Sample> {
    let windows = [Window::since_start(&served.start), Window::since_start(&served.end)];
    let enough = windows.iter().find(|window| window.lookups() >= LOOKUPS);
    enough.or(windows.last()).and_then(Window::hit_ratio)
}

/// The hit ratio from the end of one capture on: to the beginning of the next, or where nobody asked much, to its end.
pub(super) fn hit_ratio_since(before: &Served, after: &Served) -> Option<Sample> {
    if before.run != after.run {
        return hit_ratio(after);
    }
    let windows = [&after.start, &after.end].map(|to| Window::between(&before.end, to));
    let enough = windows.iter().find(|window| window.lookups() >= LOOKUPS);
    enough.or(windows.last()).and_then(Window::hit_ratio)
}

fn server(list: &mut Vec<Measure>, name: &str, before: Option<&Served>, after: &Served) {
    let known = after.problem.is_none();
    let ratio = match before {
        Some(before) => hit_ratio_since(before, after),
        None => hit_ratio(after),
    };
    let ratio_before = before.and_then(hit_ratio);
    let of = |word: &str| format!("{word}({name})");
    let verdict = judge(ratio_before, ratio.filter(|_| known), Good::More, 0.005);
    let measure = Measure {
        name: of("hit_ratio"),
        unit: Unit::Ratio,
        before: ratio_before,
        after: ratio.filter(|_| known),
        verdict,
    };
    list.push(measure);
    let window = match before {
        Some(before) if before.run == after.run => Window::between(&before.end, &after.end),
        _ => Window::since_start(&after.end),
    };
    let earlier = before.map(|before| Window::since_start(&before.end));
    type Count = fn(&Counters) -> u64;
    let rates: [(&str, Count, Good); 4] = [
        ("evictions", |counters| counters.evicted, Good::Less),
        ("expired", |counters| counters.expired, Good::Neither),
        ("slow", |counters| counters.slow, Good::Less),
        ("commands", |counters| counters.commands, Good::Neither),
    ];
    for (word, count, good) in rates {
        let rate = |window: &Window| statistics::rate(count(&window.counters), window.seconds);
        let after = rate(&window).filter(|_| known);
        push(list, of(word), Unit::PerSecond, earlier.as_ref().and_then(rate), after, good);
    }
    let memory = |served: &Served| {
        // Buffers of clients come and go.
        let sample = between(served.start.used_memory, served.end.used_memory);
        let slack = sample.value * 0.02 + 65_536.0;
        Sample { low: (sample.low - slack).max(0.0), high: sample.high + slack, ..sample }
    };
    push(list, of("memory"), Unit::Bytes, before.map(memory), Some(memory(after)).filter(|_| known), Good::Neither);
    let counts: [(&str, Count); 2] = [("clients", |counters| counters.clients), ("keys", |counters| counters.keys)];
    for (word, count) in counts {
        let sample = |served: &Served| between(count(&served.start), count(&served.end));
        let after = Some(sample(after)).filter(|_| known);
        push(list, of(word), Unit::Count, before.map(sample), after, Good::Neither);
    }
    histograms(list, name, before, after);
}

fn keys(list: &mut Vec<Measure>, before: Option<&Counted>, after: &Counted) {
    let known = after.problem.is_none();
    let before = before.filter(|before| before.problem.is_none());
    for (pattern, after) in &after.rules {
        let before = before.and_then(|before| before.rules.get(pattern));
        let count = before.map(|before| exact(before.keys));
        let now = Some(exact(after.keys)).filter(|_| known);
        push(list, format!("keys({pattern})"), Unit::Count, count, now, Good::Neither);
        let coverage = |with: u64, of: u64| {
            let value = (of > 0).then(|| with as f64 / of as f64)?;
            Some(Sample { value, low: value, high: value })
        };
        let then = before.and_then(|before| coverage(before.with_expiry, before.keys));
        let now = coverage(after.with_expiry, after.keys).filter(|_| known);
        push(list, format!("ttl_coverage({pattern})"), Unit::Ratio, then, now, Good::Neither);
    }
}

/// How long a server worked on each command, as far as it counts that (7.0 and later).
fn histograms(list: &mut Vec<Measure>, name: &str, before: Option<&Served>, after: &Served) {
    let empty = Histogram::new();
    let mut grown: Vec<(&String, Histogram)> = Vec::new();
    for (command, histogram) in &after.histograms {
        let from = before.filter(|before| before.run == after.run);
        let from = from.and_then(|before| before.histograms.get(command)).unwrap_or(&empty);
        grown.push((command, subtract(histogram, from)));
    }
    grown.retain(|(command, histogram)| !OWN.contains(&command.as_str()) && calls(histogram) > 0);
    grown.sort_by_key(|(command, histogram)| (std::cmp::Reverse(calls(histogram)), *command));
    for (command, histogram) in grown.into_iter().take(COMMANDS) {
        let earlier = before.and_then(|before| before.histograms.get(command));
        for (word, share) in [("p50", 0.50), ("p99", 0.99)] {
            let earlier = earlier.and_then(|earlier| of_histogram(earlier, share));
            let name = format!("{word}({name}.{command})");
            push(list, name, Unit::Milliseconds, earlier, of_histogram(&histogram, share), Good::Less);
        }
    }
}

fn calls(histogram: &Histogram) -> u64 {
    histogram.last().map_or(0, |(_, calls)| *calls)
}

/// What came since: counts are of all calls up to an edge, and an edge that one of them lacks adds nothing there.
fn subtract(after: &Histogram, before: &Histogram) -> Histogram {
    let at = |histogram: &Histogram, edge: u64| {
        histogram.iter().take_while(|(other, _)| *other <= edge).last().map_or(0, |(_, calls)| *calls)
    };
    let edges: BTreeSet<u64> = after.iter().chain(before).map(|(edge, _)| *edge).collect();
    let counts: BTreeMap<u64, u64> =
        edges.into_iter().map(|edge| (edge, at(after, edge).saturating_sub(at(before, edge)))).collect();
    counts.into_iter().collect()
}

/// A percentile as far as the edges tell: somewhere between two of them.
fn of_histogram(histogram: &Histogram, share: f64) -> Option<Sample> {
    let ranks = statistics::ranks(calls(histogram), share)?;
    let edge = |rank: u64| {
        let mut below = 0;
        for (edge, calls) in histogram {
            if *calls >= rank {
                return Some((below, *edge));
            }
            below = *edge;
        }
        None
    };
    let ms = |micros: u64| micros as f64 / 1000.0;
    Some(Sample { value: ms(edge(ranks.value)?.1), low: ms(edge(ranks.low)?.0), high: ms(edge(ranks.high)?.1) })
}
