//! The worker of a way in: what strangers sent is parsed here, in a process with few rights, and nowhere else (D16).
//!
//! It confines itself, is told log sources, and then answers one question after the other: the events of some messages, or
//! what an envelope of SNS says. It keeps nothing from one to the next that shows. The manager reads its answers as little
//! trusting as it reads an agent's: a batch in its framing, whose header it writes itself.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use sakimori_detect::arrival::Opener;
use sakimori_detect::sns::Envelope;
use sakimori_detect::{LineContext, Tz};
use sakimori_model::{Event, Timestamp, field};
use sakimori_sys::channel::Channel;
use sakimori_sys::sandbox::{self, Landlock, Sandbox};
use sakimori_sys::{memory, worker};
use sakimori_wire::batch::{BatchHeader, Encoder};
use serde::{Deserialize, Serialize};

/// User and group of these workers.
pub const UID: u32 = 64_106;
/// Largest set of log sources, in bytes.
pub const MAX_CONTENT: u64 = 64 << 20;
/// Most bytes of the events of one answer, before they are packed.
const MAX_ANSWER: usize = 48 << 20;

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What its transport calls it; empty where that has no name for it.
    pub id: String,
    /// What it holds.
    pub body: Vec<u8>,
    /// Who sent it, where that is an address that means something.
    pub sender: Option<IpAddr>,
}

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Log sources come as sealed memory beside this: those of these ids, or all that recognise something.
    Load(Vec<String>),
    /// Make events of these.
    Open {
        /// When they came.
        received: Timestamp,
        /// Which.
        messages: Vec<Message>,
    },
    /// What does this envelope say?
    Envelope(Vec<u8>),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Say {
    /// It is confined; how far Landlock holds.
    Ready(String),
    /// It has so many log sources, and what could not be loaded.
    Loaded(u32, Vec<String>),
    /// Events, as a batch whose header says nothing.
    Made(Vec<u8>),
    /// An envelope, or what is wrong with it.
    Envelope(Result<Envelope, String>),
    /// It cannot be answered.
    Refused(String),
}

/// Runs until the parent closes the channel. Call it first in the process.
///
/// # Errors
/// This process is no worker, cannot be confined, or the parent sends what no parent sends.
pub fn run() -> io::Result<()> {
    let channel = worker::connect().map_err(io::Error::other)?;
    let confined = sandbox::enter(&Sandbox::INGEST)?;
    let landlock = match confined.landlock {
        Landlock::Full => "full",
        Landlock::Partly => "partly",
        Landlock::None => "none",
    };
    say(&channel, &Say::Ready(landlock.to_owned()))?;
    let mut opener: Option<Opener> = None;
    let mut encoder = Encoder::default();
    while let Some((body, descriptors)) = channel.recv()? {
        let ask = postcard::from_bytes(&body).map_err(|_| invalid("a message cannot be read"))?;
        let answer = match ask {
            Ask::Load(ids) => {
                let memory =
                    descriptors.into_iter().next().ok_or_else(|| invalid("log sources came without memory"))?;
                let bytes = memory::read_sealed(&memory.into(), MAX_CONTENT)?;
                let files: BTreeMap<String, Vec<u8>> =
                    postcard::from_bytes(&bytes).map_err(|_| invalid("the log sources cannot be read"))?;
                let (loaded, errors) = Opener::load(&files, &ids);
                let count = u32::try_from(loaded.len()).unwrap_or(u32::MAX);
                opener = Some(loaded);
                Say::Loaded(count, errors.iter().map(ToString::to_string).take(100).collect())
            }
            Ask::Open { received, messages } => {
                let opener = opener.as_mut().ok_or_else(|| invalid("messages came before the log sources"))?;
                made(opener, &mut encoder, received, &messages)
            }
            Ask::Envelope(bytes) => Say::Envelope(Envelope::parse(&bytes)),
        };
        say(&channel, &answer)?;
    }
    Ok(())
}

fn made(opener: &mut Opener, encoder: &mut Encoder, received: Timestamp, messages: &[Message]) -> Say {
    encoder.clear();
    let mut events = Vec::new();
    for message in messages {
        let context = LineContext { zone: Tz::UTC, ..LineContext::at(received) };
        opener.events(&message.body, &message.id, &context, &mut events);
        for event in &mut events {
            put_sender(event, message.sender);
            if encoder.bytes() > MAX_ANSWER {
                return Say::Refused("the events of these messages are larger than a batch may be".into());
            }
            if let Err(error) = encoder.push(event) {
                return Say::Refused(error.to_string());
            }
        }
        events.clear();
    }
    match encoder.finish(&BatchHeader::default()) {
        Ok(batch) if batch.len() < sakimori_sys::channel::MAX_FRAME - 1_024 => Say::Made(batch),
        Ok(_) => Say::Refused("the events of these messages are larger than an answer may be".into()),
        Err(error) => Say::Refused(error.to_string()),
    }
}

/// Who sent it stands beside what it says of itself.
fn put_sender(event: &mut Event, sender: Option<IpAddr>) {
    if let Some(sender) = sender {
        event.set(field::OBSERVER_IP, sender);
    }
}

fn say(channel: &Channel, answer: &Say) -> io::Result<()> {
    channel.send(&postcard::to_stdvec(answer).map_err(io::Error::other)?, &[])
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
