//! The journal on disk: what a crash leaves, what damage is told, what threads see.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use sakimori_journal::{Error, Journal, Options, Recovery};

const SMALL: Options = Options { segment_bytes: 400, max_bytes: u64::MAX, compress: true };

fn open(dir: &Path, options: Options) -> (Journal, Recovery) {
    Journal::open(dir, options).unwrap()
}

fn all(journal: &Journal) -> Vec<(u64, Vec<u8>)> {
    journal.read(0, usize::MAX).unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn record(n: u64) -> Vec<u8> {
    format!("record {n} {}", "x".repeat((n % 7) as usize * 60)).into_bytes()
}

fn fill(journal: &Journal, records: std::ops::Range<u64>) {
    for n in records {
        assert_eq!(journal.append(&record(n)).unwrap(), n);
    }
}

#[test]
fn records_come_back_in_order_from_any_place_before_and_after_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), SMALL);
    fill(&journal, 1..100);
    assert!(segments(dir.path()).len() > 5);
    for from in 1..100 {
        let read = journal.read(from, 1000).unwrap();
        assert!(!read.is_empty() && read.iter().zip(from..).all(|((at, bytes), n)| *at == n && *bytes == record(n)));
    }
    assert_eq!(journal.read(100, 1000).unwrap(), []);
    assert_eq!(journal.read(6, 1).unwrap().len(), 1, "one is given whatever its size");
    journal.sync().unwrap();
    assert_eq!((journal.first(), journal.next(), journal.durable()), (1, 100, 100));
    drop(journal);
    let (journal, recovery) = open(dir.path(), SMALL);
    assert_eq!((recovery.records, recovery.torn_bytes), (99, 0));
    assert_eq!(all(&journal).len(), 99);
    assert_eq!(journal.append(b"next").unwrap(), 100);
}

#[test]
fn bytes_are_what_is_on_disk_and_full_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), Options { max_bytes: 2000, ..SMALL });
    let refused = (1..).find_map(|n| journal.append(&record(n)).err()).unwrap();
    assert!(matches!(refused, Error::Full { max_bytes: 2000, .. }), "{refused}");
    journal.sync().unwrap();
    let on_disk: u64 = segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(journal.bytes(), on_disk);
    assert!(on_disk <= 2000);
    journal.trim(journal.next()).unwrap();
    journal.append(b"there is room again").unwrap();
}

#[test]
fn trimming_deletes_whole_segments_and_keeps_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), SMALL);
    fill(&journal, 1..50);
    let before = segments(dir.path()).len();
    journal.trim(20).unwrap();
    let first = journal.first();
    assert!(first > 1 && first <= 20 && segments(dir.path()).len() < before);
    assert_eq!(journal.read(1, usize::MAX).unwrap()[0].0, first, "what is gone is passed over");
    journal.roll().unwrap();
    journal.trim(u64::MAX).unwrap();
    assert_eq!((journal.first(), journal.next(), segments(dir.path()).len()), (50, 50, 1));
    drop(journal);
    let (journal, _) = open(dir.path(), SMALL);
    assert_eq!(journal.append(b"x").unwrap(), 50, "an empty journal still knows its number");
}

#[test]
fn what_comes_back_from_a_copy_keeps_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create_at(dir.path().join("new"), 41, SMALL).unwrap();
    assert_eq!((journal.first(), journal.append(b"x").unwrap()), (41, 41));
    journal.sync().unwrap();
    drop(journal);
    let (journal, _) = open(&dir.path().join("new"), SMALL);
    assert_eq!(all(&journal), [(41, b"x".to_vec())]);
    assert!(matches!(Journal::create_at(dir.path().join("new"), 1, SMALL), Err(Error::NotEmpty { .. })));
}

#[test]
fn two_processes_cannot_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), SMALL);
    assert!(matches!(Journal::open(dir.path(), SMALL), Err(Error::Busy { .. })));
    drop(journal);
    open(dir.path(), SMALL);
}

