//! The search language: what parses is written back as a text that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_model::Event;
use sakimori_store::query;

fuzz_target!(|text: &str| {
    let Ok(expression) = query::parse(text) else { return };
    let _ = expression.matches(&Event::new());
    let written = expression.to_string();
    if written.len() <= query::MAX_LENGTH {
        assert_eq!(query::parse(&written).as_ref(), Ok(&expression), "{written}");
    }
});
