//! Segments of the journal.

use sakimori_journal::{Journal, Options};

/// A journal whose one segment is damaged in any way: it opens or says why not, and then takes a record. The first byte
/// says whether the rest is the segment, or changes to a good one: place and value, three bytes each, and its end.
pub fn journal_open(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("00000000000000000001.seg");
    let mut records = 0;
    if kind & 1 == 0 {
        std::fs::write(&path, rest).expect("a file in it");
    } else {
        let (journal, _) = Journal::open(folder.path(), Options::default()).expect("a new journal");
        for size in [3, 300, 0, 40, 2_000] {
            journal.append(&vec![b'r'; size]).expect("a record");
        }
        journal.sync().expect("on disk");
        drop(journal);
        records = 5;
        let mut segment = std::fs::read(&path).expect("the segment");
        let (edits, tail) = rest.as_chunks::<3>();
        for [low, high, value] in edits {
            let at = usize::from(u16::from_le_bytes([*low, *high]));
            if let Some(byte) = segment.get_mut(at) {
                *byte ^= value;
            }
        }
        if let [cut, _] = tail {
            segment.truncate(segment.len() - usize::from(*cut).min(segment.len()));
        }
        std::fs::write(&path, segment).expect("written");
    }
    if let Ok((journal, _)) = Journal::open(folder.path(), Options::default()) {
        let read = journal.read(journal.first(), 1 << 20);
        if let (Ok(read), 1..) = (&read, records) {
            assert!(read.iter().all(|(_, record)| record.iter().all(|byte| *byte == b'r')), "no record was altered");
        }
        let number = journal.append(b"record").expect("an opened journal takes a record");
        journal.sync().expect("and keeps it");
        let read = journal.read(number, 1 << 20).expect("and gives it back");
        assert_eq!(read.last().map(|(_, record)| record.as_slice()), Some(&b"record"[..]));
    }
}
