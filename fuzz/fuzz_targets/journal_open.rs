//! A journal whose one segment is damaged in any way: it opens or says why not, and then takes a record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sakimori_journal::{Journal, Options};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("00000000000000000001.seg"), bytes).expect("a file in it");
    if let Ok((journal, _)) = Journal::open(folder.path(), Options::default()) {
        let _ = journal.read(journal.first(), 1 << 20);
        let number = journal.append(b"record").expect("an opened journal takes a record");
        journal.sync().expect("and keeps it");
        let read = journal.read(number, 1 << 20).expect("and gives it back");
        assert_eq!(read.last().map(|(_, record)| record.as_slice()), Some(&b"record"[..]));
    }
});
