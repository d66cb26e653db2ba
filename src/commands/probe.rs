//! `lockstep probe`: what an environment does, measured now, and whether it is what the spec and the person expect.

use crate::cli::{Cli, ProbeArguments};
use crate::commands::{Signals, Verdict, load_with_copies, open};
use crate::failure::{Failure, Kind};
use crate::finding::{Finding, has_errors, sort};
use crate::measure::{Expectation, Measure};
use crate::model::Environment;
use crate::probe::expectation::{self, Expected, Mistake};
use crate::probe::{self, Capture, Watched};
use crate::ui::progress::Progress;
use crate::ui::{Ui, text};
use crate::world::probe::{Keys, Subject, capture};
use crate::world::watch::{now, watch};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Report<'a> {
    format: u32,
    environment: &'a str,
    ok: bool,
    measures: &'a [Measure],
    expectations: &'a [Expectation],
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    watched: Option<&'a Watched>,
    capture: &'a Capture,
}

pub async fn run(cli: &Cli, ui: &Ui, arguments: &ProbeArguments) -> Result<Verdict, Failure> {
    let (project, sources) = load_with_copies(cli, ui, &[&arguments.environment])?;
    let environment = project.environment(&arguments.environment)?;
    let expected = read(&arguments.expect, environment)?;
    let to_watch = match (&environment.watch, arguments.watch) {
        (_, false) => None,
        (Some(watch), true) => Some(watch),
        (None, true) => {
            let failure = Failure::message(Kind::Usage, "the spec does not say what to watch");
            return Err(failure.help("write `watch: { for: 60s, refuse: [ERROR] }`"));
        }
    };
    let since = now();
    let session = open(&project, environment).await?;
    let subject = Subject {
        engine: &session.engine,
        names: &session.names,
        environment,
        secrets: &session.secrets,
        observed: Some(&session.observed),
    };
    let signals = Signals::listen();
    let listener = Progress::new(0);
    let captured = capture(subject, Keys::Pull, &listener).await?;
    let measures = probe::measures(&captured);
    let mut findings = probe::violations(&captured, environment);
    let expectations: Vec<Expectation> =
        expected.iter().map(|expected| expectation::evaluate(expected, &measures)).collect();
    let mut watched = None;
    if let Some(to_watch) = to_watch {
        let stop = || signals.heard().is_some();
        let ended = watch(subject, to_watch, Some(&captured), since, &listener, &stop).await?;
        findings.extend(ended.findings.iter().cloned());
        watched = Some(ended);
    }
    sort(&mut findings);
    let ok = !has_errors(&findings) && expectations.iter().all(|expectation| expectation.met);
    if ui.is_json() {
        ui.json(&Report {
            format: 1,
            environment: environment.name.as_str(),
            ok,
            measures: &measures,
            expectations: &expectations,
            findings: &findings,
            watched: watched.as_ref(),
            capture: &captured,
        });
    } else {
        ui.result(&text::findings(&findings, &sources));
        ui.result(&text::measures(&measures));
        ui.result(&text::expectations(&expectations));
        if let Some(watched) = &watched {
            ui.result(&text::watched(watched));
        }
    }
    match signals.heard() {
        Some(number) => Err(Failure::message(Kind::Signal(number), "stopped by a signal while it watched")),
        None => Ok((!ok).then_some(Kind::Differences)),
    }
}

/// What was written with `--expect`, read before anything is asked.
pub fn read(texts: &[String], environment: &Environment) -> Result<Vec<Expected>, Failure> {
    let wrong = |text: &str, mistake: Mistake| {
        let message = format!("`{text}` is no expectation: {mistake}");
        Failure::message(Kind::Usage, message).help(mistake.help)
    };
    let one = |text: &String| {
        let expected = expectation::parse(text).map_err(|mistake| wrong(text, mistake))?;
        expectation::known(text, &expected, environment).map_err(|mistake| wrong(text, mistake))?;
        Ok(expected)
    };
    texts.iter().map(one).collect()
}
