//! A line through the log source of sshd, sudo, su and useradd: whatever it holds, it becomes an event.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use sakimori_detect::{LineContext, LogSource, Normaliser};
use sakimori_model::{Event, Timestamp, field};

thread_local! {
    static NORMALISER: RefCell<Normaliser> = RefCell::new({
        let source = LogSource::load("logs/linux/auth", &sakimori_content::builtin()).expect("the content has it");
        Normaliser::new(&source).expect("its program compiles")
    });
}

fuzz_target!(|line: &[u8]| {
    let received = Timestamp::parse("2026-01-01T00:00:00Z").expect("a time");
    let event = NORMALISER.with_borrow_mut(|normaliser| normaliser.parse(line, &LineContext::at(received)));
    assert!(event.timestamp().is_some(), "every event has a time");
    assert!(event.get(field::EVENT_KIND).is_some(), "and a kind");
    assert_eq!(Event::from_json(event.to_json()).1, 0, "and no key twice");
});
