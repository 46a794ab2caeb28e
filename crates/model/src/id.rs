//! Ids: an event's id names the occurrence (D1), a row's id is a UUIDv7.

use std::fmt;

/// Id of an event: batch and place in it, written `<batch>.<index>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// Id of the batch, derived from its origin.
    pub batch: String,
    /// Place in the batch, from 0.
    pub index: u32,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.batch, self.index)
    }
}

impl EventId {
    /// Parses `<batch>.<index>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (batch, index) = text.rsplit_once('.')?;
        (!batch.is_empty()).then_some(Self { batch: batch.to_owned(), index: index.parse().ok()? })
    }
}

/// Id of the batch that a stream of an origin sent with this number: the same occurrence read again has
/// the same id.
pub fn batch_id(origin: &str, stream: &str, sequence: u64) -> String {
    format!("{origin}:{stream}:{sequence}")
}

/// First 16 bytes of the SHA-256 of an Ed25519 public key: tells keys apart in seals, bundles and messages.
pub fn key_id(public: &[u8; 32]) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let hash: [u8; 32] = Sha256::digest(public).into();
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = from;
    }
    id
}

/// A new row id: UUIDv7, as text.
pub fn row_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_round_trip() {
        let id = EventId { batch: batch_id("a.b", "logs", 7), index: 3 };
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(EventId::parse("x"), None);
        assert_eq!(EventId::parse(".1"), None);
    }
}
