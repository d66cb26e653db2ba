//! A whole file, from its header on.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lockstep_fuzz::reader(bytes));

#[cfg(not(fuzzing))]
fn main() {}
