//! The fast tests: one binary, no Docker, no network but this machine's own, no clock.
//!
//! `cargo test --profile quick --test it`; `GOLDEN=1` writes the expected texts of `tests/cases` anew.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test ends where it finds something wrong"
)]

mod support;

mod acceptance;
mod archive;
mod audit;
mod backup;
mod backup_verbs;
mod cases;
mod cli;
mod copies;
mod digest;
mod explain;
mod export;
mod git;
mod hold;
mod hostile;
mod house;
mod import;
mod inputs;
mod keydiff;
mod keyspace;
mod laws;
mod ledger;
mod lock;
mod markup;
mod mask;
mod masker;
mod note;
mod pages;
mod privacy;
mod probe;
mod pull;
mod rdb;
mod rdb_damage;
mod rdb_files;
mod rdb_fixtures;
mod redis_text;
mod report;
mod repository;
mod restore;
mod retention;
mod schema;
mod secrets;
mod shape;
mod value;
mod write;
