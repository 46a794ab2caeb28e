#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sakimori_fuzz::wire::triage_package(bytes));
