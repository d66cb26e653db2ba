//! What can be read is written again and says the same.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lockstep_fuzz::round_trip(bytes));

#[cfg(not(fuzzing))]
fn main() {}
