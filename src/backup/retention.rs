//! Which backups stay, which may go, and why.
//!
//! Everything counts periods in which there are backups, not days since: a clock that jumps ahead removes nothing, and
//! neither does a month in which none was taken. Pure: whoever removes asks here first and then does as told.

use crate::backup::State;
use crate::spec::Keep;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// This many proven backups of a service stay, whatever else is said.
pub const ALWAYS: usize = 2;
/// Two machines differ by seconds; what lies further ahead was written under another clock.
const SKEW_SECONDS: i64 = 60;

/// What retention looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: String,
    pub service: String,
    /// `None` when its manifest does not read; nothing is decided about those but that they stay.
    pub taken_at: Option<Timestamp>,
    pub state: State,
    pub pinned: bool,
    /// Taken because a change was about to begin.
    pub change: bool,
    /// It came as a file, from anywhere and any time: it stands in for none that was taken.
    pub imported: bool,
}

/// A service whose last try failed, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub service: String,
    /// `None` when that does not read: then nobody knows that it is over.
    pub at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub id: String,
    pub keep: bool,
    /// Why it stays, in words; or the one reason why it may go.
    pub reasons: Vec<String>,
}

/// Why nothing is decided at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    KeepsNothing,
    Failed { service: String },
    FromTheFuture { id: String, taken_at: String },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::KeepsNothing => f.write_str("`backup.keep` says nothing"),
            Refusal::Failed { service } => {
                write!(f, "the last backup of {service} failed, and none was taken since")
            }
            Refusal::FromTheFuture { id, taken_at } => {
                write!(f, "`{id}` was taken at {taken_at}, which is still to come: a clock is wrong")
            }
        }
    }
}

impl Refusal {
    pub fn help(&self) -> &'static str {
        match self {
            Refusal::KeepsNothing => "write for example `keep: { last: 7, daily: 14 }`; until then nothing is removed",
            Refusal::Failed { .. } => "take one first: `lockstep backup create`",
            Refusal::FromTheFuture { .. } => "set the clock of this machine, or of the one that took it",
        }
    }
}

/// One decision for each candidate, newest first within a service.
pub fn decide(
    candidates: &[Candidate],
    failures: &[Failure],
    keep: &Keep,
    now: Timestamp,
) -> Result<Vec<Decision>, Refusal> {
    if keep.is_empty() {
        return Err(Refusal::KeepsNothing);
    }
    // Imported ones are counted by themselves.
    let mut services: BTreeMap<(&str, bool), Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        if let Some(taken_at) = candidate.taken_at.filter(|at| at.as_second() > now.as_second() + SKEW_SECONDS) {
            return Err(Refusal::FromTheFuture { id: candidate.id.clone(), taken_at: taken_at.to_string() });
        }
        services.entry((&candidate.service, candidate.imported)).or_default().push(candidate);
    }
    for failure in failures {
        let of_service = services.get(&(failure.service.as_str(), false));
        let newest = of_service.and_then(|of| of.iter().filter_map(|candidate| candidate.taken_at).max());
        // One that was taken in the same second may still be the one before.
        if failure.at.is_none_or(|at| newest.is_none_or(|newest| newest.as_second() <= at.as_second())) {
            return Err(Refusal::Failed { service: failure.service.clone() });
        }
    }
    Ok(services.into_values().flat_map(|of_service| one_service(of_service, keep)).collect())
}

fn one_service(mut candidates: Vec<&Candidate>, keep: &Keep) -> Vec<Decision> {
    // What does not read comes first: newer than everything, for all we know.
    candidates.sort_by(|a, b| {
        let age = |candidate: &Candidate| (candidate.taken_at.is_none(), candidate.taken_at);
        (age(b), &b.id).cmp(&(age(a), &a.id))
    });
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    fn because<'c>(reasons: &mut BTreeMap<&'c str, Vec<String>>, candidate: &'c Candidate, why: impl Into<String>) {
        reasons.entry(candidate.id.as_str()).or_default().push(why.into());
    }
    for candidate in &candidates {
        if candidate.taken_at.is_none() {
            because(&mut reasons, candidate, "it does not read");
        }
        if candidate.pinned {
            because(&mut reasons, candidate, "pinned");
        }
        if candidate.change {
            because(&mut reasons, candidate, "taken for a change");
        }
    }
    let proven: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.state.is_proven() && candidate.taken_at.is_some())
        .copied()
        .collect();
    for candidate in proven.iter().take(ALWAYS) {
        because(&mut reasons, candidate, "one of the two newest proven");
    }
    // Until there are two that are proven, whatever there is may be all there is.
    if proven.len() < ALWAYS {
        for candidate in &candidates {
            because(&mut reasons, candidate, "fewer than two are proven");
        }
    }
    let whole: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.state != State::Damaged && candidate.taken_at.is_some())
        .copied()
        .collect();
    for candidate in whole.iter().take(usize::try_from(keep.last).unwrap_or(usize::MAX)) {
        because(&mut reasons, candidate, format!("one of the newest {}", keep.last));
    }
    for (count, period, label) in [
        (keep.hourly, Period::Hour, "hourly"),
        (keep.daily, Period::Day, "daily"),
        (keep.weekly, Period::Week, "weekly"),
        (keep.monthly, Period::Month, "monthly"),
        (keep.yearly, Period::Year, "yearly"),
    ] {
        let mut seen = BTreeSet::new();
        for candidate in &whole {
            let Some(name) = candidate.taken_at.map(|at| period.of(at)) else { continue };
            if seen.len() >= usize::try_from(count).unwrap_or(usize::MAX) && !seen.contains(&name) {
                break;
            }
            if !seen.insert(name.clone()) {
                continue;
            }
            // A later one that nobody read back does not stand in for one that was.
            let same = |other: &&&Candidate| other.taken_at.is_some_and(|at| period.of(at) == name);
            let best = whole.iter().filter(same).find(|other| other.state.is_proven()).unwrap_or(candidate);
            because(&mut reasons, best, format!("newest {label} of {name}"));
        }
    }
    let mut decisions = Vec::new();
    for candidate in &candidates {
        let found = reasons.get(candidate.id.as_str());
        let why = match candidate.state {
            State::Damaged => "damaged, and two others are proven".to_owned(),
            _ => "no rule of `backup.keep` asks for it".to_owned(),
        };
        decisions.push(Decision {
            id: candidate.id.clone(),
            keep: found.is_some(),
            reasons: found.cloned().unwrap_or_else(|| vec![why]),
        });
    }
    decisions
}

#[derive(Clone, Copy)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// The period that a moment lies in, in UTC: `2026-11-20`, `2026-W47`.
    fn of(self, at: Timestamp) -> String {
        let local = at.to_zoned(TimeZone::UTC);
        let date: Date = local.date();
        match self {
            Period::Hour => format!("{date}T{:02}", local.hour()),
            Period::Day => date.to_string(),
            Period::Week => {
                let week = date.iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Period::Month => format!("{:04}-{:02}", date.year(), date.month()),
            Period::Year => format!("{:04}", date.year()),
        }
    }
}
