//! Lockstep side by side with what a person would use instead: one run, one machine, the rounds interleaved.
//!
//! `docs/benchmarks.md` says what each group compares and why. Whatever is made here carries a name that begins
//! with `bench-<process id>-` and is removed at the end, also after a failure or a signal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to whoever started it")]

mod capture;
mod cold;
mod compose;
mod copies;
mod data;
mod drill;
mod engine;
mod handover;
mod large;
mod mask;
mod measure;
mod parse;
mod ready;
mod refresh;
mod second;
mod snapshot;
mod stack;
mod verify;
mod warm;
mod watched;
mod work;
mod workshop;

use anyhow::{Context as _, bail};
use measure::Row;
use std::process::ExitCode;
use workshop::Workshop;

/// What a group is called on the command line, and what runs it.
type Group = (&'static str, fn(&Workshop, &Options) -> anyhow::Result<Vec<Row>>);

const GROUPS: [Group; 13] = [
    ("second-apply", second::run),
    ("cold-apply", cold::run),
    ("check-render", large::run),
    ("snapshot", snapshot::run),
    ("parse", parse::run),
    ("capture", capture::run),
    ("warm-restore", warm::run),
    ("cold-drill", drill::run),
    ("hand-over", handover::run),
    ("copies", copies::run),
    ("mask", mask::run),
    ("verify", verify::run),
    ("refresh", refresh::run),
];

const USAGE: &str = "\
usage: side_by_side [--quick] [--full] [--strict] [GROUP...]

Groups, chosen by any part of their name; all without one: second-apply, cold-apply, check-render, snapshot,
parse, capture, warm-restore, cold-drill, hand-over, copies, mask, verify, refresh
  --quick   fewer repetitions, to see that everything works
  --full    parse to cold-drill with 3,000,000 keys instead of 300,000, and with 2 GB in large values
  --strict  exit 3 when a target is lost";

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    quick: bool,
    pub full: bool,
}

impl Options {
    /// How many rounds, and how many when only a glance is wanted.
    pub fn rounds(&self, thorough: usize, quick: usize) -> usize {
        if self.quick { quick } else { thorough }
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // This binary is also the health check inside the containers of the cold start.
    if arguments.first().is_some_and(|first| first == "probe") {
        return ready::probe(&arguments);
    }
    // And one piece of lockstep's work in a process of its own.
    if let Some((_, arguments)) = arguments.split_first().filter(|(first, _)| *first == "work") {
        return work::run(arguments);
    }
    // What cargo adds by itself.
    arguments.retain(|argument| argument != "--bench");
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let (mut options, mut strict, mut filters) = (Options { quick: false, full: false }, false, Vec::new());
    for argument in arguments {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--full" => options.full = true,
            "--strict" => strict = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            other if other.starts_with('-') => bail!("unknown option `{other}`\n{USAGE}"),
            other => filters.push(other),
        }
    }
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let groups: Vec<&Group> = GROUPS.iter().filter(|(name, _)| chosen(name)).collect();
    if groups.is_empty() {
        bail!("no group is called like `{}`\n{USAGE}", filters.join("`, `"));
    }

    let workshop = Workshop::open()?;
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for (name, group) in groups {
        if workshop::go_on().is_err() {
            failed.push(*name);
            continue;
        }
        eprintln!("{name}");
        match group(&workshop, &options) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                eprintln!("  {name} failed: {error:#}");
                failed.push(*name);
            }
        }
    }
    println!("{}", measure::table(&rows));
    let path = workshop.target.join("bench.json");
    let report = measure::report(&rows, &workshop.facts, options.quick, &failed);
    lockstep::store::files::write_atomically(&path, report.as_bytes(), 0o644).context("could not write the report")?;
    println!("Load of the machine: {} at the start, {} at the end.", workshop.facts.load, workshop::load());
    let lost = rows.iter().filter(|row| row.met() == Some(false)).count();
    println!("{lost} of {} targets lost", rows.iter().filter(|row| row.target.is_some()).count());
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(if strict && lost > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
}
