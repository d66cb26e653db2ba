//! One Redis and the site as a copy for a test, from nothing until both answer: one, and several at the same time.

use crate::cold::{bare_launch, bare_remove};
use crate::compose::{Compose, How};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::stack::{self, ENVIRONMENT, Readiness, Site, Stack};
use crate::workshop::{self, Workshop, timed};
use crate::{Options, ready};
use anyhow::{Context as _, bail};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const GROUP: &str = "copies";
/// At the same time.
const SEVERAL: usize = 20;
/// With two networks each, more than 14 leave Compose without addresses on an engine as it comes, so it gets fewer to do.
const MOST_COMPOSED: usize = 12;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let room = workshop.room(GROUP)?;
    let (project, given) = (room.join("project"), room.join("given"));
    let stack = Stack {
        name: workshop.name("copied"),
        site_image: stack::build_site_with_probe(workshop)?,
        sites: vec![Site { name: "web".to_owned(), cache: "cache".to_owned(), port: Some(0), needs_cache: true }],
        caches: vec!["cache".to_owned()],
    };
    stack.write_project(workshop, &project, &[(ENVIRONMENT, 20_000)])?;
    stack.write_given(workshop, &project, &given)?;
    let file = room.join("compose.yaml");
    // Port 0 is the engine's choice in all three languages.
    workshop::write(&file, &stack.compose(&given, 0, Readiness::AllHealthy), 0o644)?;
    let python = workshop.fetched("python.sh", &["testcontainers"])?;
    let several = if options.rounds(1, 0) == 0 { 3 } else { SEVERAL };
    let mut rows = Vec::new();
    for count in [1, several] {
        let [copy, compose, testcontainers, floor] = rounds(
            options.rounds(5, 1),
            [
                ("lockstep up --ephemeral", &mut || copies(workshop, &project, count)),
                ("docker compose up -d --wait", &mut || composed(workshop, &stack, &file, count.min(MOST_COMPOSED))),
                ("Testcontainers", &mut || contained(workshop, &python, &stack, &given, count)),
                ("bare create and start", &mut || bare(workshop, &stack, &given, count)),
            ],
        )?;
        let fewer = if count > MOST_COMPOSED {
            "docker compose up -d --wait, 12 of them"
        } else {
            "docker compose up -d --wait"
        };
        rows.push(row(count, &copy, fewer, &compose, &floor, 0.5));
        rows.push(row(count, &copy, "Testcontainers for Python", &testcontainers, &floor, 0.5));
        let name = "bare create and start, parallel";
        rows.push(Row { floor: None, ..row(count, &copy, name, &floor, &floor, 1.2) });
    }
    Ok(rows)
}

fn row(count: usize, copy: &Series, name: &'static str, rival: &Series, floor: &Series, most: f64) -> Row {
    let what = if count == 1 { "a copy until it is ready".to_owned() } else { format!("{count} copies at once") };
    Row {
        group: GROUP,
        what,
        unit: Unit::Seconds,
        lockstep: copy.clone(),
        rival: beside(name, rival),
        floor: beside("bare create and start, parallel", floor),
        target: Some(Target::Ratio(most)),
    }
}

/// With one network, no limits and no hardening, which is what one writes; its own clock, after all is imported.
fn contained(workshop: &Workshop, python: &Path, stack: &Stack, given: &Path, count: usize) -> anyhow::Result<f64> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/with_testcontainers.py");
    let mut command = Command::new(python);
    command.arg(program).args([&count.to_string(), &stack.site_image, stack::REDIS]);
    command.arg(given).arg(workshop.name("contained-"));
    Ok(timed(&mut command)?.stdout.trim().parse()?)
}

/// Seconds until all have come up; what they left is not counted.
fn at_once<T: Send>(count: usize, one: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<(f64, Vec<T>)> {
    let began = Instant::now();
    let made: anyhow::Result<Vec<T>> = std::thread::scope(|scope| {
        let (one, mut all) = (&one, Vec::new());
        for at in 0..count {
            all.push(scope.spawn(move || one(at)));
        }
        all.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("one of several broke off"))).collect()
    });
    Ok((began.elapsed().as_secs_f64(), made?))
}

fn copies(workshop: &Workshop, project: &Path, count: usize) -> anyhow::Result<f64> {
    let up = ["up", ENVIRONMENT, "--ephemeral", "--output", "json"];
    let (seconds, names) = at_once(count, |_| {
        let up = timed(&mut workshop.lockstep(project, &up))?;
        let said: serde_json::Value = serde_json::from_str(&up.stdout)?;
        Ok(said.get("environment").and_then(|name| name.as_str()).context("it says no name")?.to_owned())
    })?;
    at_once(count, |at| {
        let name = names.get(at).map(String::as_str).unwrap_or_default();
        timed(&mut workshop.lockstep(project, &["down", name]))
    })?;
    Ok(seconds)
}

fn composed(workshop: &Workshop, stack: &Stack, file: &Path, count: usize) -> anyhow::Result<f64> {
    let compose = |at: usize| Compose::new(workshop, file, &workshop.name(&format!("composed-{at}")));
    let (seconds, _) = at_once(count, |at| {
        let compose = compose(at)?;
        compose.run(How::Plugin, &["up", "-d", "--wait"])?;
        ready::wait_for_all(&stack.awaited_compose(&compose.project))
    })?;
    at_once(count, |at| compose(at)?.down())?;
    Ok(seconds)
}

fn bare(workshop: &Workshop, stack: &Stack, given: &Path, count: usize) -> anyhow::Result<f64> {
    let prefix = |at: usize| workshop.name(&format!("bare-{at}"));
    let (seconds, _) = at_once(count, |at| bare_launch(stack, &prefix(at), given, 0))?;
    at_once(count, |at| bare_remove(stack, &prefix(at)))?;
    Ok(seconds)
}
