//! Between the supervisor and the two workers that make a triage package. One opens and reads, as root, and looks into nothing:
//! what it opens may hold it up for ever, and it is ended then. The other reads what it is given, and writes the package; it has
//! no network and can open nothing itself. The supervisor hands on what the first sends to the second.
//!
//! ```text
//! Start → (Text | File + descriptor | Note)* → Asked      the worker answers with the programs that autoruns name
//! → (File + descriptor)* → Finish                          … with the package in pieces, and Done
//! ```

use serde::{Deserialize, Serialize};

/// Largest text that is sent in one piece, in bytes.
pub const MAX_TEXT: usize = 4 << 20;
/// Largest piece of a package, in bytes.
pub const PIECE: usize = 1 << 20;
/// Most programs that a worker may ask for.
pub const MAX_ASKED: usize = 1_000;

/// Where gathering is: the step, and what of it (a process's number, or which of a list).
pub type Place = (u8, u32);

/// Asked of the worker that opens and reads, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatherAsk {
    /// Goes on behind this one, which held up the one before.
    pub after: Option<Place>,
    /// Milliseconds that it has.
    pub left_ms: u64,
    /// Where the agent says how its modules do.
    pub socket: String,
    /// Nothing but these programs.
    pub programs: Option<Vec<String>>,
}

/// From it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGather {
    /// Begins with this, which may hold it up; the text says what it is.
    At(Place, String),
    /// To be handed on: a [`ToTriage`], encoded, with its descriptor.
    Pass(#[serde(with = "crate::ipc::as_bytes")] Vec<u8>),
    /// That was all.
    Done,
}

/// To the worker that makes the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTriage {
    /// First message.
    Start {
        /// Name of the host.
        host: String,
        /// When it is, in microseconds since the epoch.
        now: i64,
    },
    /// Bytes that the supervisor read.
    Text {
        /// What they are.
        kind: Text,
        /// From where.
        path: String,
        /// They.
        #[serde(with = "crate::ipc::as_bytes")]
        bytes: Vec<u8>,
        /// Is that not all?
        cut: bool,
    },
    /// A file. Descriptor: it, open for reading.
    File {
        /// What is to be done with it.
        kind: Kind,
        /// Its path.
        path: String,
    },
    /// Something that a reader has to know: a file that is not readable, a bound that was reached.
    Note(String),
    /// That was all; now say which programs the autoruns name.
    Asked,
    /// That was all of them; now make the package.
    Finish,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text {
    /// It goes into the package as it is: a table of the kernel's, the answer of a program of ours.
    Plain,
    /// A process begins, whose number is the path; its `stat`.
    Process,
    /// Its program; no bytes where there is none.
    Program,
    /// Its working folder.
    Folder,
    /// Its command line.
    Command,
    /// Its environment, of which the names are kept.
    Environment,
    /// What one of its descriptors is.
    Descriptor,
    /// Its control groups.
    Groups,
    /// Its user and what else `status` says.
    Status,
    /// Where a link of an autorun leads.
    Link,
}

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An autorun: its content, and which programs it names.
    Autorun,
    /// A list of who was signed in, of the C library's records.
    Logins,
    /// Its end, of a log.
    Log,
    /// Only its hash: a program that runs.
    Running,
    /// Only its hash: a program that an autorun names.
    Named,
    /// Its content.
    Whole,
}

/// From the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTriage {
    /// Programs that autoruns name.
    Programs(Vec<String>),
    /// The next piece of the package.
    Piece(#[serde(with = "crate::ipc::as_bytes")] Vec<u8>),
    /// That was all.
    Done {
        /// Files in it.
        files: u32,
        /// What was left out or cut, the number of its notes.
        notes: u32,
    },
    /// It cannot be made.
    Failed(String),
}
