//! The head of a syslog line, in all its forms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_detect::Tz;
use sakimori_detect::syslog::{self, Zone};
use sakimori_model::Timestamp;

fuzz_target!(|line: &str| {
    let received = Timestamp::parse("2026-01-01T00:00:00Z").expect("a time");
    let _ = syslog::parse(line, received, &mut Zone::new(Tz::Asia__Tokyo));
    let _ = syslog::program(line);
});
