//! Masking a snapshot of small keys, one of two decided to be masked, beside reading it and doing nothing.

use crate::Options;
use crate::measure::{Row, Series, Target, Unit, beside, rounds};
use crate::watched::{watched, worker};
use crate::workshop::{Workshop, processor_seconds};
use lockstep::rdb::{Family, Target as Format, Type, Writer};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

const GROUP: &str = "mask";
const KEYS: u64 = 1_000_000;
const MEMORY: f64 = 64e6;

pub fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<Vec<Row>> {
    let dump = small(workshop)?;
    let file = dump.display().to_string();
    let work = |verb: &str| watched(&mut worker(workshop, &[verb, &file]));
    work("crc")?;
    let (mut pass_peak, mut survey_peak) = (Series::default(), Series::default());
    let mut processor = Series::default();
    let [keep, mask, survey, walk, read] = rounds(
        options.rounds(5, 1),
        [
            ("the pass, keys kept or dropped", &mut || Ok(work("keep")?.seconds)),
            ("the pass, half of them masked", &mut || {
                let before = processor_seconds();
                let ran = work("mask")?;
                processor.0.push(processor_seconds() - before);
                pass_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("the survey with its proofs", &mut || {
                let ran = work("survey")?;
                survey_peak.0.push(ran.peak_bytes);
                Ok(ran.seconds)
            }),
            ("walk", &mut || Ok(work("walk")?.seconds)),
            ("read and digest", &mut || Ok(work("read")?.seconds)),
        ],
    )?;
    let row = |what: &str, unit, lockstep: &Series, floor, target| Row {
        group: GROUP,
        what: format!("{what}, {KEYS} small keys"),
        unit,
        lockstep: lockstep.clone(),
        rival: None,
        floor,
        target,
    };
    // A million a second.
    let second = Some(Target::Below(1.0));
    Ok(vec![
        row("the pass, keys kept or dropped", Unit::Seconds, &keep, beside("walk", &walk), second),
        row("the pass, half of them masked", Unit::Seconds, &mask, beside("walk", &walk), second),
        row("processor time of that", Unit::Seconds, &processor, beside("walk", &walk), second),
        row("the survey with its proofs", Unit::Seconds, &survey, beside("read and digest", &read), None),
        row("peak of the pass", Unit::Bytes, &pass_peak, None, Some(Target::Below(MEMORY))),
        row("peak of the survey", Unit::Bytes, &survey_peak, None, Some(Target::Below(MEMORY))),
    ])
}

/// Pages that are kept, addresses and people that are masked, sessions that are dropped.
fn small(workshop: &Workshop) -> anyhow::Result<PathBuf> {
    let path = workshop.room("data")?.join("small.rdb");
    if !path.exists() {
        eprintln!("  writing {KEYS} keys");
        write(&path)?;
    }
    Ok(path)
}

fn write(path: &Path) -> anyhow::Result<()> {
    let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut writer = Writer::begin(out, Format { family: Family::Redis, version: 11 })?;
    for number in 0..KEYS {
        let email = format!("person{number}@shop.test");
        match number % 10 {
            0..=3 => {
                let (key, page) = (format!("page:{number}"), format!("<p>page {number} of the shop</p>"));
                writer.own(0, key.as_bytes(), Type::String, None, |made| made.text(page.as_bytes()))?
            }
            4..=6 => {
                let key = format!("mail:{number}");
                writer.own(0, key.as_bytes(), Type::String, None, |made| made.text(email.as_bytes()))?
            }
            7 | 8 => {
                let key = format!("user:{number}");
                writer.own(0, key.as_bytes(), Type::Hash, None, |made| {
                    made.field(b"email", email.as_bytes(), None);
                    made.field(b"level", b"gold", None);
                })?
            }
            _ => {
                let key = format!("session:{number}");
                writer.own(0, key.as_bytes(), Type::String, None, |made| made.text(email.as_bytes()))?
            }
        };
    }
    writer.finish()?;
    Ok(())
}
