//! Packages of triage as the ledger's port, made beside the loop ([`super::aside`]), one after the other.
//!
//! ```text
//! order → ledger: running ──fsync──→ thread: open and read → worker: look into it, pack → worker: sign → folder
//!                                                        … the loop: ledger: done or failed ──fsync──→ events
//! ```
//! A crash between any two makes the ledger ask again; a package that is there for the action is not made twice.

pub mod gather;

use std::fs::File;
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
use sakimori_wire::ipc_triage::{FromTriage, MAX_ASKED, ToTriage};
use sakimori_wire::triage::{self, FORMAT, MAX_PACKAGE, Signed, Statement};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::worker::{self, Kind, Started};
use crate::config::Config;
use crate::enroll::Enrolled;
use crate::host_facts::HostFacts;
use crate::triage::store::Store;
use crate::worker_uplink::identity;
use gather::{Gather, Sink};

/// How long a package may take.
const PATIENCE: Duration = Duration::from_secs(300);
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
        let mut store = Store::open(&self.folder)?;
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

    /// Opens and reads on this side, has a worker look into it, and takes the package.
    fn collect(&self, now: Timestamp, until: Instant) -> Result<(Vec<u8>, u32, u32)> {
        let worker = worker::spawn(Kind::Triage, None)?;
        let sink = ToWorker { channel: worker.channel() };
        sink.channel.set_send_timeout(Some(SENDING))?;
        sink.send(&ToTriage::Start { host: self.host.clone(), now: now.micros() }, None)?;
        let mut gather = Gather::new(&sink, "/".into(), until);
        gather.host(&self.socket)?;
        sink.send(&ToTriage::Asked, None)?;
        match receive(&worker, until)? {
            FromTriage::Programs(programs) => gather.programs(programs.into_iter().take(MAX_ASKED))?,
            FromTriage::Failed(reason) => bail!(reason),
            _ => bail!("the worker answered something else"),
        }
        sink.send(&ToTriage::Finish, None)?;
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

/// What is gathered goes to the worker.
struct ToWorker<'a> {
    channel: &'a Channel,
}

impl Sink for ToWorker<'_> {
    fn send(&self, message: &ToTriage, file: Option<&File>) -> Result<()> {
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        self.channel.send(&postcard::to_stdvec(message)?, &files).context("the worker does not read")
    }
}
