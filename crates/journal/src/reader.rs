//! Reading: a cursor over one file, and the handle that follows the writer from any thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::journal::{Place, Shared};
use crate::record::{FRAME, Frame, payload_length};
use crate::{Error, MAX_RECORD, Result, io};

/// Bytes that one read asks for at least.
const CHUNK: usize = 256 << 10;

/// Reads a journal from any thread of the process that has it open, durable or not. It keeps its place, so that
/// reading on costs nothing to find. While a reader lives the journal stays locked against other processes.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    at: Option<At>,
}

/// Where the last read ended.
#[derive(Debug)]
struct At {
    /// First record of the segment, its name.
    segment: u64,
    /// The record that the cursor stands before.
    sequence: u64,
    cursor: Cursor,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, at: None }
    }

    /// Records from a sequence on (or from the first that is still there): at least one where there is one, then
    /// as many as fit in `max_bytes`.
    pub fn read(&mut self, from: u64, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut out = Vec::new();
        let mut room = max_bytes;
        let mut from = from;
        loop {
            let place = self.shared.lock().place(from);
            let place = match place {
                Ok(Some(place)) => place,
                Ok(None) => return Ok(out),
                // What was read is given first; the next call meets the error.
                Err(_) if !out.is_empty() => return Ok(out),
                Err(error) => return Err(error),
            };
            from = from.max(place.first);
            let full = self.read_segment(&place, from, &mut room, &mut out)?;
            if full {
                return Ok(out);
            }
            from = place.end;
        }
    }

    /// Sequence that the next record will have.
    pub fn next(&self) -> u64 {
        self.shared.lock().next()
    }

    /// True where `room` is used up.
    fn read_segment(
        &mut self,
        place: &Place,
        from: u64,
        room: &mut usize,
        out: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<bool> {
        let mut at = match self.at.take() {
            Some(at) if at.segment == place.first && (place.near.0..=from).contains(&at.sequence) => at,
            _ => At {
                segment: place.first,
                sequence: place.near.0,
                cursor: Cursor::new(Arc::clone(&place.file), place.near.1),
            },
        };
        let damaged = |offset: u64, reason: &str| Error::Damaged {
            segment: place.path.clone(),
            offset,
            reason: reason.to_owned(),
        };
        while at.sequence < place.end {
            let offset = at.cursor.offset();
            let bytes = io("read", &place.path, at.cursor.record(place.limit))?;
            let frame = Frame::decode(place.salt, bytes).map_err(|reason| damaged(offset, reason))?;
            if frame.sequence != at.sequence {
                let (expected, found) = (at.sequence, frame.sequence);
                return Err(Error::Gap { segment: place.path.clone(), offset, expected, found });
            }
            if at.sequence >= from {
                let record = frame.open().map_err(|reason| damaged(offset, &reason))?;
                if record.len() > *room && !out.is_empty() {
                    self.at = Some(at);
                    return Ok(true);
                }
                *room = room.saturating_sub(record.len());
                out.push((at.sequence, record));
            }
            let length = frame.len();
            at.cursor.skip(length);
            at.sequence += 1;
        }
        self.at = Some(at);
        Ok(*room == 0)
    }
}

/// A place in a file with a window of bytes from there on.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: Arc<File>,
    window: Vec<u8>,
    /// Place in the window.
    start: usize,
    /// Offset in the file of that place.
    offset: u64,
}

impl Cursor {
    pub fn new(file: Arc<File>, offset: u64) -> Self {
        Self { file, window: Vec::new(), start: 0, offset }
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the record here, fewer where it is cut off at `limit`, at least the head's worth where its
    /// length is impossible.
    pub fn record(&mut self, limit: u64) -> std::io::Result<&[u8]> {
        let length = payload_length(self.peek(FRAME, limit)?).filter(|length| *length <= MAX_RECORD).unwrap_or(0);
        self.peek(FRAME + length, limit)
    }

    /// Moves on by this many bytes, which have been peeked at.
    pub fn skip(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.window.len());
        self.offset += bytes as u64;
    }

    /// The window from here on: at least `want` bytes where the file has them before `limit`.
    fn peek(&mut self, want: usize, limit: u64) -> std::io::Result<&[u8]> {
        let have = self.window.len() - self.start;
        if have < want {
            let from = self.offset + have as u64;
            let left = usize::try_from(limit.saturating_sub(from)).unwrap_or(usize::MAX);
            let more = left.min(CHUNK.max(want - have));
            self.window.drain(..self.start);
            self.start = 0;
            if want <= CHUNK {
                // One huge record must not keep its memory for ever.
                self.window.shrink_to(2 * CHUNK);
            }
            self.window.resize(have + more, 0);
            let fresh = self.window.get_mut(have..).unwrap_or_default();
            self.file.read_exact_at(fresh, from)?;
        }
        Ok(self.window.get(self.start..).unwrap_or_default())
    }
}
