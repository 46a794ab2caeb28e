#![no_main]

// What it needs is compiled before the first input, whose time is measured.
libfuzzer_sys::fuzz_target!(init: sakimori_fuzz::detect::arrival(b""), |bytes: &[u8]| sakimori_fuzz::detect::arrival(bytes));
