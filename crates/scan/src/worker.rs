//! What a worker does: confine itself, then answer one message after another until the channel closes.
//!
//! It reads files by `pread` into one bounded space: never through a mapping of theirs, which a writer could cut short
//! under it, and never moving the position, which whoever opened the file shares.
//!
//! Compiled rules take tens of megabytes and are loaded within tens of milliseconds, so a worker to which no file comes
//! for a while gives them back, and loads them again from the sealed memory that it got them in.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use sakimori_malware::verdict::bounded;
use sakimori_malware::{Limits, RuleSet, Scanner, Skip, Verdict};
use sakimori_sys::channel::{Channel, Frame, Waited};
use sakimori_sys::sandbox::{self, Landlock, Sandbox};
use sakimori_sys::space::Space;
use sakimori_sys::{memory, worker};

use crate::message::{FromWorker, Judgement, MAX_RULES, Sources, ToWorker};

/// How much memory for files a worker keeps that has nothing to do.
const KEPT: usize = 8 << 20;
/// After so long it has nothing to do.
const SETTLED: Duration = Duration::from_millis(500);
/// After so long without a file a worker gives its rules back.
pub const QUIET: Duration = Duration::from_secs(60);

/// Runs until the parent closes the channel; `quiet` is [`QUIET`] but in tests. Call it first in the process.
///
/// # Errors
/// This process is no worker, cannot be confined, or the parent sends what no parent sends.
pub fn run(quiet: Duration) -> io::Result<()> {
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
    serve(&channel, quiet)
}

/// Rules, where they come from, and how they are to be used.
struct Rules {
    memory: File,
    limits: Limits,
    /// None while no file comes.
    set: Option<RuleSet>,
}

impl Rules {
    fn set(&mut self) -> io::Result<&RuleSet> {
        match &mut self.set {
            Some(set) => Ok(set),
            none => Ok(none.insert(load(&self.memory)?)),
        }
    }
}

type Message = (ToWorker, Vec<OwnedFd>);

/// What came from the parent.
enum Came {
    Message(Message),
    /// Nothing, for a while.
    Nothing,
    Closed,
}

/// Answers until the channel closes.
fn serve(channel: &Channel, quiet: Duration) -> io::Result<()> {
    let mut rules: Option<Rules> = None;
    let mut came = receive(channel, quiet)?;
    loop {
        came = match came {
            Came::Message((ToWorker::Compile, descriptors)) => {
                let answer = compile(descriptors).unwrap_or_else(|error| FromWorker::Refused(error.to_string()));
                send(channel, &answer)?;
                receive(channel, quiet)?
            }
            Came::Message((ToWorker::Load(limits), descriptors)) => {
                match take(descriptors, limits) {
                    Ok((taken, answer)) => {
                        rules = Some(taken);
                        send(channel, &answer)?;
                    }
                    Err(error) => send(channel, &FromWorker::Refused(error.to_string()))?,
                }
                receive(channel, quiet)?
            }
            Came::Message((ToWorker::Scan(first), descriptors)) => {
                let Some(rules) = &mut rules else { return Err(invalid("a file came before the rules")) };
                let limits = rules.limits;
                judge_all(channel, rules.set()?, limits, quiet, (first, descriptors))?
            }
            Came::Nothing => {
                if let Some(rules) = &mut rules {
                    rules.set = None;
                }
                channel.recv()?.map_or(Ok(Came::Closed), |frame| understood(frame).map(Came::Message))?
            }
            Came::Closed => return Ok(()),
        };
    }
}

/// Judges files until something else comes, which is given back, or nothing for a while.
fn judge_all(
    channel: &Channel,
    set: &RuleSet,
    limits: Limits,
    quiet: Duration,
    first: (u64, Vec<OwnedFd>),
) -> io::Result<Came> {
    let mut scanner = Scanner::new(set, limits);
    let mut space = Space::new(KEPT)?;
    let (mut first, mut descriptors) = first;
    loop {
        if descriptors.is_empty() {
            return Err(invalid("a file came without its file"));
        }
        let mut all = Vec::with_capacity(descriptors.len());
        for file in descriptors {
            all.push(judge(&File::from(file), &mut scanner, &mut space, limits));
        }
        // The descriptors are closed: whoever waits for the answer may want to write the file.
        send(channel, &FromWorker::Judged { first, all })?;
        // Memory of a large file is kept as long as files come one after the other, since taking it anew costs time.
        let came = match receive(channel, SETTLED.min(quiet))? {
            Came::Nothing => {
                space.shrink(KEPT);
                receive(channel, quiet)?
            }
            came => came,
        };
        match came {
            Came::Message((ToWorker::Scan(number), files)) => (first, descriptors) = (number, files),
            other => return Ok(other),
        }
    }
}

fn judge(file: &File, scanner: &mut Scanner<'_>, space: &mut Space, limits: Limits) -> Judgement {
    match read(file, space, limits.max_size) {
        Ok(size) => {
            let verdict = scanner.scan(space.bytes().get(..size).unwrap_or_default());
            Judgement { bytes: count(size), verdict, kind: scanner.kind() }
        }
        Err(error) => {
            let verdict = Verdict::Skipped(Skip::Unreadable(bounded(&error.to_string())));
            Judgement { bytes: 0, verdict, kind: None }
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

fn take(descriptors: Vec<OwnedFd>, limits: Limits) -> io::Result<(Rules, FromWorker)> {
    let Some(file) = descriptors.into_iter().next() else { return Err(invalid("rules came without their memory")) };
    let memory = File::from(file);
    let set = load(&memory)?;
    let answer = FromWorker::Loaded { rules: count(set.rules()), sums: count(set.sums()) };
    Ok((Rules { memory, limits, set: Some(set) }, answer))
}

fn load(memory: &File) -> io::Result<RuleSet> {
    RuleSet::from_compiled(&memory::read_sealed(memory, MAX_RULES)?).map_err(io::Error::other)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn receive(channel: &Channel, within: Duration) -> io::Result<Came> {
    Ok(match channel.recv_timeout(within)? {
        Waited::Frame(frame) => Came::Message(understood(frame)?),
        Waited::TimedOut => Came::Nothing,
        Waited::Closed => Came::Closed,
    })
}

fn understood((body, descriptors): Frame) -> io::Result<Message> {
    let message = postcard::from_bytes(&body).map_err(|_| invalid("a message cannot be read"))?;
    Ok((message, descriptors))
}

fn send(channel: &Channel, message: &FromWorker) -> io::Result<()> {
    channel.send(&postcard::to_stdvec(message).map_err(io::Error::other)?, &[])
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Reads a file from its start, whatever its position is, to its end or one byte past the limit. Gives its length.
fn read(file: &File, space: &mut Space, most: u64) -> io::Result<usize> {
    let most = usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX);
    // What it says of its size may change under us, and is none for some.
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(usize::MAX);
    space.grow(size.saturating_add(1).min(most))?;
    let mut filled = 0;
    while filled < most {
        if filled == space.bytes().len() {
            space.grow(filled.saturating_mul(2).min(most))?;
        }
        let end = space.bytes().len().min(most);
        match file.read_at(space.bytes().get_mut(filled..end).unwrap_or_default(), count(filled)) {
            Ok(0) => break,
            Ok(size) => filled += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A verdict for what nobody judged.
pub(crate) fn failed(reason: &str) -> Verdict {
    Verdict::Skipped(Skip::Failed(bounded(reason)))
}
