//! Netlink messages: written and read (netlink(7), RFC 3549).
//!
//! A header of sixteen bytes, a fixed part that depends on the type, and attributes of type, length and value, each
//! padded to four bytes. Attributes may hold attributes. A reader takes what is whole and stops at the first that is not.

use super::NetlinkError;

/// Bytes of a message's header.
pub const HEADER: usize = 16;
/// Longest value of an attribute, in bytes: its length has sixteen bits.
pub const MAX_VALUE: usize = 65_531;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE: u16 = 0x3fff;
const NLMSGERR_ATTR_MSG: u16 = 1;
pub(super) const NLMSG_ERROR: u16 = 2;

/// A message that is being written, and what it is for.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    pub(super) attempt: String,
    /// An attribute did not fit.
    overflow: bool,
}

impl Message {
    /// A message with its fixed part; `attempt` completes "cannot …" in errors.
    pub fn new(attempt: impl Into<String>, kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        pad(&mut bytes);
        Self { bytes, attempt: attempt.into(), overflow: false }
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.with(kind, |message| message.bytes.extend(value))
    }

    /// Adds an attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.with(kind | NLA_F_NESTED, fill)
    }

    /// Adds text with its closing zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.with(kind, |message| {
            message.bytes.extend(value.bytes());
            message.bytes.push(0);
        })
    }

    /// Adds a number in network order.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    fn with(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => put(&mut self.bytes, start, &length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
        pad(&mut self.bytes);
        self
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The whole message with its length and sequence number filled in.
    ///
    /// # Errors
    /// An attribute was too long.
    pub fn finish(&self, sequence: u32, flags: u16) -> Result<Vec<u8>, NetlinkError> {
        let too_large =
            || NetlinkError::TooLarge { attempt: self.attempt.clone(), reason: "a message holds at most 64 KiB" };
        if self.overflow {
            return Err(too_large());
        }
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).map_err(|_| too_large())?;
        put(&mut bytes, 0, &length.to_ne_bytes());
        let own = bytes.get(6..8).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes);
        put(&mut bytes, 6, &(own | flags).to_ne_bytes());
        put(&mut bytes, 8, &sequence.to_ne_bytes());
        Ok(bytes)
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
}

/// A message as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Type.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// Sequence number.
    pub sequence: u32,
    /// All behind the header.
    pub body: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The messages in a buffer; ends at the first that is not whole.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let body = rest.get(HEADER..length)?;
        let message = Received { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)?, body };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a buffer, as type (without flags) and value; ends at the first that is not whole.
pub fn attributes(rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes_with_flags(rest).map(|(kind, _, value)| (kind, value))
}

/// As [`attributes`], with whether it says that it holds attributes: messages of ours do, the kernel's not always.
pub fn attributes_with_flags(mut rest: &[u8]) -> impl Iterator<Item = (u16, bool, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        let kind = u16_at(rest, 2)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE, kind & NLA_F_NESTED != 0, value))
    })
}

/// The first attribute of a type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Error number (0: none) and the kernel's words from an answer of type error or done.
pub(super) fn verdict(message: &Received<'_>) -> (i32, String) {
    let code = u32_at(message.body, 0).map_or(0, |code| code.cast_signed().saturating_neg());
    let mut detail = String::new();
    if message.kind == NLMSG_ERROR && message.flags & NLM_F_ACK_TLVS != 0 {
        // Behind the code stands the header of our message, and the rest of it unless it was left off.
        let ours = u32_at(message.body, 4).and_then(|length| usize::try_from(length).ok()).unwrap_or(HEADER);
        let skip = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { ours.next_multiple_of(4) };
        let words = message.body.get(4 + skip..).and_then(|rest| attribute(rest, NLMSGERR_ATTR_MSG));
        if let Some(words) = words {
            let words = String::from_utf8_lossy(words);
            detail = format!(" ({})", words.trim_end_matches('\0').chars().take(200).collect::<String>());
        }
    }
    (code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in any::<u16>(), sequence in any::<u32>(), fixed in proptest::collection::vec(any::<u8>(), 4..=4),
            values in proptest::collection::vec((0_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            inner in proptest::collection::vec((0_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..50)), 0..9),
        ) {
            let mut message = Message::new("test", kind, 0, &fixed);
            for (kind, value) in &values {
                message.attribute(*kind, value);
            }
            message.nested(7, |message| {
                for (kind, value) in &inner {
                    message.attribute(*kind, value);
                }
            });
            let mut bytes = message.finish(sequence, 0).unwrap();
            prop_assert_eq!(bytes.len() % 4, 0);
            bytes.extend(message.finish(sequence.wrapping_add(1), 4).unwrap());
            let read: Vec<_> = messages(&bytes).collect();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (kind, 1, sequence));
            prop_assert_eq!(read[1].flags, 5);
            let found: Vec<_> = attributes(&read[0].body[4..]).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(&found[..values.len()], &values[..]);
            let nested = attributes(&found[values.len()].1).map(|(kind, value)| (kind, value.to_vec()));
            let nested: Vec<_> = nested.collect();
            prop_assert_eq!(nested, inner);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_run_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            for message in messages(&bytes).take(1_000) {
                attributes(message.body).take(1_000).for_each(drop);
                verdict(&message);
                verdict(&Received { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, ..message });
            }
            prop_assert!(attributes(&bytes).take(1_000).count() < 1_000);
        }
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_refused() {
        let mut message = Message::new("hold much", 1, 0, &[]);
        message.attribute(1, &vec![0; MAX_VALUE]);
        assert!(message.finish(1, 0).is_ok());
        message.attribute(1, &vec![0; MAX_VALUE + 1]);
        assert!(message.finish(1, 0).unwrap_err().to_string().contains("cannot hold much"));
    }
}
