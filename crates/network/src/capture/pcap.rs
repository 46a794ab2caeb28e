//! The classic format: one header, then a header of 16 bytes before each frame, in the writer's byte order.

use super::{Frame, LONGEST_FRAME, Next};
use crate::reader::Reader;

#[derive(Debug)]
pub(super) struct Pcap {
    swapped: bool,
    nanoseconds: bool,
    /// Bytes that some writers add to each frame's header.
    extra: usize,
    link: u32,
}

impl Pcap {
    /// By the header of a file.
    pub(super) fn open(rest: &mut Reader<'_>) -> Option<Self> {
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
        let mut pcap = Self { swapped, nanoseconds, extra, link: 0 };
        pcap.link = pcap.word(rest)? & 0xffff;
        Some(pcap)
    }

    fn word(&self, rest: &mut Reader<'_>) -> Option<u32> {
        let word = rest.u32()?;
        Some(if self.swapped { word.swap_bytes() } else { word })
    }

    pub(super) fn next<'a>(&self, rest: &mut Reader<'a>) -> Next<'a> {
        if rest.is_empty() {
            return Next::End;
        }
        self.frame(rest).map_or(Next::Damaged, Next::Frame)
    }

    fn frame<'a>(&self, rest: &mut Reader<'a>) -> Option<Frame<'a>> {
        let seconds = self.word(rest)?;
        let part = self.word(rest)?;
        let kept = self.word(rest)? as usize;
        let whole = self.word(rest)? as usize;
        rest.skip(self.extra)?;
        if kept > LONGEST_FRAME {
            return None;
        }
        let data = rest.take(kept)?;
        let micros = if self.nanoseconds { part / 1000 } else { part };
        let time = i64::from(seconds) * 1_000_000 + i64::from(micros);
        Some(Frame { time, link: self.link, data, cut: whole > kept, vouched: false })
    }
}
