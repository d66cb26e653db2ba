//! Many small keys into an empty server: with a journal, beside the same keys replayed as commands.

use crate::Options;
use crate::data::{self, Client, Programs, REDIS_7, Server};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::watched::{Watched, watched, watched_on, worker};
use crate::workshop::{Workshop, timed};
use std::fs::{self, File};

const GROUP: &str = "warm-restore";
const MEMORY: f64 = 64e6;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let dump = data::mixed(workshop, options, REDIS_7)?.display().to_string();
    let keys = data::mixed_keys(options);
    let mut rows = Vec::new();
    for (what, pattern, keys) in [("mixed keys", "*", keys), ("small strings", "[cs]*:*", keys / 4)] {
        rows.extend(compare(workshop, options, &dump, &format!("{keys} {what}"), pattern, keys)?);
    }
    Ok(rows)
}

fn compare(
    workshop: &Workshop,
    options: &Options,
    dump: &str,
    what: &str,
    pattern: &str,
    keys: u64,
) -> anyhow::Result<Vec<Row>> {
    eprintln!("  {what}");
    let room = workshop.room(GROUP)?;
    let (commands, payloads, journal) = (room.join("commands"), room.join("payloads"), room.join("journal"));
    for (form, out) in [("commands", &commands), ("payloads", &payloads)] {
        timed(&mut worker(workshop, &[form, dump, &out.display().to_string(), pattern]))?;
    }
    let programs = Programs::of(workshop, REDIS_7)?;
    let server = Server::start(workshop, REDIS_7, None)?;
    let mut client = Client::open(server.address)?;
    let address = server.address.to_string();
    let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
    let mut settled = |ran: anyhow::Result<Watched>| -> anyhow::Result<Watched> {
        let ran = ran?;
        client.holds(keys)?;
        client.ask(&[b"FLUSHALL", b"SYNC"])?;
        Ok(ran)
    };
    let settled = std::cell::RefCell::new(&mut settled);
    let (mut peak, mut rival_peak) = (Series::default(), Series::default());
    let [warm, pipe, bare] = rounds(
        options.rounds(5, 1),
        [
            ("warm restore", &mut || {
                let ran =
                    watched(&mut worker(workshop, &["warm", &address, dump, &journal.display().to_string(), pattern]));
                let ran = (settled.borrow_mut())(ran)?;
                fs::remove_file(&journal)?;
                peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("redis-cli --pipe", &mut || {
                let mut command = programs.command("redis-cli");
                command.args(["-h", &host, "-p", &port, "--pipe"]);
                let ran = (settled.borrow_mut())(watched_on(&mut command, File::open(&commands)?))?;
                rival_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("ready-made payloads", &mut || {
                let ran = watched(&mut worker(workshop, &["send", &address, &payloads.display().to_string()]));
                Ok((settled.borrow_mut())(ran)?.seconds)
            }),
        ],
    )?;
    server.remove()?;
    Ok(vec![
        Row {
            group: GROUP,
            what: format!("warm restore, {what}"),
            unit: Unit::Seconds,
            lockstep: warm,
            rival: beside("redis-cli --pipe", &pipe),
            floor: beside("the same ready-made, no journal, one connection", &bare),
            target: Some(Target::Ratio(0.5)),
        },
        Row {
            group: GROUP,
            what: format!("peak of warm restore, {what}"),
            unit: Unit::Bytes,
            lockstep: peak,
            rival: beside("redis-cli --pipe", &rival_peak),
            floor: None,
            target: Some(Target::Below(MEMORY)),
        },
    ])
}
