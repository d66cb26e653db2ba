//! The value of a key, of any type, in files of every version.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lockstep_fuzz::value(bytes));

#[cfg(not(fuzzing))]
fn main() {}
