//! Opening: reads every record of every segment and tells a torn tail from damage.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::reader::Cursor;
use crate::record::{FRAME, Frame, HEADER, Header, announced_sequence, payload_length};
use crate::segment::{Segment, first_of_name};
use crate::{Error, Recovery, Result, io};

/// What a disk writes at once; a hole that a power failure leaves is at least that large.
const SECTOR: u64 = 512;
/// Most bytes that the search for a record after damage may checksum: an enemy's payload can be full of what
/// looks like a record's head.
const SEARCH_BUDGET: usize = 1 << 30;

/// Reads all segments. Empty where there are none.
pub(crate) fn recover(dir: &Path) -> Result<(VecDeque<Segment>, Recovery)> {
    let names = list(dir)?;
    let mut recovery = Recovery { segments: names.len(), ..Recovery::default() };
    let mut segments: VecDeque<Segment> = VecDeque::new();
    for (at, (first, path)) in names.iter().enumerate() {
        let last = at + 1 == names.len();
        if let Some(former) = segments.back()
            && former.end != *first
        {
            return Err(Error::Gap { segment: path.clone(), offset: 0, expected: former.end, found: *first });
        }
        let segment = read(dir, path, *first, last, &mut recovery)?;
        recovery.records += segment.end - segment.first;
        segments.push_back(segment);
    }
    Ok((segments, recovery))
}

/// Segments by their first record; drafts of a crashed creation are deleted.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut names = Vec::new();
    for entry in io("list", dir, std::fs::read_dir(dir))? {
        let path = io("list", dir, entry)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(first) = first_of_name(name) {
            names.push((first, path));
        } else if path.extension().is_some_and(|extension| extension == "new") {
            io("delete", &path, std::fs::remove_file(&path))?;
        }
    }
    names.sort();
    Ok(names)
}

fn read(dir: &Path, path: &Path, first: u64, last: bool, recovery: &mut Recovery) -> Result<Segment> {
    let damaged = |offset: u64, reason: String| Error::Damaged { segment: path.to_owned(), offset, reason };
    let mut file = io("open", path, File::options().read(true).write(true).open(path))?;
    let limit = io("inspect", path, file.metadata())?.len();
    if last && limit < HEADER as u64 {
        // Only a file system that forgot a synced file can do this; there was no record in it.
        recovery.torn_bytes += limit;
        recovery.torn_at = Some((path.to_owned(), 0));
        return Segment::create(dir, first);
    }
    let mut bytes = Vec::with_capacity(HEADER);
    io("read", path, (&mut file).take(HEADER as u64).read_to_end(&mut bytes))?;
    let header = Header::decode(&bytes).map_err(|reason| damaged(0, reason))?;
    if header.first != first {
        return Err(damaged(0, format!("its header says that it begins with record {}", header.first)));
    }
    let mut segment = Segment::known(path.to_owned(), file, header.salt, first);
    let mut cursor = Cursor::new(Arc::clone(&segment.file), HEADER as u64);
    while segment.bytes < limit {
        let frame = match Frame::decode(header.salt, io("read", path, cursor.record(limit))?) {
            Ok(frame) => frame,
            Err(reason) if last => {
                judge(&segment, limit, reason)?;
                recovery.torn_bytes += limit - segment.bytes;
                recovery.torn_at = Some((path.to_owned(), segment.bytes));
                io("cut", path, segment.file.set_len(segment.bytes))?;
                io("sync", path, segment.file.sync_all())?;
                break;
            }
            Err(reason) => return Err(damaged(segment.bytes, format!("{reason}, and a later segment follows"))),
        };
        if frame.sequence != segment.end {
            let (offset, expected, found) = (segment.bytes, segment.end, frame.sequence);
            return Err(Error::Gap { segment: path.to_owned(), offset, expected, found });
        }
        let length = frame.len();
        cursor.skip(length);
        segment.add(length as u64);
    }
    Ok(segment)
}

/// Is what lies after the last good record a torn tail (`Ok`), or damage with good records after it?
fn judge(segment: &Segment, limit: u64, reason: &str) -> Result<()> {
    let offset = segment.bytes;
    let mut tail = Vec::new();
    let mut file = &*segment.file;
    io("seek", &segment.path, file.seek(SeekFrom::Start(offset)))?;
    io("read", &segment.path, file.take(limit - offset).read_to_end(&mut tail))?;
    let error = |reason: String| Error::Damaged { segment: segment.path.clone(), offset, reason };
    let found = search(segment, &tail)
        .ok_or_else(|| error(format!("{reason}, and what follows cannot be told from records")))?;
    let Some(Found { at, durable }) = found else { return Ok(()) };
    if !durable && never_written(tail.get(..at).unwrap_or_default(), offset) {
        return Ok(());
    }
    Err(error(format!("{reason}, and a good record follows at offset {}", offset + at as u64)))
}

/// A good record after damage.
struct Found {
    /// Its place in the tail.
    at: usize,
    /// Does it, or one after it, show that the damaged record was durable when it was written?
    durable: bool,
}

/// Looks for a good record after the first byte of the tail. `None` where the budget is used up.
fn search(segment: &Segment, tail: &[u8]) -> Option<Option<Found>> {
    let expected = segment.end;
    let furthest = expected + (tail.len() / FRAME) as u64;
    let mut budget = SEARCH_BUDGET;
    let mut found: Option<Found> = None;
    let mut at = 1;
    while let Some(rest) = tail.get(at..).filter(|rest| rest.len() >= FRAME) {
        let plausible = announced_sequence(rest).is_some_and(|sequence| (expected..=furthest).contains(&sequence))
            && payload_length(rest).is_some_and(|length| length <= rest.len() - FRAME);
        if plausible {
            budget = budget.checked_sub(payload_length(rest).unwrap_or(0))?;
            if let Ok(frame) = Frame::decode(segment.salt, rest) {
                let durable = frame.sequence.saturating_sub(u64::from(frame.behind)) > expected;
                let found = found.get_or_insert(Found { at, durable });
                found.durable |= durable;
                at += frame.len();
                continue;
            }
        }
        at += 1;
    }
    Some(found)
}

/// Is there a whole sector of zeros in the damage, as a write that never reached the disk leaves it?
fn never_written(damage: &[u8], offset: u64) -> bool {
    let skip = (SECTOR - offset % SECTOR) % SECTOR;
    let aligned = usize::try_from(skip).ok().and_then(|skip| damage.get(skip..)).unwrap_or_default();
    aligned.chunks_exact(SECTOR as usize).any(|sector| sector.iter().all(|byte| *byte == 0))
}
