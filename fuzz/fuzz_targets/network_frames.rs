//! A capture file through the whole engine: decoding, fragments, streams, protocols, rules.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sakimori_network::{Engine, LoadOptions, RuleSet, Settings, capture};

const RULES: &str = r#"
alert ip any any -> any any (content:"a"; byte_jump:1,0,relative; content:"b"; distance:0; sid:1;)
alert http any any -> any any (http.uri; content:"a"; pcre:"/(?<=a)b/"; file_data; content:"x"; sid:2;)
drop dns any any -> any any (dns.query; content:"a"; sid:3;)
"#;

fuzz_target!(|file: &[u8]| {
    let Ok(frames) = capture::frames(file) else { return };
    let rules = Arc::new(RuleSet::load(&[("fuzz", RULES)], &LoadOptions::default(), &|_| None));
    let mut settings = Settings::default();
    settings.stream.midstream = true;
    settings.stream.checksums = false;
    let mut engine = Engine::new(settings, rules);
    let mut alerts = Vec::new();
    for (number, frame) in frames.map_while(Result::ok).enumerate() {
        engine.frame(&frame, number as u64 + 1, &mut alerts);
    }
    engine.finish(&mut alerts);
    for alert in &alerts {
        let _ = alert.event();
    }
});
