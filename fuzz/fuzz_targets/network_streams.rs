//! Bytes through the parser of each protocol: the first byte picks it, the others are pieces of both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_network::{AppProto, exercise};

const PROTOCOLS: [AppProto; 8] = [
    AppProto::Http1,
    AppProto::Http2,
    AppProto::Dns,
    AppProto::Tls,
    AppProto::Ssh,
    AppProto::Smtp,
    AppProto::Ftp,
    AppProto::FtpData,
];

fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        exercise(PROTOCOLS[usize::from(*first) % PROTOCOLS.len()], rest);
    }
});
