//! The bytes of headers and records; see the crate's documentation for the format. Pure.

use crate::{Error, MAX_RECORD, Result};

/// Length of a segment header.
pub(crate) const HEADER: usize = 28;
/// Length of a record before its payload.
pub(crate) const FRAME: usize = 21;
const MAGIC: &[u8; 8] = b"SAKIJRNL";
const VERSION: u16 = 1;
const COMPRESSED: u8 = 1;
/// Below this size zstd's own frame eats the gain.
const WORTH_COMPRESSING: usize = 256;
const LEVEL: i32 = 1;

/// A decoded segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub salt: u32,
    pub first: u64,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.try_into().expect("8+2+2+4+8+4 bytes")
    }

    /// The header, or what is wrong with it.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else { return Err("the header is cut off".to_owned()) };
        if !bytes.starts_with(MAGIC) {
            return Err("this is no journal segment".to_owned());
        }
        let version = u16::from_le_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(format!("version {version} is not known to this program, which knows {VERSION}"));
        }
        if crc32c::crc32c(bytes.get(..24).unwrap_or_default()) != u32::from_le_bytes(array(bytes, 24)) {
            return Err("the header's checksum is wrong".to_owned());
        }
        Ok(Self { salt: u32::from_le_bytes(array(bytes, 12)), first: u64::from_le_bytes(array(bytes, 16)) })
    }
}

/// A record whose checksum is right; the payload is still encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub sequence: u64,
    pub behind: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the record at the start of `bytes`, or says what is wrong.
    pub fn decode(salt: u32, bytes: &'a [u8]) -> std::result::Result<Self, &'static str> {
        let length = payload_length(bytes).ok_or("the record's head is cut off")?;
        if length > MAX_RECORD {
            return Err("the record's length is impossible");
        }
        let whole = bytes.get(..FRAME + length).ok_or("the record is cut off")?;
        let (head, payload) = whole.split_at(FRAME);
        let frame = Self {
            sequence: u64::from_le_bytes(array(head, 8)),
            behind: u32::from_le_bytes(array(head, 16)),
            flags: head.get(20).copied().unwrap_or_default(),
            payload,
        };
        let crc = checksum(salt, length as u32, frame.sequence, frame.behind, frame.flags, payload);
        if crc != u32::from_le_bytes(array(head, 4)) {
            return Err("the record's checksum is wrong");
        }
        Ok(frame)
    }

    /// Bytes on disk.
    pub fn len(&self) -> usize {
        FRAME + self.payload.len()
    }

    /// The record as it was appended, or what is wrong.
    pub fn open(&self) -> std::result::Result<Vec<u8>, String> {
        if self.flags & COMPRESSED == 0 {
            return Ok(self.payload.to_vec());
        }
        let (size, frame) = self.payload.split_first_chunk::<4>().ok_or("a compressed record without a size")?;
        let size = u32::from_le_bytes(*size) as usize;
        if size > MAX_RECORD {
            return Err(format!("a record that decodes to {size} bytes, more than {MAX_RECORD}"));
        }
        let bytes = zstd::bulk::decompress(frame, size).map_err(|error| format!("a bad zstd frame: {error}"))?;
        if bytes.len() == size { Ok(bytes) } else { Err("a zstd frame of another size than was written".to_owned()) }
    }
}

/// Length of the payload that a record's head announces.
pub(crate) fn payload_length(bytes: &[u8]) -> Option<usize> {
    (bytes.len() >= FRAME).then(|| u32::from_le_bytes(array(bytes, 0)) as usize)
}

/// Sequence that a record's head announces, unverified.
pub(crate) fn announced_sequence(bytes: &[u8]) -> Option<u64> {
    (bytes.len() >= FRAME).then(|| u64::from_le_bytes(array(bytes, 8)))
}

/// The payload as it lies on disk: compressed where it pays.
pub(crate) struct Payload<'a> {
    flags: u8,
    bytes: std::borrow::Cow<'a, [u8]>,
}

