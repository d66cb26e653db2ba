//! The whole command line.

use crate::model::ephemeral::LONGEST_TTL;
use crate::value::Span;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// One spec, matching stacks: staging that cannot drift from production, and changes that cannot lose data.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done and observed, 1 could not finish, 2 the command line or the spec is wrong, \
    3 differences found, 4 refused, 5 the change failed and everything is as it was, 6 it failed and not everything could \
    be taken back, 7 the engine cannot be reached, 9 the backup failed and nothing was changed, \
    128+n ended by a signal after a clean stop."
)]
pub struct Cli {
    /// The folder with `environments/` and `templates/`.
    #[arg(long, global = true, value_name = "DIR", default_value = ".", env = "LOCKSTEP_PROJECT")]
    pub project: PathBuf,

    /// How results are written to standard output.
    #[arg(long, global = true, value_enum, default_value_t = Form::Text)]
    pub format: Form,

    /// Short for `--format json`.
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Text,
    Json,
    /// A suite for each environment, for CI; of `verify`.
    Junit,
    /// For viewers of findings in code; of `verify`.
    Sarif,
    /// For a pull request; of `verify`, and the note of `history show`.
    Markdown,
    /// A page in one file; of `verify` and `history show`.
    Html,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the spec, its environments and its templates; needs no engine.
    Check,
    /// Show the files that would reach the containers of an environment.
    Render {
        environment: String,
        /// Write them below this folder instead of to standard output.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// With `--out`: write secrets too, readable by you alone. Without it they are placeholders.
        #[arg(long, requires = "out")]
        with_secrets: bool,
    },
    /// Pin every image of the spec to the bytes that the engine has for it now; builds what has `build:`.
    Lock {
        /// The environment whose engine is asked; the first one by default.
        #[arg(long, value_name = "ENV")]
        environment: Option<String>,
        /// Change nothing; exit 3 when the lock file would change.
        #[arg(long)]
        check: bool,
    },
    /// Show what `apply` would do and why; exits 3 when there is something to do.
    Plan {
        environment: String,
        /// Write the plan to this file as well; `apply FILE` carries out exactly that plan, or refuses.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make an environment what the spec says, after backing up what it holds; a change that fails is taken back.
    Apply {
        /// The environment, or a file that `plan --out` wrote.
        #[arg(value_name = "ENVIRONMENT|PLAN")]
        target: String,
        #[command(flatten)]
        change: ChangeArguments,
        /// Do not ask whether the environment that this one follows runs the same; needs a reason.
        #[arg(long)]
        skip_gate: bool,
    },
    /// Make an environment what the spec was before a change: images, settings, users and files, and with `--data` its data.
    Rollback {
        environment: String,
        /// The change to take back: its number, or its id or the beginning of it; the newest one by default.
        #[arg(value_name = "CHANGE")]
        number: Option<String>,
        /// Go back to what every Redis held before the change, too, from the backups that it took. What was written since is
        /// backed up, and stays in the volume that is in use now.
        #[arg(long)]
        data: bool,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Remove an environment; data volumes stay unless they are named. Of a copy that `up` or `run --keep` left,
    /// everything goes.
    Down {
        environment: String,
        /// Remove this data volume too, for example `cache.data`. May be repeated.
        #[arg(long, value_name = "VOLUME")]
        delete_data: Vec<String>,
        /// Wait this long, `30s`, `10m`, while somebody else is changing the environment.
        #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = span)]
        lock_wait: Span,
        /// Go on without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Run a command beside a copy of the stack that is there for it alone, with the copy's addresses and secrets in its
    /// environment variables; its exit code becomes this one's. Nothing of the copy is left, however it ends.
    Run(RunArguments),
    /// Launch a copy of the stack that stays until its time is over, or until `down` with its name.
    Up(UpArguments),
    /// List the copies of this stack that `run` and `up` launched and that are still there.
    List,
    /// Show what runs.
    Status { environment: Option<String> },
    /// Prove that an environment is as the spec says, or that several match.
    Verify {
        /// One, compared with the spec; or several, all compared with the first one.
        #[arg(required = true, value_name = "ENVIRONMENT")]
        environments: Vec<String>,
        /// Exit 3 also for a warning, and for one of several environments that cannot be read.
        #[arg(long)]
        strict: bool,
        /// Compare also what every Redis holds, key for key, with the first environment's. It costs each server a fork.
        #[arg(long)]
        data: bool,
        /// Compare also what the keys of every Redis are like, by the rules of `keys:`: how many, of which types, how large,
        /// how long they live. From the first 100,000 keys of a snapshot, which costs each server a fork.
        #[arg(long)]
        shape: bool,
        /// Compare also what the applications answer: asks each for `/`, its health page and what `probes:` names, and
        /// compares statuses, headers and what bodies are made of; then how long the probes take.
        #[arg(long)]
        probes: bool,
        /// Write the result to this file instead of to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Judge how safe an environment is by what runs: permissions, secrets, headers, upload limits, logging, data. Exits 3
    /// when a check fails that `security.accept` does not name.
    Audit {
        environment: String,
        /// What could not be read counts as failed.
        #[arg(long)]
        strict: bool,
    },
    /// Measure what an environment does now; exits 3 when it breaks a bound of the spec, or is not as expected.
    Probe(ProbeArguments),
    /// Take, prove, list, keep and remove backups.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// List the changes of an environment, show one, and prove that nobody touched their record.
    #[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
    History {
        #[command(subcommand)]
        command: Option<HistoryCommand>,
        #[arg(required = true)]
        environment: Option<String>,
        /// How many of the newest.
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: usize,
    },
    /// Say in plain English what an environment will run and why; needs no engine.
    Explain { environment: String },
    /// Give an environment another's data: chosen and masked as `keys:` says, proven, and moved to as a change.
    Refresh(RefreshArguments),
    /// See what the masks of the spec make of a sample.
    #[command(subcommand)]
    Mask(MaskCommand),
    /// Put what a backup holds into a new data volume of its Redis, or with `--warm` into the running server.
    Restore(RestoreArguments),
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "a length of time is written as 30s, 10m or 1h30m".to_owned())
}

/// What every change of an environment to a spec may be told.
#[derive(Debug, clap::Args)]
pub struct ChangeArguments {
    /// Why; kept with the backup and in the ledger.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// What the change is to bring about, such as "p95(article) < 20ms" or "hit_ratio > 0.9"; may be repeated. A change
    /// that does not is taken back.
    #[arg(long, value_name = "EXPECTATION")]
    pub expect: Vec<String>,
    /// Wait this long, `30s`, `10m`, while somebody else is changing the environment.
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = span)]
    pub lock_wait: Span,
    /// Go on without asking, also when the environment is protected; without a terminal a reason is needed then.
    #[arg(long)]
    pub yes: bool,
    /// Leave everything as it is when the change fails, to look at it.
    #[arg(long)]
    pub no_undo: bool,
}

/// A copy of an environment, and how long it is to stay.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The environment that it is a copy of.
    #[arg(default_value = "ci")]
    pub environment: String,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// What a Redis begins with, `cache=seeds/cache.rdb` or `cache=refresh`, in place of what the spec says. May be repeated.
    #[arg(long = "seed", value_name = "REDIS=SEED")]
    pub seeds: Vec<String>,
    /// Keep logs, a JUnit file and the report of `verify` in this folder.
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Leave it up when the command has ended, for as long as `--ttl` says.
    #[arg(long)]
    pub keep: bool,
    /// With `--keep`: how long it stays, from when it was launched; what the spec says by default, or else 1h.
    #[arg(long, value_name = "SPAN", value_parser = ttl, requires = "keep")]
    pub ttl: Option<Span>,
}

