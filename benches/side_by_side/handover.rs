//! How long writes wait while a Redis with 1 GB is replaced by another one.
//!
//! Beside what one would do without lockstep: stop it in order, and start it again on the same volume.

use crate::data::{Client, Server};
use crate::engine::{self, Connection};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::ready::{Awaited, Kind};
use crate::snapshot::{PASSWORD, fill, mix, put};
use crate::stack::{ENVIRONMENT, REDIS};
use crate::workshop::{self, Workshop, timed};
use crate::{Options, ready};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const GROUP: &str = "hand-over";
const KEYS: u64 = 1_000_000;
const VALUE: u64 = 1000;
/// Beyond the engine's own time for taking a container off a network and another one onto it.
const BEYOND: f64 = 0.5;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let project = workshop.room(GROUP)?.join("project");
    let name = workshop.name("moved");
    let files = Cell::new(15_000_u64);
    let write = |files: u64| workshop::write(&project.join("environments/stack.yaml"), &spec(&name, files), 0o644);
    write(files.get())?;
    workshop::write(&project.join("environments/side.yaml"), "secrets: { file: secrets/side.yaml }\n", 0o644)?;
    let secret = format!("reader_password: {PASSWORD}\n");
    workshop::write(&project.join("environments/secrets/side.yaml"), &secret, 0o600)?;
    timed(&mut workshop.lockstep(&project, &["lock"]))?;
    timed(&mut workshop.lockstep(&project, &["apply", ENVIRONMENT]))?;
    let container = format!("{name}-{ENVIRONMENT}-cache");
    let awaited =
        Awaited { container: container.clone(), network: format!("{name}-{ENVIRONMENT}-private"), kind: Kind::Redis };
    workshop::go_on()?;
    eprintln!("  filling: 1 GB");
    fill(address(&awaited)?, PASSWORD, KEYS, 500, value)?;

    let other = Server::start(workshop, REDIS, None)?;
    let (mut whole, mut reported) = (Series::default(), Series::default());
    let [paused, restarted, moved] = rounds(
        options.rounds(3, 1),
        [
            ("lockstep apply", &mut || {
                files.set(files.get() + 1);
                write(files.get())?;
                let ran = timed(&mut workshop.lockstep(&project, &["apply", ENVIRONMENT]))?;
                whole.0.push(ran.seconds);
                let shown = timed(&mut workshop.lockstep(&project, &["history", "show", ENVIRONMENT, "--json"]))?;
                let shown: Value = serde_json::from_str(&shown.stdout)?;
                let paused = shown.pointer("/end/writes_paused_ms").and_then(Value::as_f64);
                let paused = paused.context("the change says no pause")? / 1e3;
                reported.0.push(paused);
                holds(&awaited)?;
                drop_unused(&name)?;
                Ok(paused)
            }),
            ("stop and start", &mut || {
                let mut engine = Connection::open()?;
                let began = Instant::now();
                engine.post(&format!("/containers/{container}/stop?t=120"), &Value::Null)?;
                engine.post(&format!("/containers/{container}/start"), &Value::Null)?;
                // Until it has loaded, which a stranger is not told.
                while let Err(error) = holds(&awaited) {
                    workshop::go_on()?;
                    if began.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(began.elapsed().as_secs_f64())
            }),
            ("networks", &mut || {
                let mut engine = Connection::open()?;
                let network = workshop.name("moves");
                engine.post("/networks/create", &json!({ "Name": network, "Internal": true }))?;
                let member = json!({ "Container": other.container });
                engine.post(&format!("/networks/{network}/connect"), &member)?;
                let began = Instant::now();
                engine.post(&format!("/networks/{network}/disconnect"), &member)?;
                engine.post(&format!("/networks/{network}/connect"), &member)?;
                let seconds = began.elapsed().as_secs_f64();
                engine.post(&format!("/networks/{network}/disconnect"), &member)?;
                engine.delete(&format!("/networks/{network}"))?;
                Ok(seconds)
            }),
        ],
    )?;
    other.remove()?;
    // What it holds goes with everything else that carries the name.
    timed(&mut workshop.lockstep(&project, &["down", ENVIRONMENT, "--yes"]))?;
    let beyond = Series(reported.0.iter().zip(&moved.0).map(|(paused, own)| paused - own).collect());
    let row = |what: &str, lockstep: Series, target| Row {
        group: GROUP,
        what: format!("{what}, 1 GB"),
        unit: Unit::Seconds,
        lockstep,
        rival: beside("stop, start, load", &restarted),
        floor: beside("the engine's networks", &moved),
        target,
    };
    Ok(vec![
        row("writes wait", paused, None),
        row("of it beyond the engine's own time", beyond, Some(Target::Below(BEYOND))),
        row("the whole change, nobody waiting", whole, None),
    ])
}

fn spec(name: &str, files: u64) -> String {
    format!(
        "lockstep: 1\nstack: {name}\nowner: web@alphanode.example\nrehearse: never\nbackup: {{ drill: never }}\nredis:\n  cache:
    image: {REDIS}
    settings: {{ maxmemory: 3gb, maxmemory-policy: noeviction, appendonly: yes, save: \"\" }}
    users:
      reader: {{ password: reader_password, keys: [\"*\"], allow: [\"@all\"] }}
    limits: {{ memory: 4gb, cpus: 2, files: {files} }}
"
    )
}

fn address(awaited: &Awaited) -> anyhow::Result<SocketAddr> {
    ready::wait_for_all(std::slice::from_ref(awaited))?;
    awaited.address(&mut Connection::open()?)?.context("the server has no address")
}

fn holds(awaited: &Awaited) -> anyhow::Result<()> {
    let mut client = Client::open(address(awaited)?)?;
    client.ask(&[b"AUTH", b"reader", PASSWORD.as_bytes()])?;
    client.holds(KEYS)
}

/// Removes the volumes that hand-overs left; the engine keeps those that are in use.
fn drop_unused(name: &str) -> anyhow::Result<()> {
    let mut engine = Connection::open()?;
    let named = engine::filter("name", &[format!("{name}-{ENVIRONMENT}-cache.data")]);
    let listed = engine.get(&format!("/volumes?{named}"))?;
    let volumes = listed.get("Volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let used = volumes.len();
    let mut gone = 0;
    for volume in &volumes {
        let volume = volume.get("Name").and_then(Value::as_str).unwrap_or_default();
        gone += usize::from(engine.delete(&format!("/volumes/{volume}")).is_ok());
    }
    if gone + 1 != used {
        bail!("{used} volumes of data, and {gone} of them could be removed");
    }
    Ok(())
}

fn value(number: u64, batch: &mut Vec<u8>) {
    let words = (0..VALUE / 8).flat_map(|at| mix(number << 32 | at).to_le_bytes());
    put(batch, &[b"SET", format!("page:{number:07}").as_bytes(), &words.collect::<Vec<u8>>()]);
}
