//! lockstep: one spec, matching stacks, a proven backup before every change.
//!
//! The modules in reading order, which is the order of dependency: each uses those before it.
//! `tests/it/house.rs` keeps it so; `docs/architecture.md` says why.

// Words.
pub mod acceptance;
pub mod failure;
pub mod finding;
pub mod measure;
pub mod value;
// What is known of Redis.
pub mod directive;
// What we want.
pub mod acl;
pub mod desired;
pub mod explain;
pub mod model;
pub mod render;
pub mod spec;
pub mod state;
// What differs.
pub mod diff;
pub mod event;
pub mod parity;
pub mod plan;
// Data.
pub mod audit;
pub mod backup;
pub mod digest;
pub mod export;
pub mod hold;
pub mod import;
pub mod keydiff;
pub mod ledger;
pub mod mask;
pub mod probe;
pub mod rdb;
pub mod report;
pub mod restore;
// The world.
pub mod apply;
pub mod engine;
pub mod http;
pub mod redis;
pub mod store;
pub mod ui;
pub mod world;
// The commands.
pub mod cli;
pub mod commands;
pub mod project;
