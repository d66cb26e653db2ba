//! The fast tests: one binary, no Docker, no network, no clock.
//!
//! `cargo test --release --test it`; `GOLDEN=1` writes the expected texts of `tests/cases` anew.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test ends where it finds something wrong"
)]

mod support;

mod archive;
mod cases;
mod cli;
mod hostile;
mod house;
mod inputs;
mod laws;
mod lock;
mod pull;
mod rdb;
mod redis_text;
mod secrets;
