//! What travels between keeper and agent: records of a fixed size, so that the keeper parses nothing. The pump's are of
//! the same form ([`super::pump_message`]).
//!
//! To the keeper: `kind u8 | flag u8 | flag u8 | zero u8 | a u32 | b u64`, 16 bytes; a list of process ids follows
//! [`Kind::Exempt`]. From it: the same 16 bytes. A file travels beside them.

/// Length of a record.
pub const RECORD: usize = 16;
/// Most processes that are answered without asking.
pub const MAX_EXEMPT: usize = 64;

/// What to do when nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The answer that is given then.
    pub allow: bool,
    /// How long to wait for an agent while none is there, in milliseconds; 0 answers at once.
    pub absent_ms: u32,
    /// How long an agent that is there may take for one file, in milliseconds.
    pub slow_ms: u32,
}

impl Silence {
    /// Open: work goes on without protection.
    pub const OPEN: Self = Self { allow: true, absent_ms: 0, slow_ms: 30_000 };
    /// Closed: nothing that is not known to be clean is opened.
    pub const CLOSED: Self = Self { allow: false, absent_ms: 0, slow_ms: 30_000 };

    /// Open after a while in which an agent may come back.
    pub const fn open_after(milliseconds: u32) -> Self {
        Self { allow: true, absent_ms: milliseconds, slow_ms: 30_000 }
    }
}

/// To the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToKeeper {
    /// What to do when nobody answers. Kept when the agent is gone.
    Silence(Silence),
    /// Ask for the file system of the file beside it. Answered by [`FromKeeper::Done`].
    Mark,
    /// Ask for it no more. Answered likewise.
    Unmark,
    /// These processes, and no others, are answered without asking.
    Exempt(Vec<i32>),
    /// New rules: no verdict so far counts any more.
    Forget,
    /// The file beside it is always allowed while it stays as it is: what the agent needs to start again.
    Keep,
    /// The answer to a question.
    Answer {
        /// Its number.
        id: u64,
        /// May it be opened?
        allow: bool,
        /// Is the answer good for the next time, if nobody changes the file?
        remember: bool,
    },
    /// Send [`FromKeeper::Number`], once for each count.
    Numbers,
    /// End: the marks go, and nobody is asked any more.
    End,
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Somebody waits to open it.
    Open,
    /// Somebody waits to execute it.
    Execute,
    /// Somebody wrote it; nobody waits.
    Written,
}

/// From the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromKeeper {
    /// A question; the file is beside it.
    Ask {
        /// Its number.
        id: u64,
        /// What about.
        question: Question,
        /// Which process.
        pid: i32,
    },
    /// What came of a mark: 0, or an error's number.
    Done(i32),
    /// The kernel, or the keeper at its bound, lost events about what was written. Nothing was let through by that.
    Lost,
    /// One count.
    Number(Count, u64),
}

/// What the keeper counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Questions of the kernel.
    Asked,
    /// Answered from a former verdict.
    Known,
    /// Answered for processes of ours.
    Exempt,
    /// Answered by the agent.
    Judged,
    /// Answered by policy, since nobody else did.
    Silent,
    /// Waiting now.
    Waiting,
}

/// All counts, in the order in which they are sent.
pub const COUNTS: [Count; 6] =
    [Count::Asked, Count::Known, Count::Exempt, Count::Judged, Count::Silent, Count::Waiting];

pub(super) fn record(kind: u8, flags: [u8; 2], a: u32, b: u64) -> Vec<u8> {
    let mut out = vec![kind, flags[0], flags[1], 0];
    out.extend_from_slice(&a.to_le_bytes());
    out.extend_from_slice(&b.to_le_bytes());
    out
}

pub(super) struct Record<'a> {
    pub kind: u8,
    pub flags: [u8; 2],
    pub a: u32,
    pub b: u64,
    pub rest: &'a [u8],
}

pub(super) fn split(bytes: &[u8]) -> Option<Record<'_>> {
    let (head, rest) = bytes.split_first_chunk::<RECORD>()?;
    let [kind, one, two, _, a0, a1, a2, a3, b @ ..] = head;
    let b: [u8; 8] = *b;
    Some(Record {
        kind: *kind,
        flags: [*one, *two],
        a: u32::from_le_bytes([*a0, *a1, *a2, *a3]),
        b: u64::from_le_bytes(b),
        rest,
    })
}

