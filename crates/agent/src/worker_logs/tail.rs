//! Reading a file that grows: whole lines out of chunks, with bounds.
//!
//! A [`Tail`] reads by `pread`, so nothing but its own offset says where it is. A line that is not ended yet
//! is kept and counts as unread: the position that a batch carries is always the beginning of a line, and a
//! restart reads that line again from its start. Of a line longer than [`MAX_LINE`] the beginning is kept and
//! the rest is dropped and counted, so that memory stays bounded whatever is written.
//!
//! A file that was cut (copytruncate, `> file`) is told by its size, or, where it has grown past the offset
//! again, by the hash of its first bytes, which is compared whenever reading begins anew after an end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use sakimori_wire::ipc::{FileIdentity, FilePosition};

/// Longest line that is kept whole, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// Bytes that are read at a time.
pub const CHUNK: usize = 256 * 1024;
/// Lines of one batch.
pub const MAX_LINES: usize = 2_000;
/// First bytes of a file that tell it from another one with the same inode.
pub const HEAD: u32 = 256;
/// How long a file that was rotated away and deleted is watched for late lines.
const LATE: Duration = Duration::from_secs(60);

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Lines, or a part of one; there may be more.
    More,
    /// Nothing new.
    End,
    /// The file is shorter than what was read of it, or begins with other bytes.
    Cut,
}

/// One line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its bytes, at most [`MAX_LINE`].
    pub bytes: &'a [u8],
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of it that were dropped.
    pub dropped: u64,
}

/// Splits what comes in pieces into lines. A carriage return before the line feed is dropped.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
    dropped: u64,
}

