//! `lockstep mask test`: what the rules of the spec make of a sample, shown key by key.

use crate::cli::{Cli, MaskCommand};
use crate::commands::{Verdict, load, refresh};
use crate::digest;
use crate::export::{self, Header};
use crate::failure::{Failure, Kind};
use crate::finding::{self, Finding};
use crate::mask::canary::Canaries;
use crate::mask::report::{self, Report};
use crate::mask::{Rules, pass, sample, survey};
use crate::model::{self, Environment};
use crate::project::Project;
use crate::rdb::{Form, Frames, Target};
use crate::store;
use crate::ui::{Ui, text};
use crate::value::{Name, Secret};
use std::path::Path;

const LARGEST: u64 = 64 << 20;

pub fn run(cli: &Cli, ui: &Ui, command: &MaskCommand) -> Result<Verdict, Failure> {
    let MaskCommand::Test { file, environment, service, limit } = command;
    let (project, sources) = load(cli, ui, &[])?;
    let (environment, secret) = masked_for(&project, environment.as_deref())?;
    let Some(plan) = &environment.refresh else {
        let failure = Failure::message(Kind::Usage, "the spec has no `refresh:`, so nothing is masked");
        return Err(failure.help("write `refresh: { from: production, secret: mask_key }`"));
    };
    let service = of_service(environment, service.as_deref())?;
    let snapshot = read(file)?;
    let rules = Rules::of(plan, &environment.keys, &service, secret.reveal(), b"");
    let failed = |error: anyhow::Error| {
        Failure::new(Kind::Usage, error.context(format!("could not read `{}` as a snapshot", file.display())))
    };
    let way = way(&snapshot).map_err(failed)?;
    let key = digest::Key::new(store::random().map_err(|error| Failure::new(Kind::Error, error))?);
    let mut surveyed = survey::survey(&rules, way, snapshot.as_slice(), &key).map_err(failed)?;
    let canaries = Canaries::new(std::mem::take(&mut surveyed.survey.sample), &rules.canaries);
    let report = Report::of(&rules, &surveyed, canaries.len());
    // A sample need not hold keys of every rule.
    let is_missing = |finding: &Finding| finding.rule == "refresh-nothing";
    let mut findings: Vec<Finding> =
        report::findings(&rules, &surveyed).into_iter().filter(|finding| !is_missing(finding)).collect();
    let mut lines = Vec::new();
    if !finding::has_errors(&findings) {
        let scanned = survey::look(&rules, way, snapshot.as_slice(), &canaries).map_err(failed)?;
        findings.extend(report::leaks(&rules, &surveyed, &scanned));
        lines = made(&rules, way, &snapshot, *limit).map_err(failed)?;
    }
    if ui.is_json() {
        let keys: Vec<serde_json::Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        ui.json(&serde_json::json!({
            "format": 1, "environment": environment.name, "service": service, "report": report,
            "findings": findings, "keys": keys,
        }));
    } else {
        ui.findings(&findings, &sources);
        ui.result(&text::printable(&format!("{}\n", report.lines().join("\n"))));
        for line in &lines {
            ui.result(&format!("{line}\n"));
        }
    }
    Ok(finding::has_errors(&findings).then_some(Kind::Differences))
}

/// The environment that is named, with its secret; without one, any that may be refreshed, and a secret for this once.
fn masked_for<'p>(project: &'p Project, named: Option<&str>) -> Result<(&'p Environment, Secret), Failure> {
    if let Some(name) = named {
        let environment = project.environment(name)?;
        let secret = match &environment.refresh {
            Some(plan) => refresh::secret(project, environment, plan)?,
            None => drawn()?,
        };
        return Ok((environment, secret));
    }
    let source =
        |environment: &Environment| environment.refresh.as_ref().is_some_and(|plan| plan.from == environment.name);
    let all = project.resolved.values();
    let chosen = all.clone().find(|environment| !source(environment)).or_else(|| all.clone().next());
    let missing = || Failure::message(Kind::Usage, "the stack has no environment");
    Ok((chosen.ok_or_else(missing)?, drawn()?))
}

fn drawn() -> Result<Secret, Failure> {
    store::random_hex::<32>().map(Secret::new).map_err(|error| Failure::new(Kind::Error, error))
}

fn of_service(environment: &Environment, wanted: Option<&str>) -> Result<Name, Failure> {
    let all = environment.services.values().filter(|service| matches!(service.kind, model::Kind::Redis(_)));
    let names: Vec<&Name> = all.map(|service| &service.name).collect();
    let listed = || names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, names.as_slice()) {
        (None, [only]) => Ok((*only).clone()),
        (None, _) => {
            let message = "the stack has several Redis services, and nothing says whose keys these are";
            Err(Failure::message(Kind::Usage, message).help(format!("say it with `--service`: {}", listed())))
        }
        (Some(wanted), names) => {
            let found = names.iter().find(|name| name.as_str() == wanted);
            found.map(|name| (*name).clone()).ok_or_else(|| {
                let message = format!("`{wanted}` is not a Redis of the stack");
                Failure::message(Kind::Usage, message).help(format!("Redis services: {}", listed()))
            })
        }
    }
}

/// A snapshot, or what lines of JSON make one.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::message(Kind::Usage, format!("could not read `{}`: {why}", file.display()));
    let bytes = store::inputs::bounded(file, LARGEST).map_err(wrong)?;
    if bytes.starts_with(b"REDIS") || bytes.starts_with(b"VALKEY") {
        return Ok(bytes);
    }
    let lines = String::from_utf8(bytes).map_err(|_not_shown| wrong("it is neither a snapshot nor text".to_owned()))?;
    sample::snapshot(&lines).map_err(|mistake| {
        let example = r#"write {"key": "user:1", "value": {"name": "ann"}}, a line for each key"#;
        wrong(format!("line {} {}", mistake.line, mistake.what)).help(example)
    })
}

/// As it was written, for the kind of server that wrote it.
fn way(snapshot: &[u8]) -> anyhow::Result<pass::Way> {
    let mut frames = Frames::new(snapshot);
    frames.next_batch()?;
    let summary = frames.summary();
    let target = Target { family: summary.family, version: summary.version };
    Ok(pass::Way { target, form: Form::AsWritten, now_ms: store::now().as_millisecond(), created_ms: None })
}

/// The first keys of what is made, a line of JSON for each.
fn made(rules: &Rules, way: pass::Way, snapshot: &[u8], limit: usize) -> anyhow::Result<Vec<String>> {
    let mut masked = Vec::new();
    pass::run(rules, way, snapshot, &mut masked, None)?;
    let nothing = "";
    let header = Header {
        format: export::FORMAT,
        backup: nothing,
        stack: nothing,
        environment: nothing,
        service: nothing,
        taken_at: nothing,
        server: nothing,
        pattern: None,
    };
    let mut out = Vec::new();
    export::json_lines(masked.as_slice(), &header, None, &mut out)?;
    let lines = String::from_utf8_lossy(&out);
    let keys = lines.lines().filter(|line| line.starts_with(r#"{"database""#));
    Ok(keys.take(limit).map(str::to_owned).collect())
}
