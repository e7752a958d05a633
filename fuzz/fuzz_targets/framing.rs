//! `streamgate::fuzzing` says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streamgate::fuzzing::run("framing", bytes));
