//! Events and policies as JSON.

use sakimori_model::policy::{self, Layer, Policy};
use sakimori_model::schedule::Schedule;
use sakimori_model::{Event, Timestamp};

/// Nested JSON to an event and back: converting a second time changes nothing (D5).
pub fn event_json(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    let (event, _) = Event::from_json(json);
    let (again, repeats) = Event::from_json(event.to_json());
    assert_eq!(repeats, 0, "an event that is written has no key twice");
    assert_eq!(event, again, "an event that is written and read is the same");
}

/// A policy's layer, an effective policy, and the texts in them.
pub fn policy_json(bytes: &[u8]) {
    if let Ok(tree) = serde_json::from_slice(bytes) {
        let layer = Layer { name: "fuzz".into(), tree };
        if let Ok(effective) = policy::merge(&[policy::default_layer(), layer]) {
            let json = serde_json::to_vec(&effective.policy).expect("a policy can be written");
            assert_eq!(serde_json::from_slice::<Policy>(&json).expect("and read"), effective.policy);
        }
    }
    let _ = serde_json::from_slice::<Policy>(bytes);
    let _ = policy::read(bytes);
    if let Some(text) = super::text(bytes) {
        if let Some(time) = Timestamp::parse(text) {
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "a time is written as it is read");
        }
        if let Ok(schedule) = text.parse::<Schedule>() {
            assert_eq!(schedule.to_string().parse(), Ok(schedule), "a schedule is written as it is read");
        }
        if let Ok(network) = text.parse::<sakimori_model::Network>() {
            assert_eq!(network.to_string().parse(), Ok(network), "a network is written as it is read");
        }
    }
}
