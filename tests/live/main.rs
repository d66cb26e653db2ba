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

mod backup_refuses;
mod create_from_nothing;
mod drift;
mod engine_trouble;
mod failed_start;
mod foreign_objects;
mod image_lock;
mod kill_sweep;
mod live_setting;
mod lost_replies;
mod parity;
mod restart_and_replace;
mod secrets;
mod servers;
mod signals;
