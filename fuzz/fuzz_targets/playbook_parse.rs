//! A playbook's text, with its CEL conditions: read or refused, and evaluated within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_model::rule::Scope;
use sakimori_model::{Event, Timestamp, field};
use sakimori_respond::playbook::{Playbook, Setting};

fuzz_target!(|text: &str| {
    let Ok(playbook) = Playbook::parse("playbooks/fuzz.yml", text) else { return };
    let mut alert = Event::new();
    alert.set(field::SAKIMORI_ALERT_ID, "a");
    alert.set(field::EVENT_KIND, "alert");
    let now = Timestamp::parse("2026-01-01T00:00:00Z").expect("a time");
    for scope in [Scope::Host, Scope::Wide] {
        let _ = playbook.evaluate(&alert, "a", &Setting { place: "fuzz", now, scope });
    }
});
