//! An enrolment token, as somebody pastes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_wire::token::EnrolmentToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<EnrolmentToken>() {
        let _ = token.host_port();
        assert!(token.to_string().parse::<EnrolmentToken>().is_ok_and(|again| again == token));
    }
});
