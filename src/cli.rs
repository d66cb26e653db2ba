//! The whole command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// One spec, matching stacks: staging that cannot drift from production, and changes that cannot lose data.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done and observed, 1 could not finish, 2 the command line or the spec is wrong, \
    3 differences found, 4 refused, 7 the engine cannot be reached, 9 the backup failed and nothing was changed, \
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
    Plan { environment: String },
    /// Make an environment what the spec says, after backing up what it holds.
    Apply {
        environment: String,
        /// Why; kept with the backup.
        #[arg(long, value_name = "TEXT", default_value = "apply")]
        reason: String,
        /// Go on without asking, also when the environment is protected.
        #[arg(long)]
        yes: bool,
    },
    /// Remove an environment; data volumes stay unless they are named.
    Down {
        environment: String,
        /// Remove this data volume too, for example `cache.data`. May be repeated.
        #[arg(long, value_name = "VOLUME")]
        delete_data: Vec<String>,
        /// Go on without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Show what runs.
    Status { environment: Option<String> },
    /// Prove that an environment is as the spec says, or that two environments match.
    Verify {
        environment: String,
        /// Compare with this one.
        with: Option<String>,
    },
    /// Take and list backups.
    #[command(subcommand)]
    Backup(BackupCommand),
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
    /// List the backups of an environment, or of all.
    List { environment: Option<String> },
}
