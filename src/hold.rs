//! Who holds an environment: what a holder says of itself, and what somebody who finds it held may do.
//!
//! Pure. The container that stands for the hold is the business of `engine`, taking and keeping one that of `world`.

use crate::model::rules;
use crate::value::Span;
use std::collections::BTreeMap;
use std::fmt;

/// What the container is called, without the environment's name.
pub const CONTAINER: &str = rules::LOCK_CONTAINER;
/// The role in its labels, by which everything that looks at an environment knows to leave it out.
pub const ROLE: &str = "lock";

const VERB: &str = "dev.lockstep.holder.verb";
const REASON: &str = "dev.lockstep.holder.reason";
const WHO: &str = "dev.lockstep.holder.who";
const HOST: &str = "dev.lockstep.holder.host";
const PROCESS: &str = "dev.lockstep.holder.process";
const LEASE: &str = "dev.lockstep.holder.lease";
const SIGN: &str = "dev.lockstep.holder.sign";
const ORIGIN: &str = "dev.lockstep.holder.origin";

/// How long a holder may be silent before others take its place.
pub const USUAL_LEASE: Span = Span { milliseconds: 60_000 };
/// A hold that was made and not started is watched for this long: its maker starts it next, or is dead.
const UNSTARTED: Span = Span { milliseconds: 1_000 };
/// The longest text of a holder that is kept, in characters.
const LONGEST: usize = 200;

/// How others see that a holder lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// Its container answers what it is told with a line of log, whose time is the engine's.
    Lines,
    /// A number of its container changes: somebody has to look for as long as the lease to see that it does not.
    Pulse,
    /// The same, of a container without a process: nothing ends it when its holder dies.
    PulseAlone,
    /// The number is a time ([`pulse_at`]), of a container without a process: one look says how long a holder is silent.
    Clock,
}

impl Sign {
    fn as_str(self) -> &'static str {
        match self {
            Sign::Lines => "lines",
            Sign::Pulse => "pulse",
            Sign::PulseAlone => "pulse-alone",
            Sign::Clock => "clock",
        }
    }

    pub fn has_process(self) -> bool {
        !matches!(self, Sign::PulseAlone | Sign::Clock)
    }
}

/// Who holds an environment, and why; the lease, the sign and the origin decide; the rest is for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    pub verb: String,
    pub reason: String,
    pub who: String,
    pub host: String,
    pub process: u32,
    /// By which a process of this machine knows another one; empty where it is not known.
    pub origin: String,
    pub lease: Span,
    pub sign: Sign,
}

impl Holder {
    /// Everything as labels: bounded, on one line each. They are copied wherever the engine tells of the container.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let text = |label: &str, value: &str| (label.to_owned(), shown(value));
        BTreeMap::from([
            text(VERB, &self.verb),
            text(REASON, &self.reason),
            text(WHO, &self.who),
            text(HOST, &self.host),
            text(PROCESS, &self.process.to_string()),
            text(ORIGIN, &self.origin),
            text(LEASE, &self.lease.to_string()),
            text(SIGN, self.sign.as_str()),
        ])
    }

    /// What labels say; whoever wrote them, nothing of it is longer or stranger than we write it.
    pub fn of<'l>(label: impl Fn(&str) -> Option<&'l str>) -> Holder {
        let text = |name: &str| label(name).map_or_else(String::new, shown);
        let signs = [Sign::Lines, Sign::Pulse, Sign::PulseAlone, Sign::Clock];
        Holder {
            verb: text(VERB),
            reason: text(REASON),
            who: text(WHO),
            host: text(HOST),
            process: text(PROCESS).parse().unwrap_or(0),
            origin: text(ORIGIN),
            lease: Span::parse(&text(LEASE)).filter(|lease| lease.milliseconds > 0).unwrap_or(USUAL_LEASE),
            sign: match label(SIGN) {
                None => Sign::Lines,
                // Of a newer version: what ends it is not known, so it is watched.
                Some(said) => signs.into_iter().find(|sign| sign.as_str() == said).unwrap_or(Sign::PulseAlone),
            },
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
        let (who, host) = (known(&self.who, "somebody"), known(&self.host, "an unknown host"));
        write!(f, "{who}@{host}, process {}, {}", self.process, known(&self.verb, "doing something"))?;
        if self.reason.is_empty() || self.reason == self.verb { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// One line of bounded text without control characters, nor what turns text around.
fn shown(text: &str) -> String {
    let hidden = |c: char| c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c) || turns(c);
    let plain: String = text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    let plain = plain.trim();
    if plain.chars().count() <= LONGEST {
        return plain.to_owned();
    }
    let cut: String = plain.chars().take(LONGEST - 1).collect();
    format!("{cut}…")
}

fn turns(c: char) -> bool {
    ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// How far the container of a hold is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Made and not started.
    Made,
    /// It runs, or the engine is busy with it.
    Runs,
    Ended,
}

/// A container that was found under the name of an environment's hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The engine's id: the name may be another's by the time something is done about it.
    pub id: String,
    /// Whether its labels say that it is the hold of this environment.
    pub ours: bool,
    pub holder: Holder,
    pub stage: Stage,
    /// The engine was too busy with it to say more than that it is there.
    pub busy: bool,
    /// When it was made, seconds since 1970 by the engine's clock.
    pub made: i64,
    /// Since the last line, by the engine's clock; `None` when that is not known.
    pub silent: Option<Span>,
    /// Changes for as long as a holder lives that gives its sign in this way.
    pub pulse: i64,
}

/// What to make of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Somebody holds the environment.
    Held,
    /// Too early to say: look again.
    Undecided,
    /// Nobody holds it any more, and why that is so.
    Stale(String),
    /// Somebody else's container has the name.
    Foreign,
}

/// What a container that has been found unchanged for as long as `watched` stands for.
pub fn judge(found: &Found, watched: Span) -> Judgement {
    if !found.ours {
        return Judgement::Foreign;
    }
    let lease = found.holder.lease;
    let silence = match found.holder.sign {
        Sign::Lines | Sign::Clock => found.silent.unwrap_or_default(),
        Sign::Pulse | Sign::PulseAlone => watched,
    };
    match found.stage {
        Stage::Ended => Judgement::Stale("it has ended".to_owned()),
        Stage::Made if found.holder.sign.has_process() => match watched >= UNSTARTED {
            true => Judgement::Stale("it was never started".to_owned()),
            false => Judgement::Undecided,
        },
        _ if silence > lease => Judgement::Stale(format!("silent for {}", whole(silence))),
        _ => Judgement::Held,
    }
}

/// The least number that the engine takes for what is changed as a pulse, and how many there are from it on.
pub const PULSE: (i64, i64) = (2, 200_000);

/// The pulse that says a time, in seconds since 1970; the same comes again after 55 hours.
pub fn pulse_at(seconds: i64) -> i64 {
    PULSE.0 + seconds.rem_euclid(PULSE.1)
}

/// How long ago a pulse said its time, at a time by the same clock; none where it was never set.
pub fn since_pulse(pulse: i64, now: i64) -> Option<Span> {
    let ago = (now - (pulse - PULSE.0)).rem_euclid(PULSE.1);
    // A clock that was set back a little makes it one that is still to come.
    let ago = if ago > PULSE.1 - 600 { 0 } else { ago };
    (pulse >= PULSE.0).then(|| Span::seconds(u64::try_from(ago).unwrap_or(0)))
}

/// To the second, for people.
pub fn whole(span: Span) -> Span {
    Span::seconds(span.milliseconds / 1000)
}
