//! What may be said of repeated measurements: a percentile and where repeating would put it, a share, a rate; and
//! whether two of them differ by more than chance. No clock and no randomness: the same numbers say the same.

use crate::measure::{Sample, Verdict};

/// Of 100 intervals, so many hold what repeating would measure.
const CONFIDENCE: f64 = 0.95;
/// The same as a number of standard deviations.
const DEVIATIONS: f64 = 1.96;
/// Below this chance, a difference is taken to be one.
const CHANCE: f64 = 0.001;
/// A smaller difference is none to anybody, however sure it is: as a share, and in milliseconds.
const LEAST_SHARE: f64 = 0.05;
const LEAST_MS: f64 = 0.02;
/// Of fewer times a round's own median says too little.
const LEAST_IN_ROUND: usize = 5;

/// Times of one probe, taken in rounds with other work between them.
#[derive(Clone, Debug)]
pub struct Times {
    /// Milliseconds, in order.
    sorted: Vec<f64>,
    /// How much the level moved from round to round, as a share of it; 0 where chance alone explains it.
    drift: f64,
}

impl Times {
    pub fn new(rounds: &[Vec<f64>]) -> Times {
        let sorted = in_order(rounds.iter().flatten().copied());
        let mut times = Times { sorted, drift: 0.0 };
        times.drift = drift(rounds, times.median());
        times
    }

    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    fn median(&self) -> f64 {
        percentile(&self.sorted, 0.5).map_or(0.0, |sample| sample.value)
    }

    /// A percentile, from 0 to 1, and the interval that order alone gives it, widened by how the level moved.
    pub fn percentile(&self, share: f64) -> Option<Sample> {
        let sample = percentile(&self.sorted, share)?;
        let low = sample.low * (1.0 - self.drift).max(0.0);
        Some(Sample { low, high: sample.high * (1.0 + self.drift), ..sample })
    }
}