impl ToKeeper {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Silence(silence) => {
                record(1, [u8::from(silence.allow), 0], silence.absent_ms, u64::from(silence.slow_ms))
            }
            Self::Mark => record(2, [0; 2], 0, 0),
            Self::Unmark => record(3, [0; 2], 0, 0),
            Self::Exempt(pids) => {
                let mut out = record(4, [0; 2], 0, 0);
                pids.iter().take(MAX_EXEMPT).for_each(|pid| out.extend_from_slice(&pid.to_le_bytes()));
                out
            }
            Self::Forget => record(5, [0; 2], 0, 0),
            Self::Keep => record(6, [0; 2], 0, 0),
            Self::Answer { id, allow, remember } => record(7, [u8::from(*allow), u8::from(*remember)], 0, *id),
            Self::Numbers => record(8, [0; 2], 0, 0),
            Self::End => record(9, [0; 2], 0, 0),
        }
    }

    /// From bytes; `None` where they are something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let Record { kind, flags, a, b, rest } = split(bytes)?;
        if !rest.is_empty() && kind != 4 {
            return None;
        }
        Some(match kind {
            1 => Self::Silence(Silence { allow: flags[0] != 0, absent_ms: a, slow_ms: u32::try_from(b).ok()? }),
            2 => Self::Mark,
            3 => Self::Unmark,
            4 => {
                let (pids, odd) = rest.as_chunks::<4>();
                if !odd.is_empty() || pids.len() > MAX_EXEMPT {
                    return None;
                }
                Self::Exempt(pids.iter().map(|pid| i32::from_le_bytes(*pid)).collect())
            }
            5 => Self::Forget,
            6 => Self::Keep,
            7 => Self::Answer { id: b, allow: flags[0] != 0, remember: flags[1] != 0 },
            8 => Self::Numbers,
            9 => Self::End,
            _ => return None,
        })
    }
}

impl FromKeeper {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ask { id, question, pid } => {
                let question = match question {
                    Question::Open => 1,
                    Question::Execute => 2,
                    Question::Written => 3,
                };
                record(1, [question, 0], pid.cast_unsigned(), *id)
            }
            Self::Done(error) => record(2, [0; 2], error.cast_unsigned(), 0),
            Self::Lost => record(3, [0; 2], 0, 0),
            Self::Number(which, value) => {
                let at = COUNTS.iter().position(|count| count == which).and_then(|at| u8::try_from(at).ok());
                record(4, [at.unwrap_or(u8::MAX), 0], 0, *value)
            }
        }
    }

    /// From bytes; `None` where they are something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let Record { kind, flags, a, b, rest } = split(bytes)?;
        if !rest.is_empty() {
            return None;
        }
        Some(match kind {
            1 => {
                let question = match flags[0] {
                    1 => Question::Open,
                    2 => Question::Execute,
                    3 => Question::Written,
                    _ => return None,
                };
                Self::Ask { id: b, question, pid: a.cast_signed() }
            }
            2 => Self::Done(a.cast_signed()),
            3 => Self::Lost,
            4 => Self::Number(*COUNTS.get(usize::from(flags[0]))?, b),
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
        for message in [
            ToKeeper::Silence(Silence::open_after(1_500)),
            ToKeeper::Silence(Silence::CLOSED),
            ToKeeper::Mark,
            ToKeeper::Unmark,
            ToKeeper::Exempt(vec![1, i32::MAX, 77]),
            ToKeeper::Exempt(Vec::new()),
            ToKeeper::Forget,
            ToKeeper::Keep,
            ToKeeper::Answer { id: u64::MAX, allow: true, remember: false },
            ToKeeper::Numbers,
            ToKeeper::End,
        ] {
            assert_eq!(ToKeeper::decode(&message.encode()), Some(message));
        }
        for message in [
            FromKeeper::Ask { id: 9, question: Question::Execute, pid: -1 },
            FromKeeper::Done(13),
            FromKeeper::Lost,
            FromKeeper::Number(Count::Silent, 4),
        ] {
            assert_eq!(FromKeeper::decode(&message.encode()), Some(message));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = FromKeeper::decode(&bytes);
            if let Some(ToKeeper::Exempt(pids)) = ToKeeper::decode(&bytes) {
                prop_assert!(pids.len() <= MAX_EXEMPT);
            }
        }
    }
}