/// A copy of an environment that several commands use one after the other.
#[derive(Debug, clap::Args)]
pub struct UpArguments {
    /// The environment that it is a copy of.
    #[arg(default_value = "ci")]
    pub environment: String,
    /// It exists for a while alone. (What is to stay is launched by `apply`.)
    #[arg(long, required = true)]
    pub ephemeral: bool,
    /// How long it stays; what the spec says by default, or else 1h. Whoever comes after that removes it.
    #[arg(long, value_name = "SPAN", value_parser = ttl)]
    pub ttl: Option<Span>,
    /// What a Redis begins with, `cache=seeds/cache.rdb` or `cache=refresh`, in place of what the spec says. May be repeated.
    #[arg(long = "seed", value_name = "REDIS=SEED")]
    pub seeds: Vec<String>,
    /// How its name, addresses and secrets are written: for people, as JSON, as lines that a shell reads, or into the
    /// files of a GitHub job.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
    Env,
    Github,
}

fn ttl(text: &str) -> Result<Span, String> {
    let fits = |ttl: &Span| ttl.milliseconds >= 1_000 && *ttl <= LONGEST_TTL;
    Span::parse(text).filter(fits).ok_or_else(|| "it stays for at least 1s and at most 7d".to_owned())
}

/// Some backups of an environment.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    pub environment: String,
    /// Its id, or the beginning or end of it; the newest one by default.
    #[arg(conflicts_with_all = ["all", "latest"])]
    pub id: Option<String>,
    /// Every backup of the environment.
    #[arg(long, conflicts_with = "latest")]
    pub all: bool,
    /// The newest one of each service.
    #[arg(long)]
    pub latest: bool,
}

