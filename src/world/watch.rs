//! Looks at an environment for a while after something was done to it: does everything live on, answer, and write
//! nothing that the spec refuses?
//!
//! Looks at once, then every few seconds, and ends with the first error. Changes nothing.

use crate::event::{Event, Listener};
use crate::failure::Failure;
use crate::finding::{Finding, has_errors};
use crate::http;
use crate::model::Kind;
use crate::model::behaviour::Watch;
use crate::probe::{Capture, Sight, Watched, cooled, line_refused, lived};
use crate::store;
use crate::world::probe::{Subject, counted, lives};
use futures_util::future;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(2);
/// How long a health page may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A page that fails once may have met a moment; twice in a row it is down.
const FAILURES: u32 = 2;
/// Findings about one thing; what is broken breaks in every line.
const FINDINGS: usize = 20;

/// Watches for as long as the spec says, or until something is wrong, or until `stop` says so.
///
/// `before` is what the environment did before the change. Log lines count from `since` on (milliseconds since 1970, by
/// the engine's clock).
///
/// # Errors
/// An engine that does not answer.
pub async fn watch(
    subject: Subject<'_>,
    watch: &Watch,
    before: Option<&Capture>,
    since: i64,
    listener: &impl Listener,
    stop: &dyn Fn() -> bool,
) -> Result<Watched, Failure> {
    let began = Instant::now();
    let mut watcher = Watcher { subject, watch, before, since, seen: BTreeMap::new(), down: BTreeMap::new() };
    let mut watched = Watched::default();
    loop {
        watched.findings.extend(watcher.look().await?);
        dedup(&mut watched.findings);
        watched.looks += 1;
        let lasted = began.elapsed();
        watched.lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        watched.complete = lasted >= watch.lasts.duration();
        if watched.complete || has_errors(&watched.findings) || stop() {
            break;
        }
        let left = watch.lasts.duration() - lasted;
        if watched.looks == 1 {
            listener.hear(Event::Line { text: format!("watching for {}", watch.lasts) });
        }
        pause(PAUSE.min(left), stop).await;
    }
    Ok(watched)
}

/// Pauses, and asks now and then whether to go on.
async fn pause(length: Duration, stop: &dyn Fn() -> bool) {
    let until = Instant::now() + length;
    while Instant::now() < until && !stop() {
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.min(Duration::from_millis(100))).await;
    }
}

/// One finding about each thing is enough.
fn dedup(findings: &mut Vec<Finding>) {
    let mut known = BTreeSet::new();
    findings.retain(|finding| known.insert((finding.rule, finding.subject.clone())));
    findings.truncate(FINDINGS);
}

struct Watcher<'a> {
    subject: Subject<'a>,
    watch: &'a Watch,
    before: Option<&'a Capture>,
    since: i64,
    /// How far the log of each container was read: the second to ask from, and the time of the last line.
    seen: BTreeMap<String, (i64, String)>,
    /// How often in a row a service did not answer.
    down: BTreeMap<String, u32>,
}

impl Watcher<'_> {
    async fn look(&mut self) -> Result<Vec<Finding>, Failure> {
        let lives = lives(self.subject).await?;
        let mut findings = Vec::new();
        for (service, (now, _)) in &lives {
            let before = self.before.and_then(|before| before.lives.get(service));
            findings.extend(lived(Sight { service, before, now }));
        }
        let addresses: BTreeMap<&str, IpAddr> =
            lives.iter().filter_map(|(service, (_, address))| Some((service.as_str(), (*address)?))).collect();
        self.answers(&addresses, &mut findings).await;
        for (service, (life, _)) in &lives {
            // One that is not there has no log.
            if !life.id.is_empty() {
                self.log(service, &mut findings).await?;
            }
        }
        Ok(findings)
    }

    async fn answers(&mut self, addresses: &BTreeMap<&str, IpAddr>, findings: &mut Vec<Finding>) {
        let services = self.subject.environment.services.values();
        let (subject, before, watch) = (self.subject, self.before, self.watch);
        let asked = services.map(|service| async move {
            let name = service.name.as_str();
            let address = addresses.get(name);
            match (&service.kind, address) {
                // That it does not run was said.
                (_, None) => (name, None, None),
                (Kind::App(app), Some(address)) => {
                    let Some(health) = &app.health else { return (name, None, None) };
                    let asked = http::get(SocketAddr::new(*address, health.port), &health.path, PATIENCE).await;
                    let answer = match asked {
                        Ok(status) if (200..400).contains(&status) => Ok(()),
                        Ok(status) => Err(format!("{} answers with status {status}", health.path)),
                        Err(why) => Err(format!("{}: {why}", health.path)),
                    };
                    (name, Some(answer), None)
                }
                (Kind::Redis(_), Some(_)) => {
                    let served = counted(subject, name, address).await;
                    let answer = served.problem.clone().map_or(Ok(()), Err);
                    let before = before.and_then(|before| before.servers.get(name));
                    let usable = before.filter(|before| before.problem.is_none() && served.problem.is_none());
                    (name, Some(answer), usable.and_then(|before| cooled(watch, name, before, &served)))
                }
            }
        });
        for (name, answer, cooled) in future::join_all(asked).await {
            findings.extend(cooled);
            match answer {
                Some(Err(why)) => {
                    let down = self.down.entry(name.to_owned()).or_default();
                    *down += 1;
                    if *down >= FAILURES {
                        let message = format!("{name} does not answer: {why}");
                        findings.push(Finding::error("watch-health", message).about(format!("container/{name}")));
                    }
                }
                Some(Ok(())) => _ = self.down.remove(name),
                None => {}
            }
        }
    }

    async fn log(&mut self, service: &str, findings: &mut Vec<Finding>) -> Result<(), Failure> {
        if self.watch.refuse.is_empty() {
            return Ok(());
        }
        let subject = self.subject;
        let (second, last) = match self.seen.get(service) {
            Some(seen) => seen.clone(),
            None => {
                let since = jiff::Timestamp::from_millisecond(self.since).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                (since.as_second(), since.to_string())
            }
        };
        let read = subject.engine.lines_since(&subject.names.container(service), second).await;
        let written = match read {
            Ok(written) => written,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                let message = format!("the log of {service} could not be read: {error}");
                findings.push(Finding::error("watch-log", message).about(format!("log {service}")));
                return Ok(());
            }
        };
        let mut newest = last.clone();
        for line in &written.lines {
            let Some((time, text)) = line.split_once(' ') else { continue };
            if !later(time, &last) {
                continue;
            }
            if later(time, &newest) {
                newest = time.to_owned();
            }
            let shown = subject.secrets.conceal_line(text);
            findings.extend(line_refused(self.watch, service, &shown));
        }
        let read_to = moment(&newest).map_or(second, |moment| moment.as_second());
        // A second with more than is read at once is not read forever.
        let next = if written.more && read_to <= second { second + 1 } else { read_to };
        if written.more {
            let message = format!("{service} writes faster than its log is read; some lines may have been passed over");
            findings.push(Finding::warning("watch-log", message).about(format!("log {service} speed")));
        }
        self.seen.insert(service.to_owned(), (next, newest));
        Ok(())
    }
}

fn moment(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}

/// Whether a time of the engine's is after another one.
fn later(time: &str, than: &str) -> bool {
    match (moment(time), moment(than)) {
        (Some(time), Some(than)) => time > than,
        // A line without a time is looked at rather than passed over.
        _ => true,
    }
}

/// Now, as [`watch`] counts it.
pub fn now() -> i64 {
    store::now().as_millisecond()
}
