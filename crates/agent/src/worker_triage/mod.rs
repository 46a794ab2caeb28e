//! The worker of a triage package: no network, no file of its own, nothing that it could open. It is given bytes and
//! descriptors, reads what an enemy may have written, and answers with a package. Two others of a moment's life are here too:
//! [`sign`] holds the identity's key and nothing that an enemy wrote.
//!
//! - [`report`]: what is made of what the kernel says of a process, of lists of logins, of autoruns; pure
//! - [`mask`]: what is kept out: values of environments, and what is called a secret; pure
//! - [`package`]: the files, within bounds, as one archive

pub mod mask;
pub mod package;
pub mod report;
pub mod sign;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use sakimori_sys::channel::Channel;
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_wire::ipc_triage::{FromTriage, Kind, MAX_ASKED, PIECE, Text, ToTriage};
use sha2::{Digest, Sha256};

use package::Package;
use report::Process;

/// What it keeps: the files of a package, and the archive beside them.
const CONFINED: Sandbox = Sandbox { executable_memory: false, memory: 512 << 20, descriptors: 64 };
/// Where files of assignments lie: jobs of `at` hold the environment of who ordered them.
const ASSIGNMENTS: &[&str] = &["/var/spool/cron/atjobs/", "/var/spool/at/", "/etc/environment"];
/// Most bytes of an autorun's file.
const MAX_AUTORUN: u64 = 64 << 10;
/// Most bytes of a log, its end.
const MAX_LOG: u64 = 1 << 20;
/// Most bytes of any other file.
const MAX_WHOLE: u64 = 1 << 20;
/// Most bytes of the list of processes, and of that of programs.
const MAX_LINES: usize = 16 << 20;
/// Largest program that is hashed, and most bytes of all.
const MAX_PROGRAM: u64 = 256 << 20;
const MAX_PROGRAMS: u64 = 4 << 30;

/// Runs until the package is made.
///
/// # Errors
/// The parent is gone, or sends what no parent sends.
pub fn run(channel: &Channel) -> Result<()> {
    sandbox::enter(&CONFINED).context("cannot be confined")?;
    let mut making = Making::new();
    loop {
        let (bytes, descriptors) = channel.recv()?.context("the parent is gone")?;
        let message: ToTriage = postcard::from_bytes(&bytes).context("a message is not understood")?;
        match making.take(message, descriptors.into_iter().next())? {
            None => {}
            Some(Answer::Programs(programs)) => send(channel, &FromTriage::Programs(programs))?,
            Some(Answer::Finish) => {
                match making.finish() {
                    Err(error) => send(channel, &FromTriage::Failed(format!("{error:#}")))?,
                    Ok((package, files, notes)) => {
                        for piece in package.chunks(PIECE) {
                            send(channel, &FromTriage::Piece(piece.to_vec()))?;
                        }
                        send(channel, &FromTriage::Done { files, notes })?;
                    }
                }
                return Ok(());
            }
        }
    }
}

fn send(channel: &Channel, message: &FromTriage) -> Result<()> {
    Ok(channel.send(&postcard::to_stdvec(message)?, &[])?)
}

/// What a message asks to be answered.
pub enum Answer {
    /// With the programs that autoruns name.
    Programs(Vec<String>),
    /// With the package.
    Finish,
}

/// A package in the making.
#[derive(Default)]
pub struct Making {
    package: Package,
    process: Option<Process>,
    processes: Vec<u8>,
    programs: Vec<u8>,
    hashed: u64,
    named: BTreeSet<String>,
    links: String,
    logins: String,
}

impl Making {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a message.
    ///
    /// # Errors
    /// A file without its descriptor.
    pub fn take(&mut self, message: ToTriage, descriptor: Option<OwnedFd>) -> Result<Option<Answer>> {
        match message {
            ToTriage::Start { host, now } => {
                let when = sakimori_model::Timestamp::from_micros(now);
                self.package.add("about.txt", format!("host {}\nmade {when}\n", mask::plain(&host)).as_bytes());
            }
            ToTriage::Note(text) => self.package.note(&text),
            ToTriage::Text { kind, path, bytes, cut } => self.text(kind, &path, &bytes, cut),
            ToTriage::File { kind, path } => {
                let Some(file) = descriptor else { bail!("a file came without its descriptor") };
                self.file(kind, &path, &File::from(file));
            }
            ToTriage::Asked => {
                let programs = self.named.iter().take(MAX_ASKED).cloned().collect();
                return Ok(Some(Answer::Programs(programs)));
            }
            ToTriage::Finish => return Ok(Some(Answer::Finish)),
        }
        Ok(None)
    }

