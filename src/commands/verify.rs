//! `lockstep verify`: is it as the spec says, and are they all like the first one?

use crate::cli::Cli;
use crate::commands::{Session, Verdict, deliver, form, load_with_copies, open};
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::measure::{self, Sample};
use crate::model::Environment;
use crate::parity::pages::{Latency, Pages};
use crate::parity::shape::Shaped;
use crate::parity::{self, Side, Verification};
use crate::probe::Capture;
use crate::probe::statistics::{Times, judge_times};
use crate::report::Report;
use crate::store;
use crate::ui::progress::Progress;
use crate::ui::{Ui, json, text};
use crate::value::Sources;
use crate::world::{holds, pages, probe, shapes};
use futures_util::future;
use std::collections::BTreeMap;
use std::path::Path;

/// What is looked at besides, and how strictly.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub strict: bool,
    pub data: bool,
    pub shape: bool,
    pub probes: bool,
}

pub async fn run(
    cli: &Cli,
    ui: &Ui,
    environments: &[String],
    asked: Asked,
    out: Option<&Path>,
) -> Result<Verdict, Failure> {
    let names: Vec<&str> = environments.iter().map(String::as_str).collect();
    let (project, sources) = load_with_copies(cli, ui, &names)?;
    let mut chosen = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names.iter().take(at).any(|earlier| earlier == name) {
            let message = format!("`{name}` is compared with itself");
            return Err(Failure::message(Kind::Usage, message).help("name each environment once"));
        }
        chosen.push(project.environment(name)?);
    }
    if asked.data && chosen.len() < 2 {
        let message = "`--data` compares what environments hold, and there is one";
        return Err(Failure::message(Kind::Usage, message).help("name another one"));
    }
    let read = chosen.iter().map(|environment| async {
        let session = open(&project, environment).await;
        (*environment, session, store::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    });
    let mut verification = compare(future::join_all(read).await, asked).await?;
    let at = store::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    verification.accept(&project.spec.accept, store::today());
    let stack = project.spec.stack.value.as_str();
    let said =
        shown(cli, ui, &verification, &sources, || Report::of_verification(&verification, stack, asked.strict, &at));
    deliver(ui, out, &said, &verification.verdict())?;
    Ok((!verification.is_right(asked.strict)).then_some(Kind::Differences))
}

/// An environment as it was read, or why it could not be, and when.
type Read<'e> = (&'e Environment, Result<Session, Failure>, String);

/// Compares all that could be read. Where that leaves nothing to compare, the reason is the result.
async fn compare(read: Vec<Read<'_>>, asked: Asked) -> Result<Verification, Failure> {
    let several = read.len() > 1;
    let mut sessions = Vec::new();
    let (mut failed, mut environments) = (Vec::new(), Vec::new());
    for (at, (environment, session, time)) in read.into_iter().enumerate() {
        let name = environment.name.as_str();
        match session {
            Ok(session) => {
                sessions.push((name, session, time));
                environments.push(environment);
            }
            // Nothing takes the place of what the others are compared with.
            Err(failure) if at == 0 => return Err(failure),
            Err(failure) => failed.push((at, name, failure)),
        }
    }
    let sides: Vec<Side<'_>> =
        sessions.iter().map(|(_, session, _)| Side { want: &session.desired, have: &session.observed }).collect();
    let mut verification = match (sides.split_first(), several) {
        (Some((one, [])), false) => parity::drift(*one),
        (Some((reference, others @ [_, ..])), _) => parity::matrix(*reference, others),
        _ => return Err(failed.into_iter().next().map_or_else(nothing, |(_, _, failure)| failure)),
    };
    for (name, session, _) in &sessions {
        verification.beyond(name, &session.observed);
    }
    if asked.data {
        compare_data(&mut verification, &sessions).await?;
    }
    if asked.probes {
        compare_pages(&mut verification, &sessions, &environments).await?;
    }
    if asked.shape {
        compare_shapes(&mut verification, &sessions, &environments).await;
    }
    for (name, _, time) in &sessions {
        verification.read_at(name, time);
    }
    for (at, name, failure) in failed {
        verification.unread(at, name, &failure.to_string());
    }
    Ok(verification)
}

