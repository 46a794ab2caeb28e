//! A rule bundle's bytes. The signature is not looked at, so that what lies behind it is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_content::bundle;

fuzz_target!(|bytes: &[u8]| {
    let _ = bundle::read_untrusted(bytes);
});