#[test]
fn a_missing_segment_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), SMALL);
    fill(&journal, 1..50);
    drop(journal);
    let files = segments(dir.path());
    std::fs::remove_file(&files[2]).unwrap();
    match Journal::open(dir.path(), SMALL) {
        Err(Error::Gap { segment, expected, found, .. }) => {
            assert_eq!(segment, files[3]);
            assert!(expected < found);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hole_that_a_power_failure_left_is_cut_but_not_below_what_was_synced() {
    for synced_after in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let wide = Options { segment_bytes: 1 << 20, ..SMALL };
        let (journal, _) = open(dir.path(), Options { compress: false, ..wide });
        journal.append(&[1; 100]).unwrap();
        journal.sync().unwrap();
        journal.append(&[2; 3000]).unwrap();
        if synced_after {
            journal.sync().unwrap();
        }
        journal.append(&[3; 100]).unwrap();
        drop(journal);
        let file = segments(dir.path()).pop().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[1024..2048].fill(0);
        std::fs::write(&file, &bytes).unwrap();
        match Journal::open(dir.path(), wide) {
            Ok((journal, recovery)) => {
                assert!(!synced_after);
                assert_eq!((journal.next(), recovery.torn_bytes), (2, 3021 + 121));
            }
            Err(Error::Damaged { offset, .. }) => {
                assert!(synced_after);
                assert_eq!(offset, 28 + 121);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_payload_that_looks_like_records_does_not_stop_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Options { segment_bytes: 1 << 20, compress: false, ..SMALL };
    let (journal, _) = open(dir.path(), plain);
    fill(&journal, 1..5);
    journal.sync().unwrap();
    drop(journal);
    // An enemy's log line holds a copy of a whole segment, made elsewhere in the same format.
    let elsewhere = tempfile::tempdir().unwrap();
    let (other, _) = open(elsewhere.path(), plain);
    fill(&other, 1..20);
    drop(other);
    let copy = std::fs::read(segments(elsewhere.path()).pop().unwrap()).unwrap();
    let (journal, _) = open(dir.path(), plain);
    journal.append(&copy).unwrap();
    drop(journal);
    let file = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let (journal, recovery) = open(dir.path(), plain);
    assert_eq!(journal.next(), 5);
    assert_eq!(recovery.torn_bytes, copy.len() as u64 + 20);
}

#[test]
fn readers_in_other_threads_see_every_record_once_while_it_is_written_and_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), Options { segment_bytes: 20_000, ..SMALL });
    let journal = Arc::new(journal);
    const COUNT: u64 = 5000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let journal = Arc::clone(&journal);
            let mut reader = journal.reader();
            scope.spawn(move || {
                let mut next = 1;
                while next < COUNT {
                    for (at, bytes) in reader.read(next, 10_000).unwrap() {
                        assert_eq!((at, bytes), (next, record(next)));
                        next += 1;
                    }
                }
            });
        }
        for n in 1..COUNT {
            journal.append(&record(n)).unwrap();
            if n % 100 == 0 {
                journal.sync().unwrap();
            }
        }
    });
    journal.trim(COUNT).unwrap();
    assert!(journal.first() > 1);
}

#[test]
fn threads_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), Options::default());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let at = journal.append(b"x").unwrap();
                    journal.sync().unwrap();
                    assert!(journal.durable() > at);
                }
            });
        }
    });
    assert_eq!(all(&journal).len(), 400);
}

#[test]
fn many_small_records_are_quick() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), Options::default());
    let begun = std::time::Instant::now();
    for n in 0..100_000_u32 {
        journal.append(format!("a small record, number {n}").as_bytes()).unwrap();
        if n % 1000 == 0 {
            journal.sync().unwrap();
        }
    }
    journal.sync().unwrap();
    let took = begun.elapsed();
    println!("100,000 records with 100 syncs: {took:?}");
    // Generous: other work shares this machine, and the figure of the bench is the one that counts.
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    assert_eq!(journal.read(1, usize::MAX).unwrap().len(), 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A crash at any byte of the last write: what was there before is there again, and no half of a record.
    #[test]
    fn a_cut_anywhere_in_the_last_segment_keeps_the_records_before_it(count in 1_u64..60, cut: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path(), SMALL);
        fill(&journal, 1..count + 1);
        drop(journal);
        let file = segments(dir.path()).pop().unwrap();
        let whole = std::fs::read(&file).unwrap();
        let length = cut.index(whole.len() + 1);
        std::fs::write(&file, &whole[..length]).unwrap();
        let (journal, recovery) = open(dir.path(), SMALL);
        let kept = journal.next() - 1;
        let read = all(&journal);
        prop_assert_eq!(read.len() as u64, kept + 1 - journal.first());
        prop_assert!(read.iter().all(|(at, bytes)| *bytes == record(*at)));
        let end = file.metadata().unwrap().len();
        prop_assert!(recovery.torn_bytes == length as u64 - end.min(length as u64) || length < 28);
        fill(&journal, kept + 1..kept + 5);
        drop(journal);
        let (journal, recovery) = open(dir.path(), SMALL);
        prop_assert_eq!((journal.next(), recovery.torn_bytes), (kept + 5, 0));
    }

    /// A flipped bit is an error that names the segment, or (in the last record of all) a cut of that record only.
    #[test]
    fn a_flip_anywhere_is_seen(file: prop::sample::Index, at: prop::sample::Index, bit in 0_u8..8) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path(), SMALL);
        fill(&journal, 1..40);
        drop(journal);
        let files = segments(dir.path());
        let file = file.get(&files);
        let mut bytes = std::fs::read(file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(file, &bytes).unwrap();
        match Journal::open(dir.path(), SMALL) {
            Err(Error::Damaged { segment, offset, .. }) => {
                prop_assert_eq!(&segment, file);
                prop_assert!(offset <= at as u64);
            }
            Err(other) => prop_assert!(at < 28, "{}", other),
            Ok((journal, recovery)) => {
                prop_assert_eq!(Some(file), files.last());
                prop_assert_eq!(journal.next(), 39);
                prop_assert!(recovery.torn_bytes > 0);
            }
        }
    }
}