fn in_order(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Spread of the rounds' medians beyond what chance gives them.
fn drift(rounds: &[Vec<f64>], level: f64) -> f64 {
    let medians: Vec<Sample> = rounds
        .iter()
        .filter(|round| round.len() >= LEAST_IN_ROUND)
        .filter_map(|round| percentile(&in_order(round.iter().copied()), 0.5))
        .collect();
    if medians.len() < 2 || level <= 0.0 {
        return 0.0;
    }
    let count = medians.len() as f64;
    let mean = medians.iter().map(|median| median.value).sum::<f64>() / count;
    let spread = medians.iter().map(|median| (median.value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let by_chance =
        medians.iter().map(|median| ((median.high - median.low) / (2.0 * DEVIATIONS)).powi(2)).sum::<f64>() / count;
    DEVIATIONS * (spread - by_chance).max(0.0).sqrt() / level
}

/// The value at a share of an ordered list, and the values at the ranks between which it lies with confidence whatever
/// the distribution: how many of `n` fall below it is binomial.
pub fn percentile(sorted: &[f64], share: f64) -> Option<Sample> {
    let ranks = ranks(sorted.len() as u64, share)?;
    let at = |rank: u64| sorted.get(usize::try_from(rank.saturating_sub(1)).ok()?).copied();
    Some(Sample { value: at(ranks.value)?, low: at(ranks.low)?, high: at(ranks.high)? })
}

/// Ranks, from 1, of a percentile among so many values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ranks {
    pub low: u64,
    pub value: u64,
    pub high: u64,
}

pub fn ranks(count: u64, share: f64) -> Option<Ranks> {
    if count == 0 || !(0.0..1.0).contains(&share) || share == 0.0 {
        return None;
    }
    let n = count as f64;
    let clamp = |rank: f64| (rank.max(1.0) as u64).min(count);
    let value = clamp((n * share).ceil());
    let (low, high) = if count > 2_000 {
        let around = DEVIATIONS * (n * share * (1.0 - share)).sqrt();
        (clamp((n * share - around).floor()), clamp((n * share + around).ceil() + 1.0))
    } else {
        binomial_ranks(count, share)
    };
    Some(Ranks { low: low.min(value), value, high: high.max(value) })
}

fn binomial_ranks(count: u64, share: f64) -> (u64, u64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    // In logarithms: the first terms are too small for a number.
    let (ln_share, ln_rest) = (share.ln(), (1.0 - share).ln());
    let mut ln_term = count as f64 * ln_rest;
    let mut below = 0.0;
    let (mut low, mut high) = (1, count);
    for k in 0..=count {
        // `below` is the chance that fewer than k values lie below the percentile.
        if below <= tail {
            low = k.max(1);
        }
        below += ln_term.exp();
        if below >= 1.0 - tail {
            high = (k + 1).min(count);
            break;
        }
        ln_term += ((count - k) as f64).ln() - ((k + 1) as f64).ln() + ln_share - ln_rest;
    }
    (low, high)
}

/// A share of a whole (Wilson's interval); nothing where there is no whole.
pub fn share(part: u64, whole: u64) -> Option<Sample> {
    if whole == 0 {
        return None;
    }
    let (n, z) = (whole as f64, DEVIATIONS);
    let value = part.min(whole) as f64 / n;
    let middle = (value + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
    Some(Sample { value, low: (middle - half).max(0.0), high: (middle + half).min(1.0) })
}

/// So many events in so many seconds, as a rate for a second.
pub fn rate(events: u64, seconds: f64) -> Option<Sample> {
    if seconds <= 0.0 {
        return None;
    }
    let count = events as f64;
    // The root of a count of independent events spreads by a half, whatever the count.
    let low = (count.sqrt() - DEVIATIONS / 2.0).max(0.0).powi(2);
    let high = ((count + 1.0).sqrt() + DEVIATIONS / 2.0).powi(2);
    Some(Sample { value: count / seconds, low: low / seconds, high: high / seconds })
}

/// Which way is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Good {
    Less,
    More,
    Neither,
}

/// What may be said of two values by their intervals alone.
pub fn judge(before: Option<Sample>, after: Option<Sample>, good: Good, least_share: f64) -> Verdict {
    let (Some(before), Some(after)) = (before, after) else { return Verdict::Unknown };
    let apart = after.low > before.high || after.high < before.low;
    if !apart || (after.value - before.value).abs() < least_share * before.value.abs() {
        return Verdict::Same;
    }
    directed(after.value > before.value, good)
}

fn directed(more: bool, good: Good) -> Verdict {
    match (good, more) {
        (Good::Neither, _) => Verdict::Changed,
        (Good::Less, true) | (Good::More, false) => Verdict::Worse,
        (Good::Less, false) | (Good::More, true) => Verdict::Better,
    }
}

/// Whether a percentile of one list of times differs from that of another: the intervals lie apart, the difference
/// matters to somebody, and either all times or those in the tail have moved by more than chance.
///
/// Intervals alone would not do: that of a high percentile ends with the slowest time there was, and of two lists of one
/// kind one often has its few slowest above all of the other.
pub fn judge_times(before: &Times, after: &Times, share: f64) -> Verdict {
    let (Some(b), Some(a)) = (before.percentile(share), after.percentile(share)) else { return Verdict::Unknown };
    let apart = a.low > b.high || a.high < b.low;
    let matters = (a.value - b.value).abs() >= (LEAST_SHARE * b.value).max(LEAST_MS);
    if !apart || !matters {
        return Verdict::Same;
    }
    let slower = a.value > b.value;
    let (slow, fast) = if slower { (after, before) } else { (before, after) };
    if !moved(&fast.sorted, &slow.sorted) && !tail_moved(&fast.sorted, &slow.sorted, share) {
        return Verdict::Same;
    }
    directed(slower, Good::Less)
}

/// Whether the second list lies above the first (Mann and Whitney, normal approximation).
fn moved(low: &[f64], high: &[f64]) -> bool {
    const FEWEST: usize = 8;
    if low.len() < FEWEST || high.len() < FEWEST {
        return false;
    }
    let (n, m) = (low.len() as f64, high.len() as f64);
    // For each of the second list, how many of the first it is above; ties count a half.
    let above: f64 = high
        .iter()
        .map(|value| {
            let less = low.partition_point(|other| other < value);
            let equal = low.partition_point(|other| other <= value) - less;
            less as f64 + equal as f64 / 2.0
        })
        .sum();
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    const ONE_IN_A_THOUSAND: f64 = 3.09;
    (above - n * m / 2.0) / deviation > ONE_IN_A_THOUSAND
}

/// Whether more of the second list than chance gives lies beyond the percentile of both together (hypergeometric).
fn tail_moved(low: &[f64], high: &[f64], share: f64) -> bool {
    let both = in_order(low.iter().chain(high).copied());
    let Some(limit) = percentile(&both, share).map(|sample| sample.value) else { return false };
    let beyond = |values: &[f64]| values.len() - values.partition_point(|value| *value <= limit);
    let (of_high, of_low) = (beyond(high), beyond(low));
    let tail = of_high + of_low;
    let mut chance = 0.0;
    for k in of_high..=tail.min(high.len()) {
        chance += (ln_choose(high.len(), k) + ln_choose(low.len(), tail - k) - ln_choose(both.len(), tail)).exp();
    }
    tail > 0 && chance < CHANCE
}

/// Logarithm of the number of ways to choose `k` of `n`; of none where there are fewer.
fn ln_choose(n: usize, k: usize) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    (0..k).map(|i| ((n - i) as f64).ln() - ((i + 1) as f64).ln()).sum()
}
