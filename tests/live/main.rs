//! lockstep against a real engine and real servers: one file per journey, one intent per test.
//!
//! Needs a Docker engine and the images of `make images`; without them every test fails, none is skipped.
//! What a test makes carries a stack name of its own and is removed when it ends; of a test that failed, the
//! commands, inspections and logs stay in `target/live/`.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test ends where it finds something wrong, and writes its project's files the plain way"
)]

mod support;

mod audit;
mod backup_refuses;
mod backup_verbs;
mod change_fails;
mod ci_examples;
mod create_from_nothing;
mod deviations;
mod drift;
mod engine_trouble;
mod failed_start;
mod foreign_objects;
mod gate;
mod handover;
mod image_lock;
mod kill_sweep;
mod live_setting;
mod lock;
mod lost_replies;
mod parity;
mod probe;
mod rdb_across;
mod rdb_oracle;
mod refresh;
mod rehearsal;
mod replace_app;
mod restart_and_replace;
mod restore_verb;
mod rollback;
mod run;
mod secrets;
mod servers;
mod shared_seed;
mod signals;
mod syscall_sweep;
mod warm_restore;
mod where_files_lie;
