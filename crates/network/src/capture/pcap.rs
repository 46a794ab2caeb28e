//! The classic format: one header, then a header of 16 bytes before each frame, in the writer's byte order.

use super::{Frame, LONGEST_FRAME, Next};
use crate::reader::Reader;

#[derive(Debug)]
pub(super) struct Pcap<'a> {
    rest: Reader<'a>,
    swapped: bool,
    nanoseconds: bool,
    /// Bytes that some writers add to each frame's header.
    extra: usize,
    link: u32,
}

impl<'a> Pcap<'a> {
    pub(super) fn open(file: &'a [u8]) -> Option<Self> {
        let mut rest = Reader::new(file);
        let (swapped, nanoseconds, extra) = match rest.u32()? {
            0xa1b2_c3d4 => (false, false, 0),
            0xd4c3_b2a1 => (true, false, 0),
            0xa1b2_3c4d => (false, true, 0),
            0x4d3c_b2a1 => (true, true, 0),
            0xa1b2_cd34 => (false, false, 8),
            0x34cd_b2a1 => (true, false, 8),
            _ => return None,
        };
        rest.skip(16)?;
        let mut pcap = Self { rest, swapped, nanoseconds, extra, link: 0 };
        pcap.link = pcap.word()? & 0xffff;
        Some(pcap)
    }

    fn word(&mut self) -> Option<u32> {
        let word = self.rest.u32()?;
        Some(if self.swapped { word.swap_bytes() } else { word })
    }

    pub(super) fn next(&mut self) -> Next<'a> {
        if self.rest.is_empty() {
            return Next::End;
        }
        self.frame().map_or(Next::Damaged, Next::Frame)
    }

    fn frame(&mut self) -> Option<Frame<'a>> {
        let seconds = self.word()?;
        let part = self.word()?;
        let kept = self.word()? as usize;
        let whole = self.word()? as usize;
        self.rest.skip(self.extra)?;
        if kept > LONGEST_FRAME {
            return None;
        }
        let data = self.rest.take(kept)?;
        let micros = if self.nanoseconds { part / 1000 } else { part };
        let time = i64::from(seconds) * 1_000_000 + i64::from(micros);
        Some(Frame { time, link: self.link, data, cut: whole > kept, vouched: false })
    }
}
