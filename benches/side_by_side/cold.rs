//! Ten services from nothing until every one of them answers.

use crate::compose::{Compose, How};
use crate::engine::Connection;
use crate::measure::{Row, Target, Unit, beside, rounds};
use crate::ready::Awaited;
use crate::stack::{self, Body, ENVIRONMENT, Readiness, Site, Stack};
use crate::workshop::{self, Workshop, free_port, timed};
use crate::{Options, ready};
use anyhow::bail;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

const GROUP: &str = "cold-apply";

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let room = workshop.room(GROUP)?;
    let (project, given) = (room.join("project"), room.join("given"));
    let caches: Vec<String> = ["a", "b", "c"].map(|letter| format!("cache-{letter}")).to_vec();
    let site = |number: usize| Site {
        name: format!("web-{number}"),
        cache: caches.get(number % caches.len()).cloned().unwrap_or_default(),
        port: (number == 0).then_some(0),
        // Nothing waits for anything: what Compose is fastest with.
        needs_cache: false,
    };
    let stack = Stack {
        name: workshop.name("ten"),
        site_image: stack::build_site_with_probe(workshop)?,
        sites: (0..7).map(site).collect(),
        caches: caches.clone(),
    };
    let base = free_port()?;
    stack.write_project(workshop, &project, &[(ENVIRONMENT, base)])?;
    stack.write_given(workshop, &project, &given)?;
    let compose = |name: &str, readiness| -> anyhow::Result<Compose> {
        let file = room.join(format!("{name}.yaml"));
        workshop::write(&file, &stack.compose(&given, base, readiness), 0o644)?;
        Compose::new(workshop, &file, &workshop.name(name))
    };
    let waiting = compose("wait", Readiness::AllHealthy)?;
    let blind = compose("blind", Readiness::Order)?;
    let bare = workshop.name("bare");

    // The first containers of an image pay for what later ones find warm.
    eprintln!("  warming up");
    bare_start(&stack, &bare, &given, base)?;

    let [apply, plugin, alone, floor] = rounds(
        options.rounds(5, 1),
        [
            ("lockstep apply", &mut || {
                let began = Instant::now();
                timed(&mut workshop.lockstep(&project, &["apply", ENVIRONMENT]))?;
                ready::wait_for_all(&stack.awaited_lockstep())?;
                let seconds = began.elapsed().as_secs_f64();
                stack::down(workshop, &project, &stack.caches)?;
                Ok(seconds)
            }),
            ("docker compose up -d --wait", &mut || {
                compose_start(&waiting, &["up", "-d", "--wait"], &stack.awaited_compose(&waiting.project))
            }),
            ("docker compose up -d", &mut || {
                compose_start(&blind, &["up", "-d"], &stack.awaited_compose(&blind.project))
            }),
            ("bare create and start", &mut || bare_start(&stack, &bare, &given, base)),
        ],
    )?;

    let row = |rival, series, target| Row {
        group: GROUP,
        what: "cold apply, 10 services".to_owned(),
        unit: Unit::Seconds,
        lockstep: apply.clone(),
        rival: beside(rival, series),
        floor: beside("bare create and start, parallel", &floor),
        target,
    };
    Ok(vec![
        row("docker compose up -d --wait", &plugin, Some(Target::Ratio(1.0))),
        row("docker compose up -d, no checks, asked from outside", &alone, None),
    ])
}

fn compose_start(compose: &Compose, up: &[&str], awaited: &[Awaited]) -> anyhow::Result<f64> {
    let began = Instant::now();
    compose.run(How::Plugin, up)?;
    ready::wait_for_all(awaited)?;
    let seconds = began.elapsed().as_secs_f64();
    compose.down()?;
    Ok(seconds)
}

fn bare_start(stack: &Stack, prefix: &str, given: &Path, base: u16) -> anyhow::Result<f64> {
    let began = Instant::now();
    bare_launch(stack, prefix, given, base)?;
    let seconds = began.elapsed().as_secs_f64();
    bare_remove(stack, prefix)?;
    Ok(seconds)
}

/// How many networks have got a range of their own.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Networks one after the other, then each container on a connection of its own: create, attach, start, ask.
pub fn bare_launch(stack: &Stack, prefix: &str, given: &Path, base: u16) -> anyhow::Result<()> {
    let bodies = stack.bodies(prefix, given, base);
    let private = format!("{prefix}-private");
    let mut engine = Connection::open()?;
    for (name, internal) in [("private", true), ("edge", false)] {
        let body = |ranges: Value| {
            let name = format!("{prefix}-{name}");
            json!({ "Name": name, "Internal": internal, "CheckDuplicate": true, "IPAM": { "Config": ranges } })
        };
        if engine.post("/networks/create", &body(Value::Null)).is_err() {
            // An engine as it comes has addresses for 30 networks or so.
            let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
            let subnet = format!("198.19.{}.{}/27", number / 8 % 256, number % 8 * 32);
            engine.post("/networks/create", &body(json!([{ "Subnet": subnet }])))?;
        }
    }
    std::thread::scope(|scope| {
        let started: Vec<_> = bodies.iter().map(|body| scope.spawn(|| one_container(body, prefix, &private))).collect();
        started.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a start broke off")))
    })
}

pub fn bare_remove(stack: &Stack, prefix: &str) -> anyhow::Result<()> {
    let mut engine = Connection::open()?;
    let sites = stack.sites.iter().map(|site| &site.name);
    for service in stack.caches.iter().chain(sites) {
        engine.delete(&format!("/containers/{prefix}-{service}?force=1&v=1"))?;
    }
    for cache in &stack.caches {
        engine.delete(&format!("/volumes/{prefix}-{cache}-data"))?;
    }
    for name in ["private", "edge"] {
        engine.delete(&format!("/networks/{prefix}-{name}"))?;
    }
    Ok(())
}

fn one_container(body: &Body, prefix: &str, private: &str) -> anyhow::Result<()> {
    let mut engine = Connection::open()?;
    let name = format!("{prefix}-{}", body.service);
    engine.post(&format!("/containers/create?name={name}"), &body.json)?;
    if let Some(network) = &body.second_network {
        let end = json!({ "Container": name, "EndpointConfig": { "Aliases": [body.service] } });
        let (status, answer) = engine.send(
            "POST",
            &format!("/networks/{network}/connect"),
            "application/json",
            &serde_json::to_vec(&end)?,
        )?;
        if status != 200 {
            bail!("could not attach {name}: {}", String::from_utf8_lossy(&answer));
        }
    }
    engine.post(&format!("/containers/{name}/start"), &Value::Null)?;
    Awaited { container: name, network: private.to_owned(), kind: body.kind }.wait(&mut engine)
}
