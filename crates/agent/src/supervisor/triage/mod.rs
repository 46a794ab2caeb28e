//! Packages of triage as the ledger's port, made beside the loop ([`super::aside`]), one after the other.
//!
//! ```text
//! order → ledger: running ──fsync──→ thread: open and read → worker: look into it, pack → worker: sign → folder
//!                                                        … the loop: ledger: done or failed ──fsync──→ events
//! ```
//! A crash between any two makes the ledger ask again; a package that is there for the action is not made twice.

pub mod gather;
mod open;
mod places;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use sakimori_model::{Action, Timestamp};
use sakimori_respond::ports::{Applied, HostEffect, PortError};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::channel::{Channel, Waited};
use sakimori_wire::ipc_triage::{FromGather, FromTriage, GatherAsk, MAX_ASKED, Place as At, ToTriage};
use sakimori_wire::triage::{self, FORMAT, MAX_PACKAGE, Signed, Statement};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::worker::{self, Kind, Started};
use crate::config::Config;
use crate::enroll::Enrolled;
use crate::host_facts::HostFacts;
use crate::triage::store::Store;
use crate::worker_uplink::identity;

/// How long a package may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// The last of that, which the worker needs to pack.
const PACKING: Duration = Duration::from_secs(120);
/// How long the worker that opens and reads may say nothing: longer than a program of the system's may take to answer.
const SILENCE: Duration = Duration::from_secs(20);
/// How often it may be held up; what comes then is left out.
const MOST_HELD_UP: usize = 6;
/// The same within one step.
const MOST_IN_STEP: usize = 3;
/// How long the worker may read nothing while it hashes.
const SENDING: Duration = Duration::from_secs(120);
/// How long a signature may take.
const SIGNING: Duration = Duration::from_secs(20);

/// The packages of this host. Cheap to copy.
#[derive(Clone)]
pub struct Packages(Arc<Place>);

struct Place {
    folder: PathBuf,
    identity: PathBuf,
    enrolled: PathBuf,
    socket: PathBuf,
    host: String,
}

impl Packages {
    /// Touches nothing.
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(Place {
            folder: config.triage(),
            identity: config.identity(),
            enrolled: config.enrolled_file(),
            socket: config.control_socket(),
            host: HostFacts::read(config.agent.host_name.as_deref()).name,
        }))
    }
}

impl HostEffect for Packages {
    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        Some(Box::new(self.clone()))
    }

    fn apply(&mut self, action: &Action, _: Option<u64>) -> Result<Applied, PortError> {
        let id = &action.order.id;
        match self.0.make(id) {
            Ok((former, remark)) => Ok(Applied::Done { former: Some(former), remark: Some(remark) }),
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::error!(reason, action = id, "a triage package was not made");
                Err(PortError::permanent(reason))
            }
        }
    }

    fn undo(&mut self, _: &Action) -> Result<Option<String>, PortError> {
        Ok(None)
    }
}

impl Place {
    fn make(&self, action: &str) -> Result<(String, String)> {
        let mut store = Store::open_to_add(&self.folder)?;
        if let Some(item) = store.of(action) {
            let former = json!({"package": item.name, "bytes": item.size});
            return Ok((former.to_string(), format!("package {} was made before", item.name)));
        }
        let until = Instant::now() + PATIENCE;
        let made = SystemClock.now();
        let (package, files, notes) = self.collect(made, until)?;
        let sha256 = hex::encode(Sha256::digest(&package));
        let enrolled = Enrolled::load(&self.enrolled)?;
        let statement = Statement {
            format: FORMAT,
            agent: enrolled.as_ref().map(|enrolled| enrolled.agent_id.clone()).unwrap_or_default(),
            host: self.host.clone(),
            action: action.to_owned(),
            made,
            bytes: package.len() as u64,
            sha256: sha256.clone(),
        };
        let statement = serde_json::to_string(&statement)?;
        let signed = match enrolled {
            Some(_) => self.sign(&statement)?,
            None => Signed { statement, ..Signed::default() },
        };
        let is_signed = !signed.signature.is_empty();
        let mut file = Vec::new();
        triage::write(&mut file, &package, &signed)?;
        let (name, gone) = store.add(action, made, &file)?;
        let former = json!({"package": name, "bytes": file.len(), "sha256": sha256, "signed": is_signed});
        let mut text = format!("package {name}: {files} files, {} bytes, {notes} notes", file.len());
        if !is_signed {
            text += "; not signed, since this host is not enrolled";
        }
        if gone > 0 {
            text += &format!("; {gone} older ones went for it");
        }
        Ok((former.to_string(), text + "; sakimori-agent triage show says what is in it"))
    }

    /// Has one worker open and read, another one look into it, and takes the package.
    fn collect(&self, now: Timestamp, until: Instant) -> Result<(Vec<u8>, u32, u32)> {
        let worker = worker::spawn(Kind::Triage, None)?;
        let sink = ToWorker { channel: worker.channel() };
        sink.channel.set_send_timeout(Some(SENDING))?;
        sink.send(&ToTriage::Start { host: self.host.clone(), now: now.micros() })?;
        let gathering = until.checked_sub(PACKING).unwrap_or(until);
        self.gather(&sink, None, gathering)?;
        sink.send(&ToTriage::Asked)?;
        match receive(&worker, until)? {
            FromTriage::Programs(mut programs) => {
                programs.truncate(MAX_ASKED);
                self.gather(&sink, Some(programs), gathering)?;
            }
            FromTriage::Failed(reason) => bail!(reason),
            _ => bail!("the worker answered something else"),
        }
        sink.send(&ToTriage::Finish)?;
        let mut package = Vec::new();
        loop {
            match receive(&worker, until)? {
                FromTriage::Piece(mut piece) => {
                    package.append(&mut piece);
                    if package.len() as u64 > MAX_PACKAGE {
                        bail!("the worker sent more than a package may have");
                    }
                }
                FromTriage::Done { files, notes } => return Ok((package, files, notes)),
                FromTriage::Failed(reason) => bail!(reason),
                FromTriage::Programs(_) => bail!("the worker answered something else"),
            }
        }
    }