#[derive(Debug, clap::Args)]
pub struct ProbeArguments {
    pub environment: String,
    /// What has to hold: `p95(article) < 20ms`, `hit_ratio > 0.9`, `keys(page:*) > 1000`. May be repeated.
    #[arg(long, value_name = "EXPECTATION")]
    pub expect: Vec<String>,
    /// Then watch for as long as `watch:` says: logs, crashes, health pages, hit ratio.
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    pub environment: String,
    /// The backup; its id may be abbreviated.
    #[arg(required_unless_present = "undo")]
    pub backup: Option<String>,
    /// The Redis to restore into; the one that was backed up by default.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Into the running server, key by key, with a journal that takes it back.
    #[arg(long)]
    pub warm: bool,
    /// Only keys that match, `page:*`; may be repeated.
    #[arg(long = "match", value_name = "PATTERN", requires = "warm")]
    pub keys: Vec<String>,
    /// What becomes of the keys' expiry: as it was, later by the age of the backup, or none.
    #[arg(long, value_enum, default_value_t = TtlPolicy::Keep)]
    pub ttl: TtlPolicy,
    /// With `--warm`: what becomes of keys that are there already.
    #[arg(long, value_enum, default_value_t = WhenThere::Replace, requires = "warm")]
    pub existing: WhenThere,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Take back what this journal of a warm restore says.
    #[arg(long, value_name = "JOURNAL", conflicts_with_all = ["backup", "warm", "dry_run"])]
    pub undo: Option<PathBuf>,
    /// With `--undo`: the server is the one that was restored into, although it was started anew since.
    #[arg(long, requires = "undo")]
    pub anywhere: bool,
    /// Why; kept with the backup of what is replaced.
    #[arg(long, value_name = "TEXT", default_value = "restore")]
    pub reason: String,
    /// Wait this long, `30s`, `10m`, while somebody else is changing the environment.
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = span)]
    pub lock_wait: Span,
    /// Go on without asking.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub struct RefreshArguments {
    pub environment: String,
    /// The environment that the data comes from, or one backup of it; the newest proven one of `refresh.from` by default.
    #[arg(long, value_name = "ENVIRONMENT|BACKUP")]
    pub from: Option<String>,
    /// Take a new backup first, and use that.
    #[arg(long)]
    pub fresh: bool,
    /// The one Redis to refresh; all of them by default.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Say by rule what would become of the data, with examples of what is masked, and load nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Why; kept with the backup of what is replaced and in the ledger.
    #[arg(long, value_name = "TEXT", default_value = "refresh")]
    pub reason: String,
    /// Wait this long, `30s`, `10m`, while somebody else is changing the environment.
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = span)]
    pub lock_wait: Span,
    /// Go on without asking.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum MaskCommand {
    /// Show what becomes of each key of a sample: a snapshot (dump.rdb), or lines of JSON with `key` and `value`; needs no
    /// engine. Exits 3 when a refresh from it would be refused; rules without keys in it, and room, are not judged.
    Test {
        file: PathBuf,
        /// Whose secret masks it; without one, a secret that is drawn for this once.
        #[arg(long, value_name = "ENV")]
        environment: Option<String>,
        /// The Redis whose keys they are; the only one by default.
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Show at most this many keys.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TtlPolicy {
    Keep,
    Shift,
    Drop,
}

impl TtlPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            TtlPolicy::Keep => "keep",
            TtlPolicy::Shift => "shift",
            TtlPolicy::Drop => "drop",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenThere {
    Replace,
    Skip,
    Refuse,
}

#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Show the note of a change; with `--json` its records.
    Show {
        environment: String,
        /// Its number, its id or the beginning of it; the newest one by default.
        change: Option<String>,
        /// Write the result to this file instead of to standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Prove that no record was edited, removed or replaced; exits 3 with each place where one was.
    Verify { environment: String },
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Pull a snapshot of every Redis of an environment, or of one, and prove it.
    Create {
        environment: String,
        service: Option<String>,
        #[arg(long, value_name = "TEXT", default_value = "on request")]
        reason: String,
    },
    /// List the backups of an environment, or of all; exits 3 when one is damaged.
    List { environment: Option<String> },
    /// Show all that is known of one backup.
    Show { id: String },
    /// Read RDB files from anywhere to their end, as a backup is read; needs no project. Exits 3 when one is damaged.
    Inspect {
        /// `-` is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Keep an RDB file from anywhere as a backup of an environment, proven like any other.
    Import {
        environment: String,
        /// `-` is standard input.
        file: PathBuf,
        /// The Redis whose data it is; not needed where there is one alone.
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        #[arg(long, value_name = "TEXT", default_value = "imported")]
        reason: String,
    },
    /// Read back every byte of a backup and prove that it is what it says; exits 3 when it is not.
    Verify(Chosen),
    /// Restore backups into throw-away servers of the image that they name, and compare everything.
    Drill(Chosen),
    /// Prove that a backup could be taken and found again, without taking one; exits 3 when not, or when the newest
    /// proven one is older than `backup.max_age`.
    Check { environment: String },
    /// Keep a backup, whatever retention says.
    Pin {
        id: String,
        /// Why; shown in the list.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Leave a pinned backup to retention again.
    Unpin { id: String },
    /// Remove what `backup.keep` does not ask for, and what broken-off backups left; the first, `create` does as well.
    Prune {
        environment: String,
        /// Show what would be done and why, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a backup as the plain dump.rdb that a Redis loads, or as lines of JSON.
    Export {
        id: String,
        /// A new file of mode 600; standard output by default, unless that is a terminal.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// One JSON object for each key, as docs/json-lines.md describes; the last line says that it is whole.
        #[arg(long)]
        json_lines: bool,
        /// With `--json-lines`: only keys whose names match, as in `KEYS`; function libraries are left out.
        #[arg(long = "match", value_name = "PATTERN", requires = "json_lines")]
        pattern: Option<String>,
    },
    /// Name the prefixes and the keys that differ between two backups; exits 3 when there are any.
    ///
    /// Names of keys wait in a nameless file in TMPDIR, for your eyes alone, until the command ends.
    Diff {
        a: String,
        b: String,
        /// A prefix ends with this `:` of a name.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        prefix_depth: u16,
        /// How many keys are named; the counts are those of all.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
}