/// Compares what every Redis holds with what it holds in the first environment.
async fn compare_data(verification: &mut Verification, sessions: &[(&str, Session, String)]) -> Result<(), Failure> {
    let hasher = holds::hasher()?;
    let Some(((reference, first, _), others)) = sessions.split_first() else { return Ok(()) };
    for service in first.redis_services() {
        let all = sessions.iter().map(|(_, session, _)| held(session, &service, &hasher));
        let mut found = future::join_all(all).await.into_iter();
        let Some(own) = found.next() else { continue };
        for ((environment, _, _), other) in others.iter().zip(found) {
            let held = match (&own, other) {
                (Ok(own), Ok(other)) => Ok(holds::compared(&service, own, &other)),
                (Err(why), _) => Err(format!("{reference}: {why}")),
                (_, Err(why)) => Err(why),
            };
            verification.data(reference, environment, &service, held);
        }
    }
    Ok(())
}

/// Compares what the applications answer, and how long the probes take, with the first environment. One after the other, so
/// that environments on one host do not measure each other.
async fn compare_pages(
    verification: &mut Verification,
    sessions: &[(&str, Session, String)],
    environments: &[&Environment],
) -> Result<(), Failure> {
    let mut first: Option<(&str, Pages, Capture)> = None;
    for ((name, session, _), environment) in sessions.iter().zip(environments) {
        let Session { engine, names, secrets, observed, .. } = session;
        let subject = probe::Subject { engine, names, environment, secrets, observed: Some(observed) };
        let found = pages::pages(subject).await?;
        let capture = probe::capture(subject, probe::Keys::Known(BTreeMap::new()), &Progress::new(0)).await?;
        verification.latencies.extend(capture.probes.iter().map(|(probe, probed)| {
            let times = probed.times();
            let at = |share: f64| times.percentile(share);
            let (p50, p95, p99) = (at(0.5), at(0.95), at(0.99));
            let problem = probed.problem.clone();
            Latency { environment: (*name).to_owned(), probe: probe.clone(), p50, p95, p99, problem }
        }));
        let Some((reference, pages, before)) = &first else {
            first = Some((name, found, capture));
            continue;
        };
        verification.pages((reference, pages), (name, &found));
        for (probe, after) in &capture.probes {
            let Some(before) = before.probes.get(probe) else { continue };
            if let Some(sides) = unlike_times(&before.times(), &after.times()) {
                verification.slower(reference, name, probe, sides);
            }
        }
    }
    Ok(())
}

/// Whether one takes twice as long as the other, and not by chance.
fn unlike_times(before: &Times, after: &Times) -> Option<(Sample, Sample)> {
    let (one, two) = (before.percentile(0.5)?, after.percentile(0.5)?);
    let apart = one.value.max(two.value) > 2.0 * one.value.min(two.value);
    (apart && judge_times(before, after, 0.5) != measure::Verdict::Same).then_some((one, two))
}

/// Compares what the keys of every Redis are like with what they are like in the first environment.
async fn compare_shapes(
    verification: &mut Verification,
    sessions: &[(&str, Session, String)],
    environments: &[&Environment],
) {
    let Some((_, first, _)) = sessions.first() else { return };
    for service in first.redis_services() {
        let all = sessions.iter().zip(environments).map(|((name, session, _), environment)| {
            let service = service.as_str();
            async move {
                let Session { engine, names, observed, secrets, .. } = session;
                let subject = holds::Subject { engine, names, observed, operators: &secrets.operators };
                let found = shapes::shape(subject, environment, service).await;
                let (shape, unknown) = match found {
                    Ok(shape) => (Some(shape), None),
                    Err(why) => (None, Some(why)),
                };
                Shaped { environment: (*name).to_owned(), service: service.to_owned(), shape, unknown }
            }
        });
        let shaped = future::join_all(all).await;
        verification.shapes(shaped);
    }
}

async fn held(session: &Session, service: &str, hasher: &Hasher) -> Result<holds::Digested, String> {
    let Session { engine, names, observed, secrets, .. } = session;
    let subject = holds::Subject { engine, names, observed, operators: &secrets.operators };
    holds::digested(subject, service, hasher).await.map_err(|failure| failure.to_string())
}

fn nothing() -> Failure {
    Failure::message(Kind::Usage, "there is nothing to compare").help("name an environment")
}

/// The result in the form that was asked for.
fn shown(
    cli: &Cli,
    ui: &Ui,
    verification: &Verification,
    sources: &Sources,
    report: impl FnOnce() -> Report,
) -> String {
    match form(cli) {
        Some(form) => report().render(form),
        None if ui.is_json() => json::text(verification),
        None => text::verification(verification, sources),
    }
}
