//! Capture files: pcap and pcapng, from bytes that the caller has read.
//!
//! [`frames`] tells the two apart by their first bytes. What is cut off at the end is left out and says so.

mod pcap;
mod pcapng;

/// Longest frame that is taken; a longer one means that the file is damaged.
const LONGEST_FRAME: usize = 1 << 18;

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
}

/// Walks the frames of a capture file.
pub fn frames(file: &[u8]) -> Result<Frames<'_>, CaptureError> {
    let inner = if let Some(reader) = pcap::Pcap::open(file) {
        Kind::Pcap(reader)
    } else if let Some(reader) = pcapng::PcapNg::open(file) {
        Kind::PcapNg(reader)
    } else {
        return Err(CaptureError::Unknown);
    };
    Ok(Frames { inner, count: 0, ended: false })
}

/// Frames in file order. Damage is the last item.
#[derive(Debug)]
pub struct Frames<'a> {
    inner: Kind<'a>,
    count: u64,
    ended: bool,
}

#[derive(Debug)]
enum Kind<'a> {
    Pcap(pcap::Pcap<'a>),
    PcapNg(pcapng::PcapNg<'a>),
}

/// What a reader finds next.
enum Next<'a> {
    Frame(Frame<'a>),
    End,
    Damaged,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match &mut self.inner {
            Kind::Pcap(reader) => reader.next(),
            Kind::PcapNg(reader) => reader.next(),
        };
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

    #[test]
    fn little_endian_pcap() {
        let file = file();
        let all: Vec<_> = frames(&file).unwrap().collect();
        assert_eq!(all, [Ok(Frame { time: 7_000_005, link: 1, data: b"abc", cut: true, vouched: false })]);
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let mut file = file();
        file.extend([1, 2, 3]);
        let all: Vec<_> = frames(&file).unwrap().collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], Err(CaptureError::Damaged { frames: 1 }));
        assert_eq!(frames(b"no capture").err(), Some(CaptureError::Unknown));
    }
}
