//! A Sigma file's text: rules are loaded or reported with their line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_detect::{Detector, Options};

fuzz_target!(|text: &str| {
    let (_, errors) = Detector::load(&[("sigma/fuzz.yml", text)], Options::default());
    for error in errors {
        assert!(!error.to_string().is_empty());
    }
});
