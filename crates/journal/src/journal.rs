//! The writer: a buffer, the active segment, group commit, and trimming.
//!
//! All methods take `&self`: appends are short and under one lock; a sync holds no lock while the disk
//! works, and threads that wait for one another's sync share it.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reader::Reader;
use crate::record::Payload;
use crate::recover::recover;
use crate::segment::{Segment, sync_dir};
use crate::{Error, Options, Recovery, Result, io};

/// The buffer is written out when it has this many bytes.
const BUFFER: usize = 256 << 10;

/// An open journal. One process has it open at a time; any number of its threads may use it.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    reader: Mutex<Reader>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Held while the disk works, so that those who wait share the next sync.
    turn: Mutex<()>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    dir: PathBuf,
    /// The directory, locked against other processes.
    _lock: File,
    options: Options,
    /// Never empty; the last is written to.
    segments: VecDeque<Segment>,
    /// Encoded records of the last segment that are not in its file yet.
    buffer: Vec<u8>,
    /// Bytes of the last segment that are in its file.
    flushed: u64,
    /// Sequence after the last record that is in its file.
    flushed_end: u64,
    /// All records below are durable.
    durable: u64,
    /// Bytes of all segments.
    total: u64,
    /// A sync failed: what is durable is unknown.
    failed: bool,
}

/// Where a reader finds a record.
pub(crate) struct Place {
    pub file: Arc<File>,
    pub path: PathBuf,
    pub salt: u32,
    /// A record at or before the wanted one, and its offset.
    pub near: (u64, u64),
    /// First record of the segment.
    pub first: u64,
    /// Sequence after the last record of the segment that is in the file now.
    pub end: u64,
    /// Bytes of the segment that are in the file now.
    pub limit: u64,
}

impl Journal {
    /// Opens or makes a journal, reads all of it, and cuts a torn tail off.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`] and [`Error::Gap`] name what stands in the way; nothing is changed.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<(Self, Recovery)> {
        let dir = dir.as_ref().to_owned();
        if !dir.is_dir() {
            io("create directory", &dir, std::fs::create_dir_all(&dir))?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_dir(parent)?;
            }
        }
        let lock = io("open directory", &dir, File::open(&dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(Error::Busy { dir }),
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(Error::Io { doing: "lock directory", path: dir, source });
            }
        }
        let (mut segments, recovery) = recover(&dir)?;
        if segments.is_empty() {
            segments.push_back(Segment::create(&dir, 1)?);
        }
        let last = segments.back().expect("one was just made");
        // What a killed process wrote may still be in the page cache only: from here on it counts as durable.
        io("sync", &last.path, last.file.sync_data())?;
        let inner = Inner {
            buffer: Vec::new(),
            flushed: last.bytes,
            flushed_end: last.end,
            durable: last.end,
            total: segments.iter().map(|segment| segment.bytes).sum(),
            failed: false,
            _lock: lock,
            dir,
            options,
            segments,
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), turn: Mutex::new(()) });
        let reader = Mutex::new(Reader::new(Arc::clone(&shared)));
        Ok((Self { shared, reader }, recovery))
    }

    /// Makes a journal whose first record will have this sequence: records that come back from a copy keep their
    /// numbers.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] where there is a journal already, and as [`Journal::open`].
    pub fn create_at(dir: impl AsRef<Path>, first: u64, options: Options) -> Result<Self> {
        let dir = dir.as_ref();
        io("create directory", dir, std::fs::create_dir_all(dir))?;
        if io("list", dir, std::fs::read_dir(dir))?.next().is_some() {
            return Err(Error::NotEmpty { dir: dir.to_owned() });
        }
        Segment::create(dir, first.max(1))?;
        Ok(Self::open(dir, options)?.0)
    }

    /// Appends a record to the buffer and returns its sequence. It can be read at once, and is durable after
    /// the next [`Journal::sync`]. On an error nothing was appended.
    pub fn append(&self, record: &[u8]) -> Result<u64> {
        let payload = Payload::of(record, self.shared.lock().options.compress)?;
        self.shared.lock().append(&payload)
    }

    /// Makes all that was appended before this call durable.
    ///
    /// # Errors
    /// Where the file cannot be written (no space), a later call tries again. Where `fdatasync` itself fails, the
    /// kernel may have dropped the pages: every later append and sync is [`Error::Failed`].
    pub fn sync(&self) -> Result<()> {
        let wanted = self.shared.lock().next();
        let _turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, path, reached) = {
            let mut inner = self.shared.lock();
            if inner.failed {
                return Err(Error::Failed);
            }
            if inner.durable >= wanted {
                return Ok(());
            }
            inner.flush()?;
            let active = inner.active();
            (Arc::clone(&active.file), active.path.clone(), active.end)
        };
        let synced = file.sync_data();
        let mut inner = self.shared.lock();
        match synced {
            Ok(()) => inner.durable = inner.durable.max(reached),
            Err(_) => inner.failed = true,
        }
        io("sync", &path, synced)
    }

    /// Records from a sequence on (or from the first that is still there): at least one where there is one, then
    /// as many as fit in `max_bytes`.
    pub fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).read(from, max_bytes)
    }

    /// A reader for another thread, which keeps its place.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Deletes the segments that hold only records below this sequence. The last segment stays.
    pub fn trim(&self, below: u64) -> Result<()> {
        self.shared.lock().trim(below)
    }

    /// Ends the segment that is written to, durably, and begins a new one: what comes next can be kept while all
    /// before is trimmed. Without records in the last segment nothing happens.
    pub fn roll(&self) -> Result<()> {
        self.shared.lock().roll()
    }

    /// Sequence of the first record that is still there (of the next one, where there is none).
    pub fn first(&self) -> u64 {
        self.shared.lock().segments.front().map_or(1, |segment| segment.first)
    }

    /// Sequence that the next record will have.
    pub fn next(&self) -> u64 {
        self.shared.lock().next()
    }

    /// All records below this sequence are durable.
    pub fn durable(&self) -> u64 {
        self.shared.lock().durable
    }

    /// Bytes in use, with what is still in the buffer.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().total
    }
}

