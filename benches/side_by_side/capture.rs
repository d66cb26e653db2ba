//! A backup as `backup create` takes it, beside the tool that comes with Redis, from the same server turn about.

use crate::Options;
use crate::data::{self, Client, PASSWORD, Programs, REDIS_7, Server};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::watched::{Watched, watched, worker};
use crate::workshop::Workshop;
use lockstep::desired::OPERATOR;
use std::fs;
use std::path::Path;
use std::time::Instant;

const GROUP: &str = "capture";
const RATIO: f64 = 1.25;
const MEMORY: f64 = 64e6;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let keys = data::mixed_keys(options);
    let mixed = data::mixed(workshop, options, REDIS_7)?;
    let mut rows = compare(workshop, options, &mixed, &format!("{keys} keys"), 0.0)?;
    if options.full {
        rows.extend(compare(workshop, options, &data::large(workshop)?, "2 GB", data::LARGEST as f64)?);
    }
    Ok(rows)
}

fn compare(workshop: &Workshop, options: &Options, dump: &Path, what: &str, largest: f64) -> anyhow::Result<Vec<Row>> {
    let programs = Programs::of(workshop, REDIS_7)?;
    let server = Server::start(workshop, REDIS_7, Some(dump))?;
    let mut client = Client::open(server.address)?;
    client.ask(&[
        b"ACL",
        b"SETUSER",
        OPERATOR.as_bytes(),
        b"on",
        format!(">{PASSWORD}").as_bytes(),
        b"~*",
        b"&*",
        b"+@all",
    ])?;
    let keys = client.ask(&[b"DBSIZE"])?;
    eprintln!("  {what}: {keys} keys");
    let room = workshop.room(GROUP)?;
    let (backups, pulled, copy) = (room.join("backups"), room.join("pulled.rdb"), room.join("copy.rdb"));
    let address = server.address.to_string();
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let capture = |recipient: &str| -> anyhow::Result<Watched> {
        let ran =
            watched(&mut worker(workshop, &["capture", &address, &keys, &backups.display().to_string(), recipient]))?;
        fs::remove_dir_all(&backups)?;
        Ok(ran)
    };
    let (mut peak, mut age_peak, mut rival_peak) = (Series::default(), Series::default(), Series::default());
    let [plain, encrypted, redis_cli, wire, disk] = rounds(
        options.rounds(5, 1),
        [
            ("capture", &mut || {
                let ran = capture("-")?;
                peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("capture with age", &mut || {
                let ran = capture(&recipient)?;
                age_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("redis-cli --rdb", &mut || {
                let ran = watched(&mut data::pull(&programs, server.address, &pulled))?;
                rival_peak.0.push(ran.peak_bytes);
                fs::remove_file(&pulled)?;
                Ok(ran.seconds)
            }),
            ("bare PSYNC", &mut || Ok(watched(&mut worker(workshop, &["sink", &address]))?.seconds)),
            ("copy and sync", &mut || {
                let began = Instant::now();
                let (mut from, mut to) = (fs::File::open(dump)?, fs::File::create(&copy)?);
                std::io::copy(&mut from, &mut to)?;
                to.sync_all()?;
                let seconds = began.elapsed().as_secs_f64();
                fs::remove_file(&copy)?;
                Ok(seconds)
            }),
        ],
    )?;
    server.remove()?;
    let row = |what: String, unit, lockstep: Series, rival, floor, target| Row {
        group: GROUP,
        what,
        unit,
        lockstep,
        rival,
        floor,
        target: Some(target),
    };
    let rival = || beside("redis-cli --rdb", &redis_cli);
    let peaks = || beside("redis-cli --rdb", &rival_peak);
    let ratio = Target::Ratio(RATIO);
    let memory = Target::Below(MEMORY + largest);
    Ok(vec![
        row(
            format!("capture, {what}"),
            Unit::Seconds,
            plain,
            rival(),
            beside("bare PSYNC, nothing kept", &wire),
            ratio,
        ),
        row(
            format!("capture with age, {what}"),
            Unit::Seconds,
            encrypted,
            rival(),
            beside("file copied and synced", &disk),
            ratio,
        ),
        row(format!("peak of capture, {what}"), Unit::Bytes, peak, peaks(), None, memory),
        row(format!("peak with age, {what}"), Unit::Bytes, age_peak, peaks(), None, memory),
    ])
}
