//! Batches of the spool that a detection snapshot does not cover, in order, for a worker that starts.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Result;
use sakimori_journal::Reader;
use sakimori_wire::batch;

use super::{CHUNK, Spool, is_own};

/// Batches of a journal that a detection snapshot does not cover, in their order, for a replay.
pub struct Replay {
    reader: Reader,
    next: u64,
    end: u64,
    covers: BTreeMap<String, u64>,
    ready: VecDeque<Vec<u8>>,
}

impl Replay {
    /// Of all records that are there now.
    pub fn new(spool: &Spool, covers: &[(String, u64)]) -> Self {
        let (next, end) = spool.range();
        Self { reader: spool.reader(), next, end, covers: covers.iter().cloned().collect(), ready: VecDeque::new() }
    }
}

impl Iterator for Replay {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(Ok(bytes));
            }
            if self.next >= self.end {
                return None;
            }
            let records = match self.reader.read(self.next, CHUNK) {
                Ok(records) if records.is_empty() => return None,
                Ok(records) => records,
                Err(error) => {
                    self.next = self.end;
                    return Some(Err(error.into()));
                }
            };
            for (number, record) in records {
                self.next = number + 1;
                if number >= self.end {
                    break;
                }
                if let Ok(header) = batch::peek(&record)
                    && !is_own(&header.stream)
                    && self.covers.get(&header.stream).is_none_or(|covered| header.sequence > *covered)
                {
                    self.ready.push_back(record);
                }
            }
        }
    }
}