impl Drop for Journal {
    /// Writes the buffer out, so that a dropped journal loses no more than a killed process with a quiet buffer.
    fn drop(&mut self) {
        if let Err(error) = self.shared.lock().flush() {
            tracing::error!(%error, "the last records of a journal could not be written");
        }
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn active(&self) -> &Segment {
        self.segments.back().expect("a journal has a segment from open on")
    }

    pub fn next(&self) -> u64 {
        self.active().end
    }

    fn append(&mut self, payload: &Payload<'_>) -> Result<u64> {
        if self.failed {
            return Err(Error::Failed);
        }
        let length = payload.len() as u64;
        if self.total + length > self.options.max_bytes {
            return Err(Error::Full { bytes: self.total, max_bytes: self.options.max_bytes });
        }
        if self.active().bytes >= self.options.segment_bytes {
            self.roll()?;
        } else if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        let (salt, sequence) = (self.active().salt, self.next());
        let behind = u32::try_from(sequence.saturating_sub(self.durable)).unwrap_or(u32::MAX);
        payload.encode(salt, sequence, behind, &mut self.buffer);
        self.segments.back_mut().expect("a journal has a segment from open on").add(length);
        self.total += length;
        Ok(sequence)
    }

    /// Writes the buffer at the end of the file. On an error the buffer is kept, and the next try writes it at
    /// the same place.
    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let active = self.active();
        io("write", &active.path, active.file.write_all_at(&self.buffer, self.flushed))?;
        self.flushed += self.buffer.len() as u64;
        self.flushed_end = self.next();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER * 2);
        Ok(())
    }

    fn roll(&mut self) -> Result<()> {
        if self.failed {
            return Err(Error::Failed);
        }
        if self.active().first == self.next() {
            return Ok(());
        }
        self.flush()?;
        let active = self.active();
        if let Err(source) = active.file.sync_data() {
            let path = active.path.clone();
            self.failed = true;
            return Err(Error::Io { doing: "sync", path, source });
        }
        let next = self.next();
        self.durable = next;
        let segment = Segment::create(&self.dir, next)?;
        self.flushed = segment.bytes;
        self.flushed_end = next;
        self.total += segment.bytes;
        self.segments.push_back(segment);
        Ok(())
    }

    fn trim(&mut self, below: u64) -> Result<()> {
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.front().filter(|segment| segment.end <= below) else { break };
            match std::fs::remove_file(&oldest.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => io("delete", &oldest.path, result)?,
            }
            // One by one and in order, so that a power failure cannot bring back an older one before a gap.
            sync_dir(&self.dir)?;
            self.total -= oldest.bytes;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Where a record lies (or the first that is still there), with all that was appended in the file.
    pub fn place(&mut self, from: u64) -> Result<Option<Place>> {
        if from >= self.next() {
            return Ok(None);
        }
        let after = self.segments.partition_point(|segment| segment.first <= from);
        let at = after.saturating_sub(1);
        let active = at + 1 == self.segments.len();
        if active && let Err(error) = self.flush() {
            // On a full disk what is there must still be read, or nothing would ever be sent and trimmed.
            if from >= self.flushed_end {
                return Err(error);
            }
        }
        let Some(segment) = self.segments.get(at) else { return Ok(None) };
        let (end, limit) = if active { (self.flushed_end, self.flushed) } else { (segment.end, segment.bytes) };
        Ok(Some(Place {
            file: Arc::clone(&segment.file),
            path: segment.path.clone(),
            salt: segment.salt,
            near: segment.near(from.clamp(segment.first, end)),
            first: segment.first,
            end,
            limit,
        }))
    }
}