    /// Has a worker open and read. One that is held up is ended, and another one goes on behind what held it up.
    fn gather(&self, sink: &ToWorker<'_>, programs: Option<Vec<String>>, until: Instant) -> Result<()> {
        let mut held_up: Vec<At> = Vec::new();
        loop {
            let worker = worker::spawn(Kind::Gather, None)?;
            let left = until.saturating_duration_since(Instant::now());
            let last = held_up.last().copied();
            let in_step = held_up.iter().filter(|place| Some(place.0) == last.map(|last| last.0)).count();
            let after = last.map(|last| if in_step < MOST_IN_STEP { last } else { (last.0, u32::MAX) });
            let ask = GatherAsk {
                after,
                left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                socket: self.socket.display().to_string(),
                programs: programs.clone(),
            };
            worker.channel().send(&postcard::to_stdvec(&ask)?, &[])?;
            let held = pass_on(worker.channel(), sink, SILENCE);
            worker.leave();
            let Some((at, what)) = held? else { return Ok(()) };
            sink.send(&ToTriage::Note(format!("{what} was left out: reading it was not answered")))?;
            held_up.push(at);
            if held_up.len() >= MOST_HELD_UP || Instant::now() >= until {
                return sink.send(&ToTriage::Note("what comes after that was left out, too".to_owned()));
            }
        }
    }

    fn sign(&self, statement: &str) -> Result<Signed> {
        let open = |name: &str| {
            let path = self.identity.join(name);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            rustix::fs::open(&path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))
        };
        let files: [OwnedFd; 2] = [open(identity::KEY)?, open(identity::CERTIFICATE)?];
        let worker = worker::spawn(Kind::Sign, None)?;
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        worker.channel().send(statement.as_bytes(), &files)?;
        match worker.channel().recv_timeout(SIGNING)? {
            Waited::Frame((bytes, _)) => {
                let answer: Result<Signed, String> = postcard::from_bytes(&bytes).context("the worker that signs")?;
                answer.map_err(anyhow::Error::msg).context("the worker that signs")
            }
            Waited::Closed => bail!("the worker that signs ended"),
            Waited::TimedOut => bail!("the worker that signs was silent for {} seconds", SIGNING.as_secs()),
        }
    }
}

fn receive(worker: &Started, until: Instant) -> Result<FromTriage> {
    match worker.channel().recv_timeout(until.saturating_duration_since(Instant::now()))? {
        Waited::Frame((bytes, _)) => Ok(postcard::from_bytes(&bytes).context("the worker is not understood")?),
        Waited::Closed => bail!("the worker ended"),
        Waited::TimedOut => bail!("it took longer than {} seconds", PATIENCE.as_secs()),
    }
}

/// Hands on what a worker reads until that is all, or says at what it was held up.
fn pass_on(from: &Channel, sink: &ToWorker<'_>, silence: Duration) -> Result<Option<(At, String)>> {
    let mut at = ((0, 0), "the table of processes".to_owned());
    loop {
        let (bytes, files) = match from.recv_timeout(silence)? {
            Waited::Frame(frame) => frame,
            Waited::Closed | Waited::TimedOut => return Ok(Some(at)),
        };
        match postcard::from_bytes(&bytes).context("the worker that reads is not understood")? {
            FromGather::At(place, what) => at = (place, what),
            FromGather::Pass(message) => {
                let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                sink.channel.send(&message, &files).context("the worker does not read")?;
            }
            FromGather::Done => return Ok(None),
        }
    }
}

/// What is gathered goes to the worker.
struct ToWorker<'a> {
    channel: &'a Channel,
}

impl ToWorker<'_> {
    fn send(&self, message: &ToTriage) -> Result<()> {
        self.channel.send(&postcard::to_stdvec(message)?, &[]).context("the worker does not read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_silent_is_not_waited_for_and_what_it_sent_goes_on() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (sink, taker) = Channel::pair().unwrap();
        let sink = ToWorker { channel: &sink };
        let tell = |message: &FromGather, files: &[std::os::fd::BorrowedFd<'_>]| {
            theirs.send(&postcard::to_stdvec(message).unwrap(), files).unwrap();
        };
        let file = std::fs::File::open("/dev/null").unwrap();
        tell(&FromGather::At((0, 7), "process 7".into()), &[]);
        tell(&FromGather::Pass(b"first".to_vec()), &[file.as_fd()]);
        let held = pass_on(&ours, &sink, Duration::from_millis(1)).unwrap();
        assert_eq!(held, Some(((0, 7), "process 7".to_owned())));
        let (bytes, files) = taker.recv().unwrap().unwrap();
        assert_eq!((bytes.as_slice(), files.len()), (&b"first"[..], 1));
        tell(&FromGather::Done, &[]);
        assert_eq!(pass_on(&ours, &sink, Duration::from_secs(60)).unwrap(), None);
        tell(&FromGather::At((4, 2), "/etc/hosts".into()), &[]);
        drop(theirs);
        let ended = pass_on(&ours, &sink, Duration::from_secs(60)).unwrap();
        assert_eq!(ended, Some(((4, 2), "/etc/hosts".to_owned())), "nor is one that ended");
    }
}
