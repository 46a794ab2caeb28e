//! A batch's bytes, as an agent may send them: refused or read, and what was read can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_wire::batch;

fuzz_target!(|bytes: &[u8]| {
    let header = batch::peek(bytes);
    if let Ok(batch) = batch::decode(bytes) {
        assert_eq!(header.as_ref(), Ok(&batch.header), "a look at the header says what reading all says");
        if let Ok(written) = batch::encode(&batch) {
            let again = batch::decode(&written).expect("what was written can be read");
            assert_eq!(again.events.len(), batch.events.len());
        }
    }
});