    fn text(&mut self, kind: Text, path: &str, bytes: &[u8], cut: bool) {
        if cut {
            self.package.note(&format!("{path} is longer than what was read of it"));
        }
        match kind {
            Text::Plain => self.package.add(path, mask::text(bytes).as_bytes()),
            Text::Link => {
                if self.links.len() < 1 << 20 {
                    self.links +=
                        &format!("{} -> {}\n", mask::plain(path), mask::plain(&String::from_utf8_lossy(bytes)));
                }
                self.name_programs(bytes);
            }
            Text::Process => {
                self.end_process();
                self.process = Some(Process::begin(path, bytes));
            }
            part => {
                if let Some(process) = &mut self.process {
                    process.add(part, bytes);
                }
            }
        }
    }

    fn end_process(&mut self) {
        if let Some(process) = self.process.take()
            && let Ok(mut line) = serde_json::to_vec(&process)
        {
            line.push(b'\n');
            if self.processes.len() + line.len() > MAX_LINES {
                return self.package.note(&format!("process {} is left out: their list is full", process.number()));
            }
            self.processes.append(&mut line);
        }
    }

    fn name_programs(&mut self, text: &[u8]) {
        for program in report::programs(text) {
            if self.named.len() < MAX_ASKED {
                self.named.insert(program);
            }
        }
    }

    fn file(&mut self, kind: Kind, path: &str, file: &File) {
        // By the one call that a confined worker has for it.
        let size = match rustix::fs::fstat(file).map(|found| u64::try_from(found.st_size)) {
            Ok(Ok(size)) => size,
            _ => return self.package.note(&format!("{path} cannot be looked at")),
        };
        let (most, from) = match kind {
            Kind::Autorun => (MAX_AUTORUN, 0),
            Kind::Log => (MAX_LOG, size.saturating_sub(MAX_LOG)),
            Kind::Logins => (MAX_LOG, size.saturating_sub(MAX_LOG) / report::LOGIN as u64 * report::LOGIN as u64),
            Kind::Whole => (MAX_WHOLE, 0),
            Kind::Running | Kind::Named => return self.program(kind, path, file, size),
        };
        if size > most {
            let part = if from > 0 { "end" } else { "beginning" };
            self.package.note(&format!("{path} has {size} bytes; its {part} is here"));
        }
        let bytes = match read(file, from, most) {
            Ok(bytes) => bytes,
            Err(error) => return self.package.note(&format!("{path} cannot be read: {error}")),
        };
        match kind {
            Kind::Logins => {
                self.logins += &format!("{path}\n{}", report::logins(&bytes));
                return;
            }
            Kind::Autorun => self.name_programs(&bytes),
            _ => {}
        }
        let assigns = ASSIGNMENTS.iter().any(|place| path.starts_with(place)) || path.ends_with("/.pam_environment");
        let text = if assigns { mask::assignments(&bytes) } else { mask::text(&bytes) };
        self.package.add(path, text.as_bytes());
    }

    fn program(&mut self, kind: Kind, path: &str, file: &File, size: u64) {
        let named = if kind == Kind::Running { "runs" } else { "autorun" };
        let fits = size <= MAX_PROGRAM && self.hashed.saturating_add(size) <= MAX_PROGRAMS;
        let sum = if fits { hash(file, size) } else { None };
        self.hashed = self.hashed.saturating_add(size);
        let line = serde_json::json!({ "path": mask::plain(path), "because": named, "size": size, "sha256": sum });
        let line = line.to_string() + "\n";
        if self.programs.len() + line.len() > MAX_LINES {
            return self.package.note(&format!("{path} is left out: the list of programs is full"));
        }
        self.programs.extend_from_slice(line.as_bytes());
    }

    /// The package, how many files it has, and how many notes.
    ///
    /// # Errors
    /// It cannot be packed.
    pub fn finish(mut self) -> Result<(Vec<u8>, u32, u32)> {
        self.end_process();
        for (name, bytes) in [
            ("processes.jsonl", self.processes.as_slice()),
            ("programs.jsonl", &self.programs),
            ("autoruns/links.txt", self.links.as_bytes()),
            ("logins.txt", self.logins.as_bytes()),
        ] {
            self.package.add(name, bytes);
        }
        self.package.finish()
    }
}

/// So many bytes from there, never moving the position, which whoever opened the file shares.
fn read(file: &File, from: u64, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0_u8; 64 << 10];
    while (bytes.len() as u64) < most {
        let left = usize::try_from(most - bytes.len() as u64).unwrap_or(usize::MAX).min(piece.len());
        let space = piece.get_mut(..left).unwrap_or_default();
        match file.read_at(space, from + bytes.len() as u64)? {
            0 => break,
            size => bytes.extend_from_slice(space.get(..size).unwrap_or_default()),
        }
    }
    Ok(bytes)
}

fn hash(file: &File, most: u64) -> Option<String> {
    let (mut sum, mut at, mut piece) = (Sha256::new(), 0_u64, vec![0_u8; 256 << 10]);
    while at <= most {
        match file.read_at(&mut piece, at).ok()? {
            0 => return Some(hex::encode(sum.finalize())),
            size => {
                sum.update(piece.get(..size)?);
                at += size as u64;
            }
        }
    }
    // It grows while it is read.
    None
}