impl<'a> Payload<'a> {
    pub fn of(bytes: &'a [u8], compress: bool) -> Result<Self> {
        if bytes.len() > MAX_RECORD {
            return Err(Error::TooLarge(bytes.len()));
        }
        if compress && bytes.len() >= WORTH_COMPRESSING {
            // A failure of the encoder is no reason to lose a record: it is then stored as it is.
            if let Ok(packed) = zstd::bulk::compress(bytes, LEVEL)
                && packed.len() + 4 < bytes.len() - bytes.len() / 8
            {
                let mut whole = Vec::with_capacity(packed.len() + 4);
                whole.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                whole.extend_from_slice(&packed);
                return Ok(Self { flags: COMPRESSED, bytes: whole.into() });
            }
        }
        Ok(Self { flags: 0, bytes: bytes.into() })
    }

    /// Bytes on disk with the record's head.
    pub fn len(&self) -> usize {
        FRAME + self.bytes.len()
    }

    /// Appends the whole record to `out`.
    pub fn encode(&self, salt: u32, sequence: u64, behind: u32, out: &mut Vec<u8>) {
        let length = self.bytes.len() as u32;
        let crc = checksum(salt, length, sequence, behind, self.flags, &self.bytes);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&behind.to_le_bytes());
        out.push(self.flags);
        out.extend_from_slice(&self.bytes);
    }
}

fn checksum(salt: u32, length: u32, sequence: u64, behind: u32, flags: u8, payload: &[u8]) -> u32 {
    let mut head = [0_u8; 21];
    let parts: [&[u8]; 5] =
        [&salt.to_le_bytes(), &length.to_le_bytes(), &sequence.to_le_bytes(), &behind.to_le_bytes(), &[flags]];
    let mut rest = head.as_mut_slice();
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// `N` bytes at an offset that the caller has checked to be there; zeros where they are not.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(bytes in prop::collection::vec(0_u8..4, 0..4000), compress in any::<bool>(), salt: u32) {
            let payload = Payload::of(&bytes, compress).unwrap();
            let mut out = Vec::new();
            payload.encode(salt, 7, 3, &mut out);
            prop_assert_eq!(out.len(), payload.len());
            prop_assert!(out.len() <= bytes.len() + FRAME);
            let frame = Frame::decode(salt, &out).unwrap();
            prop_assert_eq!((frame.sequence, frame.behind, frame.len()), (7, 3, out.len()));
            prop_assert_eq!(frame.open().unwrap(), bytes);
        }

        #[test]
        fn any_flipped_bit_is_seen(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0_u8..8) {
            let mut out = Vec::new();
            Payload::of(&bytes, true).unwrap().encode(1, 1, 0, &mut out);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert!(Frame::decode(1, &out).is_err());
        }

        #[test]
        fn garbage_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200), salt: u32) {
            prop_assert!(Frame::decode(salt, &bytes).is_err());
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_record_of_another_segment_is_no_record_here() {
        let mut out = Vec::new();
        Payload::of(b"x", true).unwrap().encode(1, 1, 0, &mut out);
        assert!(Frame::decode(2, &out).is_err(), "the salt differs");
    }

    #[test]
    fn a_frame_that_decodes_to_more_than_it_says_is_refused() {
        let packed = zstd::bulk::compress(&[0; 10_000], 1).unwrap();
        let mut whole = 100_u32.to_le_bytes().to_vec();
        whole.extend_from_slice(&packed);
        let frame = Frame { sequence: 1, behind: 0, flags: COMPRESSED, payload: &whole };
        assert!(frame.open().is_err());
        let huge = u32::MAX.to_le_bytes();
        assert!(Frame { payload: &huge, ..frame }.open().is_err());
    }

    #[test]
    fn header_round_trip() {
        let header = Header { salt: 9, first: 77 };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let mut other = header.encode();
        other[8] = 2;
        assert!(Header::decode(&other).unwrap_err().contains("version 2"));
    }
}
