//! A listpack, as each type of value that is kept in one.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lockstep_fuzz::listpack(bytes));

#[cfg(not(fuzzing))]
fn main() {}
