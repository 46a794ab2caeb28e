//! What a worker does: confine itself, then answer one message after another until the channel closes.
//!
//! It reads files by `pread` into one bounded buffer: never through a mapping, which a writer could cut short under
//! it, and never moving the position, which whoever opened the file shares.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use sakimori_malware::verdict::bounded;
use sakimori_malware::{Limits, RuleSet, Scanner, Skip, Verdict};
use sakimori_sys::channel::Channel;
use sakimori_sys::sandbox::{self, Landlock, Sandbox};
use sakimori_sys::{memory, worker};

use crate::message::{FromWorker, MAX_RULES, Sources, ToWorker};

/// Runs until the parent closes the channel. Call it first in the process.
///
/// # Errors
/// This process is no worker, cannot be confined, or the parent sends what no parent sends.
pub fn run() -> io::Result<()> {
    let channel = worker::connect().map_err(io::Error::other)?;
    let confined = sandbox::enter(&Sandbox::SCAN)?;
    let landlock = match confined.landlock {
        Landlock::Full => "full",
        Landlock::Partly => "partly",
        Landlock::None => "none",
    };
    send(&channel, &FromWorker::Ready { landlock: landlock.to_owned() })?;
    // What YARA-X fails at is caught and told as a verdict; its own report would only fill the log.
    std::panic::set_hook(Box::new(|_| {}));
    let mut rules: Option<(RuleSet, Limits)> = None;
    let mut next = receive(&channel)?;
    while let Some((message, descriptors)) = next {
        next = match message {
            ToWorker::Compile => {
                let answer = compile(descriptors).unwrap_or_else(|error| FromWorker::Refused(error.to_string()));
                send(&channel, &answer)?;
                receive(&channel)?
            }
            ToWorker::Load(limits) => {
                match load(descriptors) {
                    Ok(set) => {
                        send(&channel, &loaded(&set))?;
                        rules = Some((set, limits));
                    }
                    Err(error) => send(&channel, &FromWorker::Refused(error.to_string()))?,
                }
                receive(&channel)?
            }
            ToWorker::Scan(first) => {
                let Some((set, limits)) = &rules else { return Err(invalid("a file came before the rules")) };
                judge_all(&channel, set, *limits, first, descriptors)?
            }
        };
    }
    Ok(())
}

type Message = (ToWorker, Vec<OwnedFd>);

/// Judges files until something else comes, which is given back.
fn judge_all(
    channel: &Channel,
    set: &RuleSet,
    limits: Limits,
    first: u64,
    descriptors: Vec<OwnedFd>,
) -> io::Result<Option<Message>> {
    let mut scanner = Scanner::new(set, limits);
    let mut next = (ToWorker::Scan(first), descriptors);
    loop {
        let (ToWorker::Scan(id), descriptors) = next else { return Ok(Some(next)) };
        let Some(file) = descriptors.into_iter().next() else { return Err(invalid("a file came without its file")) };
        let mut reader = Positioned { file: File::from(file), at: 0 };
        let verdict = scanner.scan_reader(&mut reader);
        // The descriptor is closed before the answer: whoever waits for it may want to write the file.
        let bytes = reader.at;
        drop(reader);
        send(channel, &FromWorker::Judged { id, bytes, verdict, kind: scanner.kind() })?;
        match receive(channel)? {
            Some(message) => next = message,
            None => return Ok(None),
        }
    }
}

fn compile(descriptors: Vec<OwnedFd>) -> io::Result<FromWorker> {
    let mut descriptors = descriptors.into_iter().map(File::from);
    let (Some(sources), Some(out)) = (descriptors.next(), descriptors.next()) else {
        return Err(invalid("rules came without their memory"));
    };
    let bytes = memory::read_sealed(&sources, MAX_RULES)?;
    let sources: Sources = postcard::from_bytes(&bytes).map_err(|_| invalid("the rules cannot be read"))?;
    let (set, errors) = RuleSet::compile(sources.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
    let compiled = set.to_compiled().map_err(io::Error::other)?;
    out.write_all_at(&compiled, 0)?;
    Ok(FromWorker::Compiled { rules: count(set.rules()), sums: count(set.sums()), errors })
}

fn load(descriptors: Vec<OwnedFd>) -> io::Result<RuleSet> {
    let Some(file) = descriptors.into_iter().next() else { return Err(invalid("rules came without their memory")) };
    let bytes = memory::read_sealed(&File::from(file), MAX_RULES)?;
    RuleSet::from_compiled(&bytes).map_err(io::Error::other)
}

fn loaded(set: &RuleSet) -> FromWorker {
    FromWorker::Loaded { rules: count(set.rules()), sums: count(set.sums()) }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn receive(channel: &Channel) -> io::Result<Option<Message>> {
    let Some((body, descriptors)) = channel.recv()? else { return Ok(None) };
    let message = postcard::from_bytes(&body).map_err(|_| invalid("a message cannot be read"))?;
    Ok(Some((message, descriptors)))
}

fn send(channel: &Channel, message: &FromWorker) -> io::Result<()> {
    channel.send(&postcard::to_stdvec(message).map_err(io::Error::other)?, &[])
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A file read from its start, whatever its position is.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(u64::try_from(size).map_err(io::Error::other)?);
        Ok(size)
    }
}

/// A verdict for what nobody judged.
pub(crate) fn failed(reason: &str) -> Verdict {
    Verdict::Skipped(Skip::Failed(bounded(reason)))
}
