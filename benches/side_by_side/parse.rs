//! Reading a snapshot to its end, beside those who check one or take one apart.

use crate::Options;
use crate::data::{self, Programs, REDIS_6, REDIS_7};
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::watched::{watched, worker};
use crate::workshop::{Workshop, processor_seconds};
use std::path::Path;
use std::process::Command;

const GROUP: &str = "parse";
const MEMORY: f64 = 64e6;
/// Every key and every value, and nothing done with them.
const RDBTOOLS: &str = "import sys; from rdbtools import RdbParser, RdbCallback; \
    RdbParser(RdbCallback(None)).parse(sys.argv[1])";

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let keys = data::mixed_keys(options);
    let old = data::mixed(workshop, options, REDIS_6)?;
    let mut rows = compare(workshop, options, &old, &format!("{keys} keys of 6.0"), REDIS_6, 0.0, true)?;
    let new = data::mixed(workshop, options, REDIS_7)?;
    rows.extend(compare(workshop, options, &new, &format!("{keys} keys of 7.0"), REDIS_7, 0.0, false)?);
    if options.full {
        let large = data::large(workshop)?;
        rows.extend(compare(workshop, options, &large, "2 GB of 7.0", REDIS_7, data::LARGEST as f64, false)?);
    }
    Ok(rows)
}

fn compare(
    workshop: &Workshop,
    options: &Options,
    dump: &Path,
    what: &str,
    image: &str,
    largest: f64,
    rdbtools: bool,
) -> anyhow::Result<Vec<Row>> {
    eprintln!("  {what}: {} bytes", dump.metadata()?.len());
    let programs = Programs::of(workshop, image)?;
    let file = dump.display().to_string();
    let work = |verb: &str| watched(&mut worker(workshop, &[verb, &file]));
    let (mut peak, mut walk_peak, mut check_peak) = (Series::default(), Series::default(), Series::default());
    let (mut read_processor, mut check_processor) = (Series::default(), Series::default());
    // Nobody measures the first look at a file that is not in memory.
    work("crc")?;
    let [read, walk, check, cat, crc] = rounds(
        options.rounds(5, 1),
        [
            ("read and digest", &mut || {
                let before = processor_seconds();
                let ran = work("read")?;
                read_processor.0.push(processor_seconds() - before);
                peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("walk", &mut || {
                let ran = work("walk")?;
                walk_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("redis-check-rdb", &mut || {
                let before = processor_seconds();
                let ran = watched(programs.command("redis-check-rdb").arg(dump))?;
                check_processor.0.push(processor_seconds() - before);
                check_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("cat", &mut || Ok(watched(Command::new("cat").arg(dump))?.seconds)),
            ("crc", &mut || Ok(work("crc")?.seconds)),
        ],
    )?;
    let row = |what: String, unit, lockstep: &Series, rival, floor, target| Row {
        group: GROUP,
        what,
        unit,
        lockstep: lockstep.clone(),
        rival,
        floor,
        target: Some(target),
    };
    let third = Target::Ratio(1.0 / 3.0);
    let memory = Target::Below(MEMORY + largest);
    let mut rows = vec![
        row(
            format!("read and digest, {what}"),
            Unit::Seconds,
            &read,
            beside("redis-check-rdb", &check),
            beside("cat > /dev/null", &cat),
            third,
        ),
        row(
            format!("walk, {what}"),
            Unit::Seconds,
            &walk,
            beside("redis-check-rdb", &check),
            beside("CRC-64 alone", &crc),
            third,
        ),
        // What a busy machine does not lengthen much. Lockstep's is spread over all cores, the other's is on one.
        Row {
            target: None,
            ..row(
                format!("processor time of read, {what}"),
                Unit::Seconds,
                &read_processor,
                beside("redis-check-rdb", &check_processor),
                None,
                third,
            )
        },
        row(format!("peak of read, {what}"), Unit::Bytes, &peak, beside("redis-check-rdb", &check_peak), None, memory),
        row(
            format!("peak of walk, {what}"),
            Unit::Bytes,
            &walk_peak,
            beside("redis-check-rdb", &check_peak),
            None,
            memory,
        ),
    ];
    if rdbtools {
        let python = workshop.fetched("python.sh", &["rdbtools"])?;
        let mut python_peak = Series::default();
        // So much slower that few rounds tell enough.
        let [again, tools] = rounds(
            options.rounds(if options.full { 1 } else { 3 }, 1),
            [
                ("read and digest", &mut || Ok(work("read")?.seconds)),
                ("rdbtools", &mut || {
                    let ran = watched(Command::new(&python).args(["-c", RDBTOOLS]).arg(dump))?;
                    python_peak.0.push(ran.peak_bytes);
                    Ok(ran.seconds)
                }),
            ],
        )?;
        rows.push(row(
            format!("read and digest, {what}"),
            Unit::Seconds,
            &again,
            beside("rdbtools", &tools),
            beside("CRC-64 alone", &crc),
            Target::Ratio(1.0 / 20.0),
        ));
        rows.push(row(
            format!("peak of read, {what}"),
            Unit::Bytes,
            &peak,
            beside("rdbtools", &python_peak),
            None,
            memory,
        ));
    }
    Ok(rows)
}
