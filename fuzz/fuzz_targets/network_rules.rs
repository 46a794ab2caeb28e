//! A rule file and a configuration: whatever they hold, what can be read loads and the rest is listed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_network::{LoadOptions, RuleSet, Settings};

fuzz_target!(|text: &str| {
    let set = RuleSet::load(&[("fuzz", text)], &LoadOptions::default(), &|_| None);
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(set.len() + set.refused.len() <= lines, "a line is one rule at the most");
    let _ = Settings::default().apply_yaml(text, &[]);
});
