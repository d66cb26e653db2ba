//! Applying what is already there: the price of looking.

use crate::compose::{Compose, How};
use crate::engine::{self, Connection};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::stack::{ENVIRONMENT, Readiness, SITE, Site, Stack};
use crate::workshop::{self, Workshop, free_port, timed};
use crate::{Options, ready};
use anyhow::bail;
use std::time::Instant;

const GROUP: &str = "second-apply";

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let room = workshop.room(GROUP)?;
    let (project, given) = (room.join("project"), room.join("given"));
    let stack = Stack {
        name: workshop.name("two"),
        site_image: SITE.to_owned(),
        caches: vec!["cache".to_owned()],
        sites: vec![Site { name: "web".to_owned(), cache: "cache".to_owned(), port: Some(0), needs_cache: true }],
    };
    stack.write_project(workshop, &project, &[(ENVIRONMENT, free_port()?)])?;
    stack.write_given(workshop, &project, &given)?;
    timed(&mut workshop.lockstep(&project, &["apply", ENVIRONMENT]))?;

    let mut composes = Vec::new();
    for (name, readiness) in [("order", Readiness::Order), ("healthy", Readiness::RedisHealthy)] {
        let file = room.join(format!("{name}.yaml"));
        workshop::write(&file, &stack.compose(&given, free_port()?, readiness), 0o644)?;
        let compose = Compose::new(workshop, &file, &workshop.name(name))?;
        // Not awaited by Compose: its first health check comes after the whole interval.
        let up: &[&str] =
            if readiness == Readiness::Order { &["up", "-d"] } else { &["up", "-d", "--no-deps", "cache", "web"] };
        compose.run(How::Alone, up)?;
        composes.push(compose);
    }
    let [order, healthy] = composes.as_slice() else { bail!("there are two Compose files") };
    ready::wait_for_all(&stack.awaited_lockstep())?;
    ready::wait_for_all(&stack.awaited_compose(&order.project))?;
    // Until the engine knows that the second one's Redis is healthy.
    healthy.run(How::Alone, &["up", "-d", "--wait"])?;
    let before = ids(workshop)?;

    let containers: Vec<String> = stack.awaited_lockstep().into_iter().map(|one| one.container).collect();
    let paths = bare_paths(&containers, &format!("{}-{ENVIRONMENT}", stack.name));
    let mut engine = Connection::open()?;
    let up = &["up", "-d"];
    let [apply, plugin, alone, waiting, one_by_one, at_once, check] = rounds(
        options.rounds(25, 4),
        [
            ("lockstep apply", &mut || {
                let ran = timed(&mut workshop.lockstep(&project, &["apply", ENVIRONMENT]))?;
                if !ran.stdout.contains("nothing to do") {
                    bail!("it found something to do:\n{}", ran.stdout);
                }
                Ok(ran.seconds)
            }),
            ("docker compose up -d", &mut || order.run(How::Plugin, up)),
            ("docker-compose up -d", &mut || order.run(How::Alone, up)),
            ("docker compose up -d, service_healthy", &mut || healthy.run(How::Plugin, up)),
            ("bare calls", &mut || {
                let began = Instant::now();
                paths.iter().try_for_each(|path| engine.read(path).map(|_| ()))?;
                Ok(began.elapsed().as_secs_f64())
            }),
            ("bare calls at once", &mut || bare_at_once(&paths)),
            ("lockstep check", &mut || Ok(timed(&mut workshop.lockstep(&project, &["check"]))?.seconds)),
        ],
    )?;
    if ids(workshop)? != before {
        bail!("something was made anew while nothing was to be done");
    }
    // What a finished group leaves running disturbs the next.
    crate::stack::down(workshop, &project, &stack.caches)?;
    order.down()?;
    healthy.down()?;

    let row = |what: &str, rival: &'static str, series: &Series, most: f64| Row {
        group: GROUP,
        what: what.to_owned(),
        unit: Unit::Seconds,
        lockstep: apply.clone(),
        rival: beside(rival, series),
        floor: beside("bare calls", &one_by_one),
        target: Some(Target::Ratio(most)),
    };
    let mut rows = vec![
        row("second apply", "docker compose up -d", &plugin, 0.2),
        row("second apply", "docker compose up -d, needs as service_healthy", &waiting, 0.2),
        row("second apply", "docker-compose up -d, without the docker command", &alone, 0.2),
        row("second apply", "bare list and inspect calls, one by one", &one_by_one, 3.0),
        row("second apply", "bare list and inspect calls, all at once", &at_once, 3.0),
    ];
    for row in rows.iter_mut().skip(3) {
        row.floor = None;
    }
    rows.push(Row {
        group: GROUP,
        what: "of which: start the program, read the spec".to_owned(),
        unit: Unit::Seconds,
        lockstep: check,
        rival: None,
        floor: None,
        target: None,
    });
    Ok(rows)
}

/// The containers of this run, to see that they stay what they are.
fn ids(workshop: &Workshop) -> anyhow::Result<Vec<String>> {
    let by_name = engine::filter("name", &[format!("^/?{}", workshop.prefix)]);
    let listed = Connection::open()?.get(&format!("/containers/json?all=1&{by_name}"))?;
    let mut ids: Vec<String> =
        listed.as_array().into_iter().flatten().filter_map(|one| Some(one.get("Id")?.as_str()?.to_owned())).collect();
    ids.sort();
    Ok(ids)
}

/// What has to be asked to know what runs, and nothing else.
fn bare_paths(containers: &[String], compose_project: &str) -> Vec<String> {
    let mine = engine::filter("label", &[format!("com.docker.compose.project={compose_project}")]);
    let lists = [format!("/containers/json?all=1&{mine}"), format!("/networks?{mine}"), format!("/volumes?{mine}")];
    lists.into_iter().chain(containers.iter().map(|name| format!("/containers/{name}/json"))).collect()
}

/// A connection for each, opened before the clock starts; seconds.
fn bare_at_once(paths: &[String]) -> anyhow::Result<f64> {
    let mut engines = paths.iter().map(|_| Connection::open()).collect::<anyhow::Result<Vec<_>>>()?;
    for engine in &mut engines {
        engine.read("/version")?;
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        let asked: Vec<_> = engines
            .iter_mut()
            .zip(paths)
            .map(|(engine, path)| scope.spawn(move || engine.read(path).map(|_| ())))
            .collect();
        asked.into_iter().try_for_each(|asked| asked.join().unwrap_or_else(|_| bail!("a request broke off")))
    })?;
    Ok(began.elapsed().as_secs_f64())
}
