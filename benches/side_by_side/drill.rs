//! A drill from the first request to the last, beside a server that loads the same file and proves nothing.

use crate::Options;
use crate::data::{self, Client, REDIS_7, Server};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::watched::{watched, worker};
use crate::workshop::Workshop;
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Instant;

const GROUP: &str = "cold-drill";
const RATIO: f64 = 1.2;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let keys = data::mixed_keys(options);
    let mut rows = compare(workshop, options, &data::mixed(workshop, options, REDIS_7)?, &format!("{keys} keys"), 0)?;
    if options.full {
        rows.extend(compare(workshop, options, &data::large(workshop)?, "2 GB", data::LARGEST)?);
    }
    Ok(rows)
}

/// The parts of a drill as the worker tells them, in seconds.
const PARTS: [&str; 3] = ["prepare and upload", "start and load", "read back, compare, clear away"];

fn compare(workshop: &Workshop, options: &Options, dump: &Path, what: &str, largest: u64) -> anyhow::Result<Vec<Row>> {
    eprintln!("  {what}");
    let room = workshop.room(GROUP)?;
    let told = room.join("told.json");
    let server = Server::start(workshop, REDIS_7, Some(dump))?;
    let used = Client::open(server.address)?.used_memory()?;
    server.remove()?;
    let (file, stack) = (dump.display().to_string(), workshop.name("stack"));
    let arguments = ["drill", &file, REDIS_7, &stack, &used, &told.display().to_string()];
    let mut parts = PARTS.map(|_| Series::default());
    let (mut peak, mut recovery) = (Series::default(), Series::default());
    let [drill, bare] = rounds(
        options.rounds(5, 1),
        [
            ("drill", &mut || {
                let ran = watched(&mut worker(workshop, &arguments))?;
                let told: Value = serde_json::from_slice(&fs::read(&told)?)?;
                let seconds = |name: &str| told.get(name).and_then(Value::as_f64).context("the drill does not tell");
                for (part, name) in parts.iter_mut().zip(PARTS) {
                    part.0.push(seconds(name)?);
                }
                recovery.0.push(seconds("recovery")?);
                peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("bare load", &mut || {
                let began = Instant::now();
                let server = Server::start(workshop, REDIS_7, Some(dump))?;
                let seconds = began.elapsed().as_secs_f64();
                server.remove()?;
                Ok(seconds)
            }),
        ],
    )?;
    let row = |what: String, lockstep: Series, target| Row {
        group: GROUP,
        what,
        unit: Unit::Seconds,
        lockstep,
        rival: beside("bare start and load, until PONG", &bare),
        floor: None,
        target,
    };
    let mut rows = vec![
        row(format!("cold drill, {what}"), drill, Some(Target::Ratio(RATIO))),
        row(format!("of it until the data is there, {what}"), recovery, Some(Target::Ratio(RATIO))),
    ];
    rows.extend(PARTS.iter().zip(parts).map(|(name, part)| row(format!("of it: {name}, {what}"), part, None)));
    rows.push(Row {
        group: GROUP,
        what: format!("peak of drill, {what}"),
        unit: Unit::Bytes,
        lockstep: peak,
        rival: None,
        floor: None,
        target: Some(Target::Below(64e6 + largest as f64)),
    });
    Ok(rows)
}