impl Splitter {
    /// Hands out the lines that end in `bytes`, at most `most`, and returns how many bytes were used up (all,
    /// where there were fewer lines). `offset` is where `bytes` begins.
    pub fn feed(&mut self, bytes: &[u8], offset: u64, most: usize, mut each: impl FnMut(Line<'_>)) -> usize {
        let mut used = 0;
        let mut lines = 0;
        while lines < most {
            let left = bytes.get(used..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', left) else {
                self.keep(left);
                return bytes.len();
            };
            let piece = left.get(..end).unwrap_or_default();
            let begin = (offset + used as u64).saturating_sub(self.pending());
            if self.partial.is_empty() && piece.len() <= MAX_LINE {
                each(Line { bytes: trim(piece), offset: begin, dropped: 0 });
            } else {
                self.keep(piece);
                each(Line { bytes: trim(&self.partial), offset: begin, dropped: self.dropped });
                self.partial.clear();
                self.partial.shrink_to(CHUNK);
                self.dropped = 0;
            }
            used += end + 1;
            lines += 1;
        }
        used
    }

    /// Bytes of a line that is not ended yet.
    pub fn pending(&self) -> u64 {
        self.partial.len() as u64 + self.dropped
    }

    /// The line that will not be ended any more, where there is one.
    pub fn finish(&mut self) -> Option<(Vec<u8>, u64)> {
        let dropped = std::mem::take(&mut self.dropped);
        let bytes = std::mem::take(&mut self.partial);
        (!bytes.is_empty()).then_some((bytes, dropped))
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.partial.len()).min(piece.len());
        self.partial.extend_from_slice(piece.get(..room).unwrap_or_default());
        self.dropped += (piece.len() - room) as u64;
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// An open file and how far it was read.
#[derive(Debug)]
pub struct Tail {
    file: File,
    identity: FileIdentity,
    head: (u32, u32),
    /// First bytes, as long as all of them were read.
    beginning: Vec<u8>,
    /// Next byte to read; what is pending in the splitter lies before it.
    at: u64,
    splitter: Splitter,
    at_end: bool,
    grew: Instant,
}

impl Tail {
    /// Goes on in a file. The position is what the supervisor found this file by.
    pub fn new(file: File, position: FilePosition, now: Instant) -> Self {
        let known = u32::try_from(position.offset).unwrap_or(u32::MAX);
        let beginning = if known < HEAD { first_bytes(&file, known).unwrap_or_default() } else { Vec::new() };
        Self {
            file,
            identity: position.file,
            head: position.head,
            beginning,
            at: position.offset,
            splitter: Splitter::default(),
            at_end: false,
            grew: now,
        }
    }

    /// Which file it is.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Reads one chunk and hands out the lines that end in it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        most: usize,
        now: Instant,
        each: impl FnMut(Line<'_>),
    ) -> io::Result<Found> {
        let size = size_of(&self.file)?;
        if size < self.at || (self.at_end && size > self.at && !self.same_head()?) {
            return Ok(Found::Cut);
        }
        let got = loop {
            match self.file.read_at(buffer, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if got == 0 {
            // Same size, other content: a file that was cut and written anew to the very same length.
            if !self.at_end && !self.same_head()? {
                return Ok(Found::Cut);
            }
            self.at_end = true;
            return Ok(Found::End);
        }
        self.at_end = false;
        self.grew = now;
        let used = self.splitter.feed(buffer.get(..got).unwrap_or_default(), self.at, most, each);
        if self.at < u64::from(HEAD) && self.beginning.len() as u64 == self.at {
            let more = used.min(HEAD as usize - self.beginning.len());
            self.beginning.extend_from_slice(buffer.get(..more).unwrap_or_default());
        }
        self.at += used as u64;
        Ok(Found::More)
    }

    /// Where reading goes on after a restart. The hash is over bytes as they were read, not as they are now.
    pub fn position(&mut self) -> FilePosition {
        let offset = self.at - self.splitter.pending();
        let wanted = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD as usize);
        if (self.head.0 as usize) < wanted
            && let Some(beginning) = self.beginning.get(..wanted)
        {
            self.head = (u32::try_from(wanted).unwrap_or(HEAD), crc32c::crc32c(beginning));
        }
        FilePosition { file: self.identity, head: self.head, offset }
    }

    /// Is this file, which has a successor, done with? It is when all was read and it is deleted and quiet.
    pub fn is_done(&self, now: Instant, crowded: bool) -> bool {
        self.at_end
            && (crowded
                || (now.duration_since(self.grew) >= LATE
                    && rustix::fs::fstat(&self.file).map_or(true, |data| data.st_nlink == 0)))
    }

    /// The last line of a file that is done with, where no line feed ends it.
    pub fn finish(&mut self) -> Option<(Vec<u8>, u64)> {
        self.splitter.finish()
    }

    fn same_head(&self) -> io::Result<bool> {
        Ok(self.head.0 == 0 || head_of(&self.file, self.head.0)? == self.head)
    }
}

/// Length and CRC-32C of the first bytes of a file, fewer where it is shorter.
///
/// # Errors
/// Where the file cannot be read.
pub fn head_of(file: &File, length: u32) -> io::Result<(u32, u32)> {
    let bytes = first_bytes(file, length)?;
    Ok((u32::try_from(bytes.len()).unwrap_or(u32::MAX), crc32c::crc32c(&bytes)))
}

/// Size of an open file. The sandbox knows no call that would look at a file by its path as well.
pub fn size_of(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

fn first_bytes(file: &File, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; length.min(HEAD) as usize];
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(bytes.get_mut(got..).unwrap_or_default(), got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn split(pieces: &[&[u8]]) -> Vec<(Vec<u8>, u64, u64)> {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        let mut offset = 0;
        for piece in pieces {
            let used = splitter.feed(piece, offset, usize::MAX, |line| {
                out.push((line.bytes.to_vec(), line.offset, line.dropped));
            });
            assert_eq!(used, piece.len());
            offset += piece.len() as u64;
        }
        out
    }

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        let text = b"one\r\ntwo\n\nthr\xffee\nfour";
        let whole = split(&[text]);
        assert_eq!(
            whole,
            vec![
                (b"one".to_vec(), 0, 0),
                (b"two".to_vec(), 5, 0),
                (b"".to_vec(), 9, 0),
                (b"thr\xffee".to_vec(), 10, 0)
            ]
        );
        for at in 0..text.len() {
            let (first, second) = text.split_at(at);
            assert_eq!(split(&[first, second]), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&bytes), whole);
    }

    #[test]
    fn a_line_of_ten_megabytes_keeps_its_beginning_and_counts_the_rest() {
        let mut splitter = Splitter::default();
        let chunk = vec![b'x'; 1 << 20];
        for number in 0..10_u64 {
            splitter.feed(&chunk, number << 20, usize::MAX, |_| panic!("no line ends here"));
            assert!(splitter.partial.capacity() <= 2 * MAX_LINE);
        }
        let mut seen = Vec::new();
        splitter.feed(b"end\nnext\n", 10 << 20, usize::MAX, |line| {
            seen.push((line.bytes.len(), line.offset, line.dropped));
        });
        assert_eq!(seen, vec![(MAX_LINE, 0, (10 << 20) + 3 - MAX_LINE as u64), (4, (10 << 20) + 4, 0)]);
    }

    struct Sample {
        file: std::fs::File,
        tail: Tail,
        buffer: Vec<u8>,
    }

    impl Sample {
        fn new() -> Self {
            let file = tempfile::tempfile().expect("temporary file");
            let tail = Tail::new(file.try_clone().expect("clone"), FilePosition::default(), Instant::now());
            Self { file, tail, buffer: vec![0; CHUNK] }
        }

        fn write(&mut self, text: &str) {
            self.file.write_all(text.as_bytes()).expect("written");
        }

        fn read(&mut self) -> (Vec<String>, Found) {
            let mut lines = Vec::new();
            loop {
                let found = self
                    .tail
                    .read(&mut self.buffer, 3, Instant::now(), |line| {
                        lines.push(String::from_utf8_lossy(line.bytes).into_owned());
                    })
                    .expect("read");
                if found != Found::More {
                    return (lines, found);
                }
            }
        }
    }

    #[test]
    fn growing_is_followed_and_a_part_of_a_line_counts_as_unread() {
        let mut sample = Sample::new();
        assert_eq!(sample.read(), (vec![], Found::End));
        sample.write("a\nb\nc\nd\nhal");
        assert_eq!(sample.read(), (["a", "b", "c", "d"].map(String::from).to_vec(), Found::End));
        let position = sample.tail.position();
        assert_eq!((position.offset, position.head.0), (8, 8));
        sample.write("f\n");
        assert_eq!(sample.read().0, ["half"]);
        assert_eq!(sample.tail.position().offset, 13);
    }

    #[test]
    fn a_cut_is_seen_when_short_and_when_grown_past_the_offset() {
        let mut sample = Sample::new();
        sample.write("first line\n");
        sample.read();
        sample.tail.position();
        sample.file.set_len(0).expect("cut");
        assert_eq!(sample.read().1, Found::Cut);

        let mut sample = Sample::new();
        sample.write("first line\n");
        sample.read();
        sample.tail.position();
        sample.file.set_len(0).expect("cut");
        std::io::Seek::rewind(&mut sample.file).expect("rewind");
        sample.write("another file with much more in it\n");
        assert_eq!(sample.read(), (vec![], Found::Cut));
    }
}
