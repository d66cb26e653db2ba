//! lockstep: one spec, matching stacks, a proven backup before every change.
//!
//! The modules in reading order, which is the order of dependency: each uses those before it.
//! `tests/it/house.rs` keeps it so; `docs/architecture.md` says why.

// Words.
pub mod value;
pub mod finding;
pub mod failure;
// What is known of Redis.
pub mod directive;
// What we want.
pub mod spec;
pub mod render;
pub mod model;
pub mod state;
pub mod acl;
pub mod desired;
// What differs.
pub mod diff;
pub mod plan;
pub mod parity;
pub mod event;
// Data.
pub mod rdb;
pub mod backup;
// The world.
pub mod engine;
pub mod redis;
pub mod http;
pub mod store;
pub mod ui;
pub mod world;
pub mod apply;
// The commands.
pub mod cli;
pub mod project;
pub mod commands;
