//! A spec of a thousand services, read, checked and rendered; nothing is started.

use crate::Options;
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::stack::{ENVIRONMENT, Readiness, SITE, Site, Stack};
use crate::workshop::{self, Workshop, processor_seconds, timed};
use std::fs;
use std::path::Path;
use std::process::Command;

const GROUP: &str = "check-render";
const CACHES: usize = 200;
const SITES: usize = 800;
const LIMIT_SECONDS: f64 = 0.2;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let room = workshop.room(GROUP)?;
    let project = room.join("project");
    let cache = |number: usize| format!("cache-{number:03}");
    let site = |number: usize| Site {
        name: format!("web-{number:03}"),
        cache: cache(number % CACHES),
        port: number.is_multiple_of(8).then(|| u16::try_from(number).unwrap_or(0)),
        needs_cache: true,
    };
    let stack = Stack {
        name: workshop.name("thousand"),
        site_image: SITE.to_owned(),
        caches: (0..CACHES).map(cache).collect(),
        sites: (0..SITES).map(site).collect(),
    };
    stack.write_project(workshop, &project, &[(ENVIRONMENT, 20_000), ("other", 30_000)])?;
    let file = room.join("compose.yaml");
    workshop::write(&file, &stack.compose(&room.join("given"), 20_000, Readiness::Order), 0o644)?;
    let compose = crate::compose::Compose::new(workshop, &file, &workshop.name("thousand"))?;

    let inputs: Vec<_> = [
        "environments/stack.yaml",
        "environments/side.yaml",
        "environments/other.yaml",
        "environments/stack.lock",
        "templates/site.toml.tera",
    ]
    .iter()
    .map(|name| project.join(name))
    .collect();
    let (out, copy) = (room.join("out"), room.join("copy"));
    let out_shown = out.display().to_string();
    let (mut check_processor, mut render_processor) = (Series::default(), Series::default());
    let with_processor = |command: &mut Command, series: &mut Series| -> anyhow::Result<f64> {
        let before = processor_seconds();
        let seconds = timed(command)?.seconds;
        series.0.push(processor_seconds() - before);
        Ok(seconds)
    };
    let [check, render, written, config, cat, copied] = rounds(
        options.rounds(9, 2),
        [
            ("lockstep check", &mut || {
                with_processor(&mut workshop.lockstep(&project, &["check"]), &mut check_processor)
            }),
            ("lockstep render", &mut || {
                with_processor(&mut workshop.lockstep(&project, &["render", ENVIRONMENT]), &mut render_processor)
            }),
            ("lockstep render --out", &mut || {
                remove(&out)?;
                Ok(timed(&mut workshop.lockstep(&project, &["render", ENVIRONMENT, "--out", &out_shown]))?.seconds)
            }),
            ("docker compose config", &mut || compose.run(crate::compose::How::Plugin, &["config"])),
            ("cat", &mut || Ok(timed(Command::new("cat").args(&inputs))?.seconds)),
            ("cp", &mut || {
                remove(&copy)?;
                if !out.exists() {
                    timed(&mut workshop.lockstep(&project, &["render", ENVIRONMENT, "--out", &out_shown]))?;
                }
                Ok(timed(Command::new("cp").arg("-r").arg(&out).arg(&copy))?.seconds)
            }),
        ],
    )?;

    let row = |what: &str, lockstep, floor, series| Row {
        group: GROUP,
        what: format!("{what}, 1,000 services"),
        unit: Unit::Seconds,
        lockstep,
        rival: beside("docker compose config", &config),
        floor: beside(floor, series),
        target: Some(Target::Below(LIMIT_SECONDS)),
    };
    // What a busy machine does not lengthen.
    let processor = |what: &str, series: Series| Row {
        group: GROUP,
        what: format!("of which processor time of {what}"),
        unit: Unit::Seconds,
        lockstep: series,
        rival: None,
        floor: None,
        target: None,
    };
    Ok(vec![
        row("check", check, "cat of the spec's files", &cat),
        row("render to standard output", render, "cat of the spec's files", &cat),
        processor("check", check_processor),
        processor("render to standard output", render_processor),
        row("render --out", written, "cp -r of what was rendered", &copied),
    ])
}

fn remove(folder: &Path) -> std::io::Result<()> {
    if folder.exists() { fs::remove_dir_all(folder) } else { Ok(()) }
}
