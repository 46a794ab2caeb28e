//! The search language. It lives beside the lake, which takes long to build and is not of interest here, so the fuzzer
//! takes its source in by path.

#[cfg(fuzzing)]
#[allow(dead_code, unused_imports)]
#[path = "../../crates/store/src/query/mod.rs"]
mod query;
use sakimori_model::Event;
#[cfg(not(fuzzing))]
use sakimori_store::query;

/// A search: what parses is written back as a text that parses to the same.
pub fn query_parse(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let Ok(expression) = query::parse(text) else { return };
    let _ = expression.matches(&Event::new());
    let written = expression.to_string();
    if written.len() <= query::MAX_LENGTH {
        assert_eq!(query::parse(&written).as_ref(), Ok(&expression), "{written}");
    }
}
