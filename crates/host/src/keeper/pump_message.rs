//! What travels between pump and agent: the same records of a fixed size as the keeper's ([`super::message`]).

use super::message::{Silence, record, split};

/// To the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToPump {
    /// What to do when nobody answers. Kept when the agent is gone.
    Silence(Silence),
    /// Make ready for a worker. Answered by [`FromPump::Attached`]; a worker that is there is done with.
    Attach,
    /// Send [`FromPump::Number`], once for each count.
    Numbers,
    /// Answer what waits by policy, give the queue back, end.
    End,
}

/// From the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromPump {
    /// Beside it, for the worker: memory of packets, memory of verdicts, bell.
    Attached,
    /// The worker is gone, or broke the rules.
    Gone,
    /// The worker gives no word; packets are answered by policy.
    Late,
    /// One count.
    Number(Count, u64),
}

/// What the pump counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Packets that the kernel handed over.
    Packets,
    /// Answered by a worker.
    Judged,
    /// Answered by policy, since nobody else did.
    Silent,
    /// Longer than the kernel copies: judged by their beginning.
    Cut,
    /// Times when the kernel had no room and did as the queue's policy says.
    Overruns,
    /// Waiting now.
    Waiting,
}

/// All counts, in the order in which they are sent.
pub const COUNTS: [Count; 6] =
    [Count::Packets, Count::Judged, Count::Silent, Count::Cut, Count::Overruns, Count::Waiting];

impl ToPump {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Silence(silence) => {
                record(1, [u8::from(silence.allow), 0], silence.absent_ms, u64::from(silence.slow_ms))
            }
            Self::Attach => record(2, [0; 2], 0, 0),
            Self::Numbers => record(3, [0; 2], 0, 0),
            Self::End => record(4, [0; 2], 0, 0),
        }
    }

    /// From bytes; `None` where they are something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let read = split(bytes).filter(|read| read.rest.is_empty())?;
        let [allow, _] = read.flags;
        Some(match read.kind {
            1 => Self::Silence(Silence { allow: allow != 0, absent_ms: read.a, slow_ms: u32::try_from(read.b).ok()? }),
            2 => Self::Attach,
            3 => Self::Numbers,
            4 => Self::End,
            _ => return None,
        })
    }
}

impl FromPump {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Attached => record(1, [0; 2], 0, 0),
            Self::Gone => record(2, [0; 2], 0, 0),
            Self::Late => record(3, [0; 2], 0, 0),
            Self::Number(which, value) => {
                let at = COUNTS.iter().position(|count| count == which).and_then(|at| u8::try_from(at).ok());
                record(4, [at.unwrap_or(u8::MAX), 0], 0, *value)
            }
        }
    }

    /// From bytes; `None` where they are something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let read = split(bytes).filter(|read| read.rest.is_empty())?;
        let [which, _] = read.flags;
        Some(match read.kind {
            1 => Self::Attached,
            2 => Self::Gone,
            3 => Self::Late,
            4 => Self::Number(*COUNTS.get(usize::from(which))?, read.b),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_the_way() {
        for message in [ToPump::Silence(Silence::open_after(1_500)), ToPump::Attach, ToPump::Numbers, ToPump::End] {
            assert_eq!(ToPump::decode(&message.encode()), Some(message));
        }
        for message in [FromPump::Attached, FromPump::Gone, FromPump::Late, FromPump::Number(Count::Silent, 9)] {
            assert_eq!(FromPump::decode(&message.encode()), Some(message));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (ToPump::decode(&bytes), FromPump::decode(&bytes));
        }
    }
}
