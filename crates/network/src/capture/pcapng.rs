//! The newer format: blocks, of which sections, interfaces and packets (enhanced, simple, the obsolete one) are read.

use super::{Frame, LONGEST_FRAME, Next};
use crate::reader::Reader;

/// Most interfaces of a section that are remembered.
const MOST_INTERFACES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct PcapNg {
    little: bool,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    /// Ticks of a second.
    ticks: u64,
    /// Seconds to add.
    offset: i64,
    longest: usize,
}

impl PcapNg {
    /// Does a file begin like one? Its first block tells the rest.
    pub(super) fn begins(file: &[u8]) -> bool {
        Reader::new(file).u32() == Some(0x0a0d_0d0a)
    }

    /// Reads a block that is no packet; false where a packet, the end or damage comes.
    pub(super) fn passed(&mut self, rest: &mut Reader<'_>) -> bool {
        let mut ahead = *rest;
        let passed = !self.packet_comes(*rest) && self.block(&mut ahead).is_some();
        if passed {
            *rest = ahead;
        }
        passed
    }

    fn packet_comes(&self, mut rest: Reader<'_>) -> bool {
        matches!(self.word(&mut rest), Some(2 | 3 | 6))
    }

    pub(super) fn next<'a>(&mut self, rest: &mut Reader<'a>) -> Next<'a> {
        if rest.is_empty() {
            return Next::End;
        }
        self.block(rest).flatten().map_or(Next::Damaged, Next::Frame)
    }

    fn word(&self, reader: &mut Reader<'_>) -> Option<u32> {
        let word = reader.u32()?;
        Some(if self.little { word.swap_bytes() } else { word })
    }

    fn half(&self, reader: &mut Reader<'_>) -> Option<u16> {
        let half = reader.u16()?;
        Some(if self.little { half.swap_bytes() } else { half })
    }

    /// Reads one block: `None` when it is damaged, `Some(None)` when it is no packet.
    fn block<'a>(&mut self, rest: &mut Reader<'a>) -> Option<Option<Frame<'a>>> {
        let mut head = *rest;
        let kind = head.u32()?;
        if kind == 0x0a0d_0d0a {
            let mut probe = head;
            probe.skip(4)?;
            self.little = match probe.u32()? {
                0x4d3c_2b1a => true,
                0x1a2b_3c4d => false,
                _ => return None,
            };
            self.interfaces.clear();
        }
        let kind = if self.little { kind.swap_bytes() } else { kind };
        let length = self.word(&mut head)? as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return None;
        }
        let body = rest.take(length)?.get(8..length - 4)?;
        let mut body = Reader::new(body);
        match kind {
            1 => self.interface(&mut body).map(|()| None),
            2 => self.packet(&mut body, true).map(Some),
            3 => self.simple(&mut body).map(Some),
            6 => self.packet(&mut body, false).map(Some),
            _ => Some(None),
        }
    }

    fn interface(&mut self, body: &mut Reader<'_>) -> Option<()> {
        let link = self.half(body)?;
        self.half(body)?;
        let longest = self.word(body)? as usize;
        let longest = if longest == 0 { LONGEST_FRAME } else { longest };
        let mut interface = Interface { link: link.into(), ticks: 1_000_000, offset: 0, longest };
        while body.len() >= 4 {
            let code = self.half(body)?;
            let length = usize::from(self.half(body)?);
            let value = body.take(length)?;
            body.skip((4 - length % 4) % 4)?;
            match (code, value) {
                (0, _) => break,
                (9, [resolution]) => interface.ticks = ticks(*resolution),
                (14, bytes) if bytes.len() == 8 => {
                    let number = Reader::new(bytes).u64()?;
                    interface.offset = if self.little { number.swap_bytes() } else { number } as i64;
                }
                _ => {}
            }
        }
        if self.interfaces.len() < MOST_INTERFACES {
            self.interfaces.push(interface);
        }
        Some(())
    }

    fn packet<'a>(&self, body: &mut Reader<'a>, obsolete: bool) -> Option<Frame<'a>> {
        let number = if obsolete {
            let number = self.half(body)?;
            self.half(body)?;
            u32::from(number)
        } else {
            self.word(body)?
        };
        let interface = *self.interfaces.get(number as usize)?;
        let high = self.word(body)?;
        let low = self.word(body)?;
        let kept = self.word(body)? as usize;
        let whole = self.word(body)? as usize;
        if kept > LONGEST_FRAME {
            return None;
        }
        let data = body.take(kept)?;
        let ticks = (u64::from(high) << 32) | u64::from(low);
        let micros = u128::from(ticks) * 1_000_000 / u128::from(interface.ticks.max(1));
        let time = i64::try_from(micros).ok()?.checked_add(interface.offset.checked_mul(1_000_000)?)?;
        Some(Frame { time, link: interface.link, data, cut: whole > kept, vouched: false })
    }

    fn simple<'a>(&self, body: &mut Reader<'a>) -> Option<Frame<'a>> {
        let interface = *self.interfaces.first()?;
        let whole = self.word(body)? as usize;
        let kept = whole.min(interface.longest).min(body.len());
        Some(Frame { time: 0, link: interface.link, data: body.take(kept)?, cut: whole > kept, vouched: false })
    }
}

/// Ticks of a second by the `if_tsresol` option.
fn ticks(resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 == 0 {
        10u64.checked_pow(exponent).unwrap_or(u64::MAX)
    } else {
        1u64.checked_shl(exponent).unwrap_or(u64::MAX)
    }
}
