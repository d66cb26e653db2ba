//! The manifest of a backup.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lockstep_fuzz::manifest(bytes));

#[cfg(not(fuzzing))]
fn main() {}
