//! What comes over the wire and between our processes: batches, messages, tokens, orders, states.

use prost::Message;
use sakimori_model::action::Order;
use sakimori_wire::agent;
use sakimori_wire::batch::{self, BatchHeader};
use sakimori_wire::ipc::{Answer, Ask, FromLogs, FromUplink, Position, Snapshot, ToLogs, ToUplink};
use sakimori_wire::status::AgentStatus;
use sakimori_wire::token::EnrolmentToken;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::text;

/// A batch, as an agent may send it: refused or read, and what was read can be written again. The first byte says
/// whether the rest is the batch, or what is packed in one; the second is then its count.
pub fn batch_decode(bytes: &[u8]) {
    let bytes = &super::whole_or_packed(bytes, packed);
    let header = batch::peek(bytes);
    if let Ok(batch) = batch::decode(bytes) {
        assert_eq!(header.as_ref(), Ok(&batch.header), "a look at the header says what reading all says");
        if let Ok(written) = batch::encode(&batch) {
            let again = batch::decode(&written).expect("what was written can be read");
            assert_eq!(again.events.len(), batch.events.len());
        }
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let (count, body) = bytes.split_first().map_or((0, bytes), |(count, body)| (*count, body));
    let header = BatchHeader { id: "fuzz".into(), count: u32::from(count), ..BatchHeader::default() };
    let header = postcard::to_stdvec(&header).expect("a header");
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let packed = zstd::bulk::compress(body, 1).expect("bytes can be packed");
    [b"SKB1".as_slice(), &size(&header), &header, &size(body), &packed].concat()
}

/// An enrolment token, as somebody pastes it.
pub fn token(bytes: &[u8]) {
    if let Some(Ok(token)) = text(bytes).map(str::parse::<EnrolmentToken>) {
        let _ = token.host_port();
        assert!(token.to_string().parse::<EnrolmentToken>().is_ok_and(|again| again == token));
    }
}

/// A message between supervisor and workers: the first byte says which. What is read can be written, and reads the same.
pub fn worker_message(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 6 {
        0 => again::<ToLogs>(rest),
        1 => again::<FromLogs>(rest),
        2 => again::<ToUplink>(rest),
        3 => again::<FromUplink>(rest),
        4 => again::<Position>(rest),
        _ => again::<Snapshot>(rest),
    }
}

fn again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = postcard::from_bytes::<T>(bytes) else { return };
    let written = postcard::to_stdvec(&message).expect("what was read can be written");
    assert_eq!(postcard::from_bytes::<T>(&written).as_ref(), Ok(&message));
}

/// Messages of the agents' channel with the JSON in them, and of the control socket: the first byte says which.
pub fn agent_messages(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 6 {
        0 => drop(agent::Up::decode(rest)),
        1 => drop(agent::Down::decode(rest)),
        2 => {
            if let Ok(order) = serde_json::from_slice::<Order>(rest) {
                let json = serde_json::to_vec(&order).expect("an order can be written");
                assert_eq!(serde_json::from_slice::<Order>(&json).expect("and read"), order);
            }
        }
        3 => drop(serde_json::from_slice::<AgentStatus>(rest)),
        4 => drop(serde_json::from_slice::<Ask>(rest)),
        _ => drop(serde_json::from_slice::<Answer>(rest)),
    }
}

/// A triage package, which was made on a host that an enemy may have: never one that holds without a signature. The first byte
/// says whether the rest is a package, the archive in one, or what is packed in that.
pub fn triage_package(bytes: &[u8]) {
    use sakimori_wire::triage;
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => {
            if let Ok(verified) = triage::verify(rest, None) {
                assert!(!verified.of_the_ca, "no CA was given");
            }
        }
        1 => drop(triage::files(rest, |_, _| Ok(()))),
        _ => {
            let packed = zstd::encode_all(rest, 1).expect("it is packed");
            let mut total = 0;
            let files = triage::files(&packed, |_, bytes| {
                total += bytes.len();
                Ok(())
            });
            assert!(files.is_err() || total <= rest.len(), "no more than there was");
        }
    }
}
