//! A compressed string, short and long.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lockstep_fuzz::lzf(bytes));

#[cfg(not(fuzzing))]
fn main() {}
