//! Capture files: pcap and pcapng, read piece by piece, so that a file of any size takes one window of memory.
//!
//! [`Capture::open`] tells the two apart by their first bytes. What is cut off at the end is left out and says so.

mod pcap;
mod pcapng;

use std::io::{self, Read};

use crate::reader::Reader;

/// Longest frame that is taken; a longer one means that the file is damaged.
const LONGEST_FRAME: usize = 1 << 18;
/// Bytes that are read ahead; no frame or block may be longer.
const WINDOW: usize = 1 << 20;

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Microseconds since 1970.
    pub time: i64,
    /// Link type (`LINKTYPE_*` of the tcpdump group).
    pub link: u32,
    pub data: &'a [u8],
    /// The frame was longer than what was kept of it.
    pub cut: bool,
    /// Whoever hands it over vouches for its checksums (the kernel, which has looked, or will write them itself).
    pub vouched: bool,
}

/// Why a capture cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    #[error("neither a pcap nor a pcapng file")]
    Unknown,
    #[error("the file is cut off or damaged after {frames} frames")]
    Damaged { frames: u64 },
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// A capture file that is being read.
#[derive(Debug)]
pub struct Capture<R> {
    from: R,
    window: Vec<u8>,
    /// What of the window was taken.
    at: usize,
    kind: Kind,
    /// Frames so far.
    count: u64,
    /// Nothing more is in the file.
    read: bool,
    ended: bool,
}

#[derive(Debug)]
enum Kind {
    Pcap(pcap::Pcap),
    PcapNg(pcapng::PcapNg),
}

/// What a reader finds next.
enum Next<'a> {
    Frame(Frame<'a>),
    End,
    Damaged,
}

impl<R: Read> Capture<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// It is no capture, or cannot be read.
    pub fn open(from: R) -> Result<Self, CaptureError> {
        let kind = Kind::PcapNg(pcapng::PcapNg::default());
        let mut capture = Self { from, window: Vec::new(), at: 0, kind, count: 0, read: false, ended: false };
        capture.fill()?;
        let mut rest = Reader::new(&capture.window);
        match pcap::Pcap::open(&mut rest) {
            Some(pcap) => {
                capture.at = capture.window.len() - rest.len();
                capture.kind = Kind::Pcap(pcap);
            }
            None if pcapng::PcapNg::begins(&capture.window) => {}
            None => return Err(CaptureError::Unknown),
        }
        Ok(capture)
    }

    /// The next frame, in file order. An error is the last item.
    // No iterator: a frame lies in the window, which the next one may move.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Frame<'_>, CaptureError>> {
        if self.ended {
            return None;
        }
        loop {
            match self.pass_over() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let window = self.window.get(self.at..).unwrap_or_default();
        let mut rest = Reader::new(window);
        let next = match &mut self.kind {
            Kind::Pcap(reader) => reader.next(&mut rest),
            Kind::PcapNg(reader) => reader.next(&mut rest),
        };
        self.at += window.len() - rest.len();
        match next {
            Next::Frame(frame) => {
                self.count += 1;
                Some(Ok(frame))
            }
            Next::End => {
                self.ended = true;
                None
            }
            Next::Damaged => {
                self.ended = true;
                Some(Err(CaptureError::Damaged { frames: self.count }))
            }
        }
    }

    /// Passes over what is no frame; false where there is no such thing.
    fn pass_over(&mut self) -> Result<bool, CaptureError> {
        self.fill()?;
        let window = self.window.get(self.at..).unwrap_or_default();
        let mut rest = Reader::new(window);
        let passed = match &mut self.kind {
            Kind::Pcap(_) => false,
            Kind::PcapNg(reader) => reader.passed(&mut rest),
        };
        self.at += window.len() - rest.len();
        Ok(passed)
    }

    /// Sees to it that a whole frame lies in the window, if the file has one.
    fn fill(&mut self) -> Result<(), CaptureError> {
        if self.read || self.window.len() - self.at > 2 * LONGEST_FRAME {
            return Ok(());
        }
        self.window.drain(..self.at);
        self.at = 0;
        let room = WINDOW.saturating_sub(self.window.len()) as u64;
        let got = self.from.by_ref().take(room).read_to_end(&mut self.window);
        let got = got.map_err(|error| CaptureError::Unreadable(error.kind()))?;
        self.read = (got as u64) < room;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        file.extend([0; 8]);
        file.extend(65535u32.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([7u32, 5, 3, 4].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(b"abc");
        file
    }

    /// The data of all frames, and how it ended.
    fn all(file: &[u8]) -> (Vec<Vec<u8>>, Option<CaptureError>) {
        let mut capture = Capture::open(file).unwrap();
        let mut frames = Vec::new();
        loop {
            match capture.next() {
                Some(Ok(frame)) => frames.push(frame.data.to_vec()),
                Some(Err(error)) => return (frames, Some(error)),
                None => return (frames, None),
            }
        }
    }

    #[test]
    fn little_endian_pcap() {
        let file = file();
        let mut capture = Capture::open(file.as_slice()).unwrap();
        let expected = Frame { time: 7_000_005, link: 1, data: b"abc", cut: true, vouched: false };
        assert_eq!(capture.next(), Some(Ok(expected)));
        assert_eq!(capture.next(), None);
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let mut file = file();
        file.extend([1, 2, 3]);
        assert_eq!(all(&file), (vec![b"abc".to_vec()], Some(CaptureError::Damaged { frames: 1 })));
        assert_eq!(Capture::open(&b"no capture"[..]).err(), Some(CaptureError::Unknown));
    }

    #[test]
    fn a_file_larger_than_the_window_is_read_whole_in_one_window() {
        let mut file = file();
        file.truncate(24);
        let longest = u32::try_from(LONGEST_FRAME).unwrap();
        for number in 0..20_u8 {
            let length = longest - u32::from(number);
            file.extend([0, 0, length, length].iter().flat_map(|word| word.to_le_bytes()));
            file.extend(vec![number; length as usize]);
        }
        let mut capture = Capture::open(file.as_slice()).unwrap();
        for number in 0..20_u8 {
            let frame = capture.next().unwrap().unwrap();
            assert_eq!(frame.data.len(), LONGEST_FRAME - usize::from(number));
            assert!(frame.data.iter().all(|byte| *byte == number));
        }
        assert_eq!(capture.next(), None);
        assert!(capture.window.capacity() <= 2 * WINDOW, "{}", capture.window.capacity());
    }
}
