//! Nested JSON to an event and back: converting a second time changes nothing (D5).
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_model::Event;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    let (event, _) = Event::from_json(json);
    let (again, repeats) = Event::from_json(event.to_json());
    assert_eq!(repeats, 0, "an event that is written has no key twice");
    assert_eq!(event, again, "an event that is written and read is the same");
});
